"""Learners that begin with frozen weights: each robot learns from its own life alone, and as the formula says."""

import copy
from dataclasses import replace

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.errors import ConfigError
from wm_robot.evaluation.adaptation import (
    Variant,
    compute_error_after_false_history,
    compute_error_by_step,
)
from wm_robot.evaluation.least_squares_learner import (
    LastLayerLearner,
    LeastSquaresConfig,
    LinearLearner,
)
from wm_robot.model.config import ModelConfig
from wm_robot.model.world_model import WorldModel
from wm_robot.types import TrajectoryBatch
from wm_robot_benchmarks.measures.gradient_learner import HUBER_DELTA, GradientConfig, GradientLearner

OBS, ACTION, RECENT, STEPS = 3, 2, 2, 40
UNIT = np.ones(OBS, np.float32)
CONFIG = ModelConfig(
    obs=OBS, action=ACTION, truth=1, dt=0.02, servo=(-1, -1), memory="null", width=16, context=4, recent=RECENT,
    outcome=8,
)  # fmt: skip


@pytest.fixture
def frozen():
    torch.manual_seed(0)
    return WorldModel(CONFIG).eval().requires_grad_(False)


def make_lives(count: int = 3, seed: int = 0, noise: float = 0.02) -> TrajectoryBatch:
    """Robots of linear systems, each of its own."""
    rng = np.random.default_rng(seed)
    a = 0.2 * rng.normal(size=(count, OBS, OBS)) - 0.3 * np.eye(OBS)
    b = rng.normal(size=(count, OBS, ACTION))
    action = rng.normal(size=(count, STEPS, ACTION)).astype(np.float32)
    obs = np.zeros((count, STEPS + 1, OBS), np.float32)
    for t in range(STEPS):
        change = np.einsum("bij,bj->bi", a, obs[:, t]) + np.einsum("bij,bj->bi", b, action[:, t])
        obs[:, t + 1] = obs[:, t] + change + noise * rng.normal(size=(count, OBS))
    return TrajectoryBatch(
        obs=obs,
        action=action,
        initial_action=np.zeros((count, ACTION), np.float32),
        goal=np.zeros((count, STEPS + 1, 0), np.float32),
        physics=np.zeros((count, 1, 1), np.float32),
        world=np.zeros((count, STEPS), np.int64),
    )


def live(learner, lives: TrajectoryBatch, steps: int):
    """State after some steps, in the way of the bench."""
    with torch.inference_mode():
        state = learner.initial_state(initial_action=torch.from_numpy(lives.initial_action))
        obs, action = torch.from_numpy(lives.obs[:, : steps + 1]), torch.from_numpy(lives.action[:, :steps])
        return learner.scan(state, obs, action, torch.ones(len(lives), steps))[1]


def make_learners(frozen):
    return {
        "gradient": GradientLearner(frozen, GradientConfig(learning_rate=1e-2, horizon=2)),
        "last layer": LastLayerLearner(frozen, LeastSquaresConfig(scale=0.3)),
        "linear": LinearLearner(frozen, LeastSquaresConfig(scale=3.0)),
    }


@pytest.mark.parametrize(
    "make",
    [
        lambda model: GradientLearner(model, GradientConfig(learning_rate=0.0)),
        lambda model: GradientLearner(
            model, GradientConfig(layers="last", optimizer="sgd", learning_rate=0.0)
        ),
        lambda model: LastLayerLearner(model, LeastSquaresConfig(scale=0.0)),
    ],
)
def test_a_learner_that_may_not_move_is_the_frozen_network(frozen, make):
    lives, points = make_lives(), (0, 3)
    expected = compute_error_by_step(Variant(name="robust", model=frozen), lives, points, change_std=UNIT)
    found = compute_error_by_step(Variant(name="own", model=make(frozen)), lives, points, change_std=UNIT)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["gradient", "last layer", "linear"])
def test_the_own_life_helps_and_a_false_one_does_not(frozen, name):
    lives, learner = make_lives(8), make_learners(frozen)[name]
    variant = Variant(name=name, model=learner)
    first, last = compute_error_by_step(
        variant, lives, (0, 32), change_std=UNIT, offsets=(0, 2, 4, 6), horizon=1
    ).mean(0)
    false = {
        history: compute_error_after_false_history(
            variant, lives, num_steps=32, change_std=UNIT, history=history, seed=0, horizon=1
        ).mean()
        for history in ("none", "shuffled", "other_world")
    }
    assert last < 0.8 * first
    assert all(last < error for error in false.values()), false


@pytest.mark.parametrize("name", ["gradient", "last layer", "linear"])
def test_robots_do_not_learn_from_one_another(frozen, name):
    lives, learner = make_lives(3), make_learners(frozen)[name]
    together = live(learner, lives, 12).memory[0]
    alone = live(learner, lives.select_rows(slice(1, 2)), 12).memory[0]
    for key, value in alone.items():
        torch.testing.assert_close(value[0], together[key][1], rtol=1e-3, atol=1e-5)


def test_frozen_weights_stay_as_they_are(frozen):
    before = copy.deepcopy(frozen.state_dict())
    for learner in make_learners(frozen).values():
        live(learner, make_lives(), 4)
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())


@pytest.mark.parametrize("layers", ["all", "last"])
def test_a_gradient_step_is_that_of_autograd(frozen, layers):
    rate, lives = 0.05, make_lives(2)
    config = GradientConfig(layers=layers, optimizer="sgd", learning_rate=rate, num_segments=1)
    memory = live(GradientLearner(frozen, config), lives, 1).memory[0]
    for row in range(2):
        own = copy.deepcopy(frozen).requires_grad_(True)
        obs, action = (
            torch.from_numpy(lives.obs[row : row + 1]),
            torch.from_numpy(lives.action[row : row + 1]),
        )
        state = own.initial_state(initial_action=torch.zeros(1, ACTION))
        mean, _ = own.imagine(state, own.observe(state, obs[:, 0]), action[:, None, :1])
        error = (mean[:, 0] - obs[:, 1:2]) / own.change_std
        torch.nn.functional.huber_loss(error, torch.zeros_like(error), delta=HUBER_DELTA).backward()
        for name, parameter in own.named_parameters():
            key = f"weight.model.{name}"
            if parameter.grad is None or not name.startswith("output_head" if layers == "last" else ""):
                assert key not in memory or torch.equal(memory[key][row], parameter)
            else:
                expected = (parameter - rate * parameter.grad).detach()
                torch.testing.assert_close(memory[key][row], expected, rtol=1e-4, atol=1e-6)


def test_gradient_steps_come_when_they_are_due(frozen):
    config = GradientConfig(steps_per_update=4)
    born = live(GradientLearner(frozen, config), make_lives(), 3).memory[0]
    learned = live(GradientLearner(frozen, config), make_lives(), 4).memory[0]
    name = "weight.model.output_head.1.bias"
    assert torch.equal(born[name][0], frozen.output_head[1].bias)
    assert not torch.equal(learned[name][0], frozen.output_head[1].bias)


def test_least_squares_are_those_of_the_closed_form(frozen):
    scale, lives, steps = 0.7, make_lives(2), 30
    state = live(LinearLearner(frozen, LeastSquaresConfig(scale=scale)), lives, steps)
    commands = np.concatenate([np.zeros((2, RECENT, ACTION)), lives.action], 1)
    for row in range(2):
        asked = np.stack(
            [
                np.concatenate([[1.0], lives.obs[row, t], commands[row, t : t + RECENT + 1].ravel()])
                for t in range(steps)
            ]
        )
        change = np.diff(lives.obs[row], axis=0)[:steps]
        ridge = asked.T @ asked + np.eye(asked.shape[1]) / scale**2
        expected = np.linalg.solve(ridge, asked.T @ change)
        found = scale * state.memory[0]["coefficients"][row].numpy()
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_a_network_with_a_memory_is_refused():
    model = WorldModel(replace(CONFIG, memory="gru"))
    for make in (
        lambda: GradientLearner(model, GradientConfig()),
        lambda: LinearLearner(model, LeastSquaresConfig()),
    ):
        with pytest.raises(ConfigError, match="the memory is 'gru'"):
            make()
