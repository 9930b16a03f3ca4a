"""Evaluation: open-loop error over steps, calibration, closed-loop error and recovery from a change."""
