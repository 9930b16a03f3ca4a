"""Tool: a body off the centre of the last link that no spec names."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import mujoco
import numpy as np
from jaxtyping import Float

from wm_robot_sim.standins.standin_part import PREFIX, StandInPart

if TYPE_CHECKING:
    from wm_robot_sim.plant import Plant

OFFSET = 0.1, 0.25
"""Distance of its centre from the origin of the last link's frame, in the robot's reach."""
LENGTH = 0.1, 0.3
"""Length of the tool, in the robot's reach."""
THICKNESS = 0.2
"""Diameter in lengths."""


@dataclass(frozen=True)
class Tool(StandInPart):
    """Solid cylinder that is fixed to a link. It touches nothing."""

    body: str
    """Link that carries it."""
    mass: float
    """In kg."""
    center: Float[np.ndarray, "3"]
    """In the frame of the link, in m."""
    axis: Float[np.ndarray, "3"]
    """Direction of its length, of length 1."""
    length: float
    """In m."""

    @classmethod
    def draw(cls, nominal: "Plant", rng: np.random.Generator, share: tuple[float, float]) -> "Tool":
        """Draw a tool.

        Args:
            share: Range of its mass, in all that moves of a robot with a chain, else in twice the last link.
        """
        scale, model = nominal.effect_scale, nominal.model
        body = find_last_body(nominal)
        whole = scale.moving_mass if nominal.spec.chain else 2 * float(model.body_mass[body])
        center, axis = rng.standard_normal(3), rng.standard_normal(3)
        return cls(
            body=model.body(body).name,
            mass=rng.uniform(*share) * whole,
            center=center / np.linalg.norm(center) * rng.uniform(*OFFSET) * scale.reach,
            axis=axis / np.linalg.norm(axis),
            length=rng.uniform(*LENGTH) * scale.reach,
        )

    @property
    def inertia(self) -> Float[np.ndarray, "3"]:
        """Moments about the centre, the last about its axis, in kg m²."""
        radius = THICKNESS * self.length / 2
        across = self.mass * (3 * radius**2 + self.length**2) / 12
        return np.array([across, across, self.mass * radius**2 / 2])

    def add_to_spec(self, model: mujoco.MjSpec) -> None:
        turned = np.zeros(4)
        mujoco.mju_quatZ2Vec(turned, self.axis)
        tool = model.body(self.body).add_body(name=f"{PREFIX}tool", pos=self.center, quat=turned)
        tool.explicitinertial, tool.mass, tool.inertia = True, self.mass, self.inertia
        tool.ipos, tool.iquat = np.zeros(3), (1.0, 0.0, 0.0, 0.0)


def find_last_body(nominal: "Plant") -> int:
    """Return the body that carries a tool: that of the tip, or the last link of a robot without a chain."""
    if not nominal.spec.chain:
        return nominal.effect_scale.last_body
    return int(nominal.body_ids[nominal.spec.joint_names.index(nominal.spec.chain[-1].joint)])
