"""Calibration with undeclared effects: coverage by kind and pooled, and controls that must fail."""

import numpy as np
import pytest

pytestmark = [pytest.mark.learn, pytest.mark.sim]
pytest.importorskip("torch")
pytest.importorskip("mujoco")

from wm_robot.errors import ConfigError, SpecError
from wm_robot.evaluation.calibration import UPDATE_COUNTS
from wm_robot.progress import ignore_progress
from wm_robot_benchmarks.calibration import CalibrationBench
from wm_robot_benchmarks.measures import undeclared_calibration
from wm_robot_benchmarks.measures.undeclared_calibration import AHEAD, DeviationErrors, measure_kind


def draw_errors(seed: int, scale: float, robots: int = 200) -> DeviationErrors:
    """Normal errors whose deviations are predicted too small by a factor."""
    rng, shape = np.random.default_rng(seed), (robots, len(UPDATE_COUNTS), len(AHEAD), 3)
    deviation = np.exp(rng.normal(size=(robots, 1, 1, 1))) * np.ones(shape)
    return DeviationErrors(scale * rng.standard_normal(shape), deviation)


def test_perfect_deviations_cover_two_thirds_and_half_of_them_do_not(monkeypatch):
    monkeypatch.setattr(
        undeclared_calibration,
        "in_processes",
        lambda _, jobs, progress: [draw_errors(n, 1.0) for n in range(len(jobs))],
    )
    bench = CalibrationBench(undeclared=True, kinds=("backlash", "pendulum"))
    assert bench.make_setting().seeds == (0, 1, 2) and CalibrationBench().make_setting().seeds == (0, 1)
    result = bench.run(ignore_progress)
    for ahead in AHEAD:
        assert result.values[f"coverage_{ahead}"] == pytest.approx(0.683, abs=0.03)
        assert result.values[f"control_half_deviation_{ahead}"] == pytest.approx(0.383, abs=0.03)
    assert result.values["rank_correlation"] > 0.5 > 0.2 > abs(result.values["control_other_life"])
    assert {row["effect"] for row in result.table} == {"backlash", "pendulum"}
    assert [row["steps lived"] for row in result.table][:6] == ["0", "4", "16", "64", "256", "all"]


def test_the_worst_kinds_have_figures_of_their_own():
    found = {
        "backlash": draw_errors(0, 0.5),
        "pendulum": draw_errors(1, 2.0),
        "end_stops": draw_errors(2, 1.0),
    }
    figures = undeclared_calibration.compute_figures(found)
    assert figures["least_kind_8"] == pytest.approx(0.383, abs=0.04)
    assert figures["largest_kind_8"] == pytest.approx(0.954, abs=0.04)
    assert figures["least_kind_8"] < figures["coverage_8"] < figures["largest_kind_8"]


def test_a_kind_is_measured_with_the_calibration_of_its_base(monkeypatch):
    monkeypatch.setattr(undeclared_calibration, "UPDATE_COUNTS", (0, 2))
    setting = CalibrationBench(memory="robust", undeclared=True).make_setting()
    found = measure_kind(setting, "robust", "exchanged_cables", 1.0, 4, 0)
    assert found.standardised.shape == found.deviation.shape == (4, 2, len(AHEAD), 12)
    assert np.isfinite(found.standardised).all() and (found.deviation > 0).all()
    # Frozen weights cannot foresee errors of exchanged cables, which grow with the steps ahead; most, of positions.
    assert (found.deviation[:, :, 2, :6] > found.deviation[:, :, 0, :6]).mean() > 0.9


def test_kinds_are_of_undeclared_effects_alone():
    with pytest.raises(ConfigError, match="kinds needs undeclared effects. Add --undeclared"):
        CalibrationBench(kinds=("pendulum",)).run(ignore_progress)
    with pytest.raises(SpecError, match="needs more; choose another kind"):
        CalibrationBench(robot="cartpole", undeclared=True, kinds=("exchanged_cables",)).run(ignore_progress)
