"""A life is counted and measured in tenths."""

from pathlib import Path

import pytest

pytestmark = [pytest.mark.learn, pytest.mark.sim]
pytest.importorskip("torch")

from wm_robot.errors import ConfigError
from wm_robot.progress import ignore_progress
from wm_robot_benchmarks import life

BASES = Path(__file__).parents[2] / "bases"


def test_every_step_is_counted_and_every_tenth_is_told(monkeypatch):
    monkeypatch.setattr(life, "PIECE", 64)
    result = life.LifeBench(bases=BASES, steps=640).run(ignore_progress)
    assert [row["steps"] for row in result.table] == list(range(64, 641, 64))
    assert result.figures["counter_off_by"] == 0
    assert result.figures["state_size_ratio"] == 1
    assert all(row["write ms"] > 0 and row["error"] > 0 and row["oracle"] > 0 for row in result.table)


def test_a_life_too_short_to_be_told_in_tenths_is_refused():
    with pytest.raises(ConfigError, match="steps is 100; it must be at least 10240"):
        life.LifeBench(bases=BASES, steps=100).run(ignore_progress)
