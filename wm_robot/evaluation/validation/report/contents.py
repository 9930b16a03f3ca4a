"""Contents of a validation report: verdict, results and films, without a simulator."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from wm_robot.evaluation.report.contents import Video
from wm_robot.evaluation.validation.episode import EpisodeResult
from wm_robot.evaluation.validation.verdict import CheckOutcome, Verdict


@dataclass(frozen=True, kw_only=True)
class EpisodeTrack:
    """Recorded data of one episode, for its curves."""

    time: np.ndarray
    """`T`, in s."""
    error: np.ndarray
    """`T`, in tolerances of the task."""
    changes: tuple[tuple[float, str], ...] = ()
    """Time of each hidden change, in s, and what changed."""
    joints: tuple[str, ...] = ()
    positions: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    """`T J`, true positions, in rad (m)."""
    predicted_time: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """`K`, in s: when what was predicted should be the case."""
    predicted: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    """`K J`, positions that were predicted one horizon earlier."""
    horizon_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class WorstCase:
    """One of the worst episodes."""

    label: str
    reasons: tuple[str, ...]
    """What went wrong, each a sentence."""
    command: str = ""
    """Command that runs it again."""
    video: Video | None = None
    track: EpisodeTrack | None = None


@dataclass(frozen=True, kw_only=True)
class ValidationContents:
    """Contents of one validation report."""

    verdict: Verdict
    base: str
    """Name of the base."""
    state: str = ""
    """Lifetime state; empty: the initial state."""
    robot: str
    task: str
    seed: int
    is_quick: bool = False
    score: float = float("nan")
    """Geometric mean of the settled error after a change, in tolerances of the task."""
    seconds: float = 0.0
    written: str = ""
    """Date and time of the report."""
    results: tuple[EpisodeResult, ...] = ()
    channels: tuple[str, ...] = ()
    """Names of the channels of an observation."""
    tolerance: str = ""
    """Tolerance of the task with its unit: `10 mm`."""
    digests: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    """Command of this validation."""
    full_command: str = ""
    """The same without `--quick`, `--only` and `--skip`."""
    train_command: str = ""
    """Command that trains a base for this robot."""
    worst_cases: tuple[WorstCase, ...] = ()
    target_words: str = ""
    """What the films show."""
    notes: tuple[str, ...] = ()
    """Deviations from the plan, in plain sentences."""

    @property
    def has_episodes(self) -> bool:
        """Whether anything was driven."""
        return bool(self.results)

    def find_outcomes(self, measure: str) -> tuple[CheckOutcome, ...]:
        """Find the outcomes of all checks of a measure."""
        return tuple(each for each in self.verdict.outcomes if each.check.measure == measure)

    def find_results(self, check: str) -> tuple[EpisodeResult, ...]:
        """Find the results of all episodes of a check."""
        return tuple(each for each in self.results if each.label.split("/")[0] == check)
