"""Physics settings: integrator, physics step and contact parameters of a stand-in."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from wm_robot_sim.effects.attachments import PENDULUM
from wm_robot_sim.standins.standin_part import StandInPart
from wm_robot_sim.worlds import sample_log_uniform

if TYPE_CHECKING:
    from wm_robot_sim.plant import Plant

CONTACT_TIME = 0.5, 2.0
"""Factor on the time constant of contacts and joint limits, log-uniform."""
CONTACT_FRICTION = 0.6, 1.4
"""Factor on the friction of all contacts."""
CONTACT_HARDNESS = 0.8, 0.95
"""Least impedance of a contact; MuJoCo's default is 0.9."""
IMPEDANCE_RATIO = 1.0, 10.0
"""Stiffness of a contact's friction in that of its normal, log-uniform; MuJoCo's default is 1."""
INTEGRATORS = {
    "Euler": mujoco.mjtIntegrator.mjINT_EULER,
    "implicit": mujoco.mjtIntegrator.mjINT_IMPLICIT,
    "implicitfast": mujoco.mjtIntegrator.mjINT_IMPLICITFAST,
}


@dataclass(frozen=True)
class PhysicsSettings(StandInPart):
    """Integrator, physics step and contact parameters."""

    integrator: str
    substeps: int
    """Physics steps in a control period."""
    contact_time: float
    contact_friction: float
    contact_hardness: float
    impedance_ratio: float

    @classmethod
    def draw(
        cls, nominal: "Plant", rng: np.random.Generator, integrators: tuple[str, ...], substeps: int
    ) -> "PhysicsSettings":
        """Draw the contact parameters; of the integrators the first is taken that the nominal model does not have."""
        own = nominal.model.opt.integrator
        return cls(
            integrator=next(name for name in integrators if INTEGRATORS[name] != own),
            substeps=substeps,
            contact_time=float(sample_log_uniform(rng, CONTACT_TIME, 1)[0]),
            contact_friction=rng.uniform(*CONTACT_FRICTION),
            contact_hardness=rng.uniform(*CONTACT_HARDNESS),
            impedance_ratio=float(sample_log_uniform(rng, IMPEDANCE_RATIO, 1)[0]),
        )

    def change_model(self, plant: "Plant") -> None:
        model, cone = plant.model, mujoco.mjtCone
        # A pendulum that is switched off weighs next to nothing: Euler's method throws it about in a viscous medium.
        is_light = PENDULUM in plant.attachments and self.integrator == "Euler"
        model.opt.integrator = int(INTEGRATORS["implicit" if is_light else self.integrator])
        model.opt.timestep = plant.spec.dt / self.substeps
        is_elliptic = model.opt.cone == cone.mjCONE_ELLIPTIC
        model.opt.cone = int(cone.mjCONE_PYRAMIDAL if is_elliptic else cone.mjCONE_ELLIPTIC)
        model.opt.impratio = self.impedance_ratio
        for solref in (model.geom_solref, model.jnt_solref):
            # A negative one is a stiffness.
            solref[:, 0] *= np.where(solref[:, 0] > 0, self.contact_time, 1.0)
        model.geom_friction *= self.contact_friction
        model.geom_solimp[:, 0] = np.minimum(model.geom_solimp[:, 1], self.contact_hardness)
