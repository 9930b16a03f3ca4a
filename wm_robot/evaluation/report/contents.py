"""Contents of a report: plain arrays and texts, without a robot or a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from wm_robot.evaluation.outcome import ErrorTrack, SessionOutcome
from wm_robot.evaluation.recovery import START_SECONDS, compute_span_mean
from wm_robot.tasks import ErrorScale
from wm_robot.tasks.task_error import GRIPPER_SCALE

EARLY_SECONDS = (0.0, 1.0)
"""Seconds of a session that show the effect of prior experience."""
LATER_SECONDS = (1.0, 10.0)
"""Seconds of a session after those."""
MAX_MISSING_SECONDS = 0.1
"""Seconds that may be missing at the start; with more, the first second is not reported."""


@dataclass(frozen=True, kw_only=True)
class LatencyStatistics:
    """Latency statistics from sensor reading to command."""

    edges_ms: np.ndarray
    """`N+1` edges of the bins; the last may be infinite."""
    counts: np.ndarray
    """`N`, steps in each bin."""
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, kw_only=True)
class RobotRun:
    """Recorded data of one robot in one session."""

    name: str
    """Label in the figures, a word or two."""
    time: np.ndarray
    """`T`, in s since the start of the session."""
    error: np.ndarray
    """`T`, error of its task, such as the true distance from gripper to target in m."""
    surprise_time: np.ndarray
    """`K`, in s."""
    surprise: np.ndarray
    """`K`, negative log-likelihood of the observation, in nats per channel."""
    latency: LatencyStatistics | None = None
    lifetime_steps: int = 0
    """Control steps in its lifetime at the end of the session."""
    color: int = 0
    """Number of its colour: 0 learns, 1 is frozen, 2 has the initial state."""

    def compute_early_error(self) -> float:
        """Mean error in the first second; NaN if its start was not recorded."""
        begun = len(self.time) and self.time[0] < EARLY_SECONDS[0] + MAX_MISSING_SECONDS
        return compute_span_mean(self.time, self.error, EARLY_SECONDS) if begun else float("nan")

    def compute_later_error(self) -> float:
        """Mean error after the first second."""
        return compute_span_mean(self.time, self.error, LATER_SECONDS)


@dataclass(frozen=True, kw_only=True)
class ReportedSession:
    """Session: robots in parallel with one seed and one target."""

    runs: tuple[RobotRun, ...]
    """Robots, the learning one first."""
    change_time: float | None = None
    """Time of the hidden change, in s since the start of the session."""
    start: float = START_SECONDS
    """Time from which errors count, in s: the robot has to reach the target first."""

    @property
    def is_recorded(self) -> bool:
        """Whether every robot has recorded data."""
        return all(len(run.time) for run in self.runs)

    def evaluate(self, change_description: str, scale: ErrorScale = GRIPPER_SCALE) -> SessionOutcome:
        """Evaluate the effect of the change.

        Args:
            change_description: Description of the change.
            scale: Scale of the errors.
        """
        tracks = [ErrorTrack(name=run.name, time=run.time, error=run.error) for run in self.runs]
        return SessionOutcome.from_tracks(
            tracks,
            change_time=self.change_time,
            change_description=change_description,
            start=self.start,
            scale=scale,
        )


@dataclass(frozen=True, kw_only=True)
class JointPredictions:
    """Joint predictions: measured positions around the change, and predictions of models on the same data."""

    horizon_seconds: float
    """Prediction horizon, in s."""
    joints: tuple[str, ...]
    changed_joints: tuple[str, ...]
    """Joints whose motor changed."""
    change_word: str = "weakened"
    """What happened to these motors."""
    unit: str = "angle, rad"
    """Label of the positions."""
    time: np.ndarray
    """`T`, in s since the start of the session."""
    measured: np.ndarray
    """`T J`, in rad (m)."""
    predicted: Mapping[str, np.ndarray]
    """For each model, `T J`, in rad (m)."""


@dataclass(frozen=True, kw_only=True)
class PhysicsEstimate:
    """Physics estimate of the learning robot, for the parameters of the hidden change."""

    names: tuple[str, ...]
    """`P`, each with its unit: `payload, kg`."""
    time: np.ndarray
    """`T`, in s since the start of the session."""
    estimated: np.ndarray
    """`T P`."""
    truth: np.ndarray
    """`T P`."""


@dataclass(frozen=True, kw_only=True)
class Video:
    """Embedded video or animated image."""

    content: bytes
    kind: str
    """`video/mp4` or `image/gif`."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Contents of one report."""

    robot: str
    changed: str
    """Description of the hidden change: `0.34 kg in the gripper, shoulder_pitch at 31 % strength`."""
    first: ReportedSession
    scale: ErrorScale = GRIPPER_SCALE
    """Unit of the errors, and the sizes from which they count."""
    second: ReportedSession | None = None
    """The same robot, started in the changed world from its saved state, and one from the initial state."""
    foresight: JointPredictions | None = None
    belief: PhysicsEstimate | None = None
    period: float = 0.02
    """Control period, in s."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Seeds, versions, digests, commit."""
    command: str = ""
    go_on: tuple[tuple[str, str], ...] = ()
    """Next steps for the reader: a description and a command each."""
    video: Video | None = None
    target_words: str = "Green is the target; both arms received the same target."
    """What the film shows of the target."""
    notes: tuple[str, ...] = ()
    """Deviations from the plan, in plain sentences."""

    @cached_property
    def outcome(self) -> SessionOutcome:
        """Effect of the change; the source of all statements on the page."""
        return self.first.evaluate(self.changed, self.scale)

    @property
    def usual_surprise(self) -> float:
        """Median surprise of the learning robot before the change, in nats per channel; 0 without a recording."""
        learning, end = self.first.runs[0], self.first.change_time
        until = np.inf if end is None else end
        usual = (learning.surprise_time >= self.first.start) & (learning.surprise_time < until)
        return float(np.median(learning.surprise[usual])) if usual.any() else 0.0
