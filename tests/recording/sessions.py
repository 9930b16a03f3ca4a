"""Recorded session for tests: a robot with one joint that moves."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from wm_robot.recording.session_file import SessionWriter, load_typestore
from wm_robot.spec import Actuator, Joint, RobotSpec, Task

Said = tuple[str, str, Any]
"""Topic in the robot's namespace, type and message."""
START, PERIOD = 10**18, 20_000_000
JOINTS, POINT, TEXT = "sensor_msgs/msg/JointState", "geometry_msgs/msg/PointStamped", "std_msgs/msg/String"
QOS = """\
- history: keep_last
  depth: 1
  reliability: reliable
  durability: transient_local
  deadline: {sec: 9223372036, nsec: 854775807}
  lifespan: {sec: 9223372036, nsec: 854775807}
  liveliness: automatic
  liveliness_lease_duration: {sec: 9223372036, nsec: 854775807}
  avoid_ros_namespace_conventions: false
"""
"""A latched topic's, as a bag's metadata has it."""
SPEC = RobotSpec(
    name="elbow",
    rate=50,
    model="",
    joints=(Joint(name="elbow", position=(-9.0, 9.0), velocity=9.0, effort=1.0),),
    actuators=(Actuator(name="elbow", joint="elbow", kind="position", range=(-9.0, 9.0), rate=9.0),),
    tasks={"reach": Task(reward="reach", goal=3)},
)


def at(step: int) -> int:
    return START + PERIOD * step


def obs(step: int) -> np.ndarray:
    return np.array([step / 700, -step / 300])


def act(step: int) -> np.ndarray:
    """Return the action before the observation of a step."""
    return np.array([step / 1100])


def goal(step: int) -> np.ndarray:
    return np.array([step, 2 * step, 3 * step]) / 1300


def sensed(step: int, stamp: int | None = None, **changes: Any) -> Said:
    """Return an observation message, with changed fields."""
    position, velocity = obs(step)
    parts = {"name": ["elbow"], "position": np.array([position]), "velocity": np.array([velocity])}
    return "joint_states", JOINTS, joints(at(step) if stamp is None else stamp, **{**parts, **changes})


def applied(step: int, stamp: int | None = None, **changes: Any) -> Said:
    parts = {"name": ["elbow"], "position": act(step)}
    return "applied_command", JOINTS, joints(at(step) if stamp is None else stamp, **{**parts, **changes})


def command(step: int) -> Said:
    """Return the command that answers the observation of a step."""
    return "joint_command", JOINTS, joints(at(step), name=["elbow"], position=act(step + 1))


def target(step: int) -> Said:
    point = load_typestore().types["geometry_msgs/msg/Point"](*map(float, goal(step)))
    return "target", POINT, load_typestore().types[POINT](header=_header(at(step)), point=point)


def text(topic: str, words: str) -> Said:
    return topic, TEXT, load_typestore().types[TEXT](data=words)


def step_of(step: int) -> list[Said]:
    """Return all messages of one control period."""
    return [target(step), applied(step), sensed(step), command(step)]


def joints(stamp: int, **parts: Any) -> Any:
    nothing = np.zeros(0)
    return load_typestore().types[JOINTS](
        **{"header": _header(stamp), "position": nothing, "velocity": nothing, "effort": nothing, **parts}
    )


def record(path: Path, said: Iterable[Said], *, robot: str = "one", close: bool = True) -> SessionWriter:
    """Write a session of one robot; messages are received 1 ms apart."""
    writer = SessionWriter(path)
    say(writer, said, robot=robot)
    if close:
        writer.close()
    return writer


def say(writer: SessionWriter, said: Iterable[Said], *, robot: str = "one") -> None:
    channels = {}
    for number, (name, kind, message) in enumerate(said):
        topic = f"/{robot}/{name}" if robot else f"/{name}"
        if topic not in channels:
            channels[topic] = writer.add_topic(topic, kind)
        writer.write(
            channels[topic], START + number * 10**6, bytes(load_typestore().serialize_cdr(message, kind))
        )


def _header(stamp: int) -> Any:
    types = load_typestore().types
    time = types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    return types["std_msgs/msg/Header"](stamp=time, frame_id="base_link")
