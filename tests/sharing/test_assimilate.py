"""What another robot lived, lived here: as if it had been lived, and back at home afterwards."""

from dataclasses import replace

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")


from tests.adaptation.test_context_bank import HOLD, Mean, born, live, mean
from tests.model.small_model import small_model
from wm_robot.adaptation.context_bank import ContextBank, ContextBankConfig
from wm_robot.evaluation.acceptance import (
    HORIZON,
    PREDICTION_INTERVAL,
    AcceptanceResult,
    compute_errors,
    split_held_out,
    try_assimilation,
)
from wm_robot.memory.lifetime_state import map_values
from wm_robot.model.torch_backend import TorchBackend
from wm_robot.sharing.assimilate import RecordedSteps, assimilate_experience, replay_recordings
from wm_robot.spec import Actuator, Joint, RobotSpec
from wm_robot.types import Episode

NOTHING = np.zeros((1, 1), np.float32)
SPEC = RobotSpec(
    name="one",
    rate=50.0,
    model="none.xml",
    joints=(Joint(name="a", position=(-2.0, 2.0), velocity=5.0, effort=4.0),),
    actuators=(Actuator(name="a", joint="a", kind="velocity", range=(-2.0, 2.0), rate=10.0),),
)


@pytest.fixture
def backend():
    torch.manual_seed(0)
    return TorchBackend(Mean())


@pytest.fixture
def recall(backend):
    return ContextBank(backend, ContextBankConfig(num_slots=3))


def level(value, steps=100):
    """A stretch of both lives at that level, with noise of deviation 1."""
    obs = (value + torch.randn(2, steps + 1, 3)).numpy()
    return RecordedSteps(obs, np.zeros((2, steps, 1), np.float32), HOLD, np.ones((2, steps), np.float32))


def small(memory="delta"):
    return small_model(memory, truth=1, servo=-1)


def episode(steps=40, *, seed=0, hold=0.5):
    rng = np.random.default_rng(seed)
    return Episode(
        stamp=np.arange(steps + 1) * 20_000_000,
        obs=rng.normal(size=(steps + 1, 2)),
        action=rng.normal(size=(steps, 1)),
        initial_action=np.array([hold]),
        reward=np.zeros(steps),
        goal=np.zeros((steps + 1, 0)),
        valid=rng.random(steps) < 0.8,
    )


def test_assimilating_equals_having_lived_it():
    backend, one, other = TorchBackend(small()), episode(seed=1), episode(seed=2)
    state = backend.initial_state(initial_action=NOTHING)
    taught = assimilate_experience(
        backend, state, [RecordedSteps.from_episode(one, SPEC), RecordedSteps.from_episode(other, SPEC)]
    )
    for each in (one, other):
        state = replace(state, recent=np.full_like(state.recent, 0.5))
        for step in each:
            _, state = backend.update(state, map_values(lambda x: np.float32(x)[None], step))
    found = taught.flatten()
    for name, value in replace(state, recent=taught.recent).flatten().items():
        assert np.array_equal(value, found[name]), name
    assert (taught.recent == 0).all()
    assert taught.step == one.valid.sum() + other.valid.sum()


def test_a_life_is_at_home_again_and_knows_where_the_other_was(backend, recall):
    home = live(recall, born(recall), 6.0)
    taught = assimilate_experience(backend, home, [level(-6.0)])
    assert np.array_equal(mean(taught), mean(home))
    assert (taught.bank.current == home.bank.current).all()
    assert (taught.step == home.step + 100).all()
    away = live(recall, taught, -6.0, 6)
    assert np.abs(mean(away) + 6).max() < 1
    back = live(recall, away, 6.0, 6)
    assert np.abs(mean(back) - 6).max() < 1


def test_a_life_that_was_not_taught_is_a_stranger_there(recall):
    away = live(recall, live(recall, born(recall), 6.0), -6.0, 6)
    assert np.abs(mean(away) + 6).min() > 2


def test_nothing_given_is_changed(backend, recall):
    home = live(recall, born(recall), 6.0)
    before = map_values(np.copy, home).flatten()
    assimilate_experience(backend, home, [level(-6.0)])
    assert all(np.array_equal(home.flatten()[name], value) for name, value in before.items())


def test_the_last_quarter_is_held_out():
    first, last = level(0.0, 40), level(0.0, 80)
    taken, kept = split_held_out([first, last])
    assert [each.num_steps for each in taken] == [40, 50] and [each.num_steps for each in kept] == [30]
    assert np.array_equal(kept[0].obs, last.obs[:, 50:]) and np.array_equal(
        kept[0].initial_action, last.action[:, 49]
    )


def test_moments_before_an_invalid_step_are_not_counted():
    model, each = small(), RecordedSteps.from_episode(episode(80), SPEC)
    found = compute_errors(
        model, TorchBackend(model), TorchBackend(model).initial_state(initial_action=HOLD[:1]), each
    )[0]
    wholly = [
        bool(each.valid[0, t : t + HORIZON].all()) for t in range(0, 80 - HORIZON + 1, PREDICTION_INTERVAL)
    ]
    assert np.isfinite(found).tolist() == wholly


def test_experience_that_is_no_better_is_refused():
    verdict = {"own_before": 1.0, "own_after": 1.01, "other_before": 2.0, "other_after": 1.0}
    assert AcceptanceResult(**verdict).is_accepted
    assert not AcceptanceResult(**verdict | {"own_after": 1.03}).is_accepted
    assert not AcceptanceResult(**verdict | {"other_after": 2.0}).is_accepted
    assert "from 1 to 1.01" in AcceptanceResult(**verdict).to_sentence()


def test_a_trial_lives_what_is_not_held_out():
    own, other = ([replace(episode(160, seed=seed), valid=np.ones(160, bool))] for seed in (1, 2))
    model = small()
    backend = TorchBackend(model)
    state = backend.initial_state(initial_action=NOTHING)
    after, verdict = try_assimilation(model, backend, state, own, other, SPEC)
    wanted = replay_recordings(
        backend, state, [RecordedSteps.from_episode(other[0], SPEC).select_steps(0, 120)]
    )
    assert np.array_equal(after.memory[0]["S"], wanted.memory[0]["S"])
    assert verdict.own_before != verdict.own_after
