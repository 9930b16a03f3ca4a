"""Goals of each type, and what is rejected."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from tests.tasks.robots import robot
from wm_robot.errors import SpecError
from wm_robot.spec import RobotSpec, Task
from wm_robot.streams.goal_message import GoalDecoder
from wm_robot.streams.rejection import BadMessageError, RejectionReason
from wm_robot.tasks import select_goal_type

SPEC = robot()
"""Joints `lift` and `turn`, from -3 to 3 rad."""
REACH, POSE = Task(reward="reach", goal=3), Task(reward="reach", goal=7)
HOLD, TURN = (
    Task(reward="hold", goal=2),
    Task(reward="track_joints", goal=1, parameters={"joints": ["turn"]}),
)
TWIST, ARRAY = Task(reward="track_velocity", goal=6), Task(reward="mine:own", goal=4)


def header(frame="base_link"):
    return SimpleNamespace(frame_id=frame, stamp=SimpleNamespace(sec=1, nanosec=0))


def vector(x, y, z, **more):
    return SimpleNamespace(x=x, y=y, z=z, **more)


def point(x=0.1, y=0.2, z=0.3, frame="base_link"):
    return SimpleNamespace(header=header(frame), point=vector(x, y, z))


def pose(quaternion=(0.0, 0.6, 0.0, 0.8), frame="base_link", x=0.1):
    *axes, w = quaternion
    parts = SimpleNamespace(position=vector(x, 0.2, 0.3), orientation=vector(*axes, w=w))
    return SimpleNamespace(header=header(frame), pose=parts)


def twist(x=1.0, frame="base_link"):
    parts = SimpleNamespace(linear=vector(x, 2.0, 3.0), angular=vector(4.0, 5.0, 6.0))
    return SimpleNamespace(header=header(frame), twist=parts)


def joints(names=("lift", "turn"), position=(0.1, 0.2)):
    return SimpleNamespace(header=header(""), name=list(names), position=list(position))


def array(*numbers):
    return SimpleNamespace(data=list(numbers))


@pytest.mark.parametrize(
    ("task", "goal_type"),
    [
        (REACH, "PointStamped"),
        (POSE, "PoseStamped"),
        (HOLD, "JointState"),
        (TURN, "JointState"),
        (TWIST, "TwistStamped"),
        (ARRAY, "Float64MultiArray"),
        (Task(reward="mine:own", goal=3), "Float64MultiArray"),
        (Task(reward="mine:own", goal=3, goal_type="PointStamped"), "PointStamped"),
        (Task(reward="reach", goal=3, goal_type="Float64MultiArray"), "Float64MultiArray"),
    ],
)
def test_the_type_is_the_declared_one_or_that_of_the_reward(task, goal_type):
    assert select_goal_type(task) == GoalDecoder(SPEC, task).goal_type == goal_type
    assert GoalDecoder(SPEC, task).has_stamp == (goal_type != "Float64MultiArray")


@pytest.mark.parametrize(
    ("task", "message", "goal"),
    [
        (REACH, point(), [0.1, 0.2, 0.3]),
        (REACH, point(frame=""), [0.1, 0.2, 0.3]),
        (POSE, pose(), [0.1, 0.2, 0.3, 0.0, 0.6, 0.0, 0.8]),
        (POSE, pose((0.0, 0.0, 0.0, 1.0002)), [0.1, 0.2, 0.3, 0.0, 0.0, 0.0, 1.0]),
        (TWIST, twist(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        (HOLD, joints(), [0.1, 0.2]),
        (HOLD, joints(("turn", "nose", "lift"), (0.2, 9.0, 0.1)), [0.1, 0.2]),
        (TURN, joints(), [0.2]),
        (TURN, joints(("turn",), (3.0,)), [3.0]),
        (ARRAY, array(1.0, 2.0, 3.0, 4.0), [1.0, 2.0, 3.0, 4.0]),
    ],
)
def test_a_goal_is_read_in_the_order_of_its_task(task, message, goal):
    np.testing.assert_allclose(GoalDecoder(SPEC, task).decode(message), goal, rtol=1e-12)


@pytest.mark.parametrize(
    ("task", "message", "reason", "words"),
    [
        (REACH, point(frame="camera"), "FRAME", "the target is in frame 'camera', not 'base_link'"),
        (POSE, pose(frame="map"), "FRAME", "the target is in frame 'map', not 'base_link'"),
        (TWIST, twist(frame="odom"), "FRAME", "the target is in frame 'odom', not 'base_link'"),
        (REACH, point(y=math.nan), "NOT_FINITE", "point is not finite for ['y']"),
        (POSE, pose(x=math.inf), "NOT_FINITE", "position is not finite for ['x']"),
        (POSE, pose((math.nan, 0.0, 0.0, 1.0)), "NOT_FINITE", "orientation is not finite for ['x']"),
        (
            POSE,
            pose((0.0, 0.0, 0.0, 0.0)),
            "RANGE",
            "the orientation of the target has squared length 0; it must be a unit quaternion",
        ),
        (TWIST, twist(x=1e300), "NOT_FINITE", "linear is not finite for ['x']"),
        (HOLD, joints(("lift",), (0.1,)), "NAMES", "joints ['turn'] are missing; the message has ['lift']"),
        (
            HOLD,
            joints(("lift", "turn", "lift"), (0.1, 0.2, 0.1)),
            "NAMES",
            "joints ['lift'] are listed twice",
        ),
        (HOLD, joints(position=(0.1,)), "SIZE", "position has 1 numbers for 2 names"),
        (HOLD, joints(position=()), "SIZE", "position has 0 numbers for 2 names"),
        (HOLD, joints(position=(math.nan, 0.0)), "NOT_FINITE", "position is not finite for ['lift']"),
        (
            HOLD,
            joints(position=(0.1, 3.5)),
            "RANGE",
            "the target is outside the range of joints: turn at 3.5, not in (-3.0, 3.0)",
        ),
        (ARRAY, array(1.0, 2.0), "SIZE", "the target has 2 numbers; the task has a goal of 4"),
        (ARRAY, array(1.0, 2.0, 3.0, math.nan), "NOT_FINITE", "data is not finite for ['3']"),
    ],
)
def test_a_bad_goal_is_rejected_with_the_reason(task, message, reason, words):
    with pytest.raises(BadMessageError) as refused:
        GoalDecoder(SPEC, task).decode(message)
    assert (refused.value.reason, str(refused.value)) == (RejectionReason[reason], words)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (Task(reward="hold", goal=3), "a goal of 3 values arrives as a JointState, and its joints are"),
        (
            Task(reward="mine:own", goal=1, goal_type="JointState", parameters={"joints": ["nose"]}),
            r"its joints are \['nose'\]",
        ),
    ],
)
def test_a_task_whose_type_does_not_carry_its_goal_is_refused(task, words):
    with pytest.raises(SpecError, match=words):
        GoalDecoder(SPEC, task)


def test_a_spec_declares_the_type():
    tasks = {"point": {"reward": "mine:own", "goal": 3, "goal_type": "PointStamped"}}
    spec = RobotSpec.from_dict({**SPEC.to_dict(), "tasks": tasks})
    assert GoalDecoder(spec, spec.find_task("point")).goal_type == "PointStamped"
    assert RobotSpec.from_dict(spec.to_dict()).tasks == spec.tasks


def test_what_a_missing_goal_needs_is_said():
    assert GoalDecoder(SPEC, REACH).requirement == "in frame 'base_link'"
    assert GoalDecoder(SPEC, TURN).requirement == "with a position of each of ['turn']"
    assert GoalDecoder(SPEC, ARRAY).requirement == "with 4 numbers"
