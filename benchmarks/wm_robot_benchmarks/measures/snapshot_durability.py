"""Snapshot durability: kills writers at random times, and checks the stored lifetime states."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from wm_robot.errors import SnapshotError
from wm_robot.io import durable
from wm_robot.store.garbage_collection import collect_garbage
from wm_robot.store.store import DEFAULT_BRANCH, Store

BASE, SPEC = "b" * 64, "c" * 64
STEPS = "step"
KEPT = 8
"""Number of newest snapshots that `gc`, which is killed too, does not collect."""
GC_CHANCE = 0.05

Acknowledge = Callable[[str], None]
Writer = Callable[[Path, int, int, Acknowledge], None]
"""Function that writes states of a size into a folder without end, from a number on, and acknowledges each."""


class DurabilityFinding(NamedTuple):
    """Data found after the kill of a writer."""

    acknowledged: int
    lost: bool
    """Whether acknowledged data is missing."""
    unreadable: bool
    """Whether the newest lifetime state is unreadable."""
    number: int
    """Number of the newest state."""


def make_numbered_state(number: int, size: int) -> dict[str, np.ndarray]:
    """Make a state that can be checked by itself: all of its numbers are derived from `number`."""
    return {"0.s": np.full((1, size // 4), number, np.float32), STEPS: np.array([number], np.int64)}


def is_numbered_state(state: dict[str, np.ndarray]) -> bool:
    """Return whether a state is a complete one of `make_numbered_state`."""
    return bool((state["0.s"] == np.float32(state[STEPS][0])).all())


def write_to_store(
    folder: Path, number: int, size: int, acknowledge: Acknowledge, pause: float = 0.0
) -> None:
    """Write to a store like a robot, with regular garbage collection.

    Args:
        pause: Time between two states, in s.
    """
    store, rng = Store(folder), np.random.default_rng(number)
    while True:
        time.sleep(pause)
        acknowledge(store.save(make_numbered_state(number, size), base_digest=BASE, spec_digest=SPEC).digest)
        number += 1
        if rng.random() < GC_CHANCE:
            collect_garbage(store, keep_last=KEPT)


def overwrite_file(folder: Path, number: int, size: int, acknowledge: Acknowledge) -> None:
    """Overwrite a file in place, as the control."""
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        (folder / "state.safetensors").write_bytes(save(make_numbered_state(number, size)))
        acknowledge(str(number))
        number += 1


def check_store(folder: Path, acknowledged: list[str]) -> DurabilityFinding:
    """Check whether the newest snapshot can be read, and is not older than the last acknowledged one."""
    store = Store(folder)
    try:
        if DEFAULT_BRANCH not in store.read_branches():
            return DurabilityFinding(len(acknowledged), bool(acknowledged), False, 0)
        state = store.load()
        line = {snapshot.digest for snapshot in store.iterate_lineage(limit=KEPT)}
    except SnapshotError:
        return DurabilityFinding(len(acknowledged), bool(acknowledged), True, 0)
    lost = bool(acknowledged) and acknowledged[-1] not in line
    return DurabilityFinding(len(acknowledged), lost, not is_numbered_state(state), int(state[STEPS][0]))


def check_overwritten_file(folder: Path, acknowledged: list[str]) -> DurabilityFinding:
    """Check the control's file in the same way."""
    try:
        state = load((folder / "state.safetensors").read_bytes())
        whole, number = is_numbered_state(state), int(state[STEPS][0])
    except FileNotFoundError:
        return DurabilityFinding(len(acknowledged), bool(acknowledged), False, 0)
    except (SafetensorError, KeyError):
        return DurabilityFinding(len(acknowledged), bool(acknowledged), True, 0)
    return DurabilityFinding(
        len(acknowledged), bool(acknowledged) and number < int(acknowledged[-1]), not whole, number
    )


def write_with_pauses(folder: Path, number: int, size: int, acknowledge: Acknowledge) -> None:
    """Write to a store with pauses between states: most power cuts fall into a pause."""
    write_to_store(folder, number, size, acknowledge, pause=0.1)


def write_without_folder_sync(folder: Path, number: int, size: int, acknowledge: Acknowledge) -> None:
    """Write to a store without fsync of folders, as the control of power cuts."""
    durable.sync_folder = lambda folder: None
    write_with_pauses(folder, number, size, acknowledge)


def kill_while_writing(
    writer: Writer,
    check: Callable[[Path, list[str]], DurabilityFinding],
    folder: Path,
    *,
    number: int,
    size: int,
    delay: float,
) -> DurabilityFinding:
    """Fork a writer, kill it, and check its data.

    Args:
        number: Of the first state.
        size: Of a state, in bytes.
        delay: Seconds until `kill -9`.
    """
    child, pipe = _fork_writer(writer, folder, number, size)
    try:
        time.sleep(delay)
    finally:
        acknowledged = _kill_writer(child, pipe, folder)
    return check(folder, acknowledged)


def cut_power_while_writing(
    writer: Writer,
    check: Callable[[Path, list[str]], DurabilityFinding],
    disk: "DiskImage",
    *,
    number: int,
    size: int,
    delay: float,
) -> DurabilityFinding:
    """Fork a writer on its own disk, and check the synced data at one instant."""
    place = "lives"
    child, pipe = _fork_writer(writer, disk.mounted / place, number, size)
    try:
        time.sleep(delay)
        os.kill(child, signal.SIGSTOP)
        left = disk.mount_copy()
    finally:
        acknowledged = _kill_writer(child, pipe, disk.mounted)
    with left as folder:
        return check(folder / place, acknowledged)


class DiskImage:
    """Disk image: an ext4 file system in a file, mounted through a loop device."""

    def __init__(self, folder: Path, megabytes: int = 512):
        self.image, self.mounted = folder / "disk.img", folder / "mounted"
        with self.image.open("wb") as file:
            file.truncate(megabytes << 20)
        _run_command("mkfs.ext4", "-q", "-F", str(self.image))
        self.mounted.mkdir()
        _run_command("mount", "-o", "loop", str(self.image), str(self.mounted))

    def close(self) -> None:
        """Unmount."""
        _run_command("umount", str(self.mounted))

    def mount_copy(self) -> AbstractContextManager[Path]:
        """Mount the data that a power cut now would leave: the journal is replayed as after one."""
        copy = self.image.with_name("copy.img")
        _run_command("cp", "--sparse=always", str(self.image), str(copy))
        return _mount_image(copy)

    @staticmethod
    def find_obstacle() -> str:
        """Return why a disk image is not possible here; empty if it is."""
        if os.geteuid() != 0:
            return "mounting a loop device needs root"
        missing = [tool for tool in ("mkfs.ext4", "mount", "umount") if not shutil.which(tool)]
        if missing:
            return f"{', '.join(missing)} not found"
        try:
            with tempfile.TemporaryDirectory() as folder:
                DiskImage(Path(folder), megabytes=8).close()
        except SnapshotError as error:
            return str(error)
        return ""


@contextmanager
def _mount_image(image: Path) -> Iterator[Path]:
    folder = image.with_suffix("")
    folder.mkdir(exist_ok=True)
    _run_command("mount", "-o", "loop", str(image), str(folder))
    try:
        yield folder
    finally:
        _run_command("umount", str(folder))
        image.unlink()


def _run_command(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SnapshotError(f"'{' '.join(command)}' failed: {done.stderr.strip()}")


def _fork_writer(writer: Writer, folder: Path, number: int, size: int) -> tuple[int, int]:
    """Fork a writer; return its process id and the pipe of its acknowledgements."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            # Only the parent handles Ctrl-C, and kills this process.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.close(reading)
            writer(folder, number, size, lambda name: _acknowledge(writing, name))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writing)
    return child, reading


def _kill_writer(child: int, pipe: int, folder: Path) -> list[str]:
    """Kill a writer; return its acknowledgements."""
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with open(pipe, "rb") as said:
        acknowledged = said.read().decode().split("\n")[:-1]
    if os.WIFEXITED(status):
        raise SnapshotError(f"the writer in {folder} ended by itself, with code {os.WEXITSTATUS(status)}")
    return acknowledged


def _acknowledge(handle: int, name: str) -> None:
    os.write(handle, f"{name}\n".encode())
