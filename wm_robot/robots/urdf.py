"""URDF robot description: written from a spec, and compared with a spec."""

from collections.abc import Iterator
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from wm_robot.errors import SpecError
from wm_robot.spec import Joint, RobotSpec

MAX_CHARACTERS = 1 << 24
"""Largest description that is parsed, in characters."""
LIMIT_TOLERANCE = 1e-3
"""Largest ignored difference of two limits, in their unit."""
LINK_RADIUS = 0.015
"""Radius of a drawn link, in m."""


def write_urdf(spec: RobotSpec) -> str:
    """Write a URDF stick figure with a spec's joints and limits: base_link, a link after each hinge, and `gripper`.

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
        lines += [
            f'<joint name={quoteattr(joint.name)} type="revolute"><parent link="{parent}"/><child link="{child}"/>'
            f'<origin xyz="{_format_numbers(link.origin)}"/><axis xyz="{_format_numbers(link.axis)}"/>'
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

    A spec may allow less than the robot can do. Only limits that are wider in the spec are differences.

    Raises:
        SpecError: If the description is no URDF.
    """
    found = _parse_joints(description)
    sentences = []
    for joint in spec.joints:
        if joint.name not in found:
            sentences.append(f"joint '{joint.name}' is not in the description, which has {sorted(found)}")
        else:
            sentences += _find_wider_limits(joint, found[joint.name])
    return sentences


def _parse_joints(description: str) -> dict[str, ElementTree.Element]:
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
    return {joint.get("name", ""): joint for joint in root.findall("joint") if joint.get("type") != "fixed"}


def _find_wider_limits(joint: Joint, described_joint: ElementTree.Element) -> Iterator[str]:
    """Yield the limits that are wider in the spec than in the description."""
    limit = described_joint.find("limit")
    if limit is None:
        if described_joint.get("type") != "continuous":
            yield f"joint '{joint.name}' has no limits in the description"
        return
    try:
        described_limits = {name: float(value) for name, value in limit.attrib.items()}
    except ValueError as error:
        raise SpecError(
            f"a limit of joint '{joint.name}' in the description is not a number: {error}"
        ) from error
    low, high = joint.position
    if described_joint.get("type") != "continuous":
        lower, upper = described_limits.get("lower", 0.0), described_limits.get("upper", 0.0)
        if low < lower - LIMIT_TOLERANCE:
            yield f"joint '{joint.name}' goes down to {low} in the spec, to {lower} in the description"
        if high > upper + LIMIT_TOLERANCE:
            yield f"joint '{joint.name}' goes up to {high} in the spec, to {upper} in the description"
    for name in ("velocity", "effort"):
        value = getattr(joint, name)
        if name in described_limits and value > described_limits[name] + LIMIT_TOLERANCE:
            yield f"joint '{joint.name}' has {name} {value} in the spec, {described_limits[name]} in the description"


def _format_link(name: str, end: tuple[float, float, float]) -> str:
    """Write a link drawn as a ball half-way to the next hinge."""
    middle = tuple(value / 2 for value in end)
    return (
        f'<link name="{name}"><visual><origin xyz="{_format_numbers(middle)}"/>'
        f'<geometry><sphere radius="{LINK_RADIUS}"/></geometry></visual></link>'
    )


def _format_numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)
