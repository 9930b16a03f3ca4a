"""Open-loop meter: errors and coverage of predictions by horizon and group of channels, along a log."""

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float

from wm_robot.spec import RobotSpec

HORIZONS = (1, 8, 32)
"""Horizons of the figures, in steps."""
WINDOW_INTERVAL = 8
"""Steps between two open-loop predictions."""
ALL_CHANNELS = "all"
Belief = TypeVar("Belief")
"""What a model knows at one step; it is never changed in place."""
Belief_contra = TypeVar("Belief_contra", contravariant=True)


@runtime_checkable
class OpenLoopModel(Protocol[Belief_contra]):
    """Model that predicts without evidence."""

    @property
    def uncertainty(self) -> str:
        """What the predicted deviations contain; empty if there are none."""

    def predict(
        self,
        beliefs: Sequence[Belief_contra],
        obs: Float[np.ndarray, "N O"],
        actions: Float[np.ndarray, "N H A"],
    ) -> tuple[Float[np.ndarray, "N H O"], Float[np.ndarray, "N H O"] | None]:
        """Predict the observation after each action, from several observations and beliefs of their steps.

        Returns:
            Mean and deviation, in sensor units; no deviation from a model that predicts none.
        """


@dataclass(frozen=True, kw_only=True)
class OpenLoopFigure:
    """Open-loop error of one group of channels at one horizon."""

    group: str
    """Sensor and field, such as `joints/position`; or `all`."""
    horizon: int
    """In steps."""
    error: float
    """Root of the mean squared error, in units of the sensor; of `all`, NaN."""
    ratio: float
    """That error as a share of the change over the horizon; 1 is as good as no change. Of `all`, the mean over the
    channels."""
    coverage: float
    """Share of errors within one predicted deviation; 0.68 is right. NaN without a deviation."""
    count: int
    """Number of predictions."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; a figure that is no number becomes None."""
        return {
            name: None if isinstance(value, float) and not np.isfinite(value) else value
            for name, value in asdict(self).items()
        }


@dataclass
class _Window(Generic[Belief]):
    """Prediction that waits for the steps that it is compared with."""

    belief: Belief
    obs: np.ndarray
    actions: list[np.ndarray] = field(default_factory=list)
    outcomes: list[np.ndarray] = field(default_factory=list)


class OpenLoopMeter(Generic[Belief]):
    """Meter of one model along one log.

    A prediction starts every `WINDOW_INTERVAL` steps, and is compared with the steps that follow it without a gap.
    """

    def __init__(
        self,
        model: OpenLoopModel[Belief],
        spec: RobotSpec,
        *,
        horizons: Sequence[int] = HORIZONS,
        interval: int = WINDOW_INTERVAL,
        batch: int = 1,
    ):
        """Args:
        batch: Number of predictions that are computed together.
        """
        self._model, self._spec, self._horizons = model, spec, tuple(horizons)
        self._interval, self._batch, self._num_steps = interval, batch, 0
        self._open: deque[_Window[Belief]] = deque()
        self._complete: list[_Window[Belief]] = []
        shape = (len(self._horizons), spec.obs_dim)
        self._squares, self._changes = np.zeros(shape), np.zeros(shape)
        self._within, self._known, self._counts = np.zeros(shape), np.zeros(shape), np.zeros(shape)

    @property
    def num_due(self) -> int:
        """Number of predictions that can be computed now."""
        return len(self._complete)

    def add_step(
        self, belief: Belief, applied: np.ndarray, next_obs: np.ndarray, reading: np.ndarray, *, valid: bool
    ) -> None:
        """Add a step.

        Args:
            belief: Of the model after the step.
            next_obs: `O`, without gaps, to predict from.
            reading: `O`, to compare with; NaN where there is no reading.
            valid: False after a gap: predictions end before it.
        """
        if valid:
            for window in self._open:
                window.actions.append(applied)
                window.outcomes.append(reading)
        else:
            self._complete += [each for each in self._open if len(each.actions) >= min(self._horizons)]
            self._open.clear()
        while self._open and len(self._open[0].actions) == self._horizons[-1]:
            self._complete.append(self._open.popleft())
        if self._num_steps % self._interval == 0:
            self._open.append(_Window(belief, next_obs))
        self._num_steps += 1

    def compute_due(self, least: int | None = None) -> None:
        """Compute the predictions that are due, if there are enough for a batch.

        Args:
            least: Number that is enough; the batch by default.
        """
        while len(self._complete) >= max(1, self._batch if least is None else least):
            windows, self._complete = self._complete[: self._batch], self._complete[self._batch :]
            self._compare(windows)

    def finish(self) -> None:
        """Compute all predictions, at the end of a log."""
        self._complete += [each for each in self._open if len(each.actions) >= min(self._horizons)]
        self._open.clear()
        self.compute_due(1)

    def _compare(self, windows: Sequence[_Window[Belief]]) -> None:
        longest = max(len(each.actions) for each in windows)
        # The steps after the end of a short window are not compared.
        actions = np.stack(
            [np.stack(each.actions + each.actions[-1:] * (longest - len(each.actions))) for each in windows]
        )
        obs = np.stack([each.obs for each in windows])
        mean, deviation = self._model.predict([each.belief for each in windows], obs, actions)
        subtract = self._spec.layout.subtract
        for number, horizon in enumerate(self._horizons):
            rows = [row for row, each in enumerate(windows) if len(each.actions) >= horizon]
            if not rows:
                continue
            seen = np.stack([windows[row].outcomes[horizon - 1] for row in rows])
            error = subtract(seen, mean[rows, horizon - 1]).astype(np.float64)
            is_read = np.isfinite(seen)
            # A model whose prediction is not finite is wrong without bound.
            error[is_read & ~np.isfinite(error)] = np.inf
            change = subtract(seen, obs[rows]).astype(np.float64)
            self._counts[number] += is_read.sum(0)
            self._squares[number] += np.where(is_read, error**2, 0).sum(0)
            self._changes[number] += np.where(is_read, change**2, 0).sum(0)
            if deviation is not None:
                is_within = np.abs(error) <= deviation[rows, horizon - 1]
                self._within[number] += (is_within & is_read).sum(0)
                self._known[number] += is_read.sum(0)

    def list_figures(self) -> list[OpenLoopFigure]:
        """List the figures of each horizon: of all channels, and of each group."""
        return [
            self._make_figure(number, name, channels)
            for number in range(len(self._horizons))
            for name, channels in ((ALL_CHANNELS, slice(None)), *list_groups(self._spec))
        ]

    def _make_figure(self, number: int, name: str, channels: slice) -> OpenLoopFigure:
        squares, changes = self._squares[number, channels], self._changes[number, channels]
        counts, known = self._counts[number, channels], self._known[number, channels].sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios = np.sqrt(squares / changes)
            error = np.sqrt(squares.sum() / counts.sum())
        ratios = ratios[(counts > 0) & (changes > 0)]
        return OpenLoopFigure(
            group=name,
            horizon=self._horizons[number],
            error=float("nan") if name == ALL_CHANNELS else float(error),
            ratio=float(ratios.mean()) if ratios.size else float("nan"),
            coverage=float(self._within[number, channels].sum() / known) if known else float("nan"),
            count=int(counts.max(initial=0)),
        )


def list_groups(spec: RobotSpec) -> list[tuple[str, slice]]:
    """List the groups of channels: sensor and field, such as `joints/position`, with their channels."""
    return [
        (group.kind if "/" in group.kind else f"{group.sensor}/{group.kind}", channels)
        for group, channels in spec.layout.slices
    ]
