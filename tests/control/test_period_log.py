import json
import os
import signal
import time

import numpy as np
import pytest

from wm_robot.control import period_log
from wm_robot.control.period_log import (
    MODES,
    RING_LAYOUT,
    RULES,
    PeriodLog,
    PeriodRecord,
    describe_log,
    format_period,
)
from wm_robot.io.shared_ring import SharedRing
from wm_robot.safety.limit_violations import LimitRule
from wm_robot.safety.modes import Mode


def until(holds, why, timeout=30.0):
    end = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < end, why
        time.sleep(0.01)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def log(tmp_path):
    log = PeriodLog(tmp_path / "periods.ndjson", num_slots=256)
    yield log
    log.close()


def test_every_period_is_a_line_and_what_is_not_known_is_not_written(tmp_path):
    path = tmp_path / "periods.ndjson"
    log = PeriodLog(path)
    log.add_period(PeriodRecord(7, late_ms=0.25, latency_ms=3.5, mode=Mode.READY))
    log.add_period(
        PeriodRecord(
            8,
            act_ms=1.0,
            learn_ms=2.0,
            surprise=-4.0,
            mode=Mode.HOLD,
            violations=(LimitRule.RATE, LimitRule.FINITE),
        )
    )
    log.add_period(PeriodRecord(9))
    log.close()
    assert lines(path) == [
        {"stamp": 7, "late_ms": 0.25, "latency_ms": 3.5, "mode": "ready"},
        {
            "stamp": 8,
            "act_ms": 1.0,
            "learn_ms": 2.0,
            "surprise": -4.0,
            "mode": "hold",
            "violations": ["finite", "rate"],
        },
        {"stamp": 9},
    ]
    assert log.num_dropped == 0


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_and_rule_survives_the_way(mode):
    for bit, rule in enumerate(RULES):
        whole = np.array([1, MODES.index(mode), 1 << bit])
        told = json.loads(format_period(whole, np.full(5, np.nan)))
        assert told == {"stamp": 1, "mode": mode.value, "violations": [rule.value]}


def test_a_file_grows_no_larger_than_it_may(tmp_path, monkeypatch):
    monkeypatch.setattr(period_log, "MAX_FILE_BYTES", 1000)
    monkeypatch.setattr(period_log, "POLL_INTERVAL", 0.0)
    path = tmp_path / "periods.ndjson"
    ring = SharedRing(RING_LAYOUT, 64)
    stamps = iter(range(1, 1000))

    def fill(seconds):
        for _ in range(50):
            ring.try_write({"whole": np.array([next(stamps), -1, 0]), "numbers": np.full(5, np.nan)})
        if next(stamps) > 400:
            ring.try_write({"whole": np.array([period_log.END_STAMP, -1, 0]), "numbers": np.full(5, np.nan)})

    monkeypatch.setattr(period_log.time, "sleep", fill)
    monkeypatch.setattr(period_log.os, "nice", lambda by: 0)
    before = signal.getsignal(signal.SIGINT)
    period_log._run_writer(str(path), 64, ring.name, os.getppid())
    signal.signal(signal.SIGINT, before)
    ring.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["periods.ndjson", "periods.ndjson.1"]
    assert all(each.stat().st_size < 2000 for each in tmp_path.iterdir())


def test_a_writer_that_is_stopped_holds_nobody_up_and_one_that_died_is_told(log):
    path = log.path
    log.add_period(PeriodRecord(1))
    until(lambda: path.exists() and path.stat().st_size, "nothing is written")
    os.kill(log.writer_pid, signal.SIGSTOP)
    began = time.perf_counter()
    for stamp in range(2, 2002):
        log.add_period(PeriodRecord(stamp))
    assert time.perf_counter() - began < 2.0
    # What has no room is dropped, and nothing that was handed over.
    assert log.num_dropped == 2000 - 256
    os.kill(log.writer_pid, signal.SIGCONT)
    until(lambda: path.read_text().count("\n") == 257, "what was handed over is not written")
    assert describe_log(log) == {"alive": True, "dropped": 1744}
    os.kill(log.writer_pid, signal.SIGKILL)
    until(lambda: not log.is_writing, "it does not notice")
    log.add_period(PeriodRecord(3000))
    assert describe_log(log)["alive"] is False and describe_log(None) == {}


def test_a_log_whose_writer_was_stopped_can_be_closed(tmp_path):
    log = PeriodLog(tmp_path / "periods.ndjson")
    os.kill(log.writer_pid, signal.SIGSTOP)
    pid = log.writer_pid
    log.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
