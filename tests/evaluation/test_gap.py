"""A gap is measured where there is one, and refused by name where there is none."""

import pytest

from wm_robot.evaluation.gap import Comparison, average_over_seeds, compute_gap_closed, require_gap


def test_the_gap_is_closed_by_the_oracle_and_left_open_by_robust():
    assert compute_gap_closed(2.0, 6.0, 2.0) == Comparison(1.0)
    assert compute_gap_closed(6.0, 6.0, 2.0) == Comparison(0.0)
    assert compute_gap_closed(3.0, 6.0, 2.0) == Comparison(0.75)
    assert compute_gap_closed(10.0, 6.0, 2.0) == Comparison(-1.0)


@pytest.mark.parametrize("oracle", [0.31, 0.3])
def test_an_oracle_that_is_no_better_than_robust_leaves_no_gap(oracle):
    for found in (compute_gap_closed(0.2, 0.3, oracle), require_gap(0.2 / oracle, 0.3, oracle)):
        assert found.value is None
        assert found.reason == f"no gap: oracle {oracle:g} is no better than robust 0.3"


def test_an_error_that_is_not_a_number_is_no_gap_either():
    assert compute_gap_closed(0.2, 0.3, float("nan")).value is None


def test_the_ends_of_a_gap_are_named():
    found = compute_gap_closed(0.2, 0.5, 0.75, names=("at the return", "settled"))
    assert found.reason == "no gap: settled 0.75 is no better than at the return 0.5"


def test_a_ratio_to_a_better_oracle_is_kept():
    assert require_gap(1.5, 0.3, 0.1) == Comparison(1.5)


def test_a_seed_without_a_gap_is_not_averaged_away():
    refused = compute_gap_closed(0.2, 0.3, 0.31)
    found = average_over_seeds({0: Comparison(0.5), 3: refused, 4: Comparison(1.0)})
    assert found.value is None
    assert found.reason == (
        "seed 3: no gap: oracle 0.31 is no better than robust 0.3; mean of the other 2: 0.75"
    )
    assert average_over_seeds({0: Comparison(0.5), 4: Comparison(1.0)}) == Comparison(0.75)
    assert average_over_seeds({3: refused}).reason == f"seed 3: {refused.reason}"
