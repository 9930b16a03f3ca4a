"""Replay of a log: the agent's own update rule over recorded transitions, and its report. Nothing else runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_robot.evaluation.validation.agent_meter import AgentMeter, AgentReport
from wm_robot.evaluation.validation.command_comparison import CommandGate
from wm_robot.evaluation.validation.open_loop_meter import OpenLoopModel
from wm_robot.memory.lifetime_state import EXPERIENCE_PREFIX, PLANNER_NOISE
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.progress import Progress, ignore_progress
from wm_robot.recording.agent_log import AgentLog
from wm_robot.spec import RobotSpec

if TYPE_CHECKING:
    from wm_robot.agent.agent import Agent

SAME = 1e-6
"""Difference up to which a replay equals the live run."""
BATCH = 16
"""Open-loop predictions that are computed together."""


@dataclass(frozen=True, kw_only=True)
class LiveComparison:
    """Comparison of a replay with the live run that was recorded."""

    num_compared: int
    """Steps of which the log has the surprise that the agent published."""
    max_difference: float
    """Largest difference of the surprise, in nats per channel."""
    max_prediction_difference: float
    """Largest difference of the predicted joint readings, in units of the sensor; NaN without predictions."""
    num_different: int
    """Steps whose surprise differs by more than `SAME`."""
    first_different: int | None
    """Stamp of the first such step, in ns."""

    @property
    def is_equal(self) -> bool:
        """Whether there is a live run, and the replay equals it."""
        return self.num_compared > 0 and not self.num_different

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        apart = self.max_prediction_difference
        return {
            "equal": self.is_equal,
            "num_compared": self.num_compared,
            "max_difference": self.max_difference,
            "max_prediction_difference": apart if apart == apart else None,
            "num_different": self.num_different,
            "first_different": self.first_different,
        }


@dataclass(frozen=True, kw_only=True)
class ReplayReport:
    """Report of a replay."""

    report: AgentReport
    live: LiveComparison | None
    """None if the log has no surprise of the agent."""
    num_updates: int
    """Updates of the lifetime state at the end."""
    surprises: tuple[float, ...]
    """Of each step, in nats per channel."""
    notes: tuple[str, ...] = ()
    """What may make the replay differ from the live run, a sentence each."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            **self.report.to_dict(),
            "live": None if self.live is None else self.live.to_dict(),
            "num_updates": self.num_updates,
            "notes": list(self.notes),
        }


def replay_log(
    agent: "Agent",
    log: AgentLog,
    model: OpenLoopModel[ArrayState],
    spec: RobotSpec,
    *,
    restore: Path | str | None = None,
    gate: CommandGate | None = None,
    progress: Progress = ignore_progress,
) -> ReplayReport:
    """Replay a log: the agent observes each of its transitions as the live agent did, and plans nothing.

    Args:
        agent: Afterwards it has the state of the end.
        model: Open-loop predictions from states of the agent.
        restore: State at the start; None: the initial state.
        gate: Limits that commands in the log are compared with; None: they are not.
        progress: Progress in steps.
    """
    agent.begin(log.initial_action, restore)
    meter = AgentMeter(agent, model, spec, gate=gate, batch=BATCH)
    notes = list(log.notes)
    born = agent.counters["num_steps"]
    if log.num_updates_before not in (None, born):
        notes.append(
            f"the agent began with {log.num_updates_before} updates, this state has {born}. Name the state that it "
            "began with"
        )
    surprises, apart = [], [float("nan")]
    for number, step in enumerate(log.steps):
        error = agent.observe(
            step.obs,
            step.applied,
            step.next_obs,
            valid=step.valid,
            intervention=step.intervention,
            is_new=step.is_new,
        )
        surprises.append(
            meter.add_step(
                step.applied, step.next_obs, error, valid=step.valid, continues=step.continues or not number
            )
        )
        meter.commands.add_step(step.command, step.obs, step.start, step.applied)
        meter.open_loop.compute_due()
        if step.predicted is not None:
            apart.append(float(np.abs(error.mean[: len(step.predicted)] - step.predicted).max()))
        progress(number + 1, len(log.steps))
    meter.open_loop.finish()
    return ReplayReport(
        report=meter.make_report(),
        live=_compare_live(log, surprises, float(np.nanmax(apart)) if len(apart) > 1 else float("nan")),
        num_updates=int(agent.counters["num_steps"]),
        surprises=tuple(surprises),
        notes=tuple(notes),
    )


def _compare_live(log: AgentLog, surprises: list[float], apart: float) -> LiveComparison | None:
    known = [
        (step.stamp, abs(own - step.surprise))
        for step, own in zip(log.steps, surprises, strict=True)
        if step.surprise is not None
    ]
    if not known:
        return None
    different = [stamp for stamp, difference in known if not difference <= SAME]
    return LiveComparison(
        num_compared=len(known),
        max_difference=max(difference for _, difference in known),
        max_prediction_difference=apart,
        num_different=len(different),
        first_different=different[0] if different else None,
    )


def compare_states(replayed: ArrayState, saved: Mapping[str, np.ndarray]) -> float:
    """Return the largest difference of two lifetime states, without what a replay has no part of.

    That is the noise of the planner, and the experience buffer of a learner.

    Args:
        saved: Flat form of a saved state.

    Returns:
        Infinity if a part is missing or has another shape.
    """
    largest = 0.0
    own = {name: value for name, value in replayed.flatten().items() if _is_compared(name)}
    if set(own) != {name for name in saved if _is_compared(name)}:
        return float("inf")
    for name, value in own.items():
        if value.shape != saved[name].shape:
            return float("inf")
        if value.size:
            difference = np.abs(value.astype(np.float64) - saved[name].astype(np.float64))
            # Values that both lack are equal.
            both = ~(np.isfinite(value) | np.isfinite(saved[name]))
            largest = max(largest, float(np.where(both, 0.0, difference).max()))
    return largest


def _is_compared(name: str) -> bool:
    return name != PLANNER_NOISE and not name.startswith(EXPERIENCE_PREFIX)
