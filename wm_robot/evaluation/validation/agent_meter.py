"""Agent meter: surprise, open-loop error, coverage and commands of an agent, live or along a log."""

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_robot.evaluation.validation.command_comparison import CommandComparison, CommandGate
from wm_robot.evaluation.validation.open_loop_meter import OpenLoopFigure, OpenLoopMeter, OpenLoopModel
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.spec import RobotSpec

if TYPE_CHECKING:
    from wm_robot.agent.agent import Agent, PredictionError

MAX_SURPRISES = 100_000
"""Surprises of the newest steps that are kept: half an hour at 50 Hz."""


@dataclass(frozen=True, kw_only=True)
class AgentReport:
    """Report on an agent: what the transitions that it took determine."""

    num_steps: int
    num_valid: int
    """Steps that span one control period with a known action."""
    num_excluded: int
    """Valid steps that the agent did not learn from: saturated motors, stuck or frozen readings, interventions."""
    surprise: dict[str, float]
    """`mean`, `median` and `p95` over the valid steps, and the means of their `first` and `last` quarter, in nats per
    channel; empty without a valid step."""
    open_loop: tuple[OpenLoopFigure, ...]
    uncertainty: str
    """What the predicted deviations contain."""
    commands: dict[str, Any]
    """See `CommandComparison.to_dict`."""

    def find_figure(self, group: str, horizon: int) -> OpenLoopFigure:
        """Return the figure of a group and a horizon."""
        return next(each for each in self.open_loop if (each.group, each.horizon) == (group, horizon))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "num_steps": self.num_steps,
            "num_valid": self.num_valid,
            "num_excluded": self.num_excluded,
            "surprise": self.surprise,
            "open_loop": [each.to_dict() for each in self.open_loop],
            "uncertainty": self.uncertainty,
            "commands": self.commands,
        }


class AgentMeter:
    """Meter of one agent."""

    def __init__(
        self,
        agent: "Agent",
        model: OpenLoopModel[ArrayState],
        spec: RobotSpec,
        *,
        gate: CommandGate | None = None,
        batch: int = 1,
    ):
        """Args:
        model: Predicts from states of this agent.
        batch: See `OpenLoopMeter`.
        """
        self._agent, self._model, self._spec = agent, model, spec
        self.open_loop: OpenLoopMeter[ArrayState] = OpenLoopMeter(model, spec, batch=batch)
        self.commands = CommandComparison(spec, gate)
        self._surprises: deque[float] = deque(maxlen=MAX_SURPRISES)
        self._num_steps = self._num_valid = 0
        self._num_invalid_before = int(agent.counters["num_invalid"])

    def add_step(
        self,
        applied: np.ndarray,
        next_obs: np.ndarray,
        error: "PredictionError",
        *,
        valid: bool,
        continues: bool = True,
    ) -> float:
        """Add a step that the agent has just observed, and return its surprise, as it is published.

        Args:
            next_obs: `O`; NaN without a reading.
            valid: Whether it spans one control period with a known action.
            continues: Whether it starts where the step before it ended.
        """
        surprise = compute_surprise(error, self._spec)
        self._num_steps += 1
        if valid:
            self._num_valid += 1
            self._surprises.append(surprise)
        whole = self._agent.fill_gaps(next_obs)
        self.open_loop.add_step(self._agent.state, applied, whole, next_obs, valid=valid and continues)
        return surprise

    def make_report(self) -> AgentReport:
        """Make the report on all steps so far."""
        num_invalid = int(self._agent.counters["num_invalid"]) - self._num_invalid_before
        return AgentReport(
            num_steps=self._num_steps,
            num_valid=self._num_valid,
            num_excluded=max(0, num_invalid - (self._num_steps - self._num_valid)),
            surprise=summarise_surprise(list(self._surprises)),
            open_loop=tuple(self.open_loop.list_figures()),
            uncertainty=self._model.uncertainty,
            commands=self.commands.to_dict(),
        )


def compute_surprise(error: "PredictionError", spec: RobotSpec) -> float:
    """Compute the surprise that an agent publishes: over the channels of required sensors."""
    is_required = spec.layout.is_required
    return error.nll if is_required.all() else error.compute_nll(is_required)


def summarise_surprise(surprises: list[float]) -> dict[str, float]:
    """Summarise surprises; see `AgentReport.surprise`."""
    if not surprises:
        return {}
    values, part = np.array(surprises), max(1, len(surprises) // 4)
    return {
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "p95": float(np.quantile(values, 0.95)),
        "first": float(values[:part].mean()),
        "last": float(values[-part:].mean()),
    }
