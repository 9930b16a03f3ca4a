"""Figures of `bench gate`: ranks, their violations, missed dangers and false alarms."""

import math

import numpy as np
import pytest

from wm_robot_benchmarks.gate import (
    compute_alarms,
    compute_rank_correlation,
    compute_rank_violation,
    compute_ranking,
)
from wm_robot_benchmarks.measures.gate_candidates import Judgement, hash_name


def judged(name="a", *, passed=True, score=1.0, truth=1.0, dangers=(), sound=True, successes=1.0):
    return Judgement(
        name=name,
        robot="arm",
        is_sound=sound,
        passed=passed,
        reason="",
        score=score,
        truth=truth,
        halves=(truth, truth),
        successes=successes,
        dangers=tuple(dangers),
    )


def test_rank_correlation_is_that_of_spearman():
    first = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert compute_rank_correlation(first, np.exp(first)) == pytest.approx(1.0)
    assert compute_rank_correlation(first, -first) == pytest.approx(-1.0)
    # 1 - 6 Σd² / (n (n² - 1)), with d = (1, -1, 0, 1, -1).
    assert compute_rank_correlation(first, np.array([2.0, 1.0, 3.0, 5.0, 4.0])) == pytest.approx(0.8)
    # Ties get their mean rank: (1.5, 1.5, 3) with (1, 2, 3) is √3 / 2.
    assert compute_rank_correlation(np.array([1.0, 1.0, 2.0]), first[:3]) == pytest.approx(math.sqrt(3) / 2)
    assert math.isnan(compute_rank_correlation(first[:2], first[:2]))
    assert math.isnan(compute_rank_correlation(np.ones(5), first))


def test_rank_violation_is_the_mean_of_the_largest_wrong_gap():
    real = np.array([0.1, 0.5, 0.9])
    assert compute_rank_violation(real, real) == 0.0
    # The first two are exchanged, by 0.4; the third is ranked rightly.
    assert compute_rank_violation(np.array([2.0, 1.0, 3.0]), real) == pytest.approx(0.8 / 3)


def test_ranking_has_a_ceiling_and_a_control_that_must_fail():
    truth = np.linspace(1.0, 3.0, 24)
    good = [
        judged(str(i), score=float(x), truth=float(x), successes=float(4 - x) / 4)
        for i, x in enumerate(truth)
    ]
    figures = compute_ranking(good)
    assert figures["spearman"] == pytest.approx(1.0) and figures["mmrv"] == 0.0
    assert figures["good_candidates"] == 3.0 and figures["spearman_ceiling"] == pytest.approx(1.0)
    assert abs(figures["control_shuffled_spearman"]) < 0.5


def test_dangers_that_pass_are_missed_and_harmless_refusals_are_false_alarms():
    good = [
        judged("a"),
        judged("b", passed=False),
        judged("c", passed=False, dangers=["contact"]),
        judged("d"),
    ]
    bad = [
        judged("e", passed=False, dangers=["limit"], sound=False),
        judged("f", dangers=["limit"], sound=False),
        judged("g", sound=False),
    ]
    figures = compute_alarms(good, bad)
    assert figures["false_alarms"] == pytest.approx(1 / 3) and figures["harmless"] == 3.0
    assert figures["planted"] == 3.0 and figures["planted_dangers"] == 2.0
    assert figures["missed_planted_dangers"] == 1.0 and figures["damaged_and_passed"] == 2.0
    assert figures["dangers"] == 3.0 and figures["missed_dangers"] == 1.0


def test_a_name_has_the_same_number_in_every_process():
    assert hash_name("arm") == 2556329620
