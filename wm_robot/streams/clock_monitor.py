"""Clock monitor: checks that the clock of the stamps runs, at which pace, and whether it jumped."""

from collections.abc import Sequence

MAX_STANDSTILL = 0.5
"""Longest time that a simulator's clock may show the same time, in s of real time."""
PACE_WINDOW = 2.0
"""Real time over which the pace of a clock is measured, in s."""
MIN_PACE, MAX_PACE = 0.8, 1.25
"""Paces between which a clock counts as real time."""
MIN_JUMP = 0.1
"""Smallest jump of the system's clock that is reported, in s."""


class ClockMonitor:
    """Clock monitor: compares a clock, in ns, with a monotonic clock, in s.

    A simulator's clock may stop, run slowly and run back. The system's clock may be set.
    """

    def __init__(self, period: float, *, simulated: bool = False):
        """Args:
        period: Control period of the robot, in s.
        simulated: Whether the clock is that of the topic /clock, as under `use_sim_time`.
        """
        self._period = period
        self._reset(simulated)

    def _reset(self, simulated: bool) -> None:
        self.simulated = simulated
        self.num_stops = 0
        """Number of times that the clock stopped and continued."""
        self.pace: float | None = None
        """Last measured ratio of its time to real time."""
        self._now, self._changed_at, self._read_at = 0, 0.0, 0.0
        self._window: tuple[int, float] | None = None
        self._longest_stop = self._largest_jump_back = 0.0
        """Longest stop, and largest jump back, since the last `troubles`; in s."""

    def is_running(self, now: int, time: float) -> bool:
        """Whether the clock can be used. A simulator's clock must be read often, and must advance.

        Args:
            now: Reading in ns.
            time: In s on a monotonic clock.
        """
        if not self.simulated:
            return True
        if now != self._now:
            if now < self._now:
                self._largest_jump_back = max(self._largest_jump_back, (self._now - now) / 1e9)
                self._window = None
            elif self._now and (stopped := self._read_at - self._changed_at) > MAX_STANDSTILL:
                self._longest_stop = max(self._longest_stop, stopped)
                self.num_stops += 1
                self._window = None
            self._now, self._changed_at = now, time
        self._read_at = time
        return now > 0 and time - self._changed_at <= MAX_STANDSTILL

    def find_faults(
        self, now: int, time: float, *, simulated: bool, publishers: Sequence[str]
    ) -> dict[str, str]:
        """Return what went wrong since the last call, one sentence for each cause. Call it about once a second.

        Args:
            now: As for `runs`.
            time: As for `runs`.
            simulated: Whether the clock is that of /clock now.
            publishers: Nodes that publish /clock.
        """
        if simulated != self.simulated:
            self._reset(simulated)
        running = self.is_running(now, time)
        found = dict[str, str]()
        if not running:
            self._window, self.pace = None, None
            found["still"] = self._describe_standstill(now, publishers)
        else:
            self._measure_pace(now, time)
        if self._longest_stop:
            stopped = f"/clock stood still for {self._longest_stop:.1f} s and continued"
            found["stops"] = f"{stopped}; {self._describe_publishers(publishers)}"
        if self._largest_jump_back:
            name = "/clock" if self.simulated else "the system's clock"
            found["back"] = (
                f"{name} jumped back by {self._largest_jump_back:.1f} s: earlier observations are discarded"
                + (f"; {self._describe_publishers(publishers)}" if self.simulated else "")
            )
        if self.simulated and self.pace is not None and not MIN_PACE <= self.pace <= MAX_PACE:
            found["pace"] = self._describe_pace(self.pace)
        self._longest_stop = self._largest_jump_back = 0.0
        return found

    def _measure_pace(self, now: int, time: float) -> None:
        if self._window is None:
            self._window = now, time
            return
        then, began = self._window
        elapsed, passed = time - began, (now - then) / 1e9
        if self.simulated:
            if elapsed >= PACE_WINDOW:
                self.pace, self._window = passed / elapsed, (now, time)
            return
        if passed - elapsed < -MIN_JUMP:
            self._largest_jump_back = elapsed - passed
        self._window = now, time

    def _describe_standstill(self, now: int, publishers: Sequence[str]) -> str:
        if not publishers:
            what = "nothing is published on /clock" if not now else "/clock has no publisher any more"
            return (
                f"use_sim_time is set and {what}: without a clock this node neither acts nor learns; "
                "start the simulator's clock or set use_sim_time:=false"
            )
        return (
            f"use_sim_time is set and /clock stands still at {now / 1e9:.3f} s: until it advances this node neither "
            f"acts nor learns; {self._describe_publishers(publishers)}. Is the simulation paused?"
        )

    def _describe_pace(self, pace: float) -> str:
        # One digit, so that small changes of the pace give one line in a log.
        pace, period = float(f"{pace:.1g}"), 1e3 * self._period
        return (
            f"/clock runs at {pace:g} times real time: a plant in real time stamps its periods of "
            f"{period:g} ms as {period * pace:g} ms, and these are not learned from. Run the simulator at real time"
        )

    @staticmethod
    def _describe_publishers(publishers: Sequence[str]) -> str:
        if len(publishers) > 1:
            return f"{len(publishers)} nodes publish it, and only one may: {', '.join(sorted(publishers))}"
        return f"it is published by {publishers[0]}" if publishers else "it has no publisher any more"
