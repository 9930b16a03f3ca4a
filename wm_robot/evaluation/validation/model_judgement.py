"""Judgement of a world model as a model: open-loop error and calibration along logs, against other models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from wm_robot.evaluation.validation.open_loop_meter import (
    HORIZONS,
    WINDOW_INTERVAL,
    OpenLoopFigure,
    OpenLoopMeter,
    OpenLoopModel,
)
from wm_robot.memory.lifetime_state import LifetimeState, map_values
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.progress import Progress, ignore_progress
from wm_robot.recording.agent_log import AgentLog, LoggedStep
from wm_robot.spec import RobotSpec

if TYPE_CHECKING:
    from torch import Tensor

    from wm_robot.agent.agent import Agent
    from wm_robot.model.base import Base

WORLD_MODEL, SIMULATOR, LEAST_SQUARES = "world model", "simulator", "least squares"
BATCH = 16
LEAST_SQUARES_SCALE = 0.1
"""Deviation of the coefficients at first; chosen in training worlds of the arm."""


@runtime_checkable
class JudgedModel(OpenLoopModel[Any], Protocol):
    """Model that observes a log, and predicts from what it knows at a step."""

    def read_belief(self) -> Any:
        """Return what it knows after the last step; never changed in place."""

    def begin(self, initial_action: Float[np.ndarray, "A"]) -> None:
        """Begin a log, with the action in force."""

    def observe(self, step: LoggedStep) -> Float[np.ndarray, "O"]:
        """Observe a step, and return its next observation without gaps."""


class JudgedAgent:
    """World model as an agent updates it."""

    def __init__(
        self, agent: "Agent", predictions: OpenLoopModel[ArrayState], restore: Path | str | None = None
    ):
        """Args:
        predictions: From states of this agent.
        restore: State at the start of each log; None: the initial state.
        """
        self._agent, self._predictions, self._restore = agent, predictions, restore
        self.uncertainty = predictions.uncertainty

    def read_belief(self) -> ArrayState:
        return self._agent.state

    def begin(self, initial_action: Float[np.ndarray, "A"]) -> None:
        self._agent.begin(initial_action, self._restore)

    def observe(self, step: LoggedStep) -> Float[np.ndarray, "O"]:
        self._agent.observe(
            step.obs,
            step.applied,
            step.next_obs,
            valid=step.valid,
            intervention=step.intervention,
            is_new=step.is_new,
        )
        return self._agent.fill_gaps(step.next_obs)

    def predict(
        self,
        beliefs: Sequence[ArrayState],
        obs: Float[np.ndarray, "N O"],
        actions: Float[np.ndarray, "N H A"],
    ) -> tuple[Float[np.ndarray, "N H O"], Float[np.ndarray, "N H O"] | None]:
        """See `OpenLoopModel.predict`."""
        return self._predictions.predict(beliefs, obs, actions)


class JudgedLeastSquares:
    """Linear model of the change by observation and last commands, updated by recursive least squares.

    It takes nothing from the base but the units of its channels.
    """

    uncertainty = ""

    def __init__(self, base: "Base", *, scale: float = LEAST_SQUARES_SCALE):
        from wm_robot.evaluation.least_squares_learner import LeastSquaresConfig, LinearLearner
        from wm_robot.model.world_model import WorldModel

        units = WorldModel(replace(base.model.config, memory="null", blocks=1))
        known = dict(base.model.named_buffers(recurse=False))
        for name, values in units.named_buffers(recurse=False):
            values.copy_(known[name])
        self._learner = LinearLearner(units, LeastSquaresConfig(scale=scale))
        self._state: LifetimeState[Tensor] | None = None
        self._last: np.ndarray | None = None

    def read_belief(self) -> "LifetimeState[Tensor]":
        assert self._state is not None, "the model was not begun"
        return self._state

    def begin(self, initial_action: Float[np.ndarray, "A"]) -> None:
        import torch

        self._state = self._learner.initial_state(
            initial_action=torch.from_numpy(initial_action.astype(np.float32)[None])
        )
        self._last = None

    def observe(self, step: LoggedStep) -> Float[np.ndarray, "O"]:
        import torch

        from wm_robot.types import Step

        before = _hold(step.obs, self._last)
        self._last = _hold(step.next_obs, before)
        obs, action, next_obs = (
            torch.from_numpy(value[None]) for value in (before, step.applied, self._last)
        )
        if step.valid:
            with torch.inference_mode():
                _, self._state = self._learner.update(
                    self.read_belief(), Step(obs, action, next_obs, torch.ones(1))
                )
        else:
            state = self.read_belief()
            self._state = replace(state, recent=torch.cat([state.recent[:, 1:], action[:, None]], 1))
        return self._last

    def predict(
        self,
        beliefs: Sequence["LifetimeState[Tensor]"],
        obs: Float[np.ndarray, "N O"],
        actions: Float[np.ndarray, "N H A"],
    ) -> tuple[Float[np.ndarray, "N H O"], None]:
        """See `OpenLoopModel.predict`."""
        import torch

        with torch.inference_mode():
            state = map_values(lambda *values: torch.cat(values), *beliefs)
            z = self._learner.observe(state, torch.from_numpy(obs))
            mean, _ = self._learner.imagine(state, z, torch.from_numpy(actions)[:, None])
        return mean[:, 0].numpy(), None


def _hold(obs: np.ndarray, last: np.ndarray | None) -> np.ndarray:
    """Return an observation whose gaps hold the last reading."""
    return np.where(np.isfinite(obs), obs, 0.0 if last is None else last).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class JudgedFigure:
    """Figure of one model over all logs: medians."""

    model: str
    group: str
    horizon: int
    error: float
    """Root mean square, in units of the sensor; NaN for all channels together."""
    ratio: float
    """Error as a share of the change over the horizon."""
    coverage: float
    """Share of errors within one predicted deviation; NaN for a model that predicts none."""
    wins: float
    """Share of the logs on which the first model has a smaller ratio; NaN for the first itself."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; a figure that is no number becomes None."""
        values = {"error": self.error, "ratio": self.ratio, "coverage": self.coverage, "wins": self.wins}
        plain = {name: value if np.isfinite(value) else None for name, value in values.items()}
        return {"model": self.model, "group": self.group, "horizon": self.horizon, **plain}


@dataclass(frozen=True, kw_only=True)
class ModelJudgement:
    """Judgement of a world model."""

    logs: Mapping[str, Mapping[str, tuple[OpenLoopFigure, ...]]]
    """Name of a log → name of a model → its figures."""
    uncertainty: str
    """What the predicted deviations of the world model contain."""

    def list_figures(self) -> list[JudgedFigure]:
        """List the figures over all logs, by horizon and group, the judged model first."""
        models = list(next(iter(self.logs.values())))
        first = next(iter(self.logs.values()))[models[0]]
        found = []
        for number, figure in enumerate(first):
            own = np.array([each[models[0]][number].ratio for each in self.logs.values()])
            for model in models:
                rows = [each[model][number] for each in self.logs.values()]
                ratios = np.array([row.ratio for row in rows])
                found.append(
                    JudgedFigure(
                        model=model,
                        group=figure.group,
                        horizon=figure.horizon,
                        error=_median([row.error for row in rows]),
                        ratio=_median(ratios),
                        coverage=_median([row.coverage for row in rows]),
                        wins=float("nan") if model == models[0] else float((own < ratios).mean()),
                    )
                )
        return found

    def find_figure(self, model: str, group: str, horizon: int) -> JudgedFigure:
        """Return the figure of a model."""
        wanted = (model, group, horizon)
        return next(each for each in self.list_figures() if (each.model, each.group, each.horizon) == wanted)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "figures": [each.to_dict() for each in self.list_figures()],
            "uncertainty": self.uncertainty,
            "logs": {
                log: {model: [each.to_dict() for each in figures] for model, figures in models.items()}
                for log, models in self.logs.items()
            },
        }


def judge_world_model(
    models: Mapping[str, JudgedModel],
    logs: Mapping[str, AgentLog],
    spec: RobotSpec,
    *,
    horizons: Sequence[int] = HORIZONS,
    interval: int = WINDOW_INTERVAL,
    progress: Progress = ignore_progress,
) -> ModelJudgement:
    """Judge a world model along logs of plants, against other models that predict from the same noisy observations.

    Args:
        models: The judged model first. Each begins every log anew, and learns along it if it can.
        logs: By the name of the plant or session.
        progress: Progress in steps of all models.
    """
    total, done = sum(len(log.steps) for log in logs.values()) * len(models), 0
    found: dict[str, dict[str, tuple[OpenLoopFigure, ...]]] = {}
    for name, log in logs.items():
        for label, model in models.items():
            meter: OpenLoopMeter[Any] = OpenLoopMeter(
                model, spec, horizons=horizons, interval=interval, batch=BATCH
            )
            model.begin(log.initial_action)
            for number, step in enumerate(log.steps):
                whole = model.observe(step)
                is_whole = step.valid and (step.continues or not number)
                meter.add_step(model.read_belief(), step.applied, whole, step.next_obs, valid=is_whole)
                meter.compute_due()
                done += 1
                progress(done, total)
            meter.finish()
            found.setdefault(name, {})[label] = tuple(meter.list_figures())
    return ModelJudgement(logs=found, uncertainty=next(iter(models.values())).uncertainty)


def _median(values: Sequence[float] | np.ndarray) -> float:
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    return float(np.median(known)) if known.size else float("nan")
