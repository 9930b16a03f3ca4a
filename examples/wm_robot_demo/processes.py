"""Demo processes: starts node processes, monitors them and ends them by pid."""

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wm_robot.errors import DeviceError
from wm_robot_ros.middleware.environment import NodeProcess, make_node_command

LOG_TAIL_LINES = 15
"""Lines of a log in the error message of a failed process."""
STOP_TIMEOUT = 2.0
"""Time limit for a process to end after an interrupt, in s."""
POLL_SECONDS = 0.02


class NodeProcesses:
    """Named node processes with a log each."""

    def __init__(self, environment: Mapping[str, str], logs: Path):
        self._environment, self._logs = environment, logs
        self._members: dict[str, NodeProcess] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def start_process(
        self, name: str, module: str, parameters: Mapping[str, Any], *, namespace: str = ""
    ) -> None:
        """Start a node; its output goes to a log with its name."""
        command = make_node_command(module, parameters, namespace=namespace)
        self._members[name] = NodeProcess(command, self._environment, log=self.log_path(name))

    def log_path(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def check_processes(self) -> None:
        """Check that all processes are running.

        Raises:
            DeviceError: If a process has ended. The message contains the end of its log.
        """
        for name, process in self._members.items():
            if not process.is_running:
                raise DeviceError(
                    self.format_failure(name, f"'{name}' ended with code {process.wait_for_exit(0)}")
                )

    def format_failure(self, name: str, what: str) -> str:
        """Format an error message with the end of a process's log."""
        lines = self.log_path(name).read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        shown = "\n".join(f"  | {line}" for line in lines) or "  | (nothing)"
        return f"{what}. The end of {self.log_path(name)}:\n{shown}"

    def stop_processes(self, *names: str, timeout: float = STOP_TIMEOUT) -> dict[str, int]:
        """Interrupt processes, or all, and return their exit codes. It can be called again after an interrupt.

        Args:
            timeout: Seconds after which a running process is killed.
        """
        ending = {name: self._members[name] for name in names or tuple(self._members)}
        for process in ending.values():
            if process.is_running:
                os.kill(process.pid, signal.SIGINT)
        deadline = time.monotonic() + timeout
        while any(process.is_running for process in ending.values()) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        codes = {name: process.stop_process(kill_timeout=0) for name, process in ending.items()}
        for name in ending:
            del self._members[name]
        return codes
