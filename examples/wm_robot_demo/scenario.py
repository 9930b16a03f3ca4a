"""What will happen in a demo: two visits, and one hidden change that the seed decides."""

import json
from dataclasses import dataclass

import numpy as np

STREAM = 20
"""Keeps the draw of the change apart from other draws by the same seed."""
CARRYING = ("shoulder_pitch",)
"""Joints that bear the arm: where a tired motor shows. At the elbow a planner that only replans copes as well."""
PAYLOAD = (0.2, 0.3)
STRENGTH = (0.18, 0.23)
"""Within the `weak` fault of the robot's spec, and strong enough to hold the arm out: at 0.1 none is."""
CHANGE = (7.0, 9.0)
QUICK_CHANGE = (3.0, 4.0)


@dataclass(frozen=True, kw_only=True)
class Change:
    """The hidden change."""

    time: float
    """In s after the first command."""
    payload: float
    """In kg."""
    joint: str
    strength: float
    """Factor on the motor's gain."""

    @classmethod
    def draw(cls, seed: int, *, quick: bool = False) -> "Change":
        """The change of a seed."""
        rng = np.random.default_rng([seed, STREAM])
        return cls(
            payload=round(float(rng.uniform(*PAYLOAD)), 3),
            joint=str(rng.choice(CARRYING)),
            strength=round(float(rng.uniform(*STRENGTH)), 3),
            time=round(float(rng.uniform(*(QUICK_CHANGE if quick else CHANGE))), 2),
        )

    @property
    def words(self) -> str:
        """What happens, for people."""
        return f"{self.payload:.2f} kg in the gripper, {self.joint} at {100 * self.strength:.0f} % strength"

    @property
    def world(self) -> str:
        """The world after it, as the plant node reads it."""
        return json.dumps(
            {"loaded": {"payload": self.payload, "weak_joint": self.joint, "gain": self.strength}}
        )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Lengths of the visits, in s, and the change."""

    first: float
    second: float
    change: Change

    @classmethod
    def of(cls, seed: int, *, quick: bool = False) -> "Plan":
        """The plan of a seed."""
        change = Change.draw(seed, quick=quick)
        return (
            cls(first=10.0, second=4.0, change=change)
            if quick
            else cls(first=22.0, second=10.0, change=change)
        )
