"""Robots in a recording, found by its topics, and the topics that are missing."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from wm_robot.errors import SpecError
from wm_robot.recording.episode_splitter import APPLIED_TOPIC, COMMAND_TOPIC, JOINT_STATE_TYPE, STATE_TOPIC
from wm_robot.spec import RobotSpec
from wm_robot.streams.sensor_message import list_message_sensors

MAX_LISTED = 8
ROS_1_ADVICE = "; that is ROS 1. Convert the bag: rosbags-convert"


def find_robots_with_actions(topics: Mapping[str, str]) -> list[str]:
    """Return the namespaces of the robots with recorded observations and applied commands.

    Args:
        topics: Topic → message type.
    """
    return [space.strip("/") for space in _list_namespaces(topics) if not _find_fault(space, topics)]


def find_robots_without_actions(topics: Mapping[str, str]) -> dict[str, str]:
    """Return the namespaces of the other robots, each with the reason."""
    faults = {space.strip("/"): _find_fault(space, topics) for space in _list_namespaces(topics)}
    return {robot: fault for robot, fault in faults.items() if fault}


def select_robot(topics: Mapping[str, str], namespace: str | None, path: Path) -> str:
    """Return the namespace of the requested robot.

    Args:
        topics: Topic of the recording → message type.
        namespace: None for the only robot.

    Raises:
        SpecError: If there is no such robot, or there are several.
    """
    robots = find_robots_with_actions(topics)
    wanted = namespace if namespace is None else namespace.strip("/")
    if wanted in robots:
        return str(wanted)
    faulty = find_robots_without_actions(topics)
    if wanted in faulty:
        raise SpecError(
            f"{path}, robot '{wanted}': {faulty[wanted]}. {_describe_remedy(topics, str(wanted))}"
        )
    if wanted is None and not robots:
        robot = next(iter(faulty), "")
        fault = faulty.get(robot, f"it has no topic {STATE_TOPIC}, in any namespace")
        raise SpecError(f"{path} holds 0 robots to learn from: {fault}. {_describe_remedy(topics, robot)}")
    if wanted is None and len(robots) == 1:
        return robots[0]
    if wanted is None:
        raise SpecError(
            f"{path} holds {len(robots)} robots: {robots}; joint_states and applied_command of one are needed. "
            "Set namespace to it"
        )
    close = get_close_matches(wanted, robots, n=1)
    guess = f". Did you mean '{close[0]}'?" if close else ""
    raise SpecError(f"{path} holds no robot '{namespace}'; it has {robots or _list_topics(topics)}{guess}")


def resolve_topic(namespace: str, name: str) -> str:
    """Return the whole name of a topic of a robot; one that starts with a slash is in no namespace."""
    return name if name.startswith("/") else f"/{namespace}/{name}".replace("//", "/")


def check_sensor_topics(topics: Mapping[str, str], spec: RobotSpec, robot: str, path: Path) -> None:
    """Check that the sensors of a robot were recorded. Optional ones may be missing.

    Args:
        topics: Topic of the recording → message type.
        robot: Its namespace.

    Raises:
        SpecError: If the topic of a sensor has another type, or that of a required one is missing.
    """
    for name, sensor in list_message_sensors(spec).items():
        topic, expected = resolve_topic(robot, sensor.topic), sensor.message.replace("/", "/msg/")
        found = topics.get(topic)
        if found is None and sensor.required:
            others = [each.topic for each in list_message_sensors(spec).values()]
            raise SpecError(
                f"{path}, robot '{robot}': it has no topic {topic} of sensor '{name}', which is required. "
                + _describe_remedy(topics, robot, others)
            )
        if found not in (None, expected):
            raise SpecError(
                f"{path}, robot '{robot}': it has {topic} of type '{found}', and sensor '{name}' is a '{expected}'. "
                "Set the topic of the sensor in the spec"
            )


def _describe_remedy(topics: Mapping[str, str], robot: str, sensor_topics: Sequence[str] = ()) -> str:
    """Return the advice: present topics, and topics to record."""
    names = (STATE_TOPIC, APPLIED_TOPIC, COMMAND_TOPIC, "target", *sensor_topics)
    needed = " ".join(resolve_topic(robot, name) for name in names)
    return f"It has {_list_topics(topics)}. Record what is missing: ros2 bag record {needed}"


def _find_fault(space: str, topics: Mapping[str, str]) -> str:
    """Return why the robot of a namespace cannot be learned from; empty if it can."""
    applied = f"{space}/{APPLIED_TOPIC}"
    if applied not in topics:
        note = (
            " (the command is not always applied unchanged)" if f"{space}/{COMMAND_TOPIC}" in topics else ""
        )
        return (
            f"it has no topic {applied}, and a robot learns from what was applied{note}. The plant publishes it, or "
            "control_node"
        )
    for topic in (f"{space}/{STATE_TOPIC}", applied):
        if topics[topic] != JOINT_STATE_TYPE:
            old = ROS_1_ADVICE if topics[topic].count("/") == 1 else ""
            return f"it has {topic} of type '{topics[topic]}', which must be '{JOINT_STATE_TYPE}'{old}"
    return ""


def _list_namespaces(topics: Mapping[str, str]) -> list[str]:
    return sorted(topic.rpartition("/")[0] for topic in topics if topic.endswith(f"/{STATE_TOPIC}"))


def _list_topics(topics: Mapping[str, str]) -> str:
    """Return the topics as text for an error; those of joint states first."""
    if not topics:
        return "no topic at all"
    ordered = sorted(topics, key=lambda topic: (topics[topic] != JOINT_STATE_TYPE, topic))
    shown = ", ".join(f"{topic} ({topics[topic]})" for topic in ordered[:MAX_LISTED])
    return shown + (f" and {len(ordered) - MAX_LISTED} more" if len(ordered) > MAX_LISTED else "")
