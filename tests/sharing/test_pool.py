"""Lives made one: exact where evidence adds up, refused where it does not."""

from dataclasses import replace

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from tests.sharing.test_assimilate import NOTHING, SPEC, episode, small
from wm_robot.adaptation.context_bank import ContextBank
from wm_robot.errors import ConfigError
from wm_robot.model.torch_backend import TorchBackend
from wm_robot.sharing.assimilate import RecordedSteps, replay_recordings
from wm_robot.sharing.pool import merge_lifetime_states


def unforgetting(memory):
    """A model whose memories keep everything."""
    model = small(memory)
    for layer in model.memories:
        layer.log_half_life.fill_(30.0)
    return model


def born(model):
    return TorchBackend(model).initial_state(initial_action=NOTHING)


@pytest.mark.parametrize("steps", [40, 150, pytest.param(1000, marks=pytest.mark.soak)])
def test_pooled_ridge_lives_are_one_that_lived_both(steps):
    model = unforgetting("ridge")
    one, other = (RecordedSteps.from_episode(episode(steps, seed=seed), SPEC) for seed in (1, 2))
    backend = TorchBackend(model)
    both = replay_recordings(backend, born(model), [one, other])
    pool = merge_lifetime_states(
        model, [replay_recordings(backend, born(model), [each]) for each in (one, other)]
    )
    assert pool.step == both.step
    for name, value in both.memory[0].items():
        apart = np.linalg.norm((pool.memory[0][name] - value).astype(np.float64).ravel()) / np.linalg.norm(
            value.astype(np.float64).ravel()
        )
        assert apart <= 1e-6 or name.endswith("_low"), (name, apart)


@pytest.mark.parametrize("memory", ["gru", "kv", "delta", "hope"])
def test_other_families_are_refused_with_what_to_do(memory):
    model = small(memory)
    with pytest.raises(ConfigError, match="cannot merge 2 states.*recorded experience"):
        merge_lifetime_states(model, [born(model)] * 2)


def test_one_life_is_no_pool():
    model = small("ridge")
    with pytest.raises(ConfigError, match="at least two"):
        merge_lifetime_states(model, [born(model)])


def test_a_pool_remembers_the_conditions_that_any_of_them_used_last():
    model = unforgetting("ridge")
    backend = TorchBackend(model)
    recall, lives = ContextBank(backend), []
    # Contexts used at steps that everybody can tell apart.
    for number, seed in enumerate((1, 2)):
        state = replay_recordings(
            backend,
            recall.initial_state(initial_action=NOTHING),
            [RecordedSteps.from_episode(episode(30, seed=seed), SPEC)],
        )
        bank = state.bank
        slots = bank.last_used.shape[1]
        used = np.array([[10 * k + number if k < 6 else -1 for k in range(slots)]])
        matrices = bank.slots.memory[0]["S"] * 0 + np.arange(slots + 1).reshape(1, -1, 1, 1, 1) + 100 * number
        marked = replace(bank.slots, memory=({**bank.slots.memory[0], "S": matrices},))
        lives.append(replace(state, step=np.array([100]), bank=replace(bank, slots=marked, last_used=used)))
    pool = merge_lifetime_states(model, lives)
    assert pool.step == 200
    matrices = pool.bank.slots.memory[0]["S"]
    assert matrices[0, :-1, 0, 0, 0].tolist() == [105, 5, 104, 4, 103, 3, 102, 2]
    assert pool.bank.last_used.tolist() == [[151, 150, 141, 140, 131, 130, 121, 120]]


def test_lives_with_and_without_a_bank_do_not_mix():
    model = small("ridge")
    state = born(model)
    with pytest.raises(ConfigError, match="some do not"):
        merge_lifetime_states(model, [state, ContextBank(TorchBackend(model)).add_bank(state)])
