"""A store of lives kept small, far from the control loop."""

import subprocess
import sys

from wm_robot.store.store import opened

LOWEST = 19
"""Niceness."""


class Thinning:
    """Thins out the line of a life now and then, in a process of its own. It may be killed at any moment."""

    def __init__(self, place: str, keep: int):
        """Args:
        place: Store, and with `@` the branch.
        keep: Last snapshots whose tensors stay, and as many before them, ever further apart; 0: all.
        """
        self._folder, self._keep = str(opened(place)[0].folder), keep
        self._saves = 0
        self._process: subprocess.Popen[bytes] | None = None

    def saved(self) -> None:
        """Count a save; after as many as are kept, thin out."""
        self._saves += 1
        if self._keep and self._saves % self._keep == 0 and not self.running:
            collect = ["-m", "wm_robot_cli", "state", "gc", self._folder, "--keep-last", str(self._keep)]
            command = ["nice", "-n", str(LOWEST), sys.executable, *collect, "--json"]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
            )

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait(self) -> None:
        """Until it has ended."""
        if self._process is not None:
            self._process.wait()
