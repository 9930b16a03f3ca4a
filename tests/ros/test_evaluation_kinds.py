"""What the evaluate action runs in place of recordings: the battery in a process of its own, or a live report."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.learn]

from tests.ros.built import need_messages

need_messages()

from tests.ros.small_life import BASE, newborn
from wm_robot.errors import ConfigError, SnapshotError
from wm_robot.robots import load_spec
from wm_robot.store.store import Store
from wm_robot_ros.state_api import worker
from wm_robot_ros.state_api.actions import parse_evaluation
from wm_robot_ros.state_api.live_report import flatten_report

FOUND = {
    "passed": False,
    "verdict": "failed: 1 passed, 1 failed. First of 1: nominal: settled is 9",
    "score": None,
    "checks": [
        {"name": "model", "status": "passed", "figures": {}},
        {"name": "nominal", "status": "failed", "figures": {"settled": 9.0, "coverage": None}},
        {"name": "timing", "status": "not run", "figures": {}},
    ],
    # More than a pipe holds.
    "filler": "x" * 300_000,
}


@pytest.mark.parametrize(
    ("recordings", "found"),
    [
        ([], ("", "")),
        (["session.mcap", "live:3"], ("", "")),
        (["battery:quick"], ("battery", "quick")),
        (["battery:full"], ("battery", "full")),
        (["live:2.5"], ("live", "2.5")),
    ],
)
def test_a_recording_of_a_special_name_is_something_to_run(recordings, found):
    assert parse_evaluation(recordings) == found


@pytest.mark.parametrize(
    "wrong", ["battery:", "battery:slow", "live:", "live:nan", "live:-1", "live:inf", "live:x"]
)
def test_a_size_that_cannot_be_is_refused_with_those_that_can(wrong):
    with pytest.raises(
        ConfigError, match=f"'{wrong}' cannot be evaluated; it must be battery:quick, battery:full"
    ):
        parse_evaluation([wrong])
    with pytest.raises(ConfigError, match="must be the only one"):
        parse_evaluation(["battery:quick", "session.mcap"])


def run_worker(monkeypatch, tmp_path, program):
    script = tmp_path / "validate.py"
    script.write_text(f"import json, sys\n{program}")
    monkeypatch.setattr(worker, "VALIDATE_COMMAND", (sys.executable, str(script)))
    store, lines = newborn(tmp_path), []
    monkeypatch.setattr(worker, "write_line", lambda **values: lines.append(values))
    found = worker.validate_state(
        None,
        load_spec("arm"),
        BASE,
        store=str(store),
        reference="main",
        is_quick=True,
        model="arm",
        task="reach",
    )
    return found, lines, store


def test_the_verdict_of_the_battery_comes_with_its_progress_and_figures(monkeypatch, tmp_path):
    program = f"""
open({str(tmp_path / "given.json")!r}, "w").write(json.dumps(sys.argv[1:]))
print("validate: 40 % in 10 s, about 15 s left", file=sys.stderr)
print(json.dumps({FOUND!r}))
sys.exit(3)
"""
    found, lines, store = run_worker(monkeypatch, tmp_path, program)
    head = Store(store).resolve("main")
    assert json.loads(Path(tmp_path / "given.json").read_text()) == [
        str(BASE),
        "--state",
        f"{store}@{head}",
        "--robot",
        "arm",
        "--task",
        "reach",
        "--json",
        "--quick",
    ]
    assert lines == [{"progress": 0.4, "current_work": "validate: 40 % in 10 s, about 15 s left"}]
    assert not found["passed"] and found["verdict"] == FOUND["verdict"] and found["snapshot"] == head
    metrics = found["metrics"]
    assert metrics["passed"] == 0 and metrics["model/passed"] == 1 and metrics["nominal/passed"] == 0
    assert (
        metrics["nominal/settled"] == 9 and np.isnan(metrics["timing/passed"]) and np.isnan(metrics["score"])
    )


def test_a_battery_that_cannot_run_gives_its_last_words(monkeypatch, tmp_path):
    program = "print('SpecError: no check named x', file=sys.stderr); sys.exit(2)"
    with pytest.raises(SnapshotError, match="ended with code 2: SpecError: no check named x"):
        run_worker(monkeypatch, tmp_path, program)


def test_a_report_becomes_numbers_with_names():
    report = {
        "num_valid": 7,
        "num_excluded": 2,
        "surprise": {"median": -3.0},
        "open_loop": [
            {
                "group": "joints/position",
                "horizon": 8,
                "error": 0.1,
                "ratio": 0.2,
                "coverage": None,
                "count": 3,
            }
        ],
        "commands": {"count": 4, "distance": {"mean": 0.3}, "violations": {"rate": 2}},
    }
    found = flatten_report(report)
    assert np.isnan(found.pop("open_loop/joints/position/8/coverage"))
    assert found == {
        "num_valid": 7.0,
        "num_excluded": 2.0,
        "surprise/median": -3.0,
        "open_loop/joints/position/8/error": 0.1,
        "open_loop/joints/position/8/ratio": 0.2,
        "commands/distance/mean": 0.3,
        "commands/violations/rate": 2.0,
    }
    assert flatten_report({}) == {}
