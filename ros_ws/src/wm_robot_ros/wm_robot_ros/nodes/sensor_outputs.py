"""Sensor outputs: publishers of the sensors of a simulated robot, and of its floating base."""

from collections.abc import Iterable

from rclpy.node import Node

from wm_robot.errors import SpecError
from wm_robot.spec import RobotSpec
from wm_robot.streams.sensor_message import fill_message, list_message_sensors
from wm_robot_ros.middleware.qos import OUTPUT_QOS
from wm_robot_ros.middleware.sensor_messages import find_message_class
from wm_robot_sim.arrived_readings import ArrivedReading


class SensorOutputs:
    """Publishers of the sensors of a simulated robot."""

    def __init__(self, node: Node, spec: RobotSpec):
        """Raises:
        SpecError: If two sensors have one topic.
        """
        self._sensors = list_message_sensors(spec)
        shared = {sensor.topic: name for name, sensor in self._sensors.items()}
        for name, sensor in self._sensors.items():
            if shared[sensor.topic] != name:
                raise SpecError(
                    f"robot '{spec.name}' has sensors '{name}' and '{shared[sensor.topic]}' on topic "
                    f"'{sensor.topic}', and a simulated robot publishes each for itself. Give each its own topic"
                )
        self._publishers = {
            name: node.create_publisher(find_message_class(sensor), sensor.topic, OUTPUT_QOS)
            for name, sensor in self._sensors.items()
        }
        self._last_stamps = dict[str, int]()
        self._max_overlap = round(1e9 * spec.dt)
        """Largest overlap of two periods, in ns; beyond it the clock was set back."""
        # Filled again and again: to make a BatteryState takes 70 us, more than all else.
        self._messages = {name: publisher.msg_type() for name, publisher in self._publishers.items()}

    def publish_readings(self, stamp: int, readings: Iterable[ArrivedReading]) -> None:
        """Publish the readings of a control period.

        Args:
            stamp: Time of the end of the period, in ns.
        """
        for reading in readings:
            name, measured = reading.sensor, stamp - round(1e9 * reading.age)
            last = self._last_stamps.get(name, 0)
            # After a late period, the first readings of the next one would be before its last ones.
            if 0 <= last - measured < self._max_overlap:
                measured = last + 1
            self._last_stamps[name] = measured
            message = fill_message(self._messages[name], self._sensors[name], reading.values, stamp=measured)
            self._publishers[name].publish(message)
