"""Session error: quantiles as numpy computes them, with fixed memory."""

import math

import numpy as np
import pytest

from wm_robot.validation_record.session_error import (
    BIN_WIDTH,
    NUM_BINS,
    SessionError,
    compute_bounds,
    read_session_metrics,
)


def test_quantiles_are_those_of_the_values_to_one_bin():
    values = np.random.default_rng(0).normal(1.0, 2.0, 5000)
    error = SessionError()
    for value in values:
        error.add_surprise(float(value))
    found = error.compute_errors()
    for name, share in (("surprise_p50", 0.5), ("surprise_p95", 0.95)):
        exact = np.quantile(values, share, method="inverted_cdf")
        assert exact <= found[name] <= exact + BIN_WIDTH
    assert error.num_steps == 5000


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e9])
def test_what_is_not_finite_counts_as_the_largest(value):
    error = SessionError()
    error.add_surprise(value)
    assert error.compute_errors()["surprise_p50"] == pytest.approx(-20 + NUM_BINS * BIN_WIDTH)


def test_no_step_has_no_error():
    error = SessionError()
    assert error.compute_errors() == {} and error.to_metrics() == {}
    with pytest.raises(ValueError, match="without steps"):
        error.compute_quantile(0.5)


def test_metrics_of_a_snapshot_are_read_as_they_were_written():
    error = SessionError()
    for value in range(10):
        error.add_surprise(value)
    metrics = {"step_error": 1.0, **error.to_metrics()}
    assert read_session_metrics(metrics) == (10, error.compute_errors())
    assert read_session_metrics({}) == (0, {})


def test_bounds_are_the_worst_judged_session_and_a_margin():
    sessions = [{"surprise_p50": 1.0, "surprise_p95": 9.0}, {"surprise_p50": 2.0, "surprise_p95": 3.0}]
    assert compute_bounds(sessions, margin=0.5) == {"surprise_p50": 2.5, "surprise_p95": 9.5}
    assert compute_bounds([]) == {}
    assert compute_bounds([{"surprise_p50": 1.0}]) == {"surprise_p50": 2.0}
