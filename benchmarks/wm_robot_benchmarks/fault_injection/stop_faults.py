"""Stop faults: kills or stops control processes, and measures how long the plant continues.

Guard, control and plant are separate processes. The guard is the shipped one; control is the shipped loop on an
emulated robot; the plant polls the shared page as a motor controller polls its line.
"""

import mmap
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wm_robot.control.command_arbiter import CommandArbiter
from wm_robot.control.control_loop import make_local_loop
from wm_robot.control.local_commands import LocalCommands
from wm_robot.control.realtime import Deadlines, request_priority, request_real_time
from wm_robot.errors import DeviceError
from wm_robot.safety.guard import REALTIME_PRIORITY
from wm_robot.safety.heartbeat import Heartbeat
from wm_robot.safety.modes import Mode
from wm_robot.spec import RobotSpec, make_home_obs
from wm_robot.types import Observation
from wm_robot_benchmarks.fault_injection.motor_emulator import EmulatedRobot

LOOK = 0.002
"""Time between two polls of the page by the plant, in s."""
PATIENCE = 10.0
MODES = list(Mode)
_MODE, _SINCE, _ARM = range(3)


@dataclass(frozen=True)
class StopResult:
    """Result of one kill or stop of a control process."""

    after: float
    """Time from the signal until the plant was in safe-stop, in s."""
    silence: float
    """Time from the loop's last progress until safe-stop, in s."""
    resumed: bool
    """Whether the plant moved again without being armed."""


class SharedMode:
    """Shared words between the plant and the test process, across a fork."""

    def __init__(self) -> None:
        self._words = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")

    def set_mode(self, mode: Mode) -> None:
        if MODES.index(mode) != self._words[_MODE] or not self._words[_SINCE]:
            self._words[_SINCE] = time.monotonic_ns()
            self._words[_MODE] = MODES.index(mode)

    @property
    def mode(self) -> Mode:
        return MODES[self._words[_MODE]]

    @property
    def mode_time(self) -> int:
        """Time of the change to this mode, in ns."""
        return int(self._words[_SINCE])

    def request_arming(self) -> None:
        self._words[_ARM] = 1

    def take_arming_request(self) -> bool:
        asked, self._words[_ARM] = bool(self._words[_ARM]), 0
        return asked


class StopFaultStage:
    """Test stage: a guard, a plant and a sequence of control processes that are ended."""

    def __init__(self, spec: RobotSpec, page: Path):
        self._spec, self._page = spec, page
        self.heartbeat, self.board = Heartbeat(page), SharedMode()
        self.spurious = 0
        """Number of stops of a control process without a fault."""

    @contextmanager
    def start_processes(self) -> "Iterator[StopFaultStage]":
        """Run guard and plant in this context."""
        command = [sys.executable, "-m", "wm_robot_cli", "guard", str(self._page)]
        limit = ["--limit-ms", str(1e3 * self._spec.safety.heartbeat_timeout)]
        guard = subprocess.Popen([*command, *limit], stdout=subprocess.DEVNULL)
        plant = fork_process(lambda: run_plant(self._spec, self._page, self.board))
        try:
            self._wait_until(lambda: self.heartbeat.stopped() == "", "the guard does not start")
            yield self
        finally:
            guard.terminate()
            guard.wait()
            os.kill(plant, signal.SIGKILL)
            os.waitpid(plant, 0)
            self.heartbeat.close()

    def stop_control(self, signal_number: signal.Signals, after: float) -> StopResult | None:
        """End a control process that drives the plant; return None if the plant had stopped before.

        Args:
            signal_number: SIGKILL or SIGSTOP.
            after: Time for which it drives, in s.
        """
        control = fork_process(lambda: run_control(self._spec, self._page))
        try:
            self._wait_until(lambda: self.heartbeat.driver == control, "no control process")
            self.heartbeat.release()
            self.board.request_arming()
            self._wait_until(
                lambda: self.board.mode is Mode.LEARNED, "the plant cannot be armed", strict=False
            )
            time.sleep(after)
            if self.board.mode is not Mode.LEARNED:
                self.spurious += 1
                return None
            sent = time.monotonic_ns()
            os.kill(control, signal_number)
            self._wait_until(lambda: self.board.mode is Mode.SAFE_STOP, "the plant does not stop")
            stopped, progress = self.board.mode_time, self.heartbeat.last_beat
            if signal_number is signal.SIGSTOP:
                os.kill(control, signal.SIGCONT)
            # A process that continues must not move the plant without arming.
            time.sleep(3 * self._spec.safety.heartbeat_timeout)
            resumed = self.board.mode is not Mode.SAFE_STOP
            return StopResult((stopped - sent) / 1e9, (stopped - progress) / 1e9, resumed)
        finally:
            os.kill(control, signal.SIGKILL)
            os.waitpid(control, 0)
            # The guard must detect the end of this process before the next one starts.
            self._wait_until(lambda: self.heartbeat.driver != control, "the guard does not react")

    def _wait_until(self, condition: Callable[[], bool], failure: str, *, strict: bool = True) -> None:
        end = time.monotonic() + (PATIENCE if strict else 1.0)
        while not condition():
            if time.monotonic() > end:
                if strict:
                    raise DeviceError(
                        f"{failure}; the plant is in {self.board.mode.value}. Is the machine too busy?"
                    )
                return
            time.sleep(0.0005)


def run_plant(spec: RobotSpec, page: Path, board: SharedMode) -> None:
    """Poll the page without end, and apply the decisions of the shipped arbiter and the guard."""
    request_priority(REALTIME_PRIORITY)
    rest = spec.home_action
    arbiter = CommandArbiter(spec, LocalCommands(StillController(spec), spec), rest, guard=Heartbeat(page))
    obs = Observation(stamp=0.0, values=make_home_obs(spec))
    while True:
        if board.take_arming_request():
            arbiter.supervisor.request_arming()
        mode, _ = arbiter.step(obs, rest)
        board.set_mode(mode)
        time.sleep(LOOK)


def run_control(spec: RobotSpec, page: Path) -> None:
    """Run the shipped loop in real time without end."""
    request_real_time(REALTIME_PRIORITY - 10)
    heartbeat = Heartbeat(page)
    loop = make_local_loop(EmulatedRobot(spec), StillController(spec), progress=heartbeat.beat)
    loop.supervisor.request_arming()
    loop.run(Deadlines(spec.dt), lambda: False)


class StillController:
    """Controller that holds still, with zero surprise."""

    def __init__(self, spec: RobotSpec):
        self._action = spec.home_action

    def act(self, obs: np.ndarray) -> np.ndarray:
        return self._action

    def observe(
        self, obs: np.ndarray, applied: np.ndarray, next_obs: np.ndarray, *, valid: bool, intervention: bool
    ) -> float:
        return 0.0


def fork_process(work: Callable[[], None]) -> int:
    """Fork a child that runs `work`; return its process id."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return child
