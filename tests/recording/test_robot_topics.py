"""Robots in a recording, and the error for a missing one."""

from pathlib import Path

import pytest

from wm_robot.errors import SpecError
from wm_robot.recording.robot_topics import (
    find_robots_with_actions,
    find_robots_without_actions,
    select_robot,
)

KIND, PATH = "sensor_msgs/msg/JointState", Path("bag")
LEFT = {"/left/joint_states": KIND, "/left/applied_command": KIND}
RIGHT = {"/right/joint_states": KIND, "/right/joint_command": KIND}


def test_a_robot_is_a_namespace_with_states_and_applied_commands():
    bare = {
        "/joint_states": KIND,
        "/applied_command": KIND,
        "/a/b/joint_states": KIND,
        "/a/b/applied_command": KIND,
    }
    assert find_robots_with_actions(LEFT | RIGHT | bare) == ["", "a/b", "left"]
    assert list(find_robots_without_actions(LEFT | RIGHT | bare)) == ["right"]


def test_the_only_robot_that_acts_is_taken_unasked():
    assert select_robot(LEFT | RIGHT, None, PATH) == "left"
    assert select_robot(LEFT | RIGHT, "/left/", PATH) == "left"


@pytest.mark.parametrize(
    ("topics", "namespace", "words"),
    [
        (LEFT | RIGHT, "lift", r"^bag holds no robot 'lift'; it has \['left'\]. Did you mean 'left'\?$"),
        (
            LEFT | RIGHT,
            "right",
            "^bag, robot 'right': it has no topic /right/applied_command, and a robot learns from",
        ),
        (
            LEFT | {f"/r{n}/{t}": KIND for n in (1, 2) for t in ("joint_states", "applied_command")},
            None,
            "holds 3 robots",
        ),
        (RIGHT, "left", "^bag holds no robot 'left'; it has /right/joint_command"),
        (
            {"/tf": "tf2_msgs/msg/TFMessage"},
            None,
            r"no topic joint_states.* It has /tf \(tf2_msgs/msg/TFMessage\)",
        ),
        (LEFT | {"/left/applied_command": "sensor_msgs/JointState"}, None, "that is ROS 1. Convert the bag"),
        (
            LEFT | {"/left/joint_states": "x/msg/Y"},
            "left",
            "has /left/joint_states of type 'x/msg/Y', which must be",
        ),
        ({f"/t{n:02}": "x/msg/Y" for n in range(20)}, None, r"/t07 \(x/msg/Y\) and 12 more\. Record"),
    ],
)
def test_what_holds_no_such_robot_is_refused_with_what_it_has(topics, namespace, words):
    with pytest.raises(SpecError, match=words):
        select_robot(topics, namespace, PATH)
