"""Random motion: how fast the joints of a model become under random commands."""

from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np

from wm_robot.errors import SpecError
from wm_robot_sim.model_reader import list_names

SECONDS, SEED = 4.0, 0
PERIODS_PER_COMMAND = 5


def measure_random_motion(
    model: mujoco.MjModel, actuators: Sequence[Mapping[str, Any]], names: Sequence[str], rate: float
) -> dict[str, float]:
    """Measure the largest speed of each hinge and slide under random commands from the zero pose, in rad/s (m/s).

    Args:
        actuators: With `range`, as in a spec.
        names: Their names.
        rate: Control rate, in Hz.

    Raises:
        SpecError: If the simulation diverges.
    """
    known = list_names(model, mujoco.mjtObj.mjOBJ_ACTUATOR)
    numbers = [known.index(name) for name in names]
    low, high = np.array([each["range"] for each in actuators]).T
    rng, data = np.random.default_rng(SEED), mujoco.MjData(model)
    fastest = np.zeros(model.nv)
    steps = PERIODS_PER_COMMAND * max(1, round(1 / rate / model.opt.timestep))
    for number in range(round(SECONDS / model.opt.timestep)):
        if number % steps == 0:
            data.ctrl[numbers] = rng.uniform(low, high)
        mujoco.mj_step(model, data)
        fastest = np.maximum(fastest, np.abs(data.qvel))
        warnings = [data.warning[int(kind)].number for kind in _DIVERGED]
        if any(warnings) or not np.isfinite(data.qvel).all():
            raise SpecError(
                f"the simulation of the model diverges {data.time:.3g} s after its zero pose, under commands within "
                "the ranges of its actuators: positions or speeds are no numbers, or huge. Use a smaller "
                "option/timestep, more damping or armature, or weaker gains"
            )
    joints = list_names(model, mujoco.mjtObj.mjOBJ_JOINT)
    return {name: float(fastest[model.jnt_dofadr[number]]) for number, name in enumerate(joints)}


_DIVERGED = (
    mujoco.mjtWarning.mjWARN_BADQPOS,
    mujoco.mjtWarning.mjWARN_BADQVEL,
    mujoco.mjtWarning.mjWARN_BADQACC,
)
