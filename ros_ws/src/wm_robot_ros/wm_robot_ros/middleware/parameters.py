"""Node parameters with a description, a range and error messages."""

import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from wm_robot.errors import ConfigError

Value = TypeVar("Value", bool, int, float, str)
VALUE_KINDS = {bool: "true or false", int: "a whole number", float: "a number with a point", str: "text"}
"""Expected value of a parameter, by the type of its default."""


def declare_parameter(
    node: Node,
    name: str,
    default: Value,
    description: str,
    *,
    bounds: tuple[float, float] | None = None,
) -> Value:
    """Declare a read-only parameter, and return its value.

    Args:
        node: Node of the parameter.
        name: Name of the parameter.
        default: Default value.
        description: Text for `ros2 param describe`, with the unit.
        bounds: Smallest and largest value.

    Raises:
        ConfigError: If the value has the wrong type or is out of range.
    """
    descriptor = ParameterDescriptor(description=description, read_only=True)
    if bounds and isinstance(default, float):
        span = FloatingPointRange(from_value=float(bounds[0]), to_value=float(bounds[1]))
        descriptor.floating_point_range = [span]
    elif bounds:
        descriptor.integer_range = [IntegerRange(from_value=int(bounds[0]), to_value=int(bounds[1]), step=1)]
    try:
        value: Value = node.declare_parameter(name, default, descriptor).value
    except (InvalidParameterTypeException, InvalidParameterValueException) as error:
        given = _read_overrides(node)[name].value
        span = f" from {bounds[0]:g} to {bounds[1]:g}" if bounds else ""
        raise ConfigError(
            f"parameter {name} of {node.get_fully_qualified_name()} is {given!r}; it must be "
            f"{VALUE_KINDS[type(default)]}{span}. Write -p {name}:={json.dumps(default)}, or the same in a file"
        ) from error
    return value


def warn_about_unknown(node: Node) -> None:
    """Log the parameters that were set but not declared, which rclpy ignores silently."""
    ours = ("use_sim_time", "qos_overrides.")
    unknown = sorted(
        name for name in _read_overrides(node) if not (node.has_parameter(name) or name.startswith(ours))
    )
    if not unknown:
        return
    known = [name for name in node._parameters if not name.startswith(ours)]
    close = {name: get_close_matches(name, known, n=1) for name in unknown}
    guesses = [f"Did you mean '{found[0]}' for '{name}'?" for name, found in close.items() if found]
    node.get_logger().warning(
        f"parameters {unknown} are unknown and have no effect. "
        + (" ".join(guesses) or f"{node.get_fully_qualified_name()} has {', '.join(known)}")
    )


def _read_overrides(node: Node) -> Mapping[str, Parameter]:
    """Return the parameters from the command line and from files."""
    # Private in rclpy, so an older or newer one may lack it.
    return getattr(node, "_parameter_overrides", {})
