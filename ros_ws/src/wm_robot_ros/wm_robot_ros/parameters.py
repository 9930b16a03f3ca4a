"""Parameters that describe themselves."""

from typing import TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

Value = TypeVar("Value", bool, int, float, str)


def declare(
    node: Node,
    name: str,
    default: Value,
    description: str,
    *,
    bounds: tuple[float, float] | None = None,
) -> Value:
    """Declare a parameter, fixed from start to end, and return its value.

    Args:
        description: For `ros2 param describe`; with the unit.
        bounds: Smallest and largest value.
    """
    descriptor = ParameterDescriptor(description=description, read_only=True)
    if bounds and isinstance(default, float):
        span = FloatingPointRange(from_value=float(bounds[0]), to_value=float(bounds[1]))
        descriptor.floating_point_range = [span]
    elif bounds:
        descriptor.integer_range = [IntegerRange(from_value=int(bounds[0]), to_value=int(bounds[1]), step=1)]
    value: Value = node.declare_parameter(name, default, descriptor).value
    return value


def warn_of_unknown(node: Node) -> None:
    """Name the parameters that were given and that nobody declared: rclpy ignores them in silence."""
    # Private in rclpy, so an older or newer one may lack it.
    given = getattr(node, "_parameter_overrides", {})
    known = ("use_sim_time", "qos_overrides.")
    unknown = sorted(name for name in given if not (node.has_parameter(name) or name.startswith(known)))
    if unknown:
        node.get_logger().warning(f"parameters {unknown} are unknown and have no effect")
