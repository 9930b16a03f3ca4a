"""Trainings of a few steps."""

import pytest


@pytest.fixture
def short_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """An estimate of a training from as few steps as it can be made from; it takes longer than a tiny training."""
    from wm_robot_cli import training_size

    for name, value in {
        "TIMED_TRAJECTORIES": 2,
        "TIMED_STEPS": 16,
        "TIMED_PLANNED_STEPS": 2,
        "TIMED_UPDATES": 1,
    }.items():
        monkeypatch.setattr(training_size, name, value)
