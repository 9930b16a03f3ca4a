"""Transition filter: excludes saturated motors, stuck sensors and safety interventions from learning."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from wm_robot.adaptation.events import MAX_EVENTS, AgentEvent
from wm_robot.errors import check_at_least
from wm_robot.spec import RobotSpec
from wm_robot.streams.transition_assembler import STEPS_AFTER_INTERVENTION


@dataclass(frozen=True, kw_only=True)
class TransitionFilterConfig:
    """Config of the transition filter: the thresholds of a rejection."""

    saturation_steps: int = 10
    """Steps for which an action must stay at the end of its range."""
    stuck_steps: int = 10
    """Steps for which a reading must be constant to the last bit, while its joint is commanded to move."""
    min_command_change: float = 0.02
    """Share of its range by which an action must change in that time."""
    num_rejected_after: int = STEPS_AFTER_INTERVENTION
    """Number of rejected steps from an intervention on."""

    def __post_init__(self) -> None:
        check_at_least(1, self, "saturation_steps", "stuck_steps", section="transition_filter")


MOTION = ("position", "velocity")
"""Joint interfaces that change when a joint moves; the effort of a saturated motor is constant."""


class TransitionFilter:
    """Filter for the transitions of one robot."""

    def __init__(self, spec: RobotSpec, config: TransitionFilterConfig | None = None):
        self.config = config or TransitionFilterConfig()
        self._spec, self._range = spec, spec.action_high - spec.action_low
        column = {name: i for i, name in enumerate(spec.observation_names)}
        self._motor_columns = [
            [column[f"{actuator.joint}/{kind}"] for kind in spec.interfaces if kind in MOTION]
            for actuator in spec.actuators
        ]
        self._steps_at_limit = np.zeros(spec.action_dim, int)
        self._steps_constant = np.zeros(spec.obs_dim, int)
        self._applied: deque[np.ndarray] = deque(maxlen=self.config.stuck_steps + 1)
        self._steps_since_intervention = self.config.num_rejected_after
        self._last_reason = ""
        self.events: deque[AgentEvent] = deque(maxlen=MAX_EVENTS)
        self.counts = {"saturated": 0, "stuck": 0, "intervention": 0}

    def rejects(
        self, step: int, obs: np.ndarray, applied: np.ndarray, next_obs: np.ndarray, *, intervention: bool
    ) -> bool:
        """Whether a step must not be learned from. Counts the reasons, and adds changes to `events`."""
        found = self._find_reasons(obs, applied, next_obs, intervention)
        for reason in found:
            self.counts[reason] += 1
        told = "; ".join(found.values())
        if told != self._last_reason:
            self.events.append(
                AgentEvent(step, 0, told and f"not learned from: {told}" or "learned from again")
            )
            self._last_reason = told
        return bool(found)

    def _find_reasons(
        self, obs: np.ndarray, applied: np.ndarray, next_obs: np.ndarray, intervention: bool
    ) -> dict[str, str]:
        """Return the reasons of a rejection, each with its description."""
        c, found = self.config, {}
        self._applied.append(np.array(applied))
        near = 1e-4 * self._range
        ends = (applied <= self._spec.action_low + near) | (applied >= self._spec.action_high - near)
        self._steps_at_limit = np.where(ends, self._steps_at_limit + 1, 0)
        self._steps_constant = np.where(next_obs == obs, self._steps_constant + 1, 0)
        self._steps_since_intervention = 0 if intervention else self._steps_since_intervention + 1
        saturated = self._steps_at_limit >= c.saturation_steps
        if saturated.any():
            found["saturated"] = f"motors {self._list_motor_names(saturated)} at the end of their range"
        stuck = self._find_stuck_motors()
        if stuck.any():
            found["stuck"] = f"sensors of {self._list_motor_names(stuck)} stuck while commanded to move"
        if self._steps_since_intervention < c.num_rejected_after:
            found["intervention"] = "safety intervention"
        return found

    def _find_stuck_motors(self) -> np.ndarray:
        """Return the motors with a constant reading although their command changed."""
        told = np.ptp(np.stack(self._applied), 0) > self.config.min_command_change * self._range
        still = np.array(
            [
                (self._steps_constant[columns] >= self.config.stuck_steps).any()
                for columns in self._motor_columns
            ]
        )
        return told & still

    def _list_motor_names(self, motors: np.ndarray) -> list[str]:
        return [name for name, one in zip(self._spec.action_names, motors, strict=True) if one]
