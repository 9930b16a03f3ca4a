"""Model check: a spec is held against the model that it names, and takes its kinematics from there."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from wm_robot.errors import SpecError
from wm_robot.math.kinematics import compute_tip_position
from wm_robot.robots.robot_model import WORLD, Chain, ModelActuator, ModelJoint, RobotModel
from wm_robot.spec import Actuator, Joint, RobotSpec

RANGE_TOLERANCE = 1e-3
"""Largest ignored difference of two ranges, in rad (m)."""
POSITION_TOLERANCE = 1e-4
"""Largest ignored distance of the spec's tip from the model's, in m."""
CHECKED_POSES = 32
LARGEST_POSITION = 10.0
"""Joint position up to which poses are compared, in rad (m)."""


def attach_model(spec: RobotSpec, model: RobotModel) -> RobotSpec:
    """Return a spec with the digest of its model, and with the kinematics to its tip if it names one.

    Raises:
        SpecError: If the spec contradicts the model; with both values of each contradiction.
    """
    if spec.tip_name and not spec.chain:
        body, point = model.find_point(spec.tip_name)
        chain = model.read_chain(spec.joint_names, body, point, base=spec.base.body if spec.base else WORLD)
        spec = replace(spec, chain=chain.links, tip=chain.tip)
    found = find_contradictions(spec, model)
    if found:
        raise SpecError(
            f"robot '{spec.name}' contradicts its model {spec.model}: {'; '.join(found)}. "
            "Correct the spec or the model"
        )
    return replace(spec, model_digest=model.digest)


def find_contradictions(spec: RobotSpec, model: RobotModel) -> list[str]:
    """Return what a spec says otherwise than its model, one sentence each; empty if they agree.

    A spec may allow less than the model. Only ranges that are wider in the spec are contradictions.
    """
    joints, actuators = (
        {each.name: each for each in model.joints},
        {each.name: each for each in model.actuators},
    )
    missing = [
        f"{what} '{name}' is not in the model, which has {list(known)}"
        for what, known, names in (
            ("joint", joints, spec.joint_names),
            ("actuator", actuators, spec.action_names),
        )
        for name in names
        if name not in known
    ]
    if missing:
        return missing
    found = [said for joint in spec.joints for said in _compare_joint(joint, joints[joint.name])]
    for actuator in spec.actuators:
        found += _compare_actuator(actuator, actuators[actuator.name])
    found += _compare_base(spec, model)
    found += _compare_sensors(spec, model)
    return found or list(_compare_chain(spec, model))


def _compare_base(spec: RobotSpec, model: RobotModel) -> Iterator[str]:
    said, modelled = spec.base.body if spec.base else "", model.find_free_body(spec.joint_names)
    if said != modelled:
        yield (
            f"the base is {_describe_base(said)} in the spec, and {_describe_base(modelled)} in the model, where a "
            "free joint makes a base float"
        )


def _compare_sensors(spec: RobotSpec, model: RobotModel) -> Iterator[str]:
    for sensor in spec.sensors:
        if sensor.frame and not model.has_frame(sensor.frame):
            yield (
                f"sensor '{sensor.name}' has the frame '{sensor.frame}' in the spec, and the model has no site and "
                f"no body of that name; it has {model.list_frames()}"
            )


def _describe_base(body: str) -> str:
    return f"the floating body '{body}'" if body else "fixed"


def _compare_joint(joint: Joint, modelled: ModelJoint) -> Iterator[str]:
    if modelled.kind != joint.kind:
        yield f"joint '{joint.name}' is a {joint.kind} in the spec, a {modelled.kind} in the model"
    elif joint.wraps and modelled.range is not None:
        yield (
            f"joint '{joint.name}' wraps in the spec, and has the range [{modelled.range[0]:g}, "
            f"{modelled.range[1]:g}] in the model"
        )
    elif modelled.range is not None:
        yield from _compare_range(f"joint '{joint.name}' has the range", joint.position, modelled.range)


def _compare_actuator(actuator: Actuator, modelled: ModelActuator) -> Iterator[str]:
    name, kind = actuator.name, modelled.kind
    if actuator.joint not in modelled.joints:
        yield f"actuator '{name}' moves '{actuator.joint}' in the spec, {list(modelled.joints)} in the model"
    if actuator.kind != kind:
        yield f"actuator '{name}' has kind '{actuator.kind}' in the spec, '{kind}' in the model"
    elif kind != "effort" and not np.isclose(modelled.gear, 1.0):
        yield (
            f"actuator '{name}' is a set-point of a {kind} in the spec, and has gear {modelled.gear:g} in the model"
        )
    if modelled.range is not None:
        yield from _compare_range(f"actuator '{name}' has the range", actuator.range, modelled.range)


def _compare_range(what: str, said: Sequence[float], limits: Sequence[float]) -> Iterator[str]:
    if said[0] < limits[0] - RANGE_TOLERANCE or said[1] > limits[1] + RANGE_TOLERANCE:
        yield f"{what} {list(said)} in the spec, [{limits[0]:g}, {limits[1]:g}] in the model"


def _compare_chain(spec: RobotSpec, model: RobotModel) -> Iterator[str]:
    """Compare a chain that the spec states with that of the model, to the tip that it names.

    Without such a name the tip is a point of the body that the last joint moves.
    """
    if not spec.chain:
        return
    limits = {joint.name: joint.position for joint in spec.joints}
    low, high = np.clip([limits[joint] for joint in spec.joint_names], -LARGEST_POSITION, LARGEST_POSITION).T
    poses = np.random.default_rng(0).uniform(low, high, (CHECKED_POSES, len(low)))
    said = _compute_tips(spec, Chain(spec.chain, spec.tip), poses)
    true = _compute_tips(spec, _read_modelled_chain(spec, model), poses)
    apart = np.linalg.norm(said - true, axis=1)
    worst = int(apart.argmax())
    if apart[worst] > POSITION_TOLERANCE:
        where = ", ".join(f"{n} {value:.2f}" for n, value in zip(spec.joint_names, poses[worst], strict=True))
        yield (
            f"the tip of the chain is at {_format_point(said[worst])} m in the spec, at "
            f"{_format_point(true[worst])} m in the model, {apart[worst]:.3f} m apart (with {where})"
        )


def _read_modelled_chain(spec: RobotSpec, model: RobotModel) -> Chain:
    base = spec.base.body if spec.base else WORLD
    if spec.tip_name:
        return model.read_chain(spec.joint_names, *model.find_point(spec.tip_name), base=base)
    last = next(joint for joint in model.joints if joint.name == spec.chain[-1].joint)
    x, y, z = (a + b for a, b in zip(last.anchor, spec.tip, strict=True))
    return model.read_chain(spec.joint_names, last.body, (x, y, z), base=base)


def _compute_tips(spec: RobotSpec, chain: Chain, poses: np.ndarray) -> np.ndarray:
    columns = [spec.joint_names.index(link.joint) for link in chain.links]
    tips: np.ndarray = compute_tip_position(poses[:, columns], chain.links, chain.tip)
    return tips


def _format_point(point: np.ndarray) -> str:
    return "[" + ", ".join(f"{value:.3f}" for value in point) + "]"
