"""Floating base: the body of a robot that no joint holds, and its channels in an observation."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from wm_robot.math.kinematics import IDENTITY, compute_rotation_matrix
from wm_robot.spec.channel_layout import ChannelGroup
from wm_robot.spec.checks import require_valid

BASE = "base"
"""Prefix of the channels, and the name of the base in the parameters of rewards."""
AXES = ("x", "y", "z")


@dataclass(frozen=True, kw_only=True)
class FloatingBase:
    """Floating base of a robot.

    Its frame is that of its body. The observation has its height, its rotation, and its velocity in its own frame,
    as nav_msgs/Odometry has it. The horizontal position is no channel: it grows without bound, and nothing in the
    dynamics depends on it.
    """

    body: str
    """Body of the model that has the free joint."""
    linear_velocity: float
    """Largest speed, in m/s."""
    angular_velocity: float
    """Largest speed of rotation, in rad/s."""
    height: float = 0.0
    """Height of the frame at home, in m: its z in the world."""
    rotation: tuple[float, float, float, float] = IDENTITY
    """Rotation of the frame at home, a unit quaternion (w, x, y, z)."""

    def __post_init__(self) -> None:
        length = math.hypot(*self.rotation)
        require_valid(abs(length - 1) < 1e-3, f"base.rotation has length {length:.4g}", "of length 1")
        for name in ("linear_velocity", "angular_velocity"):
            value = getattr(self, name)
            require_valid(value > 0, f"base.{name} is {value}", "above 0")

    @property
    def home_rotation(self) -> Float[np.ndarray, "3 3"]:
        """Rotation matrix of the frame at home."""
        return compute_rotation_matrix(np.array(self.rotation) / math.hypot(*self.rotation))

    def make_groups(self, max_age: float) -> tuple[ChannelGroup, ...]:
        """Make the groups of its channels, in their order.

        Args:
            max_age: Age up to which a reading is valid, in s.
        """
        vectors = {"linear_velocity": self.linear_velocity, "angular_velocity": self.angular_velocity}
        return (
            _make_group("height", ("height",), abs(self.height) + self.linear_velocity, max_age),
            _make_group(
                "rotation",
                [f"{axis}_axis_{part}" for axis in ("x", "y") for part in AXES],
                1.0,
                max_age,
                is_rotation=True,
            ),
            *(
                _make_group(kind, [f"{kind}_{axis}" for axis in AXES], limit, max_age)
                for kind, limit in vectors.items()
            ),
        )

    def make_home_channels(self) -> Float[np.ndarray, "13"]:
        """Make the values of its channels at rest at home."""
        return np.concatenate([[self.height], self.home_rotation[:, :2].T.ravel(), np.zeros(6)])

    def list_digest_values(self) -> dict[str, Any]:
        """List what decides whether experience is compatible: home does not."""
        return {name: value for name, value in asdict(self).items() if name not in ("height", "rotation")}


def _make_group(
    kind: str,
    names: "list[str] | tuple[str, ...]",
    limit: float,
    max_age: float,
    *,
    is_rotation: bool = False,
) -> ChannelGroup:
    return ChannelGroup(
        kind=kind,
        names=tuple(f"{BASE}/{name}" for name in names),
        wraps=(False,) * len(names),
        limits=(limit,) * len(names),
        is_rotation=is_rotation,
        sensor=BASE,
        max_age=max_age,
    )
