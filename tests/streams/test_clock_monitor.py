"""What is told of a clock, and when it may be acted on."""

import pytest

from wm_robot.streams.clock_monitor import ClockMonitor

SECOND = 10**9
SIMULATOR = ["/gz_bridge"]


class Clock:
    """A clock and real time, both of which the test moves; read fifty times a second, looked at once a second."""

    def __init__(self, *, simulated=True, start=100 * SECOND):
        self.watch = ClockMonitor(0.02, simulated=simulated)
        self.simulated, self.now, self.moment = simulated, start, 5000.0
        self.publishers, self.runs = SIMULATOR, []

    def pass_time(self, seconds, *, pace=1.0):
        """Real time passes, and the clock with it or not; what was told in that time, by cause."""
        told = {}
        for step in range(1, round(50 * seconds) + 1):
            self.moment += 0.02
            self.now += round(0.02 * pace * SECOND)
            self.runs.append(self.watch.is_running(self.now, self.moment))
            if step % 50 == 0:
                told |= self.look()
        return told

    def look(self):
        return self.watch.find_faults(
            self.now, self.moment, simulated=self.simulated, publishers=self.publishers
        )


def test_a_clock_of_real_time_is_acted_on_and_nothing_is_told():
    clock = Clock()
    assert clock.pass_time(10) == {} and all(clock.runs)
    assert clock.watch.pace == pytest.approx(1.0)


def test_a_simulators_clock_that_never_came_is_never_acted_on():
    clock = Clock(start=0)
    clock.publishers = []
    told = clock.pass_time(3, pace=0)
    assert not any(clock.runs)
    assert told["still"] == (
        "use_sim_time is set and nothing is published on /clock: without a clock this node neither acts nor learns; "
        "start the simulator's clock or set use_sim_time:=false"
    )


def test_a_clock_that_stops_is_acted_on_for_half_a_second_and_again_when_it_goes_on():
    clock = Clock()
    clock.pass_time(5)
    clock.runs.clear()
    told = clock.pass_time(2, pace=0)
    assert all(clock.runs[:24]) and not any(clock.runs[25:])
    assert "/clock stands still at 105.000 s" in told["still"]
    assert told["still"].endswith("it is published by /gz_bridge. Is the simulation paused?")
    clock.runs.clear()
    told = clock.pass_time(1)
    assert all(clock.runs) and "still" not in told
    assert told["stops"] == "/clock stood still for 2.0 s and continued; it is published by /gz_bridge"
    assert clock.watch.num_stops == 1


def test_a_gap_between_two_looks_is_told_and_a_shorter_one_is_none():
    clock = Clock()
    clock.pass_time(2.1)
    clock.pass_time(0.4, pace=0)
    assert clock.pass_time(1) == {}
    clock.pass_time(0.7, pace=0)
    assert "/clock stood still for 0.7 s" in clock.pass_time(1)["stops"]


@pytest.mark.parametrize(("pace", "words"), [(0.3, "0.3 times"), (0.57, "0.6 times"), (5.0, "5 times")])
def test_a_pace_that_is_not_that_of_real_time_is_measured_and_told(pace, words):
    clock = Clock()
    told = clock.pass_time(5, pace=pace)
    assert all(clock.runs), "a slow clock is a clock"
    assert clock.watch.pace == pytest.approx(pace, rel=1e-3)
    assert f"/clock runs at {words} real time" in told["pace"]


def test_what_a_slow_clock_does_to_stamps_is_told():
    told = Clock().pass_time(5, pace=0.3)["pace"]
    assert "stamps its periods of 20 ms as 6 ms, and these are not learned from" in told


def test_a_jump_back_is_told_once_and_the_pace_is_not_measured_across_it():
    clock = Clock()
    clock.pass_time(5)
    clock.now -= 60 * SECOND
    told = clock.pass_time(1)
    assert told["back"].startswith("/clock jumped back by 60.0 s")
    assert clock.pass_time(5) == {} and all(clock.runs)


def test_two_publishers_of_the_clock_are_named():
    clock = Clock()
    clock.publishers = ["/gz_bridge", "/bag"]
    clock.pass_time(5)
    clock.now -= SECOND
    assert "2 nodes publish it, and only one may: /bag, /gz_bridge" in clock.pass_time(1)["back"]


def test_the_systems_clock_is_acted_on_whatever_it_does_and_its_jumps_are_told():
    clock = Clock(simulated=False)
    clock.pass_time(3)
    clock.now -= 3600 * SECOND
    told = clock.pass_time(1)
    assert told["back"].startswith("the system's clock jumped back by 3600.0 s")
    assert clock.pass_time(5) == {} and all(clock.runs)


def test_a_clock_that_becomes_another_begins_anew():
    clock = Clock(simulated=False)
    clock.pass_time(3)
    clock.simulated, clock.now, clock.publishers = True, 0, []
    assert "nothing is published on /clock" in clock.look()["still"]
