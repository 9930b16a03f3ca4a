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
    model: mujoco.MjModel, actuators: Sequence[Mapping[str, Any]], home: Mapping[str, float], rate: float
) -> dict[str, float]:
    """Measure the largest speed of each joint under random commands, from rest at home, in rad/s (m/s).

    Args:
        actuators: Name, joint, kind, range and rate, as in a spec.
        home: Joint → rest position, in rad (m).
        rate: Control rate, in Hz.

    Raises:
        SpecError: If the simulation diverges.
    """
    known, joints = (
        list_names(model, mujoco.mjtObj.mjOBJ_ACTUATOR),
        list_names(model, mujoco.mjtObj.mjOBJ_JOINT),
    )
    numbers = [known.index(each["name"]) for each in actuators]
    low, high = np.array([each["range"] for each in actuators]).T
    most = np.array([each["rate"] / rate for each in actuators])
    rng, data = np.random.default_rng(SEED), mujoco.MjData(model)
    for name, position in home.items():
        data.qpos[model.jnt_qposadr[joints.index(name)]] = position
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
                f"the simulation of the model diverges after {data.time:.3g} s from rest at home, under commands "
                "within the ranges of its actuators: positions or speeds are no numbers, or huge. Use a smaller "
                "option/timestep, more damping or armature, or weaker gains"
            )
    return {name: float(fastest[model.jnt_dofadr[number]]) for number, name in enumerate(joints)}


_DIVERGED = (
    mujoco.mjtWarning.mjWARN_BADQPOS,
    mujoco.mjtWarning.mjWARN_BADQVEL,
    mujoco.mjtWarning.mjWARN_BADQACC,
)
