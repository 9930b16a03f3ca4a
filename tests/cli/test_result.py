"""What a bench says: a table, and one JSON object as its last line."""

import json
from pathlib import Path

import pytest

from wm_robot.cli.bench.result import Result, Setting, finish
from wm_robot.errors import ConfigError


def setting(*seeds: int, quick: bool = False) -> Setting:
    return Setting("control", "arm", seeds, quick, Path("bases"))


def test_the_last_line_is_the_whole_result(capsys):
    row = {"arm": "delta", "settled mean": 1.5}
    finish(Result(setting=setting(3, 4), figures={"ratio": 0.25}, table=[row], bases={"delta": "ab"}), True)
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(said) >= {"bench", "robot", "commit", "seeds", "seconds", "figures", "table"}
    assert (said["seeds"], said["figures"], said["table"]) == ([3, 4], {"ratio": 0.25}, [row])
    assert (said["quick"], said["bases"]) == (False, {"delta": "ab"})


def test_a_quick_bench_says_so_and_names_the_seed_that_it_ran(capsys):
    finish(Result(setting=setting(3, 4, quick=True), figures={}, table=[]), True)
    out = capsys.readouterr().out
    assert "quick: a smaller sample" in out and json.loads(out.splitlines()[-1])["seeds"] == [3]


def test_a_number_that_is_none_is_no_result():
    with pytest.raises(ValueError, match="not JSON compliant"):
        finish(Result(setting=setting(0), figures={"ratio": float("nan")}, table=[]), True)


def test_no_seed_is_refused():
    with pytest.raises(ConfigError, match="seeds is empty"):
        setting()
