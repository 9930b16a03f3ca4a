"""The figures of `bench onboard` are of the times and seconds that they name."""

import numpy as np
import pytest

from wm_robot.progress import ignore_progress
from wm_robot_benchmarks.measures.plan_timing import SizeTimes
from wm_robot_benchmarks.measures.planner_quality import (
    AFTER_S,
    BEFORE_S,
    SETTLED_S,
    compute_settled_target_error,
    describe_ratio_interval,
)
from wm_robot_benchmarks.measures.timing import RunTimes
from wm_robot_benchmarks.onboard import OnboardBench, _compute_ratios


def test_ratios_are_of_the_core_and_to_the_faster_products():
    core = {"torch": 8, "float32": 4, "products, torch": 3, "products, numpy": 2.5}
    timed = SizeTimes(
        {name: RunTimes(core=np.full(3, t), wall=np.full(3, 99.0)) for name, t in core.items()}, 1.0
    )
    assert _compute_ratios(timed, "_x") == {
        "ratio_to_floor_x": 1.6,
        "speedup_vs_torch_x": 2.0,
    }


def test_settled_leaves_out_the_time_until_a_second_after_the_change():
    time = np.arange(round((BEFORE_S + AFTER_S) * 50)) / 50
    error = np.where(time < BEFORE_S + SETTLED_S, 9.0, 0.25)
    np.testing.assert_allclose(compute_settled_target_error(error[None]), 0.25)


def test_the_interval_is_of_paired_episodes():
    one = np.random.default_rng(0).lognormal(size=30)
    assert describe_ratio_interval(2 * one, one) == "2.000 to 2.000"
    low, high = map(
        float, describe_ratio_interval(np.random.default_rng(1).lognormal(size=30), one).split(" to ")
    )
    assert low < 0.9 and high > 1.1


@pytest.mark.learn
@pytest.mark.timeout(600)
def test_costs_by_joints_are_of_plan_and_update_and_of_the_whole_state():
    pytest.importorskip("torch")
    result = OnboardBench(joints=(2,), memory="ekf", repetitions=3).run(ignore_progress)
    (row,) = result.table
    assert row["joints"] == 2 and 0 < row["update p50"] <= row["update p99"] and row["plan p50"] > 0
    assert result.values["update_plan_p50_ms_2"] == pytest.approx(
        row["update p50"] + row["plan p50"], rel=0.5
    )
    # Eight covariances of 18 parameters are the largest part.
    assert 8 * 18**2 * 4 < result.values["state_mib_2"] * 2**20 < 60_000
