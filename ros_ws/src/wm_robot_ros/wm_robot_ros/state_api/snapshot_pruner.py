"""Snapshot pruner: removes old snapshots of a lifetime state, outside of the control process."""

import subprocess
import sys

from wm_robot.store.store import parse_reference

PRUNER_NICENESS = 19
"""Niceness of the pruning process."""


class SnapshotPruner:
    """Prunes the snapshots of a branch from time to time, in a separate process that may be killed at any time."""

    def __init__(self, place: str, keep_last: int):
        """Args:
        place: STORE or STORE@BRANCH.
        keep_last: Number of newest snapshots whose tensors stay; as many older ones with growing gaps; 0: all.
        """
        self._folder, self._keep_last = str(parse_reference(place)[0].folder), keep_last
        self._num_saves = 0
        self._process: subprocess.Popen[bytes] | None = None

    def count_save(self) -> None:
        """Count a save; start a pruning process after every `keep_last` saves."""
        self._num_saves += 1
        if self._keep_last and self._num_saves % self._keep_last == 0 and not self.is_running:
            collect = ["-m", "wm_robot_cli", "state", "gc", self._folder, "--keep-last", str(self._keep_last)]
            command = ["nice", "-n", str(PRUNER_NICENESS), sys.executable, *collect, "--json"]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
            )

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait_until_ended(self) -> None:
        """Wait until the pruning process has ended."""
        if self._process is not None:
            self._process.wait()
