"""Sensor difference: the first difference between the sensors of a spec and those of a base or an episode."""

from collections.abc import Mapping, Sequence
from typing import Any

from wm_robot.spec.channel_layout import JOINTS
from wm_robot.spec.floating_base import BASE
from wm_robot.spec.robot_spec import RobotSpec

SensorValues = Sequence[Mapping[str, Any]]
"""What decides whether readings are compatible, of each sensor, with its name."""


def list_sensor_values(spec: RobotSpec) -> list[dict[str, Any]]:
    """List what the digest of a spec covers of its sensors, as plain values: joints, floating base, and others."""
    values: list[dict[str, Any]] = [{"name": JOINTS, "interfaces": list(spec.interfaces)}]
    if spec.base:
        values.append({"name": BASE, **spec.base.list_digest_values()})
    return values + [sensor.list_digest_values() for sensor in spec.sensors]


def describe_sensor_difference(theirs: SensorValues, spec: RobotSpec, what: str) -> str:
    """Describe the first difference to the sensors of a spec; empty if there is none.

    Args:
        theirs: From `list_sensor_values`; empty for joints alone, whose interfaces are not known then.
        what: What has these sensors, as `the base`.
    """
    owned = {each["name"]: each for each in theirs}
    mine = {each["name"]: each for each in list_sensor_values(spec)}
    for name in owned:
        if name not in mine:
            return f"sensor '{name}' is in {what} and not in the spec"
    for name, values in mine.items():
        if name not in owned:
            if name != JOINTS:
                return f"sensor '{name}' is in the spec and not in {what}"
            continue
        for key, value in values.items():
            if (other := owned[name].get(key)) != value:
                return f"sensor '{name}' has {key} {other!r} in {what} and {value!r} in the spec"
    order = [name for name in mine if name in owned]
    if order != list(owned):
        return f"the sensors are {list(owned)} in {what} and {order} in the spec"
    return ""
