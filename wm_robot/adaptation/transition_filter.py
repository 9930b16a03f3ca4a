"""Transition filter: excludes saturated motors, stuck sensors and safety interventions from learning."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from wm_robot.adaptation.events import EVENTS, Event
from wm_robot.errors import check_at_least
from wm_robot.spec import RobotSpec
from wm_robot.streams.transition_assembler import AFTER_CONTACT


@dataclass(frozen=True, kw_only=True)
class CautionConfig:
    """Config of the transition filter: the thresholds of a rejection."""

    saturated: int = 10
    """Steps for which an action must stay at the end of its range."""
    stuck: int = 10
    """Steps for which a reading must be constant to the last bit, while its joint is commanded to move."""
    moved: float = 0.02
    """Share of its range by which an action must change in that time."""
    after: int = AFTER_CONTACT
    """Number of rejected steps from an intervention on."""

    def __post_init__(self) -> None:
        check_at_least(1, self, "saturated", "stuck", part="caution")


class Caution:
    """Filter for the transitions of one robot."""

    def __init__(self, spec: RobotSpec, config: CautionConfig | None = None):
        self.config = config or CautionConfig()
        self._spec, self._range = spec, spec.action_high - spec.action_low
        column = {name: i for i, name in enumerate(spec.observation_names)}
        self._sensed = [
            [column[f"{actuator.joint}/{kind}"] for kind in spec.interfaces] for actuator in spec.actuators
        ]
        self._at_end = np.zeros(spec.action_dim, int)
        self._same = np.zeros(spec.obs_dim, int)
        self._applied: deque[np.ndarray] = deque(maxlen=self.config.stuck + 1)
        self._since_contact = self.config.after
        self._doubted = ""
        self.events: deque[Event] = deque(maxlen=EVENTS)
        self.counts = {"saturated": 0, "stuck": 0, "contact": 0}

    def doubts(
        self, step: int, obs: np.ndarray, applied: np.ndarray, next_obs: np.ndarray, *, contact: bool
    ) -> bool:
        """Whether a step must not be learned from. Counts the reasons, and adds changes to `events`."""
        found = self._found(obs, applied, next_obs, contact)
        for reason in found:
            self.counts[reason] += 1
        told = "; ".join(found.values())
        if told != self._doubted:
            self.events.append(Event(step, 0, told and f"not learned from: {told}" or "learned from again"))
            self._doubted = told
        return bool(found)

    def _found(
        self, obs: np.ndarray, applied: np.ndarray, next_obs: np.ndarray, contact: bool
    ) -> dict[str, str]:
        """Return the reasons of a rejection, each with its description."""
        c, found = self.config, {}
        self._applied.append(np.array(applied))
        near = 1e-4 * self._range
        ends = (applied <= self._spec.action_low + near) | (applied >= self._spec.action_high - near)
        self._at_end = np.where(ends, self._at_end + 1, 0)
        self._same = np.where(next_obs == obs, self._same + 1, 0)
        self._since_contact = 0 if contact else self._since_contact + 1
        saturated = self._at_end >= c.saturated
        if saturated.any():
            found["saturated"] = f"motors {self._named(saturated)} at the end of their range"
        stuck = self._stuck()
        if stuck.any():
            found["stuck"] = f"sensors of {self._named(stuck)} stuck while commanded to move"
        if self._since_contact < c.after:
            found["contact"] = "safety intervention"
        return found

    def _stuck(self) -> np.ndarray:
        """Return the motors with a constant reading although their command changed."""
        told = np.ptp(np.stack(self._applied), 0) > self.config.moved * self._range
        still = np.array([(self._same[columns] >= self.config.stuck).any() for columns in self._sensed])
        return told & still

    def _named(self, motors: np.ndarray) -> list[str]:
        return [name for name, one in zip(self._spec.action_names, motors, strict=True) if one]
