"""Benches refuse a gap that has no meaning, and never average it."""

import numpy as np
import pytest

pytestmark = pytest.mark.learn

from wm_robot.evaluation.gap import Comparison, average_over_seeds
from wm_robot.training.train_config import TrainConfig
from wm_robot_benchmarks import adaptation, life, recall
from wm_robot_benchmarks.measures import memory_linear


def seen(error: float) -> adaptation._VariantErrors:
    lives = 4
    return adaptation._VariantErrors(
        np.full((lives, len(adaptation.POINTS)), error),
        np.full((lives, len(adaptation.AFTER)), error),
        np.full((lives, len(adaptation.LONG)), error),
    )


def figures(oracle: float) -> dict[str, Comparison]:
    errors = {"robust": seen(0.3), "oracle": seen(oracle), "ekf": seen(0.2)}
    return adaptation._compute_figures(
        errors, "ekf", {"shuffled": np.array([0.4]), "other_world": np.array([0.3])}
    )


def test_stages_of_a_long_life_begin_at_segments_of_training():
    assert adaptation.SEGMENT == TrainConfig.segment_steps


def test_adaptation_measures_against_an_oracle_that_is_better():
    found = figures(0.1)
    assert found["gap_closed_50"].value == pytest.approx(0.5)
    assert found["gap_closed_after_change"].value == pytest.approx(0.5)
    assert found["control_shuffled"].value == pytest.approx(-0.5)
    assert found["control_other_world"].value == 0.0
    assert found["long_life_ratio"] == Comparison(1.0)


def test_adaptation_refuses_an_oracle_that_is_not():
    found = figures(0.31)
    reason = "no gap: oracle 0.31 is no better than robust 0.3"
    for name in ("gap_closed_50", "gap_closed_after_change", "control_shuffled", "control_other_world"):
        assert found[name] == Comparison(None, reason), name
    assert found["long_life_ratio"] == Comparison(1.0)


def test_adaptation_counts_the_worlds_in_which_the_physics_matters():
    at, others = adaptation.POINTS.index(64), len(adaptation.POINTS)
    robust, oracle, own = (np.full((4, others), error) for error in (0.3, 0.1, 0.2))
    # A world with a small gap, one whose gap is large at the counted step alone, and one with a perfect estimate.
    robust[0], robust[1], own[3] = 0.19, 0.15, 0.1
    robust[1, at] = 5.0
    errors = {
        name: adaptation._VariantErrors(still, seen(0.3).changed, seen(0.3).long)
        for name, still in (("robust", robust), ("oracle", oracle), ("ekf", own))
    }
    false = {"shuffled": np.array([0.4]), "other_world": np.array([0.3])}
    found = adaptation._compute_figures(errors, "ekf", false)
    assert found["counted_share"] == Comparison(0.5)
    assert found["gap_closed_64_counted"].value == pytest.approx((0.5 + 1.0) / 2)
    robust[:] = 0.15
    found = adaptation._compute_figures(errors, "ekf", false)
    assert found["counted_share"] == Comparison(0.0)
    assert found["gap_closed_64_counted"] == Comparison(
        None, "no world with an error of robust 2 times that of oracle"
    )


def test_adaptation_does_not_average_seeds_of_which_one_has_no_gap():
    by_seed = {0: figures(0.1)["gap_closed_50"], 1: figures(0.31)["gap_closed_50"]}
    found = average_over_seeds(by_seed)
    assert found.value is None and found.reason.startswith("seed 1: no gap: oracle 0.31")


def test_recall_refuses_a_return_that_begins_as_well_as_it_settles():
    errors = np.full((2, len(recall.ORDER), len(recall.POINTS)), 0.5)
    assert recall._compute_return_gap(errors, errors) == Comparison(
        None, "no gap: settled 0.5 is no better than at the return 0.5"
    )
    errors[..., 0] = 1.5
    assert recall._compute_return_gap(errors, errors).value == pytest.approx(1.0)


def test_a_life_is_not_measured_against_an_oracle_that_is_no_better_than_a_newborn():
    row = {"error": 0.3, "oracle": 0.2, "newborn": 0.6}
    assert life._compare_with_oracle(row).value == pytest.approx(1.5)
    assert life._compare_with_oracle(row | {"newborn": 0.1}) == Comparison(
        None, "no gap: oracle 0.2 is no better than newborn 0.1"
    )


def test_the_largest_of_all_families_is_none_if_one_family_has_no_gap():
    known = {"gru": Comparison(0.1), "ekf": Comparison(0.3)}
    assert memory_linear._select_largest(known) == Comparison(0.3)
    assert memory_linear._select_largest(known | {"kv": Comparison(None, "no gap: …")}) == Comparison(
        None, "kv: no gap: …"
    )
