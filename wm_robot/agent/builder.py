"""Agent builder: creates an agent with base, learner process and plan monitor from its configuration."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wm_robot.errors import ConfigError
from wm_robot.spec import RobotSpec, make_home_obs
from wm_robot.tasks import is_reward_available

if TYPE_CHECKING:
    from wm_robot.adaptation.learner_process import LearnerProcess
    from wm_robot.agent.agent import Agent
    from wm_robot.agent.plan_monitor import PlanMonitor
    from wm_robot.store.store import Store
    from wm_robot.validation_record.session_error import SessionError

_log = logging.getLogger(__name__)

WARM_UP_STEPS = 20
"""Number of steps before the first observation, because the first steps of a process take many times longer."""


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """Configuration of a robot's agent."""

    base: str
    """Folder of the base, or name of a base that ships."""
    task: str
    """Name of a task of the robot's spec, or of another task that the base has an exported plan for."""
    learning: bool = True
    """False: the lifetime state is read and never updated."""
    use_context_bank: bool = True
    """Contexts of earlier steps are recognised and reused."""
    learner: bool = False
    """A learner process fits a residual, which is evaluated and then accepted or rejected."""
    monitor_plans: bool = True
    """Plans whose predicted rewards do not occur are reported; see `PlanMonitor`."""
    seed: int = 0
    """Seed of the planner's noise."""
    num_samples: int = 0
    """Number of plans in each iteration; 0 here and below: the default of the planner."""
    horizon: int = 0
    """Number of steps that a plan looks ahead."""
    num_iterations: int = 0
    """Number of iterations of the planner."""
    num_threads: int = 1
    """Number of threads of torch."""


@dataclass(frozen=True, kw_only=True)
class AgentLineage:
    """What an agent runs: its base, and the snapshot that its lifetime state continues."""

    base: str
    """Digest of the base."""
    store: "Store | None"
    snapshot: str
    """Digest; empty for the initial state of the base."""
    steps: int
    """Lifetime steps."""
    session_error: "SessionError"
    """Of the session so far; it still counts."""


class RobotAgent:
    """Agent of a robot, with its learner process and its plan monitor, if they are configured."""

    def __init__(self, agent: "Agent", learner: "LearnerProcess | None", plan_monitor: "PlanMonitor | None"):
        self.agent, self._learner, self._plan_monitor = agent, learner, plan_monitor

    @property
    def counters(self) -> Mapping[str, int]:
        """Counters of the agent, by name; see `Agent.counters`."""
        return self.agent.counters

    @property
    def lineage(self) -> AgentLineage | None:
        """Base and lifetime state for the check of a validation record; None for an agent without a base."""
        parent = self.agent.parent_snapshot
        return AgentLineage(
            base=self.agent.base.digest,
            store=parent[0] if parent else None,
            snapshot=parent[1] if parent else "",
            steps=self.agent.counters["num_steps"],
            session_error=self.agent.session_error,
        )

    def report(self) -> dict[str, object]:
        """Return the newest event, the state of the learner process and of the plan monitor, as plain values."""
        events = self.agent.events
        values: dict[str, object] = {"event": events[-1].description if events else ""}
        if self.agent.is_goal_unreachable:
            values["goal_reachable"] = False
        if self._learner is not None:
            values["learner_alive"] = self._learner.is_alive
        if self._plan_monitor is not None:
            values["plans_valid"] = not self._plan_monitor.is_alarmed.any()
        return values

    def close(self) -> None:
        """Stop the learner process."""
        if self._learner is not None:
            self._learner.close()


def load_agent(config: AgentConfig, spec: RobotSpec) -> RobotAgent:
    """Load the base of a configuration, and return an agent with its learner process and plan monitor.

    Raises:
        ConfigError: If the configuration names no base.
        SnapshotError: If the base is missing, damaged or made for another robot.
        MissingExtraError: If the base lacks an ONNX model that the configuration needs, and torch is not installed.
    """
    if not config.base:
        raise ConfigError(
            "base is ''; it must be the folder of a base, or the name of a base that ships, "
            "such as arm-semiparametric"
        )
    # Imported here, so that a node starts fast and loads only the modules that its agent needs.
    from wm_robot.adaptation.reading_checks import ReadingChecks
    from wm_robot.adaptation.transition_filter import TransitionFilter
    from wm_robot.agent.agent import Agent
    from wm_robot.agent.backends import select_model_backend
    from wm_robot.agent.onnx_files import load_functions
    from wm_robot.agent.plan_monitor import PlanMonitor
    from wm_robot.io.base_file import find_base
    from wm_robot.model.base import load_base
    from wm_robot.planning.mppi import MppiConfig

    sizes = {name: getattr(config, name) for name in ("num_samples", "horizon", "num_iterations")}
    folder = find_base(config.base)
    base = load_base(folder)
    base.check_spec(spec)
    graphs, learner = load_functions(folder, base, config.task), None
    if config.learner and config.learning:
        from wm_robot.adaptation.learner_process import LearnerProcess

        learner = LearnerProcess(folder, base, backend=select_model_backend(base, graphs))
    watch = None
    if config.monitor_plans and is_reward_available(spec.find_task(config.task)):
        watch = PlanMonitor(spec, task=config.task)
    elif config.monitor_plans:
        _log.warning(
            "plans of task '%s' are not monitored: its reward is of a file that is not here", config.task
        )
    agent = Agent(
        base,
        spec,
        task=config.task,
        planner=MppiConfig(**{name: size for name, size in sizes.items() if size}),
        functions=graphs,
        learning=config.learning,
        use_context_bank=config.use_context_bank,
        learner=learner,
        transition_filter=TransitionFilter(spec),
        reading_checks=ReadingChecks(spec),
        plan_monitor=watch,
        seed=config.seed,
    )
    if agent.torch_reason:
        import torch

        torch.set_num_threads(config.num_threads)
    return RobotAgent(agent, learner, watch)


def complete_tasks(spec: RobotSpec, config: AgentConfig) -> RobotSpec:
    """Return a spec with the task of an agent, if its base has a plan of a task that the spec lacks.

    Raises:
        SnapshotError: If the base is missing or damaged.
    """
    if config.task in spec.tasks or not config.base:
        return spec
    from wm_robot.agent.onnx_files import add_exported_task
    from wm_robot.model.base import load_base

    return add_exported_task(spec, config.base, load_base(config.base), config.task)


def warm_up(agent: "Agent", spec: RobotSpec, *, task: str) -> None:
    """Act and learn for a few steps with an agent that is then discarded, so that the first real step is not slow."""
    obs, goal = make_home_obs(spec), np.zeros(spec.find_task(task).goal, np.float32)
    agent.begin(spec.home_action)
    for _ in range(WARM_UP_STEPS):
        agent.observe(obs, agent.act(obs, goal), obs)
