"""Random motion: how fast the joints of a model become under random commands."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float

from wm_robot.errors import SpecError
from wm_robot_sim.model_reader import list_names

SECONDS, SEED = 4.0, 0
STEP_PARTS = (1, 2, 4)
"""Parts into which a physics step is divided until the simulation does not diverge."""
PERIODS_PER_COMMAND = 5


def measure_stable_motion(
    model: mujoco.MjModel,
    actuators: Sequence[Mapping[str, Any]],
    home: Mapping[str, float],
    rate: float,
    qpos: Float[np.ndarray, "N"],
) -> tuple[Float[np.ndarray, "V"], int]:
    """Measure random motion with the largest physics step that does not diverge; see `measure_random_motion`.

    Returns:
        Largest speed of each degree of freedom, and the parts into which the model's physics step is divided.

    Raises:
        SpecError: If the simulation diverges with the model's own step, and with smaller ones.
    """
    first_error: SpecError | None = None
    for parts in STEP_PARTS:
        divided = copy.copy(model)
        divided.opt.timestep = model.opt.timestep / parts
        try:
            return measure_random_motion(divided, actuators, home, rate, qpos), parts
        except SpecError as error:
            first_error = first_error or error
    raise SpecError(
        f"{first_error}. Steps down to 1/{STEP_PARTS[-1]} of the model's diverge too"
    ) from first_error


def measure_random_motion(
    model: mujoco.MjModel,
    actuators: Sequence[Mapping[str, Any]],
    home: Mapping[str, float],
    rate: float,
    qpos: Float[np.ndarray, "N"],
) -> Float[np.ndarray, "V"]:
    """Measure the largest speed of each degree of freedom under random commands, from rest at home, in rad/s (m/s).

    Args:
        actuators: Name, joint, kind, range and rate, as in a spec.
        home: Joint → rest position, in rad (m).
        rate: Control rate, in Hz.
        qpos: Generalised positions of the whole model at home.

    Raises:
        SpecError: If the simulation diverges.
    """
    known = list_names(model, mujoco.mjtObj.mjOBJ_ACTUATOR)
    numbers = [known.index(each["name"]) for each in actuators]
    low, high = np.array([each["range"] for each in actuators]).T
    most = np.array([each["rate"] / rate for each in actuators])
    rng, data = np.random.default_rng(SEED), mujoco.MjData(model)
    data.qpos[:] = qpos
    rest = [home[each["joint"]] if each["kind"] == "position" else 0.0 for each in actuators]
    target = command = np.clip(rest, low, high)
    fastest, substeps = np.zeros(model.nv), max(1, round(1 / rate / model.opt.timestep))
    for number in range(round(SECONDS / model.opt.timestep)):
        period, step = divmod(number, substeps)
        if step == 0:
            if period % PERIODS_PER_COMMAND == 0:
                target = rng.uniform(low, high)
            command = command + np.clip(target - command, -most, most)
            data.ctrl[numbers] = command
        mujoco.mj_step(model, data)
        fastest = np.maximum(fastest, np.abs(data.qvel))
        warnings = [data.warning[int(kind)].number for kind in _DIVERGED]
        if any(warnings) or not np.isfinite(data.qvel).all():
            raise SpecError(
                f"the simulation of the model diverges after {number * model.opt.timestep:.3g} s from rest at home, "
                "under commands within the ranges of its actuators: positions or speeds are no numbers, or huge. "
                "Use a smaller option/timestep, more damping or armature, or weaker gains"
            )
    return fastest


_DIVERGED = (
    mujoco.mjtWarning.mjWARN_BADQPOS,
    mujoco.mjtWarning.mjWARN_BADQVEL,
    mujoco.mjtWarning.mjWARN_BADQACC,
)
