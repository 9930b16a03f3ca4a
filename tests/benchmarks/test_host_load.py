"""What a bench says of the machine that it ran on."""

import multiprocessing
import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from wm_robot_benchmarks.harness import host_load


def test_what_the_host_kept_for_others_is_read_in_seconds(monkeypatch, tmp_path):
    ticks = os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr(host_load, "TIMES", tmp_path / "stat")
    (tmp_path / "stat").write_text(
        f"cpu  9 9 9 9 9 9 9 {5 * ticks // 2} 7 7\ncpu0 1 1 1 1 1 1 1 {ticks} 0 0\n"
    )
    assert host_load.read_stolen_time() == 2.5


def test_where_nobody_tells_nothing_was_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(host_load, "TIMES", tmp_path / "none")
    assert host_load.read_stolen_time() == 0.0
    (tmp_path / "none").write_text("cpu  1 2 3\n")
    assert host_load.read_stolen_time() == 0.0


def test_a_bare_loop_tells_when_it_was_kept_from_its_core():
    """Stopped by its parent for 30 ms, five times, of which it sleeps through one or the other."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        pid = pool.submit(os.getpid).result()
        running = pool.submit(host_load.measure_pauses, 2.0, 0)
        for _ in range(5):
            time.sleep(0.3)
            os.kill(pid, signal.SIGSTOP)
            time.sleep(0.03)
            os.kill(pid, signal.SIGCONT)
        found = running.result()
    assert 1 <= sum(20 < pause.duration_ms for pause in found) <= 5


def test_pauses_of_a_quota_end_at_one_moment_of_its_period_and_others_do_not():
    rng = np.random.default_rng(0)
    periods, others = rng.integers(0, 600, 30).tolist(), rng.uniform(0, 60, 30).tolist()
    # The host's clock runs 17 millionths faster.
    quota = [host_load.Pause(0.0994 + 0.1 * n * (1 - 17e-6), 9.0) for n in periods]
    assert host_load.count_quota_pauses(quota) == 30
    mixed = quota + [host_load.Pause(end, 4.0) for end in others]
    assert 30 <= host_load.count_quota_pauses(mixed) <= 34
    assert host_load.count_quota_pauses(mixed[30:]) <= 6
    assert host_load.count_quota_pauses([]) == 0
