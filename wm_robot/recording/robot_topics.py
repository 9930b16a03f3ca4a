"""Robots in a recording, found by its topics, and the topics that are missing."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from wm_robot.errors import SpecError
from wm_robot.recording.episode_splitter import APPLIED, COMMANDS, JOINTS, STATES

MOST_LISTED = 8
ROS_1 = "; that is ROS 1. Convert the bag: rosbags-convert"


def robots_with_actions(topics: Mapping[str, str]) -> list[str]:
    """Return the namespaces of the robots with recorded observations and applied commands.

    Args:
        topics: Topic → message type.
    """
    return [space.strip("/") for space in _spaces(topics) if not _fault(space, topics)]


def robots_without_actions(topics: Mapping[str, str]) -> dict[str, str]:
    """Return the namespaces of the other robots, each with the reason."""
    faults = {space.strip("/"): _fault(space, topics) for space in _spaces(topics)}
    return {robot: fault for robot, fault in faults.items() if fault}


def select_robot(topics: Mapping[str, str], namespace: str | None, path: Path) -> str:
    """Return the namespace of the requested robot.

    Args:
        topics: Topic of the recording → message type.
        namespace: None for the only robot.

    Raises:
        SpecError: If there is no such robot, or there are several.
    """
    robots = robots_with_actions(topics)
    wanted = namespace if namespace is None else namespace.strip("/")
    if wanted in robots:
        return str(wanted)
    faulty = robots_without_actions(topics)
    if wanted in faulty:
        raise SpecError(f"{path}, robot '{wanted}': {faulty[wanted]}. {_remedy(topics, str(wanted))}")
    if wanted is None and not robots:
        robot = next(iter(faulty), "")
        fault = faulty.get(robot, f"it has no topic {STATES}, in any namespace")
        raise SpecError(f"{path} holds 0 robots to learn from: {fault}. {_remedy(topics, robot)}")
    if wanted is None and len(robots) == 1:
        return robots[0]
    if wanted is None:
        raise SpecError(
            f"{path} holds {len(robots)} robots: {robots}; joint_states and applied_command of one are needed. "
            "Set namespace to it"
        )
    close = get_close_matches(wanted, robots, n=1)
    guess = f". Did you mean '{close[0]}'?" if close else ""
    raise SpecError(f"{path} holds no robot '{namespace}'; it has {robots or _listed(topics)}{guess}")


def _remedy(topics: Mapping[str, str], robot: str) -> str:
    """Return the advice: present topics, and topics to record."""
    needed = " ".join(f"/{robot}/{name}".replace("//", "/") for name in (STATES, APPLIED, COMMANDS, "target"))
    return f"It has {_listed(topics)}. Record what is missing: ros2 bag record {needed}"


def _fault(space: str, topics: Mapping[str, str]) -> str:
    """Return why the robot of a namespace cannot be learned from; empty if it can."""
    applied = f"{space}/{APPLIED}"
    if applied not in topics:
        note = " (the command is not always applied unchanged)" if f"{space}/{COMMANDS}" in topics else ""
        return (
            f"it has no topic {applied}, and a robot learns from what was applied{note}. The plant publishes it, or "
            "control_node"
        )
    for topic in (f"{space}/{STATES}", applied):
        if topics[topic] != JOINTS:
            old = ROS_1 if topics[topic].count("/") == 1 else ""
            return f"it has {topic} of type '{topics[topic]}', which must be '{JOINTS}'{old}"
    return ""


def _spaces(topics: Mapping[str, str]) -> list[str]:
    return sorted(topic.rpartition("/")[0] for topic in topics if topic.endswith(f"/{STATES}"))


def _listed(topics: Mapping[str, str]) -> str:
    """Return the topics as text for an error; those of joint states first."""
    if not topics:
        return "no topic at all"
    ordered = sorted(topics, key=lambda topic: (topics[topic] != JOINTS, topic))
    shown = ", ".join(f"{topic} ({topics[topic]})" for topic in ordered[:MOST_LISTED])
    return shown + (f" and {len(ordered) - MOST_LISTED} more" if len(ordered) > MOST_LISTED else "")
