"""What holds for every built-in reward."""

import numpy as np
import pytest

from tests.tasks.robots import ACTION, robot
from wm_robot.errors import SpecError
from wm_robot.spec import Task
from wm_robot.tasks import EXPERIMENTAL_REWARDS, REWARDS, describe_experimental_task, make_reward
from wm_robot.tasks.catalog import BUILT_IN

TASKS = {
    "reach": Task(reward="reach", goal=3, parameters={"speed_cost": 0.1}),
    "reach, pose": Task(reward="reach", goal=7),
    "track_joints": Task(reward="track_joints", goal=2, parameters={"speed_cost": 0.1}),
    "hold": Task(reward="hold", goal=2),
    "hold, home": Task(reward="hold"),
    "balance": Task(reward="balance"),
    "balance, pole": Task(reward="balance", parameters={"pole": "lift"}),
    "swingup": Task(reward="swingup"),
    "upright": Task(
        reward="upright",
        parameters={"joint": "turn", "height_joint": "lift", "height": 1.0, "speed_cost": 0.1},
    ),
    "track_velocity": Task(
        reward="track_velocity", goal=6, parameters={"joints": {"linear_x": "lift", "angular_z": "turn"}}
    ),
}


def draw(task, *shape, seed=0):
    """obs, action, next_obs and goal."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(*shape, size)) for size in (4, 2, 4, task.goal)]


def test_each_has_a_task_here():
    assert {task.reward for task in TASKS.values()} == set(REWARDS) == BUILT_IN


@pytest.mark.parametrize("name", TASKS)
def test_rewards_of_many_steps_are_rewards_of_each(name):
    reward, parts = make_reward(robot(), TASKS[name]), draw(TASKS[name], 6)
    many = reward(*parts)
    assert many.shape == (6,)
    np.testing.assert_allclose(many, [reward(*(part[i] for part in parts)) for i in range(6)])
    np.testing.assert_allclose(reward(*(part.reshape(2, 3, -1) for part in parts)), many.reshape(2, 3))


@pytest.mark.parametrize("name", TASKS)
def test_a_robot_that_does_not_sense_what_the_reward_needs_is_refused(name):
    with pytest.raises(SpecError, match="does not sense '.*/velocity'"):
        make_reward(robot(interfaces=["position"]), TASKS[name])


@pytest.mark.learn
@pytest.mark.parametrize("name", TASKS)
def test_planner_and_report_compute_the_same_reward(name):
    import torch

    reward = make_reward(robot(), TASKS[name])
    for kind, near in ((np.float64, 1e-12), (np.float32, 1e-6)):
        parts = [part.astype(kind) for part in draw(TASKS[name], 5, 6, seed=1)]
        by_torch = reward(*(torch.from_numpy(part) for part in parts))
        assert by_torch.shape == (5, 6)
        np.testing.assert_allclose(by_torch.numpy(), reward(*parts), rtol=near, atol=near)


@pytest.mark.learn
@pytest.mark.parametrize("name", TASKS)
def test_gradients_are_finite_at_the_goal_too(name):
    import torch

    task = TASKS[name]
    reward, parts = make_reward(robot(), task), [torch.from_numpy(part) for part in draw(task, 8)]
    still = torch.zeros(1, 4, dtype=torch.float64)
    goal = torch.zeros(1, task.goal, dtype=torch.float64)
    if task.reward == "reach":
        goal[:, 0] = 0.75
    at_goal = [still, torch.zeros(1, 2, dtype=torch.float64), still.clone(), goal]
    for given in (parts, at_goal):
        for part in given:
            part.requires_grad_()
        value = reward(*given)
        found = torch.autograd.grad(value.sum(), given, allow_unused=True)
        assert torch.isfinite(value).all()
        assert all(torch.isfinite(each).all() for each in found if each is not None)
        assert found[2] is not None


@pytest.mark.parametrize("name", TASKS)
def test_what_was_before_is_ignored_where_that_is_declared(name):
    task = TASKS[name]
    reward, (obs, action, next_obs, goal) = make_reward(robot(), task), draw(task, 6)
    assert not reward.uses_obs
    features = reward.features
    for before in (features(obs), features(next_obs), np.full_like(features(obs), np.nan)):
        found = reward.function(before, action, features(next_obs), goal)
        np.testing.assert_array_equal(found, reward(obs, action, next_obs, goal))


def test_an_unknown_reward_names_the_known():
    with pytest.raises(SpecError, match=r"reward 'fame' is unknown; known are \['balance', .*'upright'\]"):
        make_reward(robot(), Task(reward="fame"))


def test_only_experimental_tasks_come_with_a_notice():
    for name, task in TASKS.items():
        notice = describe_experimental_task(task, name)
        assert bool(notice) == (task.reward in EXPERIMENTAL_REWARDS)
        assert not notice or f"task '{name}' is experimental" in notice


def test_the_reward_of_a_step_is_a_number():
    for task in TASKS.values():
        assert np.ndim(make_reward(robot(), task)(*draw(task))) == 0
    assert ACTION.shape == (2,)
