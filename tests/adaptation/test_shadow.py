"""Lives that believe a residual only while it expects better than none."""

from dataclasses import replace

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from tests.model.small_model import small_model
from wm_robot.adaptation.context_bank import ContextBank
from wm_robot.adaptation.shadow import (
    ShadowConfig,
    ShadowEvaluation,
    get_residual_free_state,
    get_unused_state,
    use_without_evaluation,
)
from wm_robot.memory.lifetime_state import map_values
from wm_robot.model.residual import has_residual
from wm_robot.model.torch_backend import TorchBackend
from wm_robot.types import Step

BOTH = np.ones(2, bool)
HOLD = np.zeros((2, 1), np.float32)


@pytest.fixture(params=["gru", "ekf"])
def model(request) -> TorchBackend:
    return TorchBackend(small_model(request.param))


def born(trial):
    return trial.initial_state(initial_action=HOLD)


def residual(state, size=0.3, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return map_values(lambda v: size * torch.randn(v.shape, generator=generator).numpy(), state.residual)


def zero_residual(state):
    return map_values(np.zeros_like, state.residual)


def live(lives, state, steps=60, teacher=None, seed=0):
    """Live random steps that came out as a teacher's state expected, or at random."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        obs, action, then = (torch.randn(2, n, generator=generator).numpy() for n in (2, 1, 2))
        if teacher is not None:
            model, residual_ = teacher
            then = model.predict(state.with_residual(residual_), obs, action).mean
        _, state = lives.update(state, Step(obs, action, then, np.ones(2, np.float32)))
    return state


def test_without_a_residual_it_is_the_life_that_it_was(model):
    trial = ShadowEvaluation(model)
    state, plain = born(trial), model.initial_state(initial_action=HOLD)
    state, plain = live(trial, state), live(model, plain)
    for name, value in plain.flatten().items():
        assert np.array_equal(state.flatten()[name], value), name
        assert np.array_equal(get_unused_state(state).flatten()[name], value), name


def test_the_life_in_the_shadow_is_the_one_that_never_had_a_residual(model):
    trial = ShadowEvaluation(model, config=ShadowConfig(reject_factor=float("inf")))
    state, plain = live(trial, born(trial), 5), live(model, model.initial_state(initial_action=HOLD), 5)
    state = live(trial, use_without_evaluation(state, residual(state)), 40, seed=1)
    plain = live(model, plain, 40, seed=1)
    assert has_residual(state).all()
    for name, value in plain.flatten().items():
        # Side by side, two lives are rounded otherwise than one.
        found = get_residual_free_state(state).flatten()[name]
        np.testing.assert_allclose(found, value, atol=1e-5, rtol=1e-5, err_msg=name)


def test_a_good_residual_is_tried_in_the_shadow_and_then_believed(model):
    trial = ShadowEvaluation(model)
    state = live(trial, born(trial), 5)
    good = residual(state)
    state = trial.start_evaluation(state, good, np.array([True, False]))
    assert not has_residual(state).any()
    state = live(trial, state, 200, teacher=(model, good), seed=1)
    assert has_residual(state).tolist() == [True, False]
    assert state.shadow.offered.tolist() == [1, 0]
    assert int(state.shadow.accepted[0]) == int(state.shadow.rejected[0]) + 1


def test_a_bad_residual_is_never_believed(model):
    trial = ShadowEvaluation(model)
    state = live(trial, born(trial), 5)
    zero = zero_residual(state)
    state = trial.start_evaluation(state, residual(state, 3.0), BOTH)
    state = live(trial, state, 150, teacher=(model, zero), seed=1)
    assert not has_residual(state).any() and not state.shadow.accepted.any()


def test_a_bad_residual_that_is_believed_is_given_up_within_a_second(model):
    trial = ShadowEvaluation(model)
    state = live(trial, born(trial), 5)
    zero = zero_residual(state)
    state = live(
        trial, use_without_evaluation(state, residual(state, 3.0)), 50, teacher=(model, zero), seed=1
    )
    assert not has_residual(state).any()
    assert state.shadow.rejected.tolist() == [1, 1]
    unguarded = ShadowEvaluation(model, config=ShadowConfig(reject_factor=float("inf")))
    state = live(
        unguarded, use_without_evaluation(state, residual(state, 3.0)), 50, teacher=(model, zero), seed=2
    )
    assert has_residual(state).all()


def test_a_step_that_is_not_seen_decides_nothing_and_may_hold_anything(model):
    trial = ShadowEvaluation(model)
    state = use_without_evaluation(live(trial, born(trial), 5), residual(born(trial), 3.0))
    still, unseen = np.zeros((2, 2), np.float32), np.full((2, 2), np.nan, np.float32)
    for _ in range(60):
        _, state = trial.update(state, Step(still, HOLD, unseen, np.zeros(2, np.float32)))
    assert has_residual(state).all() and np.isfinite(state.shadow.errors).all()


def test_a_trial_of_lives_that_recall_keeps_a_residual_with_its_condition(model):
    recall = ContextBank(model)
    trial = ShadowEvaluation(model, recall)
    state = trial.initial_state(initial_action=HOLD)
    state = use_without_evaluation(live(trial, state, 30), residual(state, 0.1))
    state = live(ShadowEvaluation(model, recall, ShadowConfig(reject_factor=float("inf"))), state, 30, seed=1)
    assert {"bank.slots.residual.first.up", "bank.draft.residual.first.up"} <= state.flatten().keys()
    assert np.isfinite(state.shadow.errors).all()


def test_both_lives_are_lived_in_one_call_and_each_as_it_would_be_alone(model):
    class Counted(TorchBackend):
        calls = 0

        def update(self, *given):
            self.calls += 1
            return super().update(*given)

    lives = Counted(model.model)
    trial = ShadowEvaluation(
        lives, config=ShadowConfig(reject_factor=float("inf"), decision_threshold=float("inf"))
    )
    state = trial.initial_state(initial_action=HOLD)
    generator = np.random.default_rng(0)

    def rows_of(row):
        """A random residual in one of the rows."""
        chosen = np.eye(2, dtype=np.float32)[row]
        return map_values(lambda v: v * chosen.reshape(2, *[1] * (v.ndim - 1)), found)

    # One tries a residual in the shadow, the other believes one.
    found = map_values(
        lambda v: (0.3 * generator.standard_normal(v.shape)).astype(np.float32), state.residual
    )
    side = replace(state.shadow.learned, residual=rows_of(0))
    state = replace(state.with_residual(rows_of(1)), shadow=replace(state.shadow, learned=side))
    main, other = state.model_part(), get_unused_state(state)
    for _ in range(10):
        rows = [generator.standard_normal((2, n), np.float32) for n in (2, 1, 2)]
        step = Step(*rows, np.ones(2, np.float32))
        before = lives.calls
        _, state = trial.update(state, step)
        assert lives.calls == before + 1
        main, other = (lives.update(each, step)[1] for each in (main, other))
    for each, alone in ((state, main), (get_unused_state(state), other)):
        for name, value in alone.flatten().items():
            np.testing.assert_allclose(each.flatten()[name], value, atol=1e-5, rtol=1e-5, err_msg=name)
