"""A bank that is in the state, recognises what comes back, and is never worse than birth."""

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.adaptation.context_bank import ContextBank, ContextBankConfig
from wm_robot.errors import ConfigError
from wm_robot.memory.lifetime_state import LearnedState, LifetimeState, map_values
from wm_robot.model.backend import Prediction
from wm_robot.model.config import ModelConfig
from wm_robot.model.torch_backend import TorchBackend
from wm_robot.model.world_model import WorldModel
from wm_robot.types import Step


class Mean(WorldModel):
    """A model that expects the mean of what it lately saw, with deviation 1."""

    def __init__(self):
        torch.nn.Module.__init__(self)

    def initial_state(self, *, initial_action, truth=None):
        memory = {"mean": torch.zeros(len(initial_action), 3)}
        step = torch.zeros(len(initial_action), dtype=torch.int64)
        return LifetimeState(step, initial_action[:, None].expand(-1, 1, -1), LearnedState((memory,)))

    def predict(self, state, obs, action):
        mean = state.memory[0]["mean"]
        return Prediction(mean, torch.zeros_like(mean))

    def update(self, state, step):
        mean, seen = state.memory[0]["mean"], step.valid[:, None] > 0
        after = torch.where(seen, mean + 0.1 * (step.next_obs - mean), mean)
        learned = LearnedState(({"mean": after},))
        return Prediction(mean, torch.zeros_like(mean)), LifetimeState(
            state.step + (step.valid > 0), step.action[:, None], learned
        )


HOLD = np.zeros((2, 1), np.float32)


@pytest.fixture
def recall():
    torch.manual_seed(0)
    return ContextBank(TorchBackend(Mean()), ContextBankConfig(num_slots=3))


def born(recall):
    return recall.initial_state(initial_action=HOLD)


def mean(state):
    return state.memory[0]["mean"]


def outcome_step(outcome, valid=1.0):
    return Step(outcome, HOLD, outcome, np.full(2, valid, np.float32))


def live(recall, state, level, steps=100, *, valid=1.0):
    """Both lives at a level each, with noise of deviation 1."""
    level = torch.as_tensor(level, dtype=torch.float32).expand(2)[:, None]
    for _ in range(steps):
        outcome = (level + torch.randn(2, 3)).numpy()
        _, state = recall.update(state, outcome_step(outcome, valid))
    return state


def test_a_condition_that_comes_back_is_there_at_once(recall):
    state = live(recall, live(recall, born(recall), 6.0), -6.0)
    back = live(recall, state, 6.0, 6)
    assert np.abs(mean(back) - 6).max() < 1
    assert (back.bank.current == 0).all()
    alone = mean(state)
    for _ in range(6):
        alone = alone + 0.1 * (6 - alone)
    assert np.abs(alone - 6).min() > 5


def test_nothing_is_switched_where_nothing_changes(recall):
    state = live(recall, live(recall, born(recall), 6.0), -6.0)
    later = live(recall, state, -6.0, 2000)
    assert np.array_equal(later.bank.switches, state.bank.switches)
    assert np.array_equal(later.bank.current, state.bank.current)


def test_each_life_has_a_bank_of_its_own(recall):
    state = live(recall, live(recall, born(recall), [6.0, -6.0]), [-6.0, 6.0])
    back = live(recall, state, [6.0, 6.0], 6)
    assert np.abs(mean(back) - 6).max() < 1
    assert back.bank.current.tolist() == [0, 1]


def test_a_condition_that_looks_the_same_gets_no_second_slot(recall):
    state = live(recall, live(recall, born(recall), 6.0), -6.0)
    # A jolt: the condition ends without another beginning.
    state = live(recall, live(recall, state, 40.0, 2), -6.0)
    assert ((state.bank.last_used >= 0).sum(1) == 2).all()


def test_the_longest_unused_condition_makes_room(recall):
    state = born(recall)
    for level in (6.0, -6.0, 18.0, -18.0):
        state = live(recall, state, level)
    kept = sorted(state.bank.slots.memory[0]["mean"][0, :3].mean(-1).round().tolist())
    assert kept == pytest.approx([-18, -6, 18], abs=1.01)


def test_what_is_remembered_is_from_before_the_change(recall):
    state = live(recall, born(recall), 6.0)
    after = live(recall, state, -6.0, 40)
    assert np.abs(after.bank.slots.memory[0]["mean"][:, 0] - 6).max() < 1.5


def test_it_is_never_worse_than_birth_for_long(recall):
    state = live(recall, born(recall), 6.0)
    state = state.with_memory(0, mean=np.full((2, 3), 1e4, np.float32))
    back = live(recall, state, 0.0, 10)
    assert np.abs(mean(back)).max() < 1.5


def test_in_another_body_it_is_a_newborn_that_remembers(recall):
    home = live(recall, born(recall), 6.0)
    there = recall.restart_from_prior(home)
    assert (mean(there) == 0).all() and (there.bank.current == -1).all()
    assert np.array_equal(there.step, home.step)
    # What it met was remembered before it went, and is recognised there too.
    assert np.abs(mean(live(recall, there, 6.0, 6)) - 6).max() < 1
    # A step there is a newborn's step, to the bit.
    step = outcome_step(np.full((2, 3), 0.5, np.float32))
    (_, one), (_, other) = recall.update(there, step), recall.update(born(recall), step)
    assert np.array_equal(mean(one), mean(other))


def test_a_masked_step_leaves_every_bit(recall):
    state = live(recall, live(recall, born(recall), 6.0), -6.0, 48)
    _, after = recall.update(state, outcome_step(np.full((2, 3), np.nan, np.float32), 0.0))
    for name, value in state.flatten().items():
        assert np.array_equal(after.flatten()[name], value), name


@pytest.mark.parametrize("family", ["gru", "kv", "delta", "hope", "ridge", "ekf"])
def test_every_family_lives_on_the_same_from_a_copy_of_its_state(family):
    torch.manual_seed(0)
    config = ModelConfig(obs=4, action=2, truth=5, dt=0.02, servo=(-1, 1), memory=family, width=16, outcome=8)
    recall = ContextBank(
        TorchBackend(WorldModel(config)), ContextBankConfig(num_slots=2, settle_steps=4, alarm_threshold=4.0)
    )
    state = recall.initial_state(initial_action=np.zeros((2, 2), np.float32))
    shapes = {name: (value.shape, value.dtype) for name, value in state.flatten().items()}
    steps = [Step(*(torch.randn(2, n).numpy() for n in (4, 2, 4)), np.ones(2, np.float32)) for _ in range(30)]
    for step in steps[:20]:
        _, state = recall.update(state, step)
    copy = map_values(np.copy, state)
    for step in steps[20:]:
        _, state = recall.update(state, step)
        _, copy = recall.update(copy, step)
    assert shapes == {name: (value.shape, value.dtype) for name, value in state.flatten().items()}
    assert all(np.array_equal(value, copy.flatten()[name]) for name, value in state.flatten().items())


def test_a_bank_without_slots_is_refused():
    with pytest.raises(ConfigError, match="context_bank.num_slots is 0"):
        ContextBankConfig(num_slots=0)
