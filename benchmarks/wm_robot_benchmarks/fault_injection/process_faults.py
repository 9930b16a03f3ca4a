"""Process faults: stops and kills helpers of a control process, and measures its periods during the faults.

Control is the shipped loop with the shipped agent, its learner and its log; the motors are emulated. Phases with and
without a fault alternate, so that other load of the machine affects both.
"""

import mmap
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from wm_robot.control.control_loop import make_local_loop
from wm_robot.control.controller import Controller
from wm_robot.control.period_log import Period, PeriodLog
from wm_robot.control.realtime import Deadlines, go_real_time, take_over_collection
from wm_robot.errors import DeviceError
from wm_robot.safety.guard import PRIORITY
from wm_robot.spec import RobotSpec
from wm_robot_benchmarks.fault_injection.motor_emulator import EmulatedRobot
from wm_robot_benchmarks.fault_injection.stop_faults import Still, forked

if TYPE_CHECKING:
    from wm_robot.agent.agent import Agent

WARM_UP = 100
"""Warm-up periods that do not count: the first ones take longer."""
START_UP = 90.0
"""Timeout for base and learner to load, in s."""
CAPACITY = 1 << 16
"""Largest number of recorded periods."""
NEVER = 1e9
"""Surprise above any observation: the base was not trained for emulated motors."""
MESSAGE = 4096
"""Bytes per period, as written by a loop that waits for its recorder."""
Victim = Literal["learner", "recorder"]


class Crew(NamedTuple):
    """Controller and its learner process."""

    controller: Controller
    learner: int
    """Process id of the learner; 0 for none."""
    end: Callable[[], None]


def still(robot: EmulatedRobot) -> Crew:
    """Make a controller that holds still and learns nothing."""
    return Crew(Still(robot.spec), 0, lambda: None)


class Phase(IntEnum):
    """Phase of the helper: running, stopped or killed."""

    WARM = 0
    WELL = 1
    STOPPED = 2
    KILLED = 3
    END = 4


@dataclass(frozen=True)
class Timed:
    """Latencies and misses of the periods of one kind."""

    latency: np.ndarray
    """Time from deadline to command, in ms."""
    missed: int
    """Deadlines without a period."""

    def percentile(self, q: float) -> float:
        """Compute the `q`-th percentile of the latency, in ms; NaN without periods."""
        return float(np.percentile(self.latency, q)) if self.latency.size else float("nan")


class Tape:
    """Shared record: written by the control process and read by its parent, across a fork."""

    def __init__(self) -> None:
        # Phase, process ids of learner and recorder, count of rows.
        self._words = np.frombuffer(mmap.mmap(-1, mmap.PAGESIZE), np.int64)
        self._rows = np.frombuffer(mmap.mmap(-1, CAPACITY * 24), np.float64).reshape(CAPACITY, 3)

    @property
    def phase(self) -> Phase:
        return Phase(int(self._words[0]))

    @phase.setter
    def phase(self, phase: Phase) -> None:
        self._words[0] = phase

    @property
    def helpers(self) -> dict[Victim, int]:
        """Process ids of the helpers."""
        return {"learner": int(self._words[1]), "recorder": int(self._words[2])}

    def introduce(self, *, learner: int, recorder: int) -> None:
        self._words[1:3] = learner, recorder

    @property
    def count(self) -> int:
        return int(self._words[3])

    def note(self, period: Period) -> None:
        """Record one period; called by the control process."""
        row = int(self._words[3])
        if row < CAPACITY:
            self._rows[row] = self._words[0], period.latency_ms, period.late_ms
            self._words[3] = row + 1

    def timed(self, phases: Sequence[Phase], period: float) -> Timed:
        """Args:
        period: Control period, in s.
        """
        rows = self._rows[: self.count]
        rows = rows[np.isin(rows[:, 0], [int(phase) for phase in phases])]
        return Timed(rows[:, 1].copy(), int((rows[:, 2] / (1e3 * period)).astype(int).sum()))


@dataclass(frozen=True)
class Deaths:
    """Effect of a helper's stops and death on control."""

    well: Timed
    unwell: Timed

    def ratio(self, q: float) -> float:
        """Compute a percentile of the latency while the helper was stopped or dead, relative to that while it ran."""
        return self.unwell.percentile(q) / self.well.percentile(q)

    @property
    def missed(self) -> int:
        """Number of missed deadlines; a delayed process records them when it continues."""
        return self.well.missed + self.unwell.missed


def try_deaths(
    spec: RobotSpec,
    victim: Victim,
    *,
    log: Path,
    rounds: int,
    seconds: float,
    make: Callable[[EmulatedRobot], Crew] = still,
    waits: bool = False,
) -> Deaths:
    """Stop a helper twice and then kill it, with normal phases in between; repeat for each round.

    Args:
        log: Path of the recorder's file.
        seconds: Length of each phase.
        make: Function that makes the controller, in the control process.
        waits: Control condition: a loop that waits for its recorder, through a pipe.

    Raises:
        DeviceError: If the control process ends.
    """
    well, unwell = list[Timed](), list[Timed]()
    for _ in range(rounds):
        tape = _round(victim, Tape(), lambda tape: _be_control(spec, tape, make, log, waits), seconds)
        well.append(tape.timed([Phase.WELL], spec.dt))
        unwell.append(tape.timed([Phase.STOPPED, Phase.KILLED], spec.dt))
    return Deaths(_all(well), _all(unwell))


def _round(victim: Victim, tape: Tape, control: Callable[[Tape], None], seconds: float) -> Tape:
    """Run one control process, and stop and kill its helper."""
    with _control(tape, lambda: control(tape)) as living:
        _until(lambda: tape.count >= WARM_UP, living, START_UP)
        _torment(tape, tape.helpers[victim], seconds, living)
    return tape


def _torment(tape: Tape, helper: int, seconds: float, living: Callable[[], bool]) -> None:
    for _ in range(2):
        _go_on(tape, Phase.WELL, seconds, living)
        try:
            os.kill(helper, signal.SIGSTOP)
        except ProcessLookupError as error:
            raise DeviceError("the helper ended by itself; its output shows the reason") from error
        try:
            _go_on(tape, Phase.STOPPED, seconds, living)
        finally:
            os.kill(helper, signal.SIGCONT)
    _go_on(tape, Phase.WELL, seconds, living)
    os.kill(helper, signal.SIGKILL)
    _go_on(tape, Phase.KILLED, seconds, living)


def _go_on(tape: Tape, phase: Phase, seconds: float, living: Callable[[], bool]) -> None:
    tape.phase = phase
    time.sleep(seconds)
    if not living():
        raise DeviceError(f"the control process ended while its helper was {phase.name.lower()}")


@contextmanager
def _control(tape: Tape, work: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Run a control process; yield a function that returns whether it is running."""
    child = forked(work)
    ended = list[int]()

    def living() -> bool:
        if not ended and os.waitpid(child, os.WNOHANG)[0]:
            ended.append(child)
        return not ended

    try:
        yield living
    finally:
        tape.phase = Phase.END
        deadline = time.monotonic() + 10.0
        while living() and time.monotonic() < deadline:
            time.sleep(0.05)
        if living():
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _until(holds: Callable[[], bool], living: Callable[[], bool], patience: float) -> None:
    deadline = time.monotonic() + patience
    while not holds():
        if not living() or time.monotonic() > deadline:
            raise DeviceError("the control process did not start; its output shows the reason")
        time.sleep(0.05)


def _all(parts: Sequence[Timed]) -> Timed:
    return Timed(np.concatenate([part.latency for part in parts]), sum(part.missed for part in parts))


def _be_control(
    spec: RobotSpec, tape: Tape, make: Callable[[EmulatedRobot], Crew], log: Path, waits: bool
) -> None:
    """Run the shipped loop in real time until the parent ends it."""
    robot = EmulatedRobot(replace(spec, safety=replace(spec.safety, surprise=NEVER, misses=(10**6, 10**6))))
    recorder = _Waited() if waits else PeriodLog(log)
    controller, learner, end = make(robot)
    tape.introduce(learner=learner, recorder=recorder.pid)

    def note(period: Period) -> None:
        recorder.add(period)
        tape.note(period)

    go_real_time(PRIORITY - 10)
    loop = make_local_loop(robot, controller, tidy=take_over_collection().tidy, log=note)
    loop.supervisor.arm()
    loop.run(Deadlines(spec.dt), lambda: tape.phase is Phase.END)
    recorder.close()
    end()


class _Waited:
    """Recorder that blocks its loop."""

    def __init__(self) -> None:
        reading, self._writing = os.pipe()
        self.pid = forked(lambda: _read(reading, self._writing))
        os.close(reading)

    def add(self, period: Period) -> None:
        try:
            os.write(self._writing, str(period).encode().ljust(MESSAGE))
        except BrokenPipeError:
            return

    def close(self) -> None:
        os.close(self._writing)
        os.waitpid(self.pid, 0)


def _read(reading: int, writing: int) -> None:
    os.close(writing)
    while os.read(reading, MESSAGE):
        continue


class Driver:
    """Controller with the library's agent and a target point."""

    def __init__(self, robot: EmulatedRobot, agent: "Agent", goal: np.ndarray):
        self._robot, self._agent, self._goal = robot, agent, goal
        agent.begin(robot.gate.hold.astype(np.float32))

    def act(self, obs: np.ndarray) -> np.ndarray:
        return self._agent.act(obs, self._goal, applied=self._robot.gate.hold.astype(np.float32))

    def live(
        self, obs: np.ndarray, applied: np.ndarray, next_obs: np.ndarray, *, valid: bool, contact: bool
    ) -> float:
        return self._agent.live(obs, applied, next_obs, valid=valid, contact=contact).nll
