"""The life that an agent node drives: what it needs of one, and how the real one is made."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from wm_robot.errors import ConfigError
from wm_robot.spec import RobotSpec

if TYPE_CHECKING:
    from wm_robot.adaptation.learner_process import LearnerProcess
    from wm_robot.agent.agent import Agent
    from wm_robot.agent.plan_monitor import Exploitation


class Surprise(Protocol):
    """How badly an observation was expected."""

    @property
    def nll(self) -> float:
        """Negative log-likelihood, nats per channel."""

    @property
    def mean(self) -> np.ndarray:
        """Expected observation, `O`."""

    @property
    def deviation(self) -> np.ndarray:
        """Expected deviation of each channel, `O`."""

    @property
    def error(self) -> np.ndarray:
        """(observed - expected) / deviation, `O`."""


class Imagined(Protocol):
    """A plan, and what is expected of it."""

    @property
    def action(self) -> np.ndarray:
        """The plan, `H A`."""

    @property
    def mean(self) -> np.ndarray:
        """Expected observation after each action, `H O`."""

    @property
    def deviation(self) -> np.ndarray:
        """Expected deviation of each, `H O`."""


class Life(Protocol):
    """An agent with a life of its own.

    `save` may run beside `act` and `live` in another thread: a state is replaced, never changed in place.
    """

    @property
    def counters(self) -> Mapping[str, int]:
        """What it counted, by name."""

    def begin(self, hold: np.ndarray, restore: str | None = None) -> None:
        """Be born under an action, `A`, or go on with a saved life.

        Raises:
            SnapshotError: If the saved life is damaged or another's.
        """

    def act(self, obs: np.ndarray, goal: np.ndarray, *, applied: np.ndarray | None = None) -> np.ndarray:
        """The next action, `A`, for observation `O` and goal `G`.

        Args:
            applied: What reached the motors on the way to `obs`, `A`, if that step is yet to be lived.
        """

    def live(
        self,
        obs: np.ndarray,
        applied: np.ndarray,
        next_obs: np.ndarray,
        *,
        valid: bool = True,
        contact: bool = False,
        hurry: bool = False,
    ) -> Surprise:
        """Live one transition, and learn from it if it is valid.

        Args:
            contact: The guard stood between controller and motors.
            hurry: The next observation is near: what can be left out is, and no more.
        """

    def imagined(self) -> Imagined | None:
        """What is expected of the plan that it acted on last; None before its first action."""

    def save(self, place: str) -> str:
        """Write the life, durably, and return its digest.

        Args:
            place: Store of lives, and with `@` the branch.
        """

    def rescue(self, place: str) -> str:
        """Write a copy of the life in another store, as `save` does; it still goes on from what was saved before."""

    def report(self) -> dict[str, object]:
        """What else people should know of it, as plain values."""

    def close(self) -> None:
        """End what runs beside it."""


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
    """The library's agent, with its learner and who watches its plans, if it has them."""

    def __init__(self, agent: "Agent", learner: "LearnerProcess | None", watch: "Exploitation | None"):
        self.agent, self._learner, self._watch = agent, learner, watch
        self.begin, self.act, self.live, self.save = agent.begin, agent.act, agent.live, agent.save
        self.imagined, self.rescue = agent.imagined, agent.rescue

    @property
    def counters(self) -> Mapping[str, int]:
        return self.agent.counters

    def report(self) -> dict[str, object]:
        events = self.agent.events
        told: dict[str, object] = {"event": events[-1].what if events else ""}
        if self._learner is not None:
            told["learner_alive"] = self._learner.alive
        if self._watch is not None:
            told["plans_kept"] = not self._watch.alarmed.any()
        return told

    def close(self) -> None:
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
