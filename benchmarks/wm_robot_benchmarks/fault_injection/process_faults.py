"""Helpers of a control process that are stopped and killed, and what its periods take meanwhile.

Control is the shipped loop with the shipped agent, its learner and its log; the motors are emulated. Well and unwell
alternate, so that what else the machine does falls on both.
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
"""Periods that do not count: the first ones take longer."""
START_UP = 90.0
"""Patience for base and learner to load, in s."""
CAPACITY = 1 << 16
"""Periods that are noted."""
NEVER = 1e9
"""A surprise that nothing is: emulated motors are not what a base knows."""
MESSAGE = 4096
"""Bytes of a period, as a loop might write them that waits for its recorder."""
Victim = Literal["learner", "recorder"]


class Crew(NamedTuple):
    """A controller and the learner beside it."""

    controller: Controller
    learner: int
    """Its process; 0 for none."""
    end: Callable[[], None]


def still(robot: EmulatedRobot) -> Crew:
    """One that holds still, and learns nothing."""
    return Crew(Still(robot.spec), 0, lambda: None)


class Phase(IntEnum):
    """What is done to the helper."""

    WARM = 0
    WELL = 1
    STOPPED = 2
    KILLED = 3
    END = 4


@dataclass(frozen=True)
class Timed:
    """Periods of one kind."""

    latency: np.ndarray
    """From deadline to command, in ms."""
    missed: int
    """Deadlines that passed without a period of their own."""

    def percentile(self, q: float) -> float:
        """Latency that `q` per cent stay within, in ms; not a number without any."""
        return float(np.percentile(self.latency, q)) if self.latency.size else float("nan")


class Tape:
    """What control notes and its watcher reads, over a fork."""

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
        """Process ids."""
        return {"learner": int(self._words[1]), "recorder": int(self._words[2])}

    def introduce(self, *, learner: int, recorder: int) -> None:
        self._words[1:3] = learner, recorder

    @property
    def count(self) -> int:
        return int(self._words[3])

    def note(self, period: Period) -> None:
        """Control's: one period."""
        row = int(self._words[3])
        if row < CAPACITY:
            self._rows[row] = self._words[0], period.latency_ms, period.late_ms
            self._words[3] = row + 1

    def timed(self, phases: Sequence[Phase], period: float) -> Timed:
        """Args:
        period: Of the loop, in s.
        """
        rows = self._rows[: self.count]
        rows = rows[np.isin(rows[:, 0], [int(phase) for phase in phases])]
        return Timed(rows[:, 1].copy(), int((rows[:, 2] / (1e3 * period)).astype(int).sum()))


@dataclass(frozen=True)
class Deaths:
    """What a helper's stops and its death did to control."""

    well: Timed
    unwell: Timed

    def ratio(self, q: float) -> float:
        """Percentile of the latency while it was stopped or dead, in parts of that while it was well."""
        return self.unwell.percentile(q) / self.well.percentile(q)

    @property
    def missed(self) -> int:
        """Deadlines missed in all; who was held up notes it when it goes on."""
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
    """Stop a helper twice and then kill it, with times between in which it is well; as often as there are rounds.

    Args:
        log: File of the recorder.
        seconds: Length of each phase.
        make: Makes the controller, in the control process.
        waits: The control: a loop that waits for its recorder, through a pipe.

    Raises:
        DeviceError: If the control process does not live.
    """
    well, unwell = list[Timed](), list[Timed]()
    for _ in range(rounds):
        tape = _round(victim, Tape(), lambda tape: _be_control(spec, tape, make, log, waits), seconds)
        well.append(tape.timed([Phase.WELL], spec.dt))
        unwell.append(tape.timed([Phase.STOPPED, Phase.KILLED], spec.dt))
    return Deaths(_all(well), _all(unwell))


def _round(victim: Victim, tape: Tape, control: Callable[[Tape], None], seconds: float) -> Tape:
    """One control process and the death of its helper."""
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
            raise DeviceError("the helper died by itself; what it printed says why") from error
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
        raise DeviceError(f"the control process died while its helper was {phase.name.lower()}")


@contextmanager
def _control(tape: Tape, work: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """With a control process; gives whether it lives."""
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
            raise DeviceError("the control process did not begin; what it printed says why")
        time.sleep(0.05)


def _all(parts: Sequence[Timed]) -> Timed:
    return Timed(np.concatenate([part.latency for part in parts]), sum(part.missed for part in parts))


def _be_control(
    spec: RobotSpec, tape: Tape, make: Callable[[EmulatedRobot], Crew], log: Path, waits: bool
) -> None:
    """Run the shipped loop in real time until the watcher ends it."""
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
    """A recorder that its loop waits for."""

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
    """The library's agent, with a point to go to."""

    def __init__(self, robot: EmulatedRobot, agent: "Agent", goal: np.ndarray):
        self._robot, self._agent, self._goal = robot, agent, goal
        agent.begin(robot.gate.hold.astype(np.float32))

    def act(self, obs: np.ndarray) -> np.ndarray:
        return self._agent.act(obs, self._goal, applied=self._robot.gate.hold.astype(np.float32))

    def live(
        self, obs: np.ndarray, applied: np.ndarray, next_obs: np.ndarray, *, valid: bool, contact: bool
    ) -> float:
        return self._agent.live(obs, applied, next_obs, valid=valid, contact=contact).nll
