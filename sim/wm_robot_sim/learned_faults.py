"""Learned faults: what the physics and the command map of a lifetime state suggest is wrong with a robot."""

import numpy as np
from jaxtyping import Float

from wm_robot.errors import SpecError
from wm_robot.spec import RobotSpec
from wm_robot.types import Fault
from wm_robot_sim.model_compiler import compile_model
from wm_robot_sim.worlds import (
    BIAS_SPREAD,
    DELAY_SPREAD,
    DRIVE_SPREAD,
    LOG_SPREADS,
    PAYLOAD_SPREAD,
    TILT_SPREAD,
    DomainRandomization,
)

WEAK, LIMITED, STICKY = 0.55, 0.6, 3.0
"""Factors from which a state suggests a fault."""
LEAST_PAYLOAD, LEAST_TILT, LEAST_DELAY, LEAST_OFFSET = 0.05, 0.06, 0.03, 0.05
"""In kg, rad, s and the unit of a command."""
EXCHANGED = 0.5
"""Share of the other's command that reaches a motor, from which the cables may be exchanged."""


def propose_faults(
    spec: RobotSpec,
    physics: Float[np.ndarray, "P"],
    mixing: Float[np.ndarray, "A A"] | None = None,
    offset: Float[np.ndarray, "A"] | None = None,
) -> list[Fault]:
    """Return the faults that a learned state suggests; a diagnosis confirms or drops them.

    Args:
        physics: Of the state, in the units of `World.to_vector`.
        mixing: What each motor gets of all commands, by the command map; None: the state has no map in use.
        offset: What is added to each command, by the command map.

    Raises:
        SpecError: If the physics are those of another robot.
    """
    names = DomainRandomization(spec).parameter_names
    if len(physics) != len(names):
        raise SpecError(
            f"the state has {len(physics)} physics parameters; robot '{spec.name}' has {len(names)}. "
            "Use the state of this robot"
        )
    found = dict(zip(names, map(float, physics), strict=True))
    timestep = compile_model(spec).opt.timestep
    proposed = []
    for actuator in spec.actuators:
        joint = actuator.joint
        gain = 1 + DRIVE_SPREAD * found[f"{actuator.name}/drive"]
        if gain < 0:
            proposed += [Fault(kind=kind, joint=joint) for kind in ("reversed_command", "reversed_reading")]
        elif gain < WEAK:
            proposed.append(Fault(kind="weak", joint=joint, size=max(gain, 0.05)))
        torque = float(np.exp(LOG_SPREADS["torque"] * found[f"{actuator.name}/torque"]))
        if torque < LIMITED:
            proposed.append(Fault(kind="limited", joint=joint, size=torque))
    for joint in spec.joint_names:
        friction = float(np.exp(LOG_SPREADS["friction"] * found[f"{joint}/friction"]))
        if friction > STICKY:
            proposed.append(Fault(kind="sticky", joint=joint, size=friction))
        bias = BIAS_SPREAD * found[f"{joint}/bias"]
        if abs(bias) > LEAST_OFFSET:
            proposed.append(Fault(kind="encoder_zero", joint=joint, size=bias))
    payload, delay = PAYLOAD_SPREAD * found["payload"], DELAY_SPREAD * found["delay"] * timestep
    slope = TILT_SPREAD * np.array([found["tilt_x"], found["tilt_y"]])
    if payload > LEAST_PAYLOAD:
        proposed.append(Fault(kind="payload", size=payload))
    if delay > LEAST_DELAY:
        proposed.append(Fault(kind="delay", size=delay))
    if (size := float(np.hypot(*slope))) > LEAST_TILT:
        proposed.append(Fault(kind="mounting", size=size, heading=float(np.arctan2(*slope[::-1]))))
    return proposed + _read_map(spec, mixing, offset)


def _read_map(spec: RobotSpec, mixing: np.ndarray | None, offset: np.ndarray | None) -> list[Fault]:
    """Return the faults that a command map suggests."""
    joints = [each.joint for each in spec.actuators]
    found = []
    if offset is not None:
        # A servo that is off by its command looks like an encoder that is off by its reading.
        found += [
            Fault(kind="encoder_zero", joint=joint, size=float(each))
            for joint, each in zip(joints, offset, strict=True)
            if abs(each) > LEAST_OFFSET
        ]
    if mixing is None:
        return found
    for one, joint in enumerate(joints):
        if mixing[one, one] < 0:
            found += [Fault(kind=kind, joint=joint) for kind in ("reversed_command", "reversed_reading")]
        for other in range(one + 1, len(joints)):
            if min(mixing[one, other], mixing[other, one]) > EXCHANGED:
                found += [
                    Fault(kind=kind, joint=joint, other=joints[other])
                    for kind in ("exchanged_motors", "exchanged_encoders")
                ]
    return found
