"""URDF robot description: written from a spec, and compared with a spec."""

import math
from collections.abc import Iterable, Iterator, Sequence
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import numpy as np
from jaxtyping import Float

from wm_robot.errors import SpecError
from wm_robot.math.kinematics import compute_rotation_matrix
from wm_robot.spec import Joint, Link, RobotSpec

MAX_CHARACTERS = 1 << 24
"""Largest description that is parsed, in characters."""
LIMIT_TOLERANCE = 1e-3
"""Largest ignored difference of two limits, in their unit."""
POSITION_TOLERANCE, ANGLE_TOLERANCE = 1e-3, 1e-3
"""Largest ignored distance of a joint's axis, in m, and of its direction, in rad."""
KINDS = {"revolute": "hinge", "continuous": "hinge", "prismatic": "slide"}
"""Type of a joint in a URDF → kind in a spec."""
LINK_RADIUS = 0.015
"""Radius of a drawn link, in m."""


def write_urdf(spec: RobotSpec) -> str:
    """Write a URDF stick figure with a spec's joints and limits: base_link, a link after each joint, and `gripper`.

    Raises:
        SpecError: If the spec has no chain.
    """
    if not spec.chain:
        raise SpecError(f"robot '{spec.name}' has no chain; a description needs one")
    joints = {joint.name: joint for joint in spec.joints}
    origins = [link.origin for link in spec.chain] + [spec.tip]
    lines = [f"<robot name={quoteattr(spec.name)}>", _format_link("base_link", origins[0])]
    parent = "base_link"
    for link, after in zip(spec.chain, origins[1:], strict=True):
        joint, child = joints[link.joint], f"{link.joint}_link"
        low, high = joint.position
        kind, place = "revolute" if link.kind == "hinge" else "prismatic", _compute_zero_pose(link)
        if joint.wraps:
            kind = "continuous"
        lines += [
            f'<joint name={quoteattr(joint.name)} type="{kind}"><parent link="{parent}"/><child link="{child}"/>'
            f'<origin xyz="{_format_numbers(place[:3, 3])}" rpy="{_format_numbers(_compute_rpy(place[:3, :3]))}"/>'
            f'<axis xyz="{_format_numbers(link.axis)}"/>'
            f'<limit lower="{low}" upper="{high}" velocity="{joint.velocity}" effort="{joint.effort}"/></joint>',
            _format_link(child, after),
        ]
        parent = child
    lines += [
        f'<joint name="gripper_fixed" type="fixed"><parent link="{parent}"/><child link="gripper"/>'
        f'<origin xyz="{_format_numbers(spec.tip)}"/></joint>',
        '<link name="gripper"/>',
        "</robot>",
    ]
    return "\n".join(lines)


def find_differences(spec: RobotSpec, description: str) -> list[str]:
    """Return the differences between a spec and a description, one sentence each; empty if they agree.

    Compared are the kind and the limits of each joint, hard and soft, and where the joints of the chain are with all
    joints at zero: with that, the chain is the same in every pose. A spec may allow less than the robot can do. Only
    limits that are wider in the spec are differences.

    Raises:
        SpecError: If the description is no URDF.
    """
    root = _parse_description(description)
    found = {joint.get("name", ""): joint for joint in root.findall("joint") if joint.get("type") != "fixed"}
    sentences, is_whole = [], True
    for joint in spec.joints:
        if joint.name not in found:
            sentences.append(f"joint '{joint.name}' is not in the description, which has {sorted(found)}")
            is_whole = False
            continue
        kind = KINDS.get(found[joint.name].get("type", ""))
        if kind != joint.kind:
            sentences.append(
                f"joint '{joint.name}' is a {joint.kind} in the spec, "
                f"'{found[joint.name].get('type')}' in the description"
            )
        if joint.wraps and kind == "hinge" and found[joint.name].get("type") != "continuous":
            sentences.append(
                f"joint '{joint.name}' wraps in the spec, and is '{found[joint.name].get('type')}' in the "
                "description; it must be 'continuous'"
            )
        sentences += _find_wider_limits(joint, found[joint.name], root)
    return sentences + (list(_find_other_places(spec, root)) if is_whole else [])


def _parse_description(description: str) -> ElementTree.Element:
    if len(description) > MAX_CHARACTERS or "<!" in description.replace("<!--", ""):
        raise SpecError(
            f"the description has over {MAX_CHARACTERS} characters, or declares entities; it must be a plain URDF"
        )
    try:
        root = ElementTree.fromstring(description)
    except ElementTree.ParseError as error:
        raise SpecError(f"the description is not valid XML: {error}") from error
    if root.tag != "robot":
        raise SpecError(f"the description is a '{root.tag}', not a 'robot'")
    return root


def _find_wider_limits(
    joint: Joint, described_joint: ElementTree.Element, root: ElementTree.Element
) -> Iterator[str]:
    """Yield the limits that are wider in the spec than in the description."""
    low, high = joint.position
    ends: list[tuple[str, dict[str, float]]] = []
    is_continuous = described_joint.get("type") == "continuous"
    limit = described_joint.find("limit")
    if limit is None and not is_continuous:
        yield f"joint '{joint.name}' has no limits in the description"
    described_limits = {} if limit is None else _read_numbers(joint.name, limit)
    if limit is not None and not is_continuous:
        hard = {"lower": described_limits.get("lower", 0.0), "upper": described_limits.get("upper", 0.0)}
        ends.append(("", hard))
    if (soft := described_joint.find("safety_controller")) is not None:
        numbers = _read_numbers(joint.name, soft)
        named = {"lower": "soft_lower_limit", "upper": "soft_upper_limit"}
        ends.append((" (soft limit)", {end: numbers[name] for end, name in named.items() if name in numbers}))
    for control in root.iterfind(
        f"ros2_control/joint[@name='{joint.name}']/command_interface[@name='position']"
    ):
        given = {each.get("name"): each.text for each in control.iterfind("param")}
        named = {"lower": "min", "upper": "max"}
        numbers = {end: _read_number(joint.name, given[n]) for end, n in named.items() if n in given}
        ends.append((" (ros2_control)", numbers))
    for which, numbers in ends:
        if low < numbers.get("lower", -math.inf) - LIMIT_TOLERANCE:
            yield (
                f"joint '{joint.name}' goes down to {low} in the spec, to {numbers['lower']} in the "
                f"description{which}"
            )
        if high > numbers.get("upper", math.inf) + LIMIT_TOLERANCE:
            yield (
                f"joint '{joint.name}' goes up to {high} in the spec, to {numbers['upper']} in the "
                f"description{which}"
            )
    for name in ("velocity", "effort"):
        value = getattr(joint, name)
        if name in described_limits and value > described_limits[name] + LIMIT_TOLERANCE:
            yield f"joint '{joint.name}' has {name} {value} in the spec, {described_limits[name]} in the description"


def _find_other_places(spec: RobotSpec, root: ElementTree.Element) -> Iterator[str]:
    """Yield the joints of the chain whose axis is elsewhere in the description, with all joints at zero."""
    parents = {_get_link(joint, "child"): joint for joint in root.findall("joint")}
    joints = {joint.get("name", ""): joint for joint in root.findall("joint")}
    frame = np.eye(4)
    for link in spec.chain:
        frame = frame @ _compute_zero_pose(link)
        axis, place = frame[:3, :3] @ link.axis, frame[:3, 3]
        described = _compute_described_pose(joints[link.joint], parents)
        direction = _read_vector(link.joint, joints[link.joint].find("axis"), "xyz", (1.0, 0.0, 0.0))
        length = float(np.linalg.norm(direction))
        described_axis = described[:3, :3] @ direction / (length if length > 0 else math.nan)
        if not np.linalg.norm(described_axis - axis) <= ANGLE_TOLERANCE:
            yield (
                f"the axis of joint '{link.joint}' is {_format_vector(axis)} in the spec, "
                f"{_format_vector(described_axis)} in the description, with all joints at zero"
            )
        # A hinge is the same anywhere along its axis, a slide anywhere.
        apart = np.cross(axis, described[:3, 3] - place)
        if link.kind == "hinge" and not np.linalg.norm(apart) <= POSITION_TOLERANCE:
            yield (
                f"joint '{link.joint}' is at {_format_vector(place)} m in the spec, "
                f"{_format_vector(described[:3, 3])} m in the description, with all joints at zero"
            )


def _compute_zero_pose(link: Link) -> Float[np.ndarray, "4 4"]:
    """Compute the pose of a link in the frame of the one before it, with its joint at zero."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = compute_rotation_matrix(link.rotation), link.origin
    if link.kind == "slide":
        pose[:3, 3] -= pose[:3, :3] @ link.axis * link.zero
    elif link.zero:
        half = -link.zero / 2
        pose[:3, :3] = pose[:3, :3] @ compute_rotation_matrix(
            [math.cos(half), *(math.sin(half) * value for value in link.axis)]
        )
    return pose


def _compute_described_pose(
    joint: ElementTree.Element, parents: dict[str, ElementTree.Element]
) -> Float[np.ndarray, "4 4"]:
    """Compute the pose of a joint in the root of the description, with all joints at zero.

    Raises:
        SpecError: If its links form a circle.
    """
    pose, passed = np.eye(4), set()
    current: ElementTree.Element | None = joint
    while current is not None:
        name = current.get("name", "")
        if name in passed:
            raise SpecError(f"joint '{name}' of the description is its own ancestor")
        passed.add(name)
        origin, step = current.find("origin"), np.eye(4)
        step[:3, 3] = _read_vector(name, origin, "xyz", (0.0, 0.0, 0.0))
        roll, pitch, yaw = _read_vector(name, origin, "rpy", (0.0, 0.0, 0.0))
        for angle, axis in ((yaw, (0, 0, 1)), (pitch, (0, 1, 0)), (roll, (1, 0, 0))):
            turn = [math.cos(angle / 2), *(math.sin(angle / 2) * value for value in axis)]
            step[:3, :3] = step[:3, :3] @ compute_rotation_matrix(turn)
        pose, current = step @ pose, parents.get(_get_link(current, "parent"))
    return pose


def _get_link(joint: ElementTree.Element, end: str) -> str:
    found = joint.find(end)
    return "" if found is None else found.get("link", "")


def _read_vector(
    name: str, element: ElementTree.Element | None, attribute: str, default: tuple[float, float, float]
) -> Float[np.ndarray, "3"]:
    text = None if element is None else element.get(attribute)
    if text is None:
        return np.array(default)
    values = [_read_number(name, word) for word in text.split()]
    if len(values) != 3:
        raise SpecError(
            f"{attribute} of joint '{name}' in the description is '{text}'; it must be three numbers"
        )
    return np.array(values)


def _read_numbers(name: str, element: ElementTree.Element) -> dict[str, float]:
    return {attribute: _read_number(name, text) for attribute, text in element.attrib.items()}


def _read_number(name: str, text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SpecError(f"joint '{name}' of the description has '{text}' where a finite number must be")
    return value


def _compute_rpy(rotation: Float[np.ndarray, "3 3"]) -> tuple[float, float, float]:
    """Compute roll, pitch and yaw of a rotation matrix, in rad."""
    pitch = math.asin(max(-1.0, min(1.0, -float(rotation[2, 0]))))
    if abs(math.cos(pitch)) < 1e-6:
        return 0.0, pitch, math.atan2(-rotation[0, 1], rotation[1, 1])
    return math.atan2(rotation[2, 1], rotation[2, 2]), pitch, math.atan2(rotation[1, 0], rotation[0, 0])


def _format_link(name: str, end: Sequence[float]) -> str:
    """Write a link drawn as a ball half-way to the next joint."""
    middle = tuple(value / 2 for value in end)
    return (
        f'<link name="{name}"><visual><origin xyz="{_format_numbers(middle)}"/>'
        f'<geometry><sphere radius="{LINK_RADIUS}"/></geometry></visual></link>'
    )


def _format_numbers(values: Iterable[float]) -> str:
    return " ".join(f"{value + 0.0:.9g}" for value in values)


def _format_vector(values: Iterable[float]) -> str:
    return "[" + ", ".join(f"{value:.3f}" for value in values) + "]"
