"""Lives that believe a residual only while it expects better than none."""

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from tests.model.small_model import small_model
from wm_robot.adaptation.context_bank import known
from wm_robot.adaptation.shadow import Trial, TrialConfig, shadow_of
from wm_robot.adaptation.tensor_backends import TensorRecall, TensorTrial
from wm_robot.adaptation.tensor_backends import believing_tensors as believing
from wm_robot.adaptation.tensor_backends import without_one_tensors as without_one
from wm_robot.model.residual import has_residual, residual_of
from wm_robot.model.torch_backend import ModelLives
from wm_robot.model.world_model import WorldModel

BOTH = torch.ones(2, dtype=torch.bool)


@pytest.fixture(params=["gru", "ekf"])
def model(request) -> WorldModel:
    return small_model(request.param)


def born(model, trial):
    return trial.birth(model.birth(2, hold=torch.zeros(2, 1)))


def residual(state, size=0.3, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return {k: size * torch.randn(v.shape, generator=generator) for k, v in residual_of(state).items()}


def live(lives, state, steps=60, teacher=None, seed=0):
    """Live random steps that came out as a teacher's state expected, or at random."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        obs, action = torch.randn(2, 2, generator=generator), torch.randn(2, 1, generator=generator)
        then = torch.randn(2, 2, generator=generator)
        if teacher is not None:
            model, residual_ = teacher
            then = model.predict(state | residual_, obs, action).mean
        _, state = lives.write(state, obs, action, then, torch.ones(2))
    return state


def test_without_a_residual_it_is_the_life_that_it_was(model):
    trial = TensorTrial(model)
    state, plain = born(model, trial), model.birth(2, hold=torch.zeros(2, 1))
    state, plain = live(trial, state), live(model, plain)
    for name, value in plain.items():
        assert torch.equal(state[name], value), name
    for name, value in known(plain).items():
        assert torch.equal(shadow_of(state)[name], value), name


def test_the_life_in_the_shadow_is_the_one_that_never_had_a_residual(model):
    trial = TensorTrial(model, config=TrialConfig(worse=float("inf")))
    state, plain = live(trial, born(model, trial), 5), live(model, model.birth(2, hold=torch.zeros(2, 1)), 5)
    state = live(trial, believing(state, residual(state)), 40, seed=1)
    plain = live(model, plain, 40, seed=1)
    assert has_residual(state).all()
    for name, value in known(plain).items():
        # Side by side, two lives are rounded otherwise than one.
        torch.testing.assert_close(without_one(state)[name], value, atol=1e-5, rtol=1e-5, msg=name)


def test_a_good_residual_is_tried_in_the_shadow_and_then_believed(model):
    trial = TensorTrial(model)
    state = live(trial, born(model, trial), 5)
    good = residual(state)
    state = trial.tried(state, good, torch.tensor([True, False]))
    assert not has_residual(state).any()
    state = live(trial, state, 200, teacher=(model, good), seed=1)
    assert has_residual(state).tolist() == [True, False]
    assert state["trial.tried"].tolist() == [1, 0]
    assert int(state["trial.believed"][0]) == int(state["trial.given_up"][0]) + 1


def test_a_bad_residual_is_never_believed(model):
    trial = TensorTrial(model)
    state = live(trial, born(model, trial), 5)
    zero = {name: torch.zeros_like(value) for name, value in residual(state).items()}
    state = trial.tried(state, residual(state, 3.0), BOTH)
    state = live(trial, state, 150, teacher=(model, zero), seed=1)
    assert not has_residual(state).any() and not state["trial.believed"].any()


def test_a_bad_residual_that_is_believed_is_given_up_within_a_second(model):
    trial = TensorTrial(model)
    state = live(trial, born(model, trial), 5)
    zero = {name: torch.zeros_like(value) for name, value in residual(state).items()}
    state = live(trial, believing(state, residual(state, 3.0)), 50, teacher=(model, zero), seed=1)
    assert not has_residual(state).any()
    assert state["trial.given_up"].tolist() == [1, 1]
    unguarded = TensorTrial(model, config=TrialConfig(worse=float("inf")))
    state = live(unguarded, believing(state, residual(state, 3.0)), 50, teacher=(model, zero), seed=2)
    assert has_residual(state).all()


def test_a_step_that_is_not_seen_decides_nothing_and_may_hold_anything(model):
    trial = TensorTrial(model)
    state = believing(live(trial, born(model, trial), 5), residual(born(model, trial), 3.0))
    nothing = torch.full((2, 2), torch.nan)
    for _ in range(60):
        _, state = trial.write(state, torch.zeros(2, 2), torch.zeros(2, 1), nothing, torch.zeros(2))
    assert has_residual(state).all() and torch.isfinite(state["trial.errors"]).all()


def test_a_trial_of_lives_that_recall_keeps_a_residual_with_its_condition(model):
    recall = TensorRecall(model)
    trial = TensorTrial(model, recall)
    state = trial.birth(recall.birth(model.birth(2, hold=torch.zeros(2, 1))))
    state = believing(live(trial, state, 30), residual(state, 0.1))
    state = live(TensorTrial(model, recall, TrialConfig(worse=float("inf"))), state, 30, seed=1)
    assert "bank.residual.first.up" in state and "draft.residual.first.up" in state
    assert np.isfinite(state["trial.errors"].numpy()).all()


def test_both_lives_are_lived_in_one_call_and_each_as_it_would_be_alone(model):
    class Counted(ModelLives):
        calls = 0

        def write(self, *given):
            self.calls += 1
            return super().write(*given)

    lives = Counted(model)
    trial = Trial(lives, config=TrialConfig(worse=float("inf"), evidence=float("inf")))
    state = trial.birth(lives.birth(hold=np.zeros((2, 1), np.float32)))
    generator = np.random.default_rng(0)
    # One tries a residual in the shadow, the other believes one.
    found = {
        k: (0.3 * generator.standard_normal(v.shape)).astype(np.float32)
        for k, v in residual_of(state).items()
    }
    state = state | {
        k: v * np.array([0, 1], np.float32).reshape(2, *[1] * (v.ndim - 1)) for k, v in found.items()
    }
    shadow = {
        "shadow." + k: v * np.array([1, 0], np.float32).reshape(2, *[1] * (v.ndim - 1))
        for k, v in found.items()
    }
    state |= shadow
    main, other = state, shadow_of(state)
    for _ in range(10):
        step = [generator.standard_normal((2, n), np.float32) for n in (2, 1, 2)] + [np.ones(2, np.float32)]
        before = lives.calls
        _, state = trial.write(state, *step)
        assert lives.calls == before + 1
        main, other = ({**each, **lives.write(each, *step)[1]} for each in (main, other))
    for each, alone in ((state, main), (shadow_of(state), other)):
        for name, value in known(alone).items():
            np.testing.assert_allclose(each[name], value, atol=1e-5, rtol=1e-5, err_msg=name)
