"""Snapshot pruner: removes old snapshots of a lifetime state, outside of the control process."""

import subprocess
import sys

from wm_robot.store.store import opened

LOWEST = 19
"""Niceness of the pruning process."""


class Thinning:
    """Prunes the snapshots of a branch from time to time, in a separate process that may be killed at any time."""

    def __init__(self, place: str, keep: int):
        """Args:
        place: STORE or STORE@BRANCH.
        keep: Number of newest snapshots whose tensors stay; the same number of older ones with growing gaps; 0: all.
        """
        self._folder, self._keep = str(opened(place)[0].folder), keep
        self._saves = 0
        self._process: subprocess.Popen[bytes] | None = None

    def saved(self) -> None:
        """Count a save; start a pruning process after every `keep_last` saves."""
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
        """Wait until the pruning process has ended."""
        if self._process is not None:
            self._process.wait()
