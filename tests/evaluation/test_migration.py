"""Migration: what is replayed, in which order, and which contexts count as found again."""

from dataclasses import replace

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from tests.sharing.test_assimilate import SPEC, episode, small
from wm_robot.adaptation.context_bank import ContextBank, ContextBankConfig
from wm_robot.evaluation.acceptance import split_held_out
from wm_robot.evaluation.migration import (
    MigrationResult,
    MigrationSide,
    count_lost_contexts,
    cut_windows,
    order_by_time,
    try_migration,
)
from wm_robot.memory.lifetime_state import map_values
from wm_robot.model.torch_backend import TorchBackend
from wm_robot.sharing.assimilate import RecordedSteps, replay_recordings

NOTHING = np.zeros((1, 1), np.float32)


def side(memory):
    model = small(memory)
    backend = TorchBackend(model)
    return MigrationSide(model, backend, ContextBank(backend).initial_state(initial_action=NOTHING))


def whole(steps, *, seed=0):
    return replace(episode(steps, seed=seed), valid=np.ones(steps, bool))


def at(episode, step):
    return replace(episode, stamp=episode.stamp + step * 20_000_000)


def test_all_steps_are_replayed_with_the_new_base_and_nothing_given_is_changed():
    new, old = side("delta"), side("gru")
    episodes = [episode(80, seed=1), whole(160, seed=2)]
    lived = replay_recordings(old.backend, old.state, [RecordedSteps.from_episode(episodes[0], SPEC)])
    old, before = old._replace(state=lived), map_values(np.copy, new.state).flatten()
    after, result = try_migration(new, lived, old, episodes, SPEC)
    taken, kept = split_held_out([RecordedSteps.from_episode(each, SPEC) for each in episodes])
    expected = replay_recordings(new.backend, new.state, [*taken, *kept]).flatten()
    assert all(np.array_equal(expected[name], value) for name, value in after.flatten().items())
    assert all(np.array_equal(before[name], value) for name, value in new.state.flatten().items())
    valid = [int(each.valid.sum()) for each in episodes]
    assert result.replayed_steps == sum(valid) and result.old_steps == valid[0]
    assert result.lost_steps == 0 and result.old_error > 0


def test_both_states_are_compared_in_one_unit():
    new, old = side("delta"), side("delta")
    with torch.no_grad():
        old.model.change_std.mul_(10)
    _, result = try_migration(new, old.state, old, [whole(160)], SPEC)
    with torch.no_grad():
        old.model.change_std.div_(10)
    _, same = try_migration(new, old.state, old, [whole(160)], SPEC)
    # The unit of the old base scales its own predictions, but not the error.
    assert same.old_error == pytest.approx(same.initial_error)
    assert result.old_error != pytest.approx(result.initial_error / 100, rel=0.5)


def test_episodes_are_ordered_by_their_stamps_where_they_can_be():
    early, late = episode(40, seed=1), at(episode(40, seed=2), 40)
    assert order_by_time([late, early]) == ([early, late], True)
    restarted = episode(40, seed=3)
    assert order_by_time([late, restarted, early]) == ([late, restarted, early], False)


def test_windows_cover_a_short_log_and_are_sparse_in_a_long_one():
    def steps(count):
        zeros = np.zeros((1, count + 1, 1), np.float32)
        return RecordedSteps(zeros, zeros[:, 1:], zeros[:, 0], np.ones((1, count), np.float32))

    assert len(cut_windows([steps(480)])) == 10
    assert [each.num_steps for each in cut_windows([steps(100_000)])] == [48] * 64
    assert len(cut_windows([steps(480_000)])) == 200


@pytest.fixture
def lived():
    """A state with two contexts of a drifting level, and a recording of each."""
    from tests.adaptation.test_context_bank import HOLD, Mean, born, live

    torch.manual_seed(0)
    backend = TorchBackend(Mean())
    bank = ContextBank(backend, ContextBankConfig(num_slots=3))
    state = live(bank, live(bank, born(bank), 6.0), -6.0)
    state = map_values(lambda value: value[:1], state)

    def level(value):
        obs = (value + torch.randn(1, 101, 3)).numpy()
        return RecordedSteps(obs, np.zeros((1, 100, 1), np.float32), HOLD[:1], np.ones((1, 100), np.float32))

    initial = map_values(lambda value: value[:1], born(bank))
    return MigrationSide(backend.model, backend, state), initial, level


def test_contexts_that_the_recordings_hold_are_found_again(lived):
    old, initial, level = lived
    both = [level(6.0), level(-6.0)]
    found = count_lost_contexts(old, old._replace(state=replay_recordings(old.backend, initial, both)), both)
    assert (found.stored, found.met, found.found) == (2, 2, 2)
    one = [level(6.0)]
    found = count_lost_contexts(old, old._replace(state=replay_recordings(old.backend, initial, one)), one)
    assert (found.stored, found.met, found.found) == (2, 1, 1)
    found = count_lost_contexts(old, old._replace(state=initial), both)
    assert (found.stored, found.met, found.found) == (2, 2, 0)


def test_losses_are_told():
    from wm_robot.evaluation.migration import ContextLosses

    result = MigrationResult(
        initial_error=2.0,
        migrated_error=1.0,
        old_error=0.9,
        old_steps=100,
        replayed_steps=60,
        contexts=ContextLosses(stored=5, met=4, found=2),
        has_lost_residual=True,
    )
    told = result.describe_losses()
    assert told[0].startswith("40 of 100 steps") and told[1].startswith("1 of 5 stored contexts")
    assert told[2].startswith("2 of 4 contexts") and "residual" in told[3]
    assert result.is_better_than_initial and result.is_worse_than_old
    assert (
        not replace(result, old_error=0.95).is_worse_than_old
        and replace(result, old_error=None).is_worse_than_old
    )
