"""What a report is made of: plain arrays and words, nothing that needs a robot or a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from wm_robot.evaluation.recovery import Recovery, level

FOLLOWING = 0.06
"""Error in m above which a robot does not follow its target at all."""
EARLY = (0.0, 3.0)
"""Seconds of a visit that show with what knowledge a robot came."""
LATER = (3.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Time from sensor reading to command."""

    edges_ms: np.ndarray
    """`N+1` edges of the bins; the last may be infinite."""
    counts: np.ndarray
    """`N`, steps in each bin."""
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, kw_only=True)
class Run:
    """One robot during one visit."""

    name: str
    """As in the figures, a word or two."""
    time: np.ndarray
    """`T`, in s since the visit began."""
    error: np.ndarray
    """`T`, true distance from gripper to target, in m."""
    surprise_time: np.ndarray
    """`K`, in s."""
    surprise: np.ndarray
    """`K`, negative log-likelihood of what was sensed, in nats per channel."""
    latency: Latency | None = None
    lived: int = 0
    """Control steps in its life at the end of the visit."""
    color: int = 0
    """Which of the report's colours is its own: 0 learns, 1 is frozen, 2 is newborn."""

    def early(self, start: float = EARLY[0]) -> float:
        """Mean error while it begins, in m.

        Args:
            start: From when it counts, in s.
        """
        return level(self.time, self.error, (start, EARLY[1]))

    def later(self) -> float:
        """Mean error after that, in m."""
        return level(self.time, self.error, LATER)


@dataclass(frozen=True, kw_only=True)
class Visit:
    """Robots side by side, with one seed and one target."""

    runs: tuple[Run, ...]
    """First the one that learns."""
    change: float | None = None
    """When the hidden world changed, in s since the visit began."""
    start: float = 2.0
    """From when errors count, in s: the target has to be reached first."""

    @property
    def seen(self) -> bool:
        """Whether anything of it was recorded, of every robot."""
        return all(len(run.time) for run in self.runs)

    def recovery(self, run: Run) -> Recovery | None:
        """What the change did to a robot; None without a change, or if the visit ended too soon after it."""
        if self.change is None:
            return None
        return Recovery.of(run.time, run.error, change=self.change, start=self.start)


@dataclass(frozen=True, kw_only=True)
class Foresight:
    """One arm's joints around the change, and what models that watched it had expected."""

    ahead: float
    """How far ahead they looked, in s."""
    joints: tuple[str, ...]
    changed: tuple[str, ...]
    """Joints whose motor changed."""
    time: np.ndarray
    """`T`, in s since the visit began."""
    measured: np.ndarray
    """`T J`, in rad."""
    expected: Mapping[str, np.ndarray]
    """For each model, `T J`, in rad."""


@dataclass(frozen=True, kw_only=True)
class Belief:
    """What the arm that learns held its physics to be, in the numbers that the hidden change changed."""

    names: tuple[str, ...]
    """`P`, as the simulator calls them."""
    time: np.ndarray
    """`T`, in s since the visit began."""
    believed: np.ndarray
    """`T P`: 0 is nominal, a usual deviation of a robot is about 1."""
    truth: np.ndarray
    """`T P`."""


@dataclass(frozen=True, kw_only=True)
class Video:
    """A moving picture to embed."""

    content: bytes
    kind: str
    """`video/mp4` or `image/gif`."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that one report tells."""

    robot: str
    changed: str
    """The hidden change, in words: `0.34 kg in the gripper, shoulder_pitch at 31 % strength`."""
    first: Visit
    second: Visit | None = None
    """The same robot, woken in the changed world with what it had learned, beside one without a past."""
    foresight: Foresight | None = None
    belief: Belief | None = None
    period: float = 0.02
    """Control period, in s."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Seeds, versions, digests, commit."""
    command: str = ""
    go_on: tuple[tuple[str, str], ...] = ()
    """What can be done next: what it does, and the command."""
    video: Video | None = None
    notes: tuple[str, ...] = ()
    """What did not go as planned, in plain sentences."""
