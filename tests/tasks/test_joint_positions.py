import numpy as np
import pytest

from tests.tasks.robots import ACTION, NO_GOAL, obs, robot
from wm_robot.errors import SpecError
from wm_robot.spec import Task
from wm_robot.tasks import make_reward


def track(goal=2, **parameters) -> Task:
    return Task(reward="track_joints", goal=goal, parameters=parameters)


def test_track_joints_is_minus_the_root_mean_square_error_after_the_step():
    reward = make_reward(robot(), track())
    goal = np.array([0.5, -0.25])
    away = obs(lift=0.5 + 0.3, turn=-0.25 - 0.4)
    assert reward(obs(), ACTION, away, goal) == pytest.approx(-0.5 / np.sqrt(2), rel=1e-4)
    assert reward(away, ACTION, obs(lift=0.5, turn=-0.25), goal) == pytest.approx(-1e-3)


def test_the_goal_has_the_order_of_the_listed_joints_and_others_do_not_count():
    both = make_reward(robot(), track(joints=["turn", "lift"]))
    there = obs(turn=0.1, lift=0.2)
    assert both(there, ACTION, there, np.array([0.1, 0.2])) == pytest.approx(-1e-3)
    one = make_reward(robot(), track(goal=1, joints=["turn"], speed_cost=1.0))
    assert one(there, ACTION, obs(turn=0.1, lift=2.0, lifting=3.0), np.array([0.1])) == pytest.approx(-1e-3)


@pytest.mark.parametrize("reward", ["track_joints", "hold"])
def test_speed_costs_its_mean_square(reward):
    goal, moving = np.array([0.2, 0.1]), obs(lift=0.2, turn=0.1, lifting=2.0, turning=1.0)
    paid = make_reward(robot(), Task(reward=reward, goal=2, parameters={"speed_cost": 0.1}))
    assert paid(moving, ACTION, moving, goal) == pytest.approx(-1e-3 - 0.1 * 2.5)


def test_hold_without_a_goal_stays_at_home_or_in_the_middle_of_the_range():
    joints = [
        {"name": "lift", "position": [0.5, 3], "velocity": 3, "effort": 3},
        {"name": "turn", "position": [-3, 3], "velocity": 3, "effort": 3},
    ]
    for home, at in (({}, (1.75, 0.0)), ({"turn": -0.7}, (1.75, -0.7)), ({"lift": 1.0}, (1.0, 0.0))):
        spec = robot(joints=joints, safety={"home": home})
        reward = make_reward(spec, Task(reward="hold"))
        there = obs(lift=at[0], turn=at[1])
        assert reward(obs(), ACTION, there, NO_GOAL) == pytest.approx(-1e-3)
        off = obs(lift=at[0] + 0.3, turn=at[1] + 0.4)
        assert reward(there, ACTION, off, NO_GOAL) == pytest.approx(-0.5 / np.sqrt(2), rel=1e-4)


def test_hold_with_a_goal_stays_there():
    reward = make_reward(robot(), Task(reward="hold", goal=2))
    there = obs(lift=0.2, turn=0.1)
    assert reward(there, ACTION, there, np.array([0.2, 0.1])) == pytest.approx(-1e-3)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (track(joints=["lift", "nose"]), r"parameter 'joints' of reward 'track_joints' is 'nose'.*\['lift'"),
        (track(joints=["lift", "lift"]), "each must be listed once"),
        (
            track(goal=3),
            "reward 'track_joints' has a goal of 2 values for robot 'pair'; its task says goal: 3",
        ),
        (track(goal=2, joints=["lift"]), "has a goal of 1 values"),
        (Task(reward="hold", goal=1), "reward 'hold' has a goal of 0 or 2 values"),
        (
            track(speed_cost=-1.0),
            "parameter 'speed_cost' of reward 'track_joints' is -1.0; it must be a number",
        ),
        (Task(reward="hold", parameters={"speed_cost": "low"}), "'hold' fails with the parameters.*'low'"),
    ],
)
def test_a_task_that_does_not_fit_the_robot_is_refused(task, words):
    with pytest.raises(SpecError, match=words):
        make_reward(robot(), task)
