import gc
import os
import subprocess
import sys
import time
import weakref

import pytest

from wm_robot.control import realtime
from wm_robot.control.realtime import Deadlines, defer_garbage_collection, parse_cores, sleep_until_time
from wm_robot.errors import ConfigError


class Clock:
    """Time that passes when somebody sleeps, or is kept away."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep_until(self, moment):
        self.now = max(self.now, moment)


def deadlines(period=0.02):
    clock = Clock()
    return clock, Deadlines(period, clock=clock, sleep_until=clock.sleep_until)


def test_what_a_period_takes_does_not_move_the_deadlines():
    clock, due = deadlines()
    begun = []
    for took in (0.0, 0.019, 0.003, 0.0199, 0.0):
        due.wait_for_next()
        begun.append(clock.now)
        assert due.advance_to_next() == (pytest.approx(0.0, abs=1e-9), 0)
        clock.now += took
    assert begun == pytest.approx([100.02, 100.04, 100.06, 100.08, 100.10])


def test_deadlines_that_passed_are_skipped_and_not_made_up_for():
    clock, due = deadlines()
    clock.now += 0.075
    due.wait_for_next()
    late, skipped = due.advance_to_next()
    assert (late, skipped) == (pytest.approx(0.055), 2)
    assert due.next == pytest.approx(100.08)
    due.wait_for_next()
    assert clock.now == pytest.approx(100.08)


def test_whoever_waits_says_that_it_is_alive():
    clock, due = deadlines(period=0.1)
    said = []
    due.wait_for_next(lambda: said.append(clock.now))
    assert len(said) in (20, 21) and max(b - a for a, b in zip(said, said[1:], strict=False)) < 0.0051
    assert clock.now == pytest.approx(100.1)


def test_it_sleeps_until_a_moment_and_no_longer_than_it_must():
    late = []
    for _ in range(20):
        moment = time.monotonic() + 0.01
        sleep_until_time(moment)
        late.append(time.monotonic() - moment)
    # Never early; and the best of twenty, since other work may share the machine.
    assert all(each >= 0 for each in late) and min(late) < 0.005
    sleep_until_time(time.monotonic() - 1.0)


def test_cores_are_numbers():
    assert parse_cores("2,3") == (2, 3) and parse_cores("") == () and parse_cores(" 1 ") == (1,)
    with pytest.raises(ConfigError, match="cores are 'all'; they must be numbers"):
        parse_cores("all")


def in_a_process(code: str) -> str:
    """What a process of its own prints: what it asks of the system is asked for all of it."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")


@LINUX
def test_what_is_had_is_had_and_what_is_not_is_said():
    told = in_a_process(
        "import os\n"
        "from wm_robot.control.realtime import request_real_time\n"
        "had = request_real_time(10, [min(os.sched_getaffinity(0))])\n"
        "assert set(had) == {'priority', 'memory', 'cores'}\n"
        "fifo = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO\n"
        "locked = int([l for l in open('/proc/self/status') if l.startswith('VmLck')][0].split()[1]) > 0\n"
        "assert (had['priority'] == '') == fifo, had\n"
        "assert (had['memory'] == '') == locked, had\n"
        "assert (had['cores'] == '') == (len(os.sched_getaffinity(0)) == 1), had\n"
        "print(sum(map(len, had.values())))"
    )
    assert told.strip().isdigit()


@LINUX
def test_children_of_a_loop_are_ordinary():
    in_a_process(
        "import os\n"
        "from wm_robot.control.realtime import request_real_time\n"
        "request_real_time(10)\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    os._exit(os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == os.SCHED_OTHER"
    )


def refuse(*arguments):
    raise PermissionError(1, "Operation not permitted")


@LINUX
def test_without_permission_it_says_what_to_permit(monkeypatch):
    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    monkeypatch.setattr(realtime, "_may_lock_all", lambda: False)
    had = realtime.request_real_time(50, [0])
    assert had["priority"] == (
        "no real-time priority (Operation not permitted): a busy machine delays this process. Permit rtprio 50"
    )
    assert had["memory"].endswith("Set memlock to unlimited")
    assert had["cores"].startswith(
        "cannot run on cores [0] only (Operation not permitted): the permitted cores"
    )


@LINUX
def test_a_core_that_is_not_there_is_said():
    assert "the permitted cores are [" in realtime.restrict_to_cores([4095])


class Loop:
    """Garbage that only the collector frees."""

    def __init__(self):
        self.me = self


@pytest.fixture
def collector():
    yield
    gc.enable()
    gc.unfreeze()


def test_garbage_is_collected_when_there_is_time_and_only_then(collector):
    clock = Clock()
    garbage = defer_garbage_collection(interval=3, clock=clock)
    assert not gc.isenabled()
    left = weakref.ref(Loop())
    assert [garbage.collect_if_due(0.01) for _ in range(2)] == [False, False]
    assert left() is not None
    assert garbage.collect_if_due(0.01) and left() is None
    assert (garbage.describe_status()["collected"], garbage.describe_status()["deferred"]) == (1, 0)


def test_a_collection_that_would_not_fit_is_put_off_but_not_for_ever(collector):
    takes = iter([0.0, 0.02])
    garbage = defer_garbage_collection(interval=1, clock=lambda: next(takes, 0.0))
    assert garbage.collect_if_due(1.0)
    chances = 0
    while not garbage.collect_if_due(0.01):
        chances += 1
        assert chances < 200
    assert chances > 20 and garbage.describe_status()["deferred"] == chances
