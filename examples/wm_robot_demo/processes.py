"""Demo processes: starts node processes, monitors them and ends them by pid."""

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wm_robot.errors import DeviceError
from wm_robot_ros.middleware.environment import NodeProcess, node_command

TAIL = 15
"""Lines of a log in the error message of a failed process."""
PATIENCE = 2.0
"""Time limit for a process to end after an interrupt, in s."""
LOOK_EVERY = 0.02


class Crew:
    """Named node processes with a log each."""

    def __init__(self, environment: Mapping[str, str], logs: Path):
        self._environment, self._logs = environment, logs
        self._members: dict[str, NodeProcess] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, module: str, parameters: Mapping[str, Any], *, namespace: str = "") -> None:
        """Start a node; its output goes to a log with its name."""
        command = node_command(module, parameters, namespace=namespace)
        self._members[name] = NodeProcess(command, self._environment, log=self.log(name))

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def check(self) -> None:
        """Check that all processes are running.

        Raises:
            DeviceError: If a process has ended. The message contains the end of its log.
        """
        for name, process in self._members.items():
            if not process.running:
                raise DeviceError(self.explain(name, f"'{name}' ended with code {process.wait(0)}"))

    def explain(self, name: str, what: str) -> str:
        """Format an error message with the end of a process's log."""
        lines = self.log(name).read_text(errors="replace").splitlines()[-TAIL:]
        shown = "\n".join(f"  | {line}" for line in lines) or "  | (nothing)"
        return f"{what}. The end of {self.log(name)}:\n{shown}"

    def stop(self, *names: str, patience: float = PATIENCE) -> dict[str, int]:
        """Interrupt processes, or all, and return their exit codes. It can be called again after an interrupt.

        Args:
            timeout: Seconds after which a running process is killed.
        """
        ending = {name: self._members[name] for name in names or tuple(self._members)}
        for process in ending.values():
            if process.running:
                os.kill(process.pid, signal.SIGINT)
        deadline = time.monotonic() + patience
        while any(process.running for process in ending.values()) and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY)
        codes = {name: process.stop(patience=0) for name, process in ending.items()}
        for name in ending:
            del self._members[name]
        return codes
