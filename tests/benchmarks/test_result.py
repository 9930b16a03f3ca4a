"""What a bench says: a table, and one JSON object as its last line."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from wm_robot.errors import ConfigError
from wm_robot.evaluation.gap import Comparison, compute_gap_closed
from wm_robot_benchmarks.harness.bench import Bench
from wm_robot_benchmarks.harness.result import (
    Result,
    Setting,
    describe_seed_count,
    describe_spread,
    print_result,
)


def setting(*seeds: int, quick: bool = False) -> Setting:
    return Setting("control", "arm", seeds, quick, Path("bases"))


def test_the_last_line_is_the_whole_result(capsys):
    row = {"arm": "delta", "settled mean": 1.5}
    print_result(
        Result(setting=setting(3, 4), figures={"ratio": 0.25}, table=[row], bases={"delta": "ab"}), True
    )
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(said) >= {"bench", "robot", "commit", "seeds", "seconds", "figures", "table"}
    assert (said["seeds"], said["figures"], said["table"]) == ([3, 4], {"ratio": 0.25}, [row])
    assert (said["quick"], said["bases"]) == (False, {"delta": "ab"})


def test_a_quick_bench_says_so_and_names_the_seed_that_it_ran(capsys):
    print_result(Result(setting=setting(3, 4, quick=True), figures={}, table=[]), True)
    out = capsys.readouterr().out
    assert "quick: a smaller sample" in out and json.loads(out.splitlines()[-1])["seeds"] == [3]


def test_a_number_that_is_none_is_no_result():
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_result(Result(setting=setting(0), figures={"ratio": float("nan")}, table=[]), True)


def test_no_seed_is_refused():
    with pytest.raises(ConfigError, match="seeds is empty"):
        setting()


def test_a_gap_without_a_meaning_is_null_with_its_reason(capsys):
    figures = {"gap_closed_50": compute_gap_closed(0.2, 0.3, 0.31), "after": Comparison(0.5), "ratio": 2.0}
    print_result(Result(setting=setting(0), figures=figures, table=[]), True)
    out = capsys.readouterr().out
    said = json.loads(out.splitlines()[-1])
    assert said["figures"] == {"gap_closed_50": None, "after": 0.5, "ratio": 2.0}
    assert said["reasons"] == {"gap_closed_50": "no gap: oracle 0.31 is no better than robust 0.3"}
    assert "  gap_closed_50 = no gap: oracle 0.31 is no better than robust 0.3\n" in out


def test_what_was_measured_is_told_so_that_it_can_be_repeated(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/wm-robot", "bench", "control", "--robot", "my arm.yaml"])
    print_result(Result(setting=setting(3, 4), figures={}, table=[], bases={"ekf": "ab" * 32}), True)
    *lines, last = capsys.readouterr().out.splitlines()
    said = json.loads(last)
    assert said["command"] == "wm-robot bench control --robot 'my arm.yaml'"
    assert lines[-1] == f"  again: {said['command']}"
    assert lines[-2] == f"  bases: ekf {'ab' * 6}"
    assert lines[-3].startswith(f"  seeds 3, 4 · commit {said['commit']} · ")


def test_of_one_seed_no_spread_is_told():
    assert describe_spread({"gap": [0.9]}) == "one seed: no spread over seeds"
    assert describe_spread({"gap": [0.9, 1.0], "refused": [None, 1.0]}) == (
        "spread over seeds: gap 0.9 to 1 (±0.05)"
    )
    assert (describe_seed_count([0]), describe_seed_count([0, 1, 2])) == ("one seed", "3 seeds")


def test_the_result_is_on_stdout_and_progress_is_not(capsys):
    @dataclass(frozen=True, kw_only=True)
    class NumberBench(Bench):
        number: float

        def run(self, progress):
            progress(1, 2)
            return Result(setting=self.make_setting(), figures={"number": self.number}, table=[])

    NumberBench(number=2.0, as_json=True).measure()
    found = capsys.readouterr()
    assert json.loads(found.out.splitlines()[-1])["figures"] == {"number": 2.0} and found.err == ""


def test_every_bench_takes_quick_and_json():
    from inspect import signature

    from wm_robot_cli.main import BENCHES

    assert len(BENCHES) == 23
    for name, bench in BENCHES.items():
        assert {"quick", "as_json"} <= set(signature(bench).parameters), name
