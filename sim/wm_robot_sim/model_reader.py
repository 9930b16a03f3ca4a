"""Model reader: what a compiled MuJoCo model says of a robot's joints, actuators and kinematics."""

from collections.abc import Sequence
from typing import NamedTuple

import mujoco
import numpy as np
from jaxtyping import Float

from wm_robot.errors import SpecError
from wm_robot.spec import Link

SERVO, VELOCITY_SERVO, MOTOR = "position servo", "velocity servo", "motor"
"""Kinds of actuators: a set-point of a position, a set-point of a speed, an effort."""
ROTATION_TOLERANCE = 1e-12
"""Distance from no rotation below which a quaternion is none."""
_KINDS = {mujoco.mjtJoint.mjJNT_HINGE: "hinge", mujoco.mjtJoint.mjJNT_SLIDE: "slide"}


class Chain(NamedTuple):
    """Kinematics from the world to a tip."""

    links: tuple[Link, ...]
    tip: tuple[float, float, float]
    """Tip in the frame of the last link, in m."""


def read_joint_kind(model: mujoco.MjModel, joint: int) -> str:
    """Return the kind of a joint: `hinge`, `slide`, `ball` or `free`."""
    kind = mujoco.mjtJoint(model.jnt_type[joint])
    return _KINDS.get(kind, "ball" if kind == mujoco.mjtJoint.mjJNT_BALL else "free")


def read_actuator_kind(model: mujoco.MjModel, actuator: int) -> str:
    """Return the kind of an actuator, by its gain and bias."""
    gain, (_, position, velocity) = model.actuator_gainprm[actuator, 0], model.actuator_biasprm[actuator, :3]
    if model.actuator_biastype[actuator] != mujoco.mjtBias.mjBIAS_AFFINE:
        return MOTOR
    if position < 0 and np.isclose(gain, -position):
        return SERVO
    return VELOCITY_SERVO if velocity < 0 and np.isclose(gain, -velocity) else MOTOR


def read_moved_joints(model: mujoco.MjModel, actuator: int) -> tuple[str, ...]:
    """Return the names of the joints that an actuator moves: its own, or those of its fixed tendon."""
    target = model.actuator_trnid[actuator, 0]
    transmission = mujoco.mjtTrn(model.actuator_trntype[actuator])
    if transmission in (mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtTrn.mjTRN_JOINTINPARENT):
        return (model.joint(target).name,)
    if transmission == mujoco.mjtTrn.mjTRN_TENDON:
        first = model.tendon_adr[target]
        wraps = range(first, first + model.tendon_num[target])
        return tuple(
            model.joint(model.wrap_objid[wrap]).name
            for wrap in wraps
            if model.wrap_type[wrap] == mujoco.mjtWrap.mjWRAP_JOINT
        )
    return ()


def read_chain(
    model: mujoco.MjModel, joint_names: Sequence[str], body: int, point: Float[np.ndarray, "3"]
) -> Chain:
    """Read the chain of joints from the world to a point of a body.

    Joints of the model that are not listed stay where the model's reference has them.

    Args:
        joint_names: Joints of the robot.
        point: In the frame of the body, in m.

    Raises:
        SpecError: If a listed joint on the way is a ball or free.
    """
    links: list[Link] = []
    # Way from the frame of the last listed joint to that of the current body.
    position, rotation = np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0])
    for part in _list_ancestors(model, body):
        position = position + _rotate(rotation, model.body_pos[part])
        rotation = _multiply(rotation, model.body_quat[part])
        for joint in range(model.body_jntadr[part], model.body_jntadr[part] + model.body_jntnum[part]):
            name = model.joint(joint).name
            if name not in joint_names:
                continue
            kind, anchor = read_joint_kind(model, joint), model.jnt_pos[joint]
            if kind not in _KINDS.values():
                raise SpecError(f"joint '{name}' is a {kind} joint; a chain needs hinges and slides")
            position = position + _rotate(rotation, anchor)
            links.append(
                Link(
                    joint=name,
                    kind=kind,
                    origin=_to_point(position),
                    rotation=_to_quaternion(_drop_rounding(rotation)),
                    axis=_to_point(model.jnt_axis[joint]),
                    zero=float(model.qpos0[model.jnt_qposadr[joint]]),
                )
            )
            position, rotation = -anchor, np.array([1.0, 0.0, 0.0, 0.0])
    return Chain(tuple(links), _to_point(position + _rotate(rotation, point)))


def compute_point(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    joint_ids: np.ndarray,
    positions: Float[np.ndarray, "J"],
    body: int,
    point: Float[np.ndarray, "3"],
) -> Float[np.ndarray, "3"]:
    """Compute where a point of a body is in the model, in m, with other joints at their reference."""
    data.qpos[:] = model.qpos0
    data.qpos[model.jnt_qposadr[joint_ids]] = positions
    mujoco.mj_kinematics(model, data)
    return data.xpos[body] + data.xmat[body].reshape(3, 3) @ point


def _list_ancestors(model: mujoco.MjModel, body: int) -> list[int]:
    """List the bodies from the world's child to a body."""
    way = []
    while body > 0:
        way.append(body)
        body = int(model.body_parentid[body])
    return way[::-1]


def _rotate(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    rotated = np.zeros(3)
    mujoco.mju_rotVecQuat(rotated, np.asarray(vector, float), quaternion)
    return rotated


def _multiply(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    product = np.zeros(4)
    mujoco.mju_mulQuat(product, first, np.asarray(second, float))
    return product


def _drop_rounding(quaternion: np.ndarray) -> np.ndarray:
    """Return exactly no rotation for a quaternion that is none up to rounding."""
    is_none = np.abs(quaternion[1:]).max() < ROTATION_TOLERANCE
    return np.array([1.0, 0.0, 0.0, 0.0]) if is_none else quaternion / np.linalg.norm(quaternion)


def _to_point(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z


def _to_quaternion(values: np.ndarray) -> tuple[float, float, float, float]:
    w, x, y, z = (float(value) for value in values)
    return w, x, y, z
