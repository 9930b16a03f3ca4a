"""The objective of plans is the reward of their imagined steps, of a plain function and of one of features alike."""

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.agent.rollout_objective import imagine_mean, make_iteration, make_objective
from wm_robot.model.config import ModelConfig
from wm_robot.model.world_model import WorldModel
from wm_robot.planning.mppi import MppiConfig
from wm_robot.spec import Task
from wm_robot.tasks import Reward, make_reward

PLANNER = MppiConfig(num_samples=16, num_rollouts=4, horizon=5, refine_iterations=4, num_elites=4)


def progress(obs, action, next_obs, goal):
    """A reward of all four arguments."""
    far, near = (obs[..., 0] - goal[..., 0]) ** 2, (next_obs[..., 0] - goal[..., 0]) ** 2
    return far - near - 0.1 * (action**2).sum(-1)


def first_channel(before, action, after, goal):
    return progress(before, action, after, goal)


@pytest.fixture
def scene(spec):
    """A model, its state, an observation, goals and plans of two robots."""
    torch.manual_seed(0)
    shape = ModelConfig.from_spec(spec, truth=1, memory="gru", width=16, context=4, outcome=8)
    model = WorldModel(shape).eval().requires_grad_(False)
    state = model.initial_state(initial_action=torch.zeros(2, 1))
    return model, state, torch.randn(2, 2), torch.randn(2, 5, 3), torch.randn(2, 7, 5, 1)


@pytest.mark.parametrize(
    "reward",
    [Reward(progress), Reward(first_channel, lambda obs: obs[..., :1]), "reach"],
    ids=["progress", "first channel", "reach"],
)
def test_plans_get_the_reward_of_each_imagined_step(scene, spec, reward):
    model, state, obs, goals, plans = scene
    if reward == "reach":
        reward = make_reward(spec, Task(reward="reach", goal=3, parameters={"speed_cost": 0.1}))
    objective = make_objective(model, reward, state, obs, goals)
    found = objective.evaluate(objective.predict_features(plans), plans)
    followed = imagine_mean(model, state, model.observe(state, obs), plans).numpy()
    for robot, plan in np.ndindex(2, 7):
        before, total = obs[robot].numpy(), 0.0
        for step in range(5):
            after = followed[robot, plan, step]
            total += reward(before, plans[robot, plan, step].numpy(), after, goals[robot, step].numpy())
            before = after
        assert float(found[robot, plan]) == pytest.approx(float(total), abs=1e-5)


def test_a_plain_function_gives_the_plan_of_the_same_function_of_linear_features(scene, spec):
    model, state, obs, goals, _ = scene
    iteration, generator = make_iteration(spec, PLANNER), torch.Generator().manual_seed(0)
    noise, still = 0.2 * torch.randn(2, 16, 5, 1, generator=generator), torch.zeros(2, 1)
    rewards = Reward(progress), Reward(first_channel, lambda obs: obs[..., :1])
    plain, fast = (
        iteration(make_objective(model, each, state, obs, goals), torch.zeros(2, 5, 1), noise, still)
        for each in rewards
    )
    torch.testing.assert_close(plain, fast, atol=1e-5, rtol=1e-5)
    assert plain.abs().max() > 0.01


def test_a_plan_of_one_step_has_no_step_before(scene):
    model, state, obs, goals, plans = scene
    objective = make_objective(model, Reward(progress), state, obs, goals[:, :1])
    assert objective.evaluate(objective.predict_features(plans[:, :, :1]), plans[:, :, :1]).shape == (2, 7)


def test_the_arguments_of_a_plain_function_have_one_leading_shape(scene):
    model, state, obs, goals, plans = scene
    seen = []

    def reward(*arguments):
        seen.extend(tuple(each.shape[:-1]) for each in arguments)
        return arguments[2][..., 0]

    objective = make_objective(model, Reward(reward), state, obs, goals)
    objective.evaluate(objective.predict_features(plans), plans)
    assert set(seen) == {(2, 7, 5)}


def test_a_task_without_a_goal_has_an_objective_too(scene, spec):
    model, state, obs, _, plans = scene
    reward = make_reward(spec, Task(reward="hold"))
    objective = make_objective(model, reward, state, obs, torch.zeros(2, 5, 0))
    assert torch.isfinite(objective.evaluate(objective.predict_features(plans), plans)).all()
