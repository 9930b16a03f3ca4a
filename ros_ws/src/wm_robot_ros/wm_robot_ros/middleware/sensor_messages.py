"""Sensor messages: the message classes of sensors, and the topics of a robot's sensors."""

from importlib import import_module
from typing import Any

from wm_robot.errors import MissingExtraError, SpecError
from wm_robot.spec import RobotSpec, Sensor
from wm_robot.streams.sensor_message import list_message_sensors

OWN_TOPICS = ("joint_states", "applied_command", "joint_command", "target", "robot_description")
"""Topics of the nodes in the namespace of a robot."""


def find_message_class(sensor: Sensor) -> Any:
    """Return the message class that carries a sensor.

    Raises:
        MissingExtraError: If its package is not installed.
    """
    package, name = sensor.message.split("/")
    try:
        return getattr(import_module(f"{package}.msg"), name)
    except ImportError as error:
        raise MissingExtraError(
            f"sensor '{sensor.name}', which arrives as {sensor.message},", "ros"
        ) from error


def check_sensor_topics(spec: RobotSpec) -> None:
    """Check that nodes can send and receive the readings of a robot's sensors.

    Raises:
        SpecError: If a topic is one of the nodes' own.
        MissingExtraError: If a message package is not installed.
    """
    for name, sensor in list_message_sensors(spec).items():
        find_message_class(sensor)
        if sensor.topic in OWN_TOPICS:
            raise SpecError(
                f"robot '{spec.name}' has sensor '{name}' on topic '{sensor.topic}', which is one of its nodes' own; "
                f"set another topic, as topic: sensors/{name}"
            )
