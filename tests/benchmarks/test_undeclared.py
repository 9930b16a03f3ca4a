"""Bench of undeclared effects: physics predicts its robots, and another robot's life does not help."""

import numpy as np
import pytest

pytestmark = [pytest.mark.learn, pytest.mark.sim]
pytest.importorskip("torch")
pytest.importorskip("mujoco")

from wm_robot.errors import ConfigError, SpecError
from wm_robot.memory.registry import DEFAULT_MEMORY
from wm_robot.progress import ignore_progress
from wm_robot_benchmarks import undeclared
from wm_robot_benchmarks.undeclared import FLOOR, FROZEN, OTHER_LIFE, POINTS, UndeclaredBench, make_lives
from wm_robot_sim.effects.effect import EFFECT_KINDS
from wm_robot_sim.effects.strengths import load_strengths


@pytest.mark.parametrize("row", ["nominal", "declared", "exchanged_cables", "pendulum", "sensor_lag"])
def test_the_simulator_predicts_what_it_did(row):
    setting = UndeclaredBench().make_setting()
    seen = make_lives(setting, row, load_strengths("arm").get(row, 0.0), 8, 0, points=(8, 24))
    assert seen.floor.shape == (8, 2) and seen.trajectories.num_steps == 24 + 6 + 8
    # A noisy reading is its only handicap: one step of motion is 1.
    assert np.median(seen.floor) < 0.15
    if row not in ("nominal", "declared"):
        worlds = seen.trajectories.physics
        np.testing.assert_array_equal(worlds, worlds[:1].repeat(8, 0))


def test_a_simulator_without_the_effect_is_no_floor():
    setting = UndeclaredBench().make_setting()
    with_it = make_lives(setting, "exchanged_cables", 1.0, 8, 0, points=(16,))
    without = make_lives(setting, "exchanged_cables", 0.0, 8, 0, points=(16,))
    moved = np.abs(with_it.trajectories.obs - without.trajectories.obs) / without.unit
    assert moved.mean() > 1.0


def test_figures_are_relative_to_frozen_weights(monkeypatch):
    def measure(jobs):
        size = (8, len(POINTS))
        frozen, floor = np.full(size, 1.0), np.full(size, 0.1)
        last = np.column_stack([np.full((8, len(POINTS) - 1), np.nan), np.full(8, 3.0)])
        own = {"nominal": 1.2, "backlash": 0.5, "pendulum": 0.3}
        return [
            {
                FROZEN: frozen,
                FLOOR: floor,
                OTHER_LIFE: last,
                DEFAULT_MEMORY: np.full(size, own.get(job[3], 0.2)),
            }
            for job in jobs
        ]

    monkeypatch.setattr(undeclared, "in_processes", lambda _, jobs, progress: measure(jobs))
    result = UndeclaredBench(seeds=(0,), lives=8, kinds=("backlash", "pendulum")).run(ignore_progress)
    assert result.values == {
        "vs_robust_100": pytest.approx(0.15**0.5),
        "worst_kind_100": pytest.approx(0.5),
        "worst_ever": pytest.approx(0.5),
        "worst_ever_nominal": pytest.approx(1.2),
        "worst_ever_declared": pytest.approx(0.2),
        "gap_closed_100": pytest.approx((0.5 + 0.7) / 2 / 0.9),
        "control_other_life_100": pytest.approx(3.0),
    }


def test_every_kind_has_a_strength_for_the_arm():
    strengths = load_strengths("arm")
    assert set(strengths) == set(EFFECT_KINDS)
    for kind, strength in strengths.items():
        low, high = EFFECT_KINDS[kind].strengths
        assert low <= strength <= high


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ConfigError, match="lives is 4"):
        UndeclaredBench(lives=4).run(ignore_progress)
    with pytest.raises(SpecError, match="has no gripper"):
        UndeclaredBench(robot="cartpole", kinds=("tether",)).run(ignore_progress)
