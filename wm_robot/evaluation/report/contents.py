"""What a report is made of: plain arrays and words, nothing that needs a robot or a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from wm_robot.evaluation.outcome import Outcome, Track
from wm_robot.evaluation.recovery import START, level

EARLY = (0.0, 1.0)
"""Seconds of a visit that show with what knowledge a robot came."""
LATER = (1.0, 10.0)
"""Seconds of a visit after those."""
LATEST_START = 0.1
"""Seconds of a visit that may be missing at its start before its first second is not told of."""


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

    def early(self) -> float:
        """Mean error while it begins, in m; NaN unless that was recorded from its start on."""
        begun = len(self.time) and self.time[0] < EARLY[0] + LATEST_START
        return level(self.time, self.error, EARLY) if begun else float("nan")

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
    start: float = START
    """From when errors count, in s: the target has to be reached first."""

    @property
    def seen(self) -> bool:
        """Whether anything of it was recorded, of every robot."""
        return all(len(run.time) for run in self.runs)

    def outcome(self, changed: str) -> Outcome:
        """What the change did to its robots.

        Args:
            changed: The change, in words.
        """
        tracks = [Track(name=run.name, time=run.time, error=run.error) for run in self.runs]
        return Outcome.of(tracks, change=self.change, changed=changed, start=self.start)


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
    """`P`, each with its unit: `payload, kg`."""
    time: np.ndarray
    """`T`, in s since the visit began."""
    believed: np.ndarray
    """`T P`."""
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
    second_visits: str = ""
    """How second visits went over many seeds, in a plain sentence."""

    @cached_property
    def outcome(self) -> Outcome:
        """What the change did: all that the page says of it comes from here."""
        return self.first.outcome(self.changed)

    @property
    def usual_surprise(self) -> float:
        """Median surprise of the arm that learns before the change, in nats per channel; 0 if none was recorded."""
        learning, end = self.first.runs[0], self.first.change
        until = np.inf if end is None else end
        usual = (learning.surprise_time >= self.first.start) & (learning.surprise_time < until)
        return float(np.median(learning.surprise[usual])) if usual.any() else 0.0
