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
from wm_robot.control.period_log import PeriodLog, PeriodRecord
from wm_robot.control.realtime import Deadlines, defer_garbage_collection, request_real_time
from wm_robot.errors import DeviceError
from wm_robot.safety.guard import REALTIME_PRIORITY
from wm_robot.spec import RobotSpec
from wm_robot_benchmarks.fault_injection.motor_emulator import EmulatedRobot
from wm_robot_benchmarks.fault_injection.stop_faults import StillController, fork_process

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


class ControllerWithLearner(NamedTuple):
    """Controller and its learner process."""

    controller: Controller
    learner: int
    """Process id of the learner; 0 for none."""
    shut_down: Callable[[], None]


def make_still_controller(robot: EmulatedRobot) -> ControllerWithLearner:
    """Make a controller that holds still and learns nothing."""
    return ControllerWithLearner(StillController(robot.spec), 0, lambda: None)


class Phase(IntEnum):
    """Phase of the helper: running, stopped or killed."""

    WARM = 0
    WELL = 1
    STOPPED = 2
    KILLED = 3
    END = 4


@dataclass(frozen=True)
class PeriodTimes:
    """Latencies and misses of the periods of one kind."""

    latency: np.ndarray
    """Time from deadline to command, in ms."""
    num_missed: int
    """Deadlines without a period."""

    def percentile(self, q: float) -> float:
        """Compute the `q`-th percentile of the latency, in ms; NaN without periods."""
        return float(np.percentile(self.latency, q)) if self.latency.size else float("nan")


class SharedRecord:
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

    def set_helpers(self, *, learner: int, recorder: int) -> None:
        self._words[1:3] = learner, recorder

    @property
    def num_periods(self) -> int:
        return int(self._words[3])

    def record_period(self, period: PeriodRecord) -> None:
        """Record one period; called by the control process."""
        row = int(self._words[3])
        if row < CAPACITY:
            self._rows[row] = self._words[0], period.latency_ms, period.late_ms
            self._words[3] = row + 1

    def select_periods(self, phases: Sequence[Phase], period: float) -> PeriodTimes:
        """Args:
        period: Control period, in s.
        """
        rows = self._rows[: self.num_periods]
        rows = rows[np.isin(rows[:, 0], [int(phase) for phase in phases])]
        return PeriodTimes(rows[:, 1].copy(), int((rows[:, 2] / (1e3 * period)).astype(int).sum()))


@dataclass(frozen=True)
class HelperFaults:
    """Effect of a helper's stops and death on control."""

    times_running: PeriodTimes
    times_faulty: PeriodTimes

    def compute_ratio(self, q: float) -> float:
        """Compute a percentile of the latency while the helper was stopped or dead, relative to that while it ran."""
        return self.times_faulty.percentile(q) / self.times_running.percentile(q)

    @property
    def num_missed(self) -> int:
        """Number of missed deadlines; a delayed process records them when it continues."""
        return self.times_running.num_missed + self.times_faulty.num_missed


def inject_helper_faults(
    spec: RobotSpec,
    victim: Victim,
    *,
    log: Path,
    num_rounds: int,
    seconds: float,
    make: Callable[[EmulatedRobot], ControllerWithLearner] = make_still_controller,
    waits: bool = False,
) -> HelperFaults:
    """Stop a helper twice and then kill it, with normal phases in between; repeat for each round.

    Args:
        log: Path of the recorder's file.
        seconds: Length of each phase.
        make: Function that makes the controller, in the control process.
        waits: Control condition: a loop that waits for its recorder, through a pipe.

    Raises:
        DeviceError: If the control process ends.
    """
    well, unwell = list[PeriodTimes](), list[PeriodTimes]()
    for _ in range(num_rounds):
        tape = _run_round(
            victim, SharedRecord(), lambda tape: _run_control(spec, tape, make, log, waits), seconds
        )
        well.append(tape.select_periods([Phase.WELL], spec.dt))
        unwell.append(tape.select_periods([Phase.STOPPED, Phase.KILLED], spec.dt))
    return HelperFaults(_concatenate_times(well), _concatenate_times(unwell))


def _run_round(
    victim: Victim, tape: SharedRecord, control: Callable[[SharedRecord], None], seconds: float
) -> SharedRecord:
    """Run one control process, and stop and kill its helper."""
    with _fork_control(tape, lambda: control(tape)) as living:
        _wait_until(lambda: tape.num_periods >= WARM_UP, living, START_UP)
        _inject_faults(tape, tape.helpers[victim], seconds, living)
    return tape


def _inject_faults(tape: SharedRecord, helper: int, seconds: float, is_running: Callable[[], bool]) -> None:
    for _ in range(2):
        _run_phase(tape, Phase.WELL, seconds, is_running)
        try:
            os.kill(helper, signal.SIGSTOP)
        except ProcessLookupError as error:
            raise DeviceError("the helper ended by itself; its output shows the reason") from error
        try:
            _run_phase(tape, Phase.STOPPED, seconds, is_running)
        finally:
            os.kill(helper, signal.SIGCONT)
    _run_phase(tape, Phase.WELL, seconds, is_running)
    os.kill(helper, signal.SIGKILL)
    _run_phase(tape, Phase.KILLED, seconds, is_running)


def _run_phase(tape: SharedRecord, phase: Phase, seconds: float, is_running: Callable[[], bool]) -> None:
    tape.phase = phase
    time.sleep(seconds)
    if not is_running():
        raise DeviceError(f"the control process ended while its helper was {phase.name.lower()}")


@contextmanager
def _fork_control(tape: SharedRecord, work: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Run a control process; yield a function that returns whether it is running."""
    child = fork_process(work)
    ended = list[int]()

    def is_running() -> bool:
        if not ended and os.waitpid(child, os.WNOHANG)[0]:
            ended.append(child)
        return not ended

    try:
        yield is_running
    finally:
        tape.phase = Phase.END
        deadline = time.monotonic() + 10.0
        while is_running() and time.monotonic() < deadline:
            time.sleep(0.05)
        if is_running():
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _wait_until(condition: Callable[[], bool], is_running: Callable[[], bool], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        if not is_running() or time.monotonic() > deadline:
            raise DeviceError("the control process did not start; its output shows the reason")
        time.sleep(0.05)


def _concatenate_times(parts: Sequence[PeriodTimes]) -> PeriodTimes:
    return PeriodTimes(
        np.concatenate([part.latency for part in parts]), sum(part.num_missed for part in parts)
    )


def _run_control(
    spec: RobotSpec,
    tape: SharedRecord,
    make_controller: Callable[[EmulatedRobot], ControllerWithLearner],
    log: Path,
    wait_for_recorder: bool,
) -> None:
    """Run the shipped loop in real time until the parent ends it."""
    robot = EmulatedRobot(
        replace(
            spec,
            safety=replace(
                spec.safety, surprise_threshold=NEVER, missed_deadline_count_window=(10**6, 10**6)
            ),
        )
    )
    recorder = _BlockingRecorder() if wait_for_recorder else PeriodLog(log)
    controller, learner, end = make_controller(robot)
    tape.set_helpers(learner=learner, recorder=recorder.writer_pid)

    def note(period: PeriodRecord) -> None:
        recorder.add_period(period)
        tape.record_period(period)

    request_real_time(REALTIME_PRIORITY - 10)
    loop = make_local_loop(
        robot, controller, between_periods=defer_garbage_collection().collect_if_due, log=note
    )
    loop.supervisor.request_arming()
    loop.run(Deadlines(spec.dt), lambda: tape.phase is Phase.END)
    recorder.close()
    end()


class _BlockingRecorder:
    """Recorder that blocks its loop."""

    def __init__(self) -> None:
        reading, self._writing = os.pipe()
        self.writer_pid = fork_process(lambda: _read_until_closed(reading, self._writing))
        os.close(reading)

    def add_period(self, period: PeriodRecord) -> None:
        try:
            os.write(self._writing, str(period).encode().ljust(MESSAGE))
        except BrokenPipeError:
            return

    def close(self) -> None:
        os.close(self._writing)
        os.waitpid(self.writer_pid, 0)


def _read_until_closed(reading: int, writing: int) -> None:
    os.close(writing)
    while os.read(reading, MESSAGE):
        continue


class AgentController:
    """Controller with the library's agent and a target point."""

    def __init__(self, robot: EmulatedRobot, agent: "Agent", goal: np.ndarray):
        self._robot, self._agent, self._goal = robot, agent, goal
        agent.begin(robot.gate.last_action.astype(np.float32))

    def act(self, obs: np.ndarray) -> np.ndarray:
        return self._agent.act(obs, self._goal, applied=self._robot.gate.last_action.astype(np.float32))

    def observe(
        self, obs: np.ndarray, applied: np.ndarray, next_obs: np.ndarray, *, valid: bool, intervention: bool
    ) -> float:
        return self._agent.observe(obs, applied, next_obs, valid=valid, intervention=intervention).nll
