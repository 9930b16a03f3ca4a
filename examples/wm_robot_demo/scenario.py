"""Demo scenario: two sessions, and one hidden change that the seed selects."""

import json
from dataclasses import dataclass

import numpy as np

STREAM = 20
"""Random stream of the change, separate from other draws with the same seed."""
CARRYING = ("shoulder_pitch",)
"""Joints that carry the arm, where a weak motor has an effect. At the elbow, replanning alone compensates as well."""
PAYLOAD = (0.2, 0.3)
STRENGTH = (0.18, 0.23)
"""Within the `weak` fault of the robot's spec, and strong enough to hold the arm out; at 0.1 no motor is."""
CHANGE = (7.0, 9.0)
QUICK_CHANGE = (3.0, 4.0)


@dataclass(frozen=True, kw_only=True)
class Change:
    """Hidden change of a demo."""

    time: float
    """In s after the first command."""
    payload: float
    """In kg."""
    joint: str
    strength: float
    """Factor on the motor's gain."""

    @classmethod
    def draw(cls, seed: int, *, quick: bool = False) -> "Change":
        """Draw the change of a seed."""
        rng = np.random.default_rng([seed, STREAM])
        return Change(
            payload=round(float(rng.uniform(*PAYLOAD)), 3),
            joint=str(rng.choice(CARRYING)),
            strength=round(float(rng.uniform(*STRENGTH)), 3),
            time=round(float(rng.uniform(*(QUICK_CHANGE if quick else CHANGE))), 2),
        )

    @property
    def words(self) -> str:
        """Description of the change."""
        return f"{self.payload:.2f} kg in the gripper, {self.joint} at {100 * self.strength:.0f} % strength"

    @property
    def world(self) -> str:
        """World after the change, in the format of the plant node."""
        return json.dumps(
            {"loaded": {"payload": self.payload, "weak_joint": self.joint, "gain": self.strength}}
        )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Durations of the sessions, in s, and the change."""

    first: float
    second: float
    change: Change

    @classmethod
    def of(cls, seed: int, *, quick: bool = False) -> "Plan":
        """Return the plan of a seed."""
        change = Change.draw(seed, quick=quick)
        return (
            Plan(first=10.0, second=4.0, change=change)
            if quick
            else Plan(first=22.0, second=10.0, change=change)
        )
