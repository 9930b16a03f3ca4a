"""How far a job is goes to stderr: plain lines now and then in a log, one live line on a terminal."""

import io
import re
import time

import pytest

from wm_robot_cli.progress import SECONDS_PER_LINE, ProgressMeter, format_duration, report_elapsed_time


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_plain_line_every_ten_seconds(capsys):
    clock = Clock()
    with ProgressMeter("bench control", clock=clock) as progress:
        for second in range(1, 31):
            clock.now += 1
            progress(second, 40)
    found = capsys.readouterr()
    assert found.out == "" and found.err.splitlines() == [
        "bench control: 25 % in 10 s, about 30 s left",
        "bench control: 50 % in 20 s, about 20 s left",
        "bench control: 75 % in 30 s, about 10 s left",
    ]
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", found.err)


def test_what_takes_less_than_ten_seconds_prints_nothing_in_a_log(capsys):
    clock = Clock()
    with ProgressMeter("bench control", clock=clock) as progress:
        clock.now += SECONDS_PER_LINE - 0.1
        progress(3, 4)
    assert capsys.readouterr() == ("", "")


def test_nothing_is_estimated_from_the_first_moments():
    clock = Clock()
    meter = ProgressMeter("bench control", clock=clock)
    clock.now += 20
    assert meter.format_line() == "bench control: 0 % in 20 s"
    meter(1, 100)
    assert meter.format_line() == "bench control: 1 % in 20 s"
    meter(1, 4)
    assert meter.format_line() == "bench control: 25 % in 20 s, about 1 min 0 s left"
    # Parts that are measured by themselves may step back; what was done stays done.
    meter(1, 8)
    assert meter.format_line() == "bench control: 25 % in 20 s, about 1 min 0 s left"
    meter(5, 4)
    assert meter.format_line() == "bench control: 100 % in 20 s"


def test_a_terminal_gets_a_live_line_that_is_gone_at_the_end(monkeypatch):
    out, clock = Terminal(), Clock()
    monkeypatch.setattr("sys.stderr", out)
    with ProgressMeter("bench [control]", clock=clock) as progress:
        clock.now += 30
        progress(1, 2)
    said = out.getvalue()
    assert "bench [control]: 50 % in 30 s, about 30 s left" in said
    # The line is erased and the cursor is shown again.
    assert "\x1b[2K" in said and said.rstrip().endswith(("\x1b[2K", "\x1b[?25h", "\x1b[1A\x1b[2K"))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 0 s"),
        (200, "3 min 20 s"),
        (601, "10 min"),
        (3900, "1 h 5 min"),
    ],
)
def test_times_are_in_words(seconds, words):
    assert format_duration(seconds) == words


def test_what_takes_a_known_time_is_reported_by_the_clock():
    said: list[float] = []
    with report_elapsed_time(lambda done, total: said.append(done / total), 2.0):
        time.sleep(1.2)
    assert said[0] == pytest.approx(0.25, abs=0.2)
    assert said == sorted(said) and said[-1] == 1.0 and len(said) >= 3


def test_what_takes_longer_than_known_is_not_done_before_it_ends():
    said: list[float] = []
    with report_elapsed_time(lambda done, total: said.append(done / total), 0.1):
        time.sleep(1.2)
        assert max(said) == pytest.approx(1 / 1.1, abs=0.01)
