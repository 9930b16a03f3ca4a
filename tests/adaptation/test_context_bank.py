"""A bank that is in the state, recognises what comes back, and is never worse than birth."""

import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.adaptation.context_bank import RecallConfig
from wm_robot.adaptation.tensor_backends import TensorRecall
from wm_robot.errors import ConfigError
from wm_robot.model.world_model import ModelConfig, Prediction, WorldModel


class Mean(WorldModel):
    """A model that expects the mean of what it lately saw, with deviation 1."""

    def __init__(self):
        torch.nn.Module.__init__(self)

    def birth(self, batch, *, hold):
        return {
            "step": torch.zeros(batch, dtype=torch.int64),
            "recent": hold[:, None].expand(-1, 1, -1),
            "0.mean": torch.zeros(batch, 3),
        }

    def predict(self, state, obs, action):
        return Prediction(state["0.mean"], torch.zeros_like(state["0.mean"]))

    def write(self, state, obs, action, next_obs, valid, truth=None):
        mean, seen = state["0.mean"], valid[:, None] > 0
        return Prediction(mean, torch.zeros_like(mean)), {
            "step": state["step"] + (valid > 0),
            "recent": action[:, None],
            "0.mean": torch.where(seen, mean + 0.1 * (next_obs - mean), mean),
        }


HOLD = torch.zeros(2, 1)


@pytest.fixture
def recall():
    torch.manual_seed(0)
    return TensorRecall(Mean(), RecallConfig(slots=3))


def born(recall):
    return recall.birth(Mean().birth(2, hold=HOLD))


def live(recall, state, level, steps=100, *, valid=1.0):
    """Both lives at a level each, with noise of deviation 1."""
    level = torch.as_tensor(level, dtype=torch.float32).expand(2)[:, None]
    for _ in range(steps):
        outcome = level + torch.randn(2, 3)
        _, state = recall.write(state, outcome, HOLD, outcome, torch.full((2,), valid))
    return state


def test_a_condition_that_comes_back_is_there_at_once(recall):
    state = live(recall, live(recall, born(recall), 6.0), -6.0)
    back = live(recall, state, 6.0, 6)
    assert (back["0.mean"] - 6).abs().max() < 1
    assert (back["recall.now"] == 0).all()
    alone = state["0.mean"]
    for _ in range(6):
        alone = alone + 0.1 * (6 - alone)
    assert (alone - 6).abs().min() > 5


def test_nothing_is_switched_where_nothing_changes(recall):
    state = live(recall, live(recall, born(recall), 6.0), -6.0)
    later = live(recall, state, -6.0, 2000)
    assert torch.equal(later["recall.switches"], state["recall.switches"])
    assert torch.equal(later["recall.now"], state["recall.now"])


def test_each_life_has_a_bank_of_its_own(recall):
    state = live(recall, live(recall, born(recall), [6.0, -6.0]), [-6.0, 6.0])
    back = live(recall, state, [6.0, 6.0], 6)
    assert (back["0.mean"] - 6).abs().max() < 1
    assert back["recall.now"].tolist() == [0, 1]


def test_a_condition_that_looks_the_same_gets_no_second_slot(recall):
    state = live(recall, live(recall, born(recall), 6.0), -6.0)
    # A jolt: the condition ends without another beginning.
    state = live(recall, live(recall, state, 40.0, 2), -6.0)
    assert ((state["recall.used"] >= 0).sum(1) == 2).all()


def test_the_longest_unused_condition_makes_room(recall):
    state = born(recall)
    for level in (6.0, -6.0, 18.0, -18.0):
        state = live(recall, state, level)
    kept = sorted(state["bank.0.mean"][0, :3].mean(-1).round().tolist())
    assert kept == pytest.approx([-18, -6, 18], abs=1.01)


def test_what_is_remembered_is_from_before_the_change(recall):
    state = live(recall, born(recall), 6.0)
    after = live(recall, state, -6.0, 40)
    assert (after["bank.0.mean"][:, 0] - 6).abs().max() < 1.5


def test_it_is_never_worse_than_birth_for_long(recall):
    state = live(recall, born(recall), 6.0)
    state["0.mean"] = torch.full((2, 3), 1e4)
    back = live(recall, state, 0.0, 10)
    assert (back["0.mean"]).abs().max() < 1.5


def test_in_another_body_it_is_a_newborn_that_remembers(recall):
    home = live(recall, born(recall), 6.0)
    there = recall.anew(home)
    assert (there["0.mean"] == 0).all() and (there["recall.now"] == -1).all()
    assert torch.equal(there["step"], home["step"])
    # What it met was remembered before it went, and is recognised there too.
    assert (live(recall, there, 6.0, 6)["0.mean"] - 6).abs().max() < 1
    # A step there is a newborn's step, to the bit.
    outcome = torch.full((2, 3), 0.5)
    step = (outcome, HOLD, outcome, torch.ones(2))
    (_, one), (_, other) = recall.write(there, *step), recall.write(born(recall), *step)
    assert torch.equal(one["0.mean"], other["0.mean"])


def test_a_masked_step_leaves_every_bit(recall):
    state = live(recall, live(recall, born(recall), 6.0), -6.0, 48)
    outcome = torch.full((2, 3), torch.nan)
    _, after = recall.write(state, outcome, HOLD, outcome, torch.zeros(2))
    for name, value in state.items():
        assert torch.equal(after[name], value), name


@pytest.mark.parametrize("family", ["gru", "kv", "delta", "hope", "ridge", "ekf"])
def test_every_family_lives_on_the_same_from_a_copy_of_its_state(family):
    torch.manual_seed(0)
    config = ModelConfig(obs=4, action=2, truth=5, dt=0.02, servo=(-1, 1), memory=family, width=16, outcome=8)
    model = WorldModel(config)
    recall = TensorRecall(model, RecallConfig(slots=2, settled=4, alarm=4.0))
    state = recall.birth(model.birth(2, hold=torch.zeros(2, 2)))
    shapes = {name: (value.shape, value.dtype) for name, value in state.items()}
    steps = [(torch.randn(2, 4), torch.randn(2, 2), torch.randn(2, 4)) for _ in range(30)]
    with torch.inference_mode():
        for step in steps[:20]:
            _, state = recall.write(state, *step, torch.ones(2))
        copy = {name: value.clone() for name, value in state.items()}
        for step in steps[20:]:
            _, state = recall.write(state, *step, torch.ones(2))
            _, copy = recall.write(copy, *step, torch.ones(2))
    assert shapes == {name: (value.shape, value.dtype) for name, value in state.items()}
    assert all(torch.equal(state[name], copy[name]) for name in state)


def test_a_bank_without_slots_is_refused():
    with pytest.raises(ConfigError, match="recall.slots is 0"):
        RecallConfig(slots=0)
