"""Builder of a robot's agent: from its parameters to an agent with its base, learner process and plan monitor."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wm_robot.errors import ConfigError
from wm_robot.spec import RobotSpec

if TYPE_CHECKING:
    from wm_robot.adaptation.learner_process import LearnerProcess
    from wm_robot.agent.agent import Agent
    from wm_robot.agent.plan_monitor import Exploitation

WARM_UP = 20
"""Steps before the first observation: the first ones of a process take many times longer."""


@dataclass(frozen=True, kw_only=True)
class LifeConfig:
    """What decides which life it is."""

    base: str
    """Folder of the base."""
    task: str
    learning: bool = True
    """False: the life is read and never written."""
    recall: bool = True
    """Conditions that were lived before are recognised."""
    learner: bool = False
    """A process beside it fits a residual, which is tried and then believed or given up."""
    watch_plans: bool = True
    """It is told when plans do not keep what they promise; see `Exploitation`."""
    seed: int = 0
    samples: int = 0
    """Plans imagined in each iteration; 0 for the planner's own number, as below."""
    horizon: int = 0
    iterations: int = 0
    threads: int = 1


class RobotLife:
    """An agent on a robot, with its learner process and its plan monitor, if it has them."""

    def __init__(self, agent: "Agent", learner: "LearnerProcess | None", watch: "Exploitation | None"):
        self.agent, self._learner, self._watch = agent, learner, watch

    @property
    def counters(self) -> Mapping[str, int]:
        """Counters of the agent, by name; see `Agent.counters`."""
        return self.agent.counters

    def report(self) -> dict[str, object]:
        """Newest event, whether the learner process runs, and whether plans are kept, as plain values."""
        events = self.agent.events
        values: dict[str, object] = {"event": events[-1].what if events else ""}
        if self._learner is not None:
            values["learner_alive"] = self._learner.alive
        if self._watch is not None:
            values["plans_kept"] = not self._watch.alarmed.any()
        return values

    def close(self) -> None:
        """End the learner process."""
        if self._learner is not None:
            self._learner.close()


def load_life(config: LifeConfig, spec: RobotSpec) -> RobotLife:
    """The agent of the library, with its base, and its learner.

    Raises:
        ConfigError: If no base is named.
        SnapshotError: If the base is missing, damaged or another robot's.
        MissingExtraError: If its base has no graphs for all that it does, and torch is not installed.
    """
    if not config.base:
        raise ConfigError(
            "base is ''; it must be the folder of a base, or the name of one that ships, such as arm-ekf"
        )
    # Here, so that a node starts fast and loads no more than its life needs.
    from wm_robot.adaptation.transition_filter import Caution
    from wm_robot.agent.agent import Agent
    from wm_robot.agent.backends import lives_of
    from wm_robot.agent.onnx_files import load_graphs
    from wm_robot.agent.plan_monitor import Exploitation
    from wm_robot.io.base_file import find_base
    from wm_robot.model.base import load_base
    from wm_robot.planning.mppi import MppiConfig

    sizes = {name: getattr(config, name) for name in ("samples", "horizon", "iterations")}
    folder = find_base(config.base)
    base = load_base(folder)
    base.check_spec(spec)
    graphs, learner = load_graphs(folder, base), None
    if config.learner and config.learning:
        from wm_robot.adaptation.learner_process import LearnerProcess

        learner = LearnerProcess(folder, base, backend=lives_of(base, graphs))
    watch = Exploitation(spec, task=config.task) if config.watch_plans else None
    agent = Agent(
        base,
        spec,
        task=config.task,
        planner=MppiConfig(**{name: size for name, size in sizes.items() if size}),
        graphs=graphs,
        learning=config.learning,
        recall=config.recall,
        learner=learner,
        caution=Caution(spec),
        exploitation=watch,
        seed=config.seed,
    )
    if agent.in_torch:
        import torch

        torch.set_num_threads(config.threads)
    return RobotLife(agent, learner, watch)


def neutral_action(spec: RobotSpec) -> np.ndarray:
    """The permitted action nearest to zero, `A`."""
    return np.clip(np.zeros(spec.action_dim, np.float32), spec.action_low, spec.action_high)


def warm_up(agent: "Agent", spec: RobotSpec, *, task: str) -> None:
    """Act and learn for a few steps with an agent that is then dropped, so that the first real step is not slow."""
    obs, goal = np.zeros(spec.obs_dim, np.float32), np.zeros(spec.task(task).goal, np.float32)
    agent.begin(neutral_action(spec))
    for _ in range(WARM_UP):
        agent.live(obs, agent.act(obs, goal), obs)
