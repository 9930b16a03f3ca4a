import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.evaluation.adaptation import (
    HORIZON,
    OFFSETS,
    Variant,
    compute_error_after_false_history,
    compute_error_by_step,
)
from wm_robot.model.config import ModelConfig
from wm_robot.model.world_model import WorldModel
from wm_robot.types import Step, TrajectoryBatch

UNIT = np.array([0.5, 2.0], np.float32)


@pytest.fixture
def lives() -> TrajectoryBatch:
    rng = np.random.default_rng(0)
    return TrajectoryBatch(
        obs=rng.normal(size=(3, 61, 2)).astype(np.float32),
        action=rng.normal(size=(3, 60, 1)).astype(np.float32),
        initial_action=rng.normal(size=(3, 1)).astype(np.float32),
        goal=np.zeros((3, 61, 0), np.float32),
        physics=rng.normal(size=(3, 1, 4)).astype(np.float32),
        world=np.zeros((3, 60), np.int64),
    )


def arm(memory: str = "gru") -> Variant:
    torch.manual_seed(0)
    config = ModelConfig(
        obs=2, action=1, truth=4, dt=0.02, servo=(0,), memory=memory, width=12, context=4, outcome=6
    )
    return Variant(name=memory, model=WorldModel(config).requires_grad_(False))


@pytest.mark.parametrize("memory", ["gru", "delta", "kalman", "null", "oracle"])
def test_the_error_is_that_of_living_step_by_step_and_imagining(lives, memory):
    subject, model = arm(memory), arm(memory).model
    found = compute_error_by_step(subject, lives, (0, 17), change_std=UNIT)
    truth = torch.from_numpy(lives.physics[:, 0])
    state = model.initial_state(initial_action=torch.from_numpy(lives.initial_action), truth=truth)
    obs, action = torch.from_numpy(lives.obs), torch.from_numpy(lives.action)
    errors = {}
    for t in range(17 + max(OFFSETS) + 1):
        plans = action[:, None, t : t + HORIZON]
        last = model.imagine(state, model.observe(state, obs[:, t]), plans).mean[:, 0, -1]
        errors[t] = (((last - obs[:, t + HORIZON]).numpy() / UNIT) ** 2).mean(-1)
        step = Step(obs[:, t], action[:, t], obs[:, t + 1], torch.ones(3), truth=truth)
        _, state = model.update(state, step)
    for column, point in enumerate((0, 17)):
        expected = np.mean([errors[point + moment] for moment in OFFSETS], axis=0)
        np.testing.assert_allclose(found[:, column], expected, rtol=1e-4)


def test_another_worlds_history_is_the_life_of_the_next_row(lives: TrajectoryBatch):
    # A robot whose neighbour lived exactly what it lived has a true history.
    same = lives.select_rows(np.array([1, 1, 1]))
    false = compute_error_after_false_history(
        arm(), same, num_steps=20, change_std=UNIT, history="other_world", seed=0
    )
    truth = compute_error_by_step(arm(), same, (20,), change_std=UNIT)
    assert false.shape == (3,)
    # Equal but for the steps lived while the error is averaged, which a false history does not get.
    assert not np.array_equal(false, truth[:, 0])
    other = compute_error_after_false_history(
        arm(), lives, num_steps=20, change_std=UNIT, history="other_world", seed=0
    )
    assert not np.allclose(other[1], false[1])


def test_shuffled_outcomes_leave_a_model_without_memory_as_it_was(lives):
    shuffled = [
        compute_error_after_false_history(
            arm(m), lives, num_steps=20, change_std=UNIT, history="shuffled", seed=1
        )
        for m in ("null", "gru")
    ]
    again = compute_error_after_false_history(
        arm("null"), lives, num_steps=20, change_std=UNIT, history="other_world", seed=1
    )
    np.testing.assert_allclose(shuffled[0], again, rtol=1e-5)
    assert not np.allclose(shuffled[1], shuffled[0])


def test_a_state_that_is_reset_is_the_initial_one_with_the_own_actions(lives):
    subject, point = arm("gru"), 20
    found = compute_error_after_false_history(
        subject, lives, num_steps=point, change_std=UNIT, history="none", seed=0
    )
    errors = []
    for at in (point + offset for offset in OFFSETS):
        # A life of as many steps as the model keeps actions, which the memory learns nothing from.
        obs, action = torch.from_numpy(lives.obs), torch.from_numpy(lives.action)
        state = subject.model.initial_state(initial_action=torch.from_numpy(lives.initial_action))
        first = at - subject.model.config.recent
        _, state = subject.model.scan(
            state, obs[:, first : at + 1], action[:, first:at], torch.zeros(3, at - first)
        )
        plans = action[:, None, at : at + HORIZON]
        last = subject.model.imagine(state, subject.model.observe(state, obs[:, at]), plans).mean[:, 0, -1]
        errors.append((((last - obs[:, at + HORIZON]).numpy() / UNIT) ** 2).mean(-1))
    np.testing.assert_allclose(found, np.mean(errors, 0), rtol=1e-4)


def test_an_unknown_history_is_refused(lives):
    with pytest.raises(ValueError, match="'shuffled', 'other_world' or 'none'"):
        compute_error_after_false_history(arm(), lives, num_steps=4, change_std=UNIT, history="mine", seed=0)
