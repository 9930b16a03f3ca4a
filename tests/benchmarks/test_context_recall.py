"""Visits are lived as lives are, and a witness knows right from wrong."""

from dataclasses import replace

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")


from wm_robot.adaptation.context_bank import ContextBank, ContextBankConfig
from wm_robot.evaluation.adaptation import Variant, compute_error_by_step
from wm_robot.model.config import ModelConfig
from wm_robot.model.torch_backend import TorchBackend
from wm_robot.model.world_model import WorldModel
from wm_robot_benchmarks.measures.context_recall import AFTER_CHANGE, _SlotContexts, measure_visits
from wm_robot_benchmarks.measures.linear_task import INPUTS, NUMBERS, STATES, generate_linear_trajectories

VISIT, POINTS = 40, (0, 10, 30)


@pytest.fixture
def model() -> WorldModel:
    torch.manual_seed(0)
    config = ModelConfig(
        obs=STATES, action=INPUTS, truth=NUMBERS, dt=0.02, servo=(-1,), memory="delta", width=16
    )
    return WorldModel(config).requires_grad_(False)


@pytest.fixture
def lives():
    return generate_linear_trajectories(3, 3 * VISIT + 8, seed=0, regime_steps=VISIT)


def test_without_a_bank_a_visit_is_a_part_of_a_life(model, lives):
    unit = np.array([1.0, 2.0, 3.0], np.float32)
    found = measure_visits(model, lives, visit_steps=VISIT, points=POINTS, change_std=unit)
    steps = [VISIT * number + point for number in range(3) for point in POINTS]
    alone = compute_error_by_step(
        Variant(name="delta", model=model), lives, steps, change_std=unit, offsets=(0,)
    )
    np.testing.assert_allclose(found.errors.reshape(3, -1), alone, rtol=1e-4)
    assert found.num_switches == found.num_false_switches == found.num_alarms == 0


def test_a_bank_changes_nothing_before_there_is_something_in_it(model, lives):
    unit = np.ones(3, np.float32)
    plain = measure_visits(model, lives, visit_steps=VISIT, points=POINTS, change_std=unit)
    # So much evidence there never is: the bank fills and is not used.
    recall = ContextBankConfig(num_slots=2, settle_steps=8, switch_threshold=1e9)
    banked = measure_visits(model, lives, visit_steps=VISIT, points=POINTS, change_std=unit, recall=recall)
    np.testing.assert_allclose(banked.errors, plain.errors, rtol=1e-5)
    assert banked.num_switches == 0
    eager = ContextBankConfig(num_slots=2, settle_steps=8, switch_threshold=0.0, cusum_drift=-1.0)
    assert (
        measure_visits(
            model, lives, visit_steps=VISIT, points=POINTS, change_std=unit, recall=eager
        ).num_switches
        > 0
    )


def test_a_bank_of_another_life_is_another_one(model, lives):
    unit = np.ones(3, np.float32)
    eager = ContextBankConfig(num_slots=2, settle_steps=8, switch_threshold=0.5, cusum_drift=0.0)
    own, swapped = (
        measure_visits(
            model, lives, visit_steps=VISIT, points=POINTS, change_std=unit, recall=eager, swap_banks=swap
        ).errors
        for swap in (False, True)
    )
    np.testing.assert_array_equal(own[:, 0], swapped[:, 0])
    assert not np.array_equal(own[:, 1:], swapped[:, 1:])


def test_a_witness_counts_switches_to_what_is_not_there(model, lives):
    recall = ContextBankConfig(num_slots=2, settle_steps=8)
    witness = _SlotContexts(recall, lives)

    def state(used, now, switches):
        bank = (
            ContextBank(TorchBackend(model), recall).initial_state(initial_action=lives.initial_action).bank
        )
        return replace(
            bank,
            last_used=np.array([used] * 3),
            current=np.array([now] * 3),
            switches=np.array([switches] * 3),
        )

    empty, first = state([-1, -1], -1, 0), state([20, -1], 0, 0)
    second = state([20, VISIT + 20], 1, 0)
    # Slot 0 is filled in the first condition and slot 1 in the second.
    witness.record_step(20, 20, empty, first)
    witness.record_step(VISIT + 20, 20, first, second)
    late, early = AFTER_CHANGE + 1, AFTER_CHANGE - 1
    witness.record_step(VISIT + 30, late, second, state([20, VISIT + 20], 0, 1))
    assert witness.false == 3
    witness.record_step(VISIT + 30, early, second, state([20, VISIT + 20], 0, 1))
    witness.record_step(VISIT + 30, late, first, state([20, VISIT + 20], 1, 1))
    assert witness.false == 3
    witness.record_step(VISIT + 30, AFTER_CHANGE, second, state([20, VISIT + 20], 0, 0))
    assert witness.mistaken == 3
