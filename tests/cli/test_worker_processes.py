"""A bench's processes give back what was asked, in order, and do not outlive it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wm_robot.errors import SnapshotError
from wm_robot_cli import worker_processes as processes
from wm_robot_cli.worker_processes import in_processes


def noted(folder: str, number: int) -> int:
    (Path(folder) / str(number)).write_text(str(os.getpid()))
    return number * number


def asleep(folder: str, number: int) -> None:
    noted(folder, number)
    time.sleep(60)


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # One that has ended and was not waited for is still there by name.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def until(holds, why: str, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, why
        time.sleep(0.1)


def test_results_come_in_order_from_other_processes(tmp_path):
    assert in_processes(noted, [(str(tmp_path), number) for number in range(5)]) == [0, 1, 4, 9, 16]
    assert str(os.getpid()) not in {path.read_text() for path in tmp_path.iterdir()}


def test_a_bench_that_is_killed_leaves_nothing_running(tmp_path):
    program = (
        "from tests.cli.test_worker_processes import asleep; "
        "from wm_robot_cli.worker_processes import in_processes; "
        f"in_processes(asleep, [({str(tmp_path)!r}, n) for n in range(2)])"
    )
    bench = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[2])
    until(
        lambda: len([p for p in tmp_path.iterdir() if p.read_text()]) >= min(2, os.cpu_count() or 1),
        "none began",
    )
    at_work = [int(path.read_text()) for path in tmp_path.iterdir()]
    assert all(map(runs, at_work))
    bench.send_signal(signal.SIGKILL)
    bench.wait()
    until(lambda: not any(map(runs, at_work)), "they go on")


def counted(number: int, progress) -> int:
    for step in range(4):
        time.sleep(0.4)
        progress(step + 1, 4)
    return number


def test_what_is_done_in_other_processes_is_reported_together(monkeypatch):
    monkeypatch.setattr(processes, "LOOK", 0.1)
    said: list[float] = []
    done = in_processes(counted, [(1,), (2,)], lambda done, total: said.append(done / total))
    assert done == [1, 2] and said[-1] == 1.0
    # Not in halves alone, as whole jobs would be.
    assert any(0 < each < 0.5 for each in said)


def fails(number: int) -> None:
    if number == 0:
        raise SnapshotError("no base")
    time.sleep(60)


def test_the_error_of_one_job_ends_the_others_at_once():
    began = time.monotonic()
    with pytest.raises(SnapshotError, match="no base"):
        in_processes(fails, [(0,), (1,), (2,), (3,)])
    assert time.monotonic() - began < 30


def test_ctrl_c_ends_a_bench_and_its_processes_without_a_traceback(tmp_path):
    program = (
        "import signal, sys\n"
        "from tests.cli.test_worker_processes import asleep\n"
        "from wm_robot_cli.worker_processes import in_processes\n"
        # A shell that starts the tests in the background has them ignore Ctrl-C.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try:\n"
        f"    in_processes(asleep, [({str(tmp_path)!r}, n) for n in range(2)])\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit('stopped')\n"
    )
    bench = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(
        lambda: len([p for p in tmp_path.iterdir() if p.read_text()]) >= min(2, os.cpu_count() or 1),
        "none began",
    )
    at_work = [int(path.read_text()) for path in tmp_path.iterdir()]
    # As a terminal does it: to all that run in it.
    os.killpg(bench.pid, signal.SIGINT)
    _, said = bench.communicate(timeout=30)
    assert said == "stopped\n"
    until(lambda: not any(map(runs, at_work)), "they go on")
