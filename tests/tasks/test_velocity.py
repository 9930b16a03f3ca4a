import numpy as np
import pytest

from tests.tasks.robots import ACTION, robot
from wm_robot.errors import SpecError
from wm_robot.spec import Task
from wm_robot.tasks import make_reward


def track(goal=6, **parameters) -> Task:
    return Task(reward="track_velocity", goal=goal, parameters=parameters)


def test_track_velocity_is_minus_the_distance_to_the_named_parts_of_the_twist():
    body = robot(("rootx", "yaw"), chain=[])
    goal = np.array([0.5, 8.0, 8.0, 8.0, 8.0, -0.2])
    moving = np.array([9.0, 9.0, 0.5 + 0.3, -0.2 - 0.8])
    both = make_reward(body, track(joints={"angular_z": "yaw", "linear_x": "rootx"}, turn_radius=0.5))
    assert both(moving, ACTION, moving, goal) == pytest.approx(-0.5, rel=1e-4)
    one = make_reward(body, track(joints={"linear_x": "rootx"}))
    assert one(moving, ACTION, moving, goal) == pytest.approx(-0.3, rel=1e-4)
    there = np.array([9.0, 9.0, 0.5, -0.2])
    assert both(moving, ACTION, there, goal) == pytest.approx(-1e-3)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (track(), "parameter 'joints' of reward 'track_velocity' is {}; it must map some of"),
        (track(joints=["lift"]), "fails with the parameters"),
        (track(joints={"sideways": "lift"}), "it must map some of"),
        (track(joints={"linear_x": "nose"}), "parameter 'joints.linear_x' .* is 'nose'; it must be a joint"),
        (track(goal=3, joints={"linear_x": "lift"}), "has a goal of 6 values"),
        (track(joints={"linear_x": "lift"}, turn_radius=0), "parameter 'turn_radius' .* above 0"),
    ],
)
def test_a_task_that_does_not_fit_the_robot_is_refused(task, words):
    with pytest.raises(SpecError, match=words):
        make_reward(robot(), task)
