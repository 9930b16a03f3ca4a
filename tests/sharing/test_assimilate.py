"""What another robot lived, lived here: as if it had been lived, and back at home afterwards."""

from dataclasses import replace

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from tests.adaptation.test_context_bank import HOLD, Mean, born, live
from tests.model.small_model import small_model
from wm_robot.adaptation.context_bank import RecallConfig
from wm_robot.adaptation.tensor_backends import TensorRecall
from wm_robot.evaluation.acceptance import EVERY, HORIZON, Verdict, errors, parted, tried
from wm_robot.sharing.assimilate import Stretch, assimilated, lived
from wm_robot.types import Episode


@pytest.fixture
def recall():
    torch.manual_seed(0)
    return TensorRecall(Mean(), RecallConfig(slots=3))


def level(value, steps=100):
    """A stretch of both lives at that level, with noise of deviation 1."""
    obs = value + torch.randn(2, steps + 1, 3)
    return Stretch(obs, torch.zeros(2, steps, 1), HOLD, torch.ones(2, steps))


def small(memory="delta"):
    return small_model(memory, truth=1, servo=-1)


def episode(steps=40, *, seed=0, hold=0.5):
    rng = np.random.default_rng(seed)
    return Episode(
        stamp=np.arange(steps + 1) * 20_000_000,
        obs=rng.normal(size=(steps + 1, 2)),
        action=rng.normal(size=(steps, 1)),
        hold=np.array([hold]),
        reward=np.zeros(steps),
        goal=np.zeros((steps + 1, 0)),
        valid=rng.random(steps) < 0.8,
    )


def test_assimilating_equals_having_lived_it():
    model, one, other = small(), episode(seed=1), episode(seed=2)
    state = model.birth(hold=torch.zeros(1, 1))
    taught = assimilated(model, state, [Stretch.of(one), Stretch.of(other)])
    for each in (one, other):
        state = state | {"recent": torch.full_like(state["recent"], 0.5)}
        for step in each:
            obs, action, following = (
                torch.tensor(x, dtype=torch.float32)[None] for x in (step.obs, step.action, step.next_obs)
            )
            _, state = model.write(state, obs, action, following, torch.tensor([float(step.valid)]))
    for name in state.keys() - {"recent"}:
        assert torch.equal(state[name], taught[name]), name
    assert (taught["recent"] == 0).all()
    assert taught["step"] == one.valid.sum() + other.valid.sum()


def test_a_life_is_at_home_again_and_knows_where_the_other_was(recall):
    home = live(recall, born(recall), 6.0)
    taught = assimilated(recall, home, [level(-6.0)])
    assert torch.equal(taught["0.mean"], home["0.mean"])
    assert (taught["recall.now"] == home["recall.now"]).all()
    assert (taught["step"] == home["step"] + 100).all()
    away = live(recall, taught, -6.0, 6)
    assert (away["0.mean"] + 6).abs().max() < 1
    back = live(recall, away, 6.0, 6)
    assert (back["0.mean"] - 6).abs().max() < 1


def test_a_life_that_was_not_taught_is_a_stranger_there(recall):
    away = live(recall, live(recall, born(recall), 6.0), -6.0, 6)
    assert (away["0.mean"] + 6).abs().min() > 2


def test_nothing_given_is_changed(recall):
    home = live(recall, born(recall), 6.0)
    before = {name: value.clone() for name, value in home.items()}
    assimilated(recall, home, [level(-6.0)])
    assert all(torch.equal(home[name], value) for name, value in before.items())


def test_the_last_quarter_is_held_out():
    first, last = level(0.0, 40), level(0.0, 80)
    taken, kept = parted([first, last])
    assert [each.steps for each in taken] == [40, 50] and [each.steps for each in kept] == [30]
    assert torch.equal(kept[0].obs, last.obs[:, 50:]) and torch.equal(kept[0].hold, last.action[:, 49])


def test_moments_before_an_invalid_step_are_not_counted():
    model, each = small(), Stretch.of(episode(80))
    found = errors(model, model, model.birth(hold=HOLD[:1]), each)[0]
    wholly = [bool(each.valid[0, t : t + HORIZON].all()) for t in range(0, 80 - HORIZON + 1, EVERY)]
    assert np.isfinite(found).tolist() == wholly


def test_experience_that_is_no_better_is_refused():
    verdict = {"own_before": 1.0, "own_after": 1.01, "other_before": 2.0, "other_after": 1.0}
    assert Verdict(**verdict).accepted
    assert not Verdict(**verdict | {"own_after": 1.03}).accepted
    assert not Verdict(**verdict | {"other_after": 2.0}).accepted
    assert "from 1 to 1.01" in Verdict(**verdict).told()


def test_a_trial_lives_what_is_not_held_out():
    own, other = ([replace(episode(160, seed=seed), valid=np.ones(160, bool))] for seed in (1, 2))
    model = small()
    state = model.birth(hold=torch.zeros(1, 1))
    after, verdict = tried(model, model, state, own, other)
    wanted = lived(model, state, [Stretch.of(other[0]).part(0, 120)])
    assert torch.equal(after["0.S"], wanted["0.S"])
    assert verdict.own_before != verdict.own_after
