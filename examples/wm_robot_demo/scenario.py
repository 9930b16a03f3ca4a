"""Demo scenario: two sessions, and one hidden change that the seed selects."""

import json
from dataclasses import dataclass

import numpy as np

ROBOTS = ADAPTIVE, FROZEN, RESTORED, NEWBORN = "adaptive", "frozen", "restored", "newborn"
"""Robots of both sessions, by name."""
CHANGE_STREAM = 20
"""Random stream of the change, separate from other draws with the same seed."""
LOADED_JOINTS = ("shoulder_pitch",)
"""Joints that carry the arm, where a weak motor has an effect. At the elbow, replanning alone compensates as well."""
PAYLOAD_RANGE = (0.2, 0.3)
STRENGTH_RANGE = (0.18, 0.23)
"""Within the `weak` fault of the robot's spec, and strong enough to hold the arm out; at 0.1 no motor is."""
CHANGE_TIME_RANGE = (7.0, 9.0)
QUICK_CHANGE_TIME_RANGE = (3.0, 4.0)


@dataclass(frozen=True, kw_only=True)
class DemoChange:
    """Hidden change of a demo."""

    time: float
    """In s after the first command."""
    payload: float
    """In kg."""
    joint: str
    strength: float
    """Factor on the motor's gain."""

    @classmethod
    def draw(cls, seed: int, *, quick: bool = False) -> "DemoChange":
        """Draw the change of a seed."""
        rng = np.random.default_rng([seed, CHANGE_STREAM])
        return DemoChange(
            payload=round(float(rng.uniform(*PAYLOAD_RANGE)), 3),
            joint=str(rng.choice(LOADED_JOINTS)),
            strength=round(float(rng.uniform(*STRENGTH_RANGE)), 3),
            time=round(float(rng.uniform(*(QUICK_CHANGE_TIME_RANGE if quick else CHANGE_TIME_RANGE))), 2),
        )

    @property
    def description(self) -> str:
        """Description of the change."""
        return f"{self.payload:.2f} kg in the gripper, {self.joint} at {100 * self.strength:.0f} % strength"

    @property
    def world_text(self) -> str:
        """World after the change, in the format of the plant node."""
        return json.dumps(
            {"loaded": {"payload": self.payload, "weak_joint": self.joint, "gain": self.strength}}
        )


@dataclass(frozen=True, kw_only=True)
class DemoPlan:
    """Durations of the sessions, in s, and the change."""

    first_duration: float
    second_duration: float
    change: DemoChange

    @classmethod
    def from_seed(cls, seed: int, *, quick: bool = False) -> "DemoPlan":
        """Return the plan of a seed."""
        change = DemoChange.draw(seed, quick=quick)
        return (
            DemoPlan(first_duration=10.0, second_duration=4.0, change=change)
            if quick
            else DemoPlan(first_duration=22.0, second_duration=10.0, change=change)
        )
