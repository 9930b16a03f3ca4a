"""Channel units: the unit of each channel of an observation, in UCUM."""

from collections.abc import Iterator

from wm_robot.spec import SENSOR_KINDS, RobotSpec

JOINT_UNITS = {
    "hinge": {"position": "rad", "velocity": "rad/s", "effort": "N.m"},
    "slide": {"position": "m", "velocity": "m/s", "effort": "N"},
}
BASE_UNITS = {"height": "m", "rotation": "1", "linear_velocity": "m/s", "angular_velocity": "rad/s"}
UCUM = {"m/s²": "m/s2", "N m": "N.m", "°C": "Cel", "": "1"}
"""Unit of a sensor's field → its UCUM code, where it differs."""


def list_channel_units(spec: RobotSpec) -> list[str]:
    """List the unit of each channel."""
    return list(_list_units(spec))


def _list_units(spec: RobotSpec) -> Iterator[str]:
    for interface in spec.interfaces:
        for joint in spec.joints:
            yield JOINT_UNITS[joint.kind][interface]
    for group in spec.base.make_groups(0.0) if spec.base else ():
        yield from [BASE_UNITS[group.kind]] * len(group.names)
    for sensor in spec.sensors:
        for name in sensor.fields:
            unit = SENSOR_KINDS[sensor.kind].fields[name].unit
            yield from [UCUM.get(unit, unit)] * sensor.count_values(name)
