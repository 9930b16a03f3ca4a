"""A lifetime state is an object in the program and flat in files."""

from pathlib import Path

import numpy as np
import pytest

from wm_robot.errors import SnapshotError
from wm_robot.memory.lifetime_state import (
    ContextBankState,
    LearnedState,
    LifetimeState,
    LowRank,
    Residual,
    ShadowState,
    list_values,
    map_values,
)
from wm_robot.store.store import Store

PRETRAINED = Path(__file__).parents[2] / "bases/arm-semiparametric/pretrained"


def numbered(count, start=0):
    return [np.full((2, 1), start + i, np.float32) for i in range(count)]


def learned(start):
    a, b, *parts = numbered(10, start)
    low_ranks = [LowRank(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
    first, last, read, _ = low_ranks
    return LearnedState(({"mean": a}, {"sum": b}), Residual(first, last, (None, read)))


@pytest.fixture
def state():
    """Every part is there, and every number is recognisable."""
    step, recent, noise, mark, *rest = numbered(20, 100)
    bank = ContextBankState(learned(0), learned(10), *rest[:8])
    shadow = ShadowState(learned(20), *rest[8:12])
    return LifetimeState(step, recent, learned(30), bank, shadow, {"counts": mark}, noise)


def test_a_state_that_was_flattened_is_the_same_again(state):
    flat = state.flatten()
    again = LifetimeState.unflatten(dict(sorted(flat.items())))
    assert again == state
    assert len({float(value[0, 0]) for value in flat.values()}) == len(flat) == len(list_values(state))


def test_the_flat_keys_are_those_of_files(state):
    keys = state.flatten().keys()
    assert {"step", "recent", "0.mean", "1.sum", "residual.first.up", "residual.read.1.down"} <= keys
    assert {"bank.slots.0.mean", "bank.draft.residual.last.up", "bank.last_used", "bank.shortfall"} <= keys
    assert {"shadow.learned.1.sum", "shadow.rejected", "experience.counts", "planner_noise"} <= keys
    assert "residual.read.0.up" not in keys


def test_a_shipped_state_is_read_and_written_as_it_is():
    flat = Store(PRETRAINED).load()
    again = LifetimeState.unflatten(flat).flatten()
    assert again.keys() == flat.keys()
    assert all(np.array_equal(again[name], value) for name, value in flat.items())


def test_a_part_that_is_missing_or_unknown_is_named(state):
    flat = state.flatten()
    del flat["bank.current"]
    with pytest.raises(SnapshotError, match="no part 'bank.current'"):
        LifetimeState.unflatten(flat)
    with pytest.raises(SnapshotError, match=r"parts \['0b'\] of the lifetime state are unknown"):
        LifetimeState.unflatten(state.flatten() | {"0b": np.zeros(1)})


def test_the_part_of_the_model_has_no_bank_no_shadow_and_nothing_that_is_only_saved(state):
    part = state.model_part().flatten()
    assert part == state.flatten_model_part()
    assert part.keys() < state.flatten().keys() and not any(key.startswith("bank") for key in part)


def test_a_mapped_state_has_the_same_parts(state):
    doubled = map_values(lambda one, other: one + other, state, state)
    for name, value in doubled.flatten().items():
        assert np.array_equal(value, 2 * state.flatten()[name]), name
    assert map_values(np.copy, LearnedState(({},))) == LearnedState(({},))


def test_another_memory_or_residual_leaves_the_state_as_it_was(state):
    other = state.with_memory(1, sum=np.zeros(1)).with_residual(None)
    assert other.memory[1]["sum"].shape == (1,) and other.residual is None
    assert state.memory[1]["sum"].shape == (2, 1) and state.residual is not None
    assert other.memory[0] is state.memory[0]
