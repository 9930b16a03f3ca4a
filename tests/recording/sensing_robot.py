"""A robot with an IMU and slow odometry, and the ROS messages of its control periods."""

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from wm_robot.recording.robot_topics import resolve_topic
from wm_robot.recording.session_file import SessionWriter, load_typestore
from wm_robot.robots import load_spec
from wm_robot.spec import RobotSpec

XML = """
<mujoco model="elbow">
  <option timestep="0.005"/>
  <worldbody>
    <body name="torso" pos="0 0 1">
      <joint name="elbow" type="hinge" axis="0 1 0" range="-3 3" limited="true" damping="1" armature="0.1"/>
      <geom type="capsule" size="0.05" fromto="0 0 0 0.3 0 0" mass="1"/>
      <site name="head" pos="0.3 0 0"/>
    </body>
  </worldbody>
  <actuator><position name="elbow" joint="elbow" kp="10" ctrlrange="-3 3"/></actuator>
</mujoco>
"""
SPEC_VALUES = {
    "version": 2,
    "name": "elbow",
    "rate": 50,
    "model": "elbow.xml",
    "joints": [{"name": "elbow", "position": [-3.0, 3.0], "velocity": 9.0, "effort": 10.0}],
    "actuators": [{"name": "elbow", "joint": "elbow", "kind": "position", "range": [-3.0, 3.0], "rate": 9.0}],
    "sensors": [
        {
            "name": "imu",
            "kind": "imu",
            "frame": "head",
            "topic": "imu/data",
            "rate": 100,
            "fields": ["angular_velocity"],
            "required": True,
        },
        {
            "name": "slow",
            "kind": "odometry",
            "frame": "torso",
            "topic": "odom",
            "rate": 5,
            "fields": ["height"],
            "limits": 50.0,
            "max_age": 0.5,
        },
        {"name": "battery", "kind": "battery", "nominal": 24.0, "topic": "/battery"},
    ],
    "tasks": {"stay": {"reward": "hold"}},
}
PERIOD = 20_000_000
ODOMETRY_STEPS = 10
"""Control periods from one odometry to the next."""
Sent = tuple[str, Any, int]
"""Topic in the robot's namespace, message, and time of its receipt in ns."""


def write_robot(folder: Path, **changes: Any) -> tuple[Path, RobotSpec]:
    """Write the files of the robot; return the path of the spec, and the spec."""
    (folder / "elbow.xml").write_text(XML)
    path = folder / "elbow.yaml"
    path.write_text(yaml.safe_dump({**SPEC_VALUES, **changes}))
    return path, load_spec(str(path))


def make_stamp(stamp: int) -> Any:
    from builtin_interfaces.msg import Time

    return Time(sec=stamp // 10**9, nanosec=stamp % 10**9)


def make_period(step: int, stamp: int) -> Iterator[Sent]:
    """Make the messages of a control period that ends at a time, in ns; every number is recognisable."""
    from nav_msgs.msg import Odometry
    from sensor_msgs.msg import Imu, JointState

    for half in (1, 0):
        imu, time = Imu(), stamp - half * PERIOD // 2
        imu.header.stamp, imu.header.frame_id = make_stamp(time), "head"
        imu.angular_velocity.x, imu.angular_velocity.y = step / 64, half / 2
        yield "imu/data", imu, time
    if step % ODOMETRY_STEPS == 0:
        odometry = Odometry(child_frame_id="torso")
        odometry.header.stamp = make_stamp(stamp)
        odometry.pose.pose.position.z = step / 32
        yield "odom", odometry, stamp
    for name, values in {
        "applied_command": {"position": [step / 1100]},
        "joint_states": {"position": [step / 700], "velocity": [-step / 300]},
        "joint_command": {"position": [(step + 1) / 1100]},
    }.items():
        message = JointState(name=["elbow"], **values)
        message.header.stamp = make_stamp(stamp)
        yield name, message, stamp


def expect_row(step: int) -> list[float]:
    """Return the observation of a step, of which no message was lost."""
    odometry = step // ODOMETRY_STEPS * ODOMETRY_STEPS / 32
    return [step / 700, -step / 300, step / 64, 0.0, 0.0, odometry, np.nan]


def write_session(path: Path, sent: list[Sent], robot: str = "one") -> None:
    """Write a session of the robot."""
    writer, channels = SessionWriter(path), {}
    for name, message, received in sent:
        topic, kind = resolve_topic(robot, name), _format_type(message)
        if topic not in channels:
            channels[topic] = writer.add_topic(topic, kind)
        data = load_typestore().serialize_cdr(_convert_message(message), kind)
        writer.write(channels[topic], received, bytes(data))
    writer.close()


def _format_type(message: Any) -> str:
    package, folder = type(message).__module__.split(".")[:2]
    return f"{package}/{folder}/{type(message).__name__}"


def _convert_message(message: Any) -> Any:
    """Convert a message to the classes that read sessions. `serialize_message` adds bytes at the end."""
    names = message.get_fields_and_field_types()
    return load_typestore().types[_format_type(message)](
        **{name: _convert_value(getattr(message, name)) for name in names}
    )


def _convert_value(value: Any) -> Any:
    if hasattr(value, "get_fields_and_field_types"):
        return _convert_message(value)
    return np.asarray(value) if isinstance(value, array | np.ndarray) else value
