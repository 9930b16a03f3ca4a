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
from wm_robot.store.store import MAIN, Store

BASE, SPEC = "b" * 64, "c" * 64
STEPS = "step"
KEPT = 8
"""Number of newest snapshots that `gc`, which is killed too, does not collect."""
GC_CHANCE = 0.05

Acknowledge = Callable[[str], None]
Writer = Callable[[Path, int, int, Acknowledge], None]
"""Function that writes states of a size into a folder without end, from a number on, and acknowledges each."""


class Found(NamedTuple):
    """Data found after the kill of a writer."""

    acknowledged: int
    lost: bool
    """Whether acknowledged data is missing."""
    unreadable: bool
    """Whether the newest lifetime state is unreadable."""
    number: int
    """Number of the newest state."""


def state_of(number: int, size: int) -> dict[str, np.ndarray]:
    """Make a state that can be checked by itself: all of its numbers are derived from `number`."""
    return {"0.s": np.full((1, size // 4), number, np.float32), STEPS: np.array([number], np.int64)}


def is_whole(state: dict[str, np.ndarray]) -> bool:
    """Return whether a state is a complete one of `make_numbered_state`."""
    return bool((state["0.s"] == np.float32(state[STEPS][0])).all())


def to_store(folder: Path, number: int, size: int, acknowledge: Acknowledge, rest: float = 0.0) -> None:
    """Write to a store like a robot, with regular garbage collection.

    Args:
        rest: Time between two states, in s.
    """
    store, rng = Store(folder), np.random.default_rng(number)
    while True:
        time.sleep(rest)
        acknowledge(store.save(state_of(number, size), base_digest=BASE, spec_digest=SPEC).digest)
        number += 1
        if rng.random() < GC_CHANCE:
            collect_garbage(store, keep_last=KEPT)


def naively(folder: Path, number: int, size: int, acknowledge: Acknowledge) -> None:
    """Overwrite a file in place, as the control."""
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        (folder / "state.safetensors").write_bytes(save(state_of(number, size)))
        acknowledge(str(number))
        number += 1


def found_in_store(folder: Path, acknowledged: list[str]) -> Found:
    """Check whether the newest snapshot can be read, and is not older than the last acknowledged one."""
    store = Store(folder)
    try:
        if MAIN not in store.branches():
            return Found(len(acknowledged), bool(acknowledged), False, 0)
        state = store.load()
        line = {snapshot.digest for snapshot in store.log(limit=KEPT)}
    except SnapshotError:
        return Found(len(acknowledged), bool(acknowledged), True, 0)
    lost = bool(acknowledged) and acknowledged[-1] not in line
    return Found(len(acknowledged), lost, not is_whole(state), int(state[STEPS][0]))


def found_naively(folder: Path, acknowledged: list[str]) -> Found:
    """Check the control's file in the same way."""
    try:
        state = load((folder / "state.safetensors").read_bytes())
        whole, number = is_whole(state), int(state[STEPS][0])
    except FileNotFoundError:
        return Found(len(acknowledged), bool(acknowledged), False, 0)
    except (SafetensorError, KeyError):
        return Found(len(acknowledged), bool(acknowledged), True, 0)
    return Found(len(acknowledged), bool(acknowledged) and number < int(acknowledged[-1]), not whole, number)


def now_and_then(folder: Path, number: int, size: int, acknowledge: Acknowledge) -> None:
    """Write to a store with pauses between states: most power cuts fall into a pause."""
    to_store(folder, number, size, acknowledge, rest=0.1)


def without_folder_sync(folder: Path, number: int, size: int, acknowledge: Acknowledge) -> None:
    """Write to a store without fsync of folders, as the control of power cuts."""
    durable.sync_folder = lambda folder: None
    now_and_then(folder, number, size, acknowledge)


def kill_while_writing(
    writer: Writer,
    found: Callable[[Path, list[str]], Found],
    folder: Path,
    *,
    number: int,
    size: int,
    after: float,
) -> Found:
    """Fork a writer, kill it, and check its data.

    Args:
        number: Of the first state.
        size: Of a state, in bytes.
        after: Seconds until `kill -9`.
    """
    child, pipe = _forked(writer, folder, number, size)
    try:
        time.sleep(after)
    finally:
        acknowledged = _ended(child, pipe, folder)
    return found(folder, acknowledged)


def cut_power_while_writing(
    writer: Writer,
    found: Callable[[Path, list[str]], Found],
    disk: "Disk",
    *,
    number: int,
    size: int,
    after: float,
) -> Found:
    """Fork a writer on its own disk, and check the synced data at one instant."""
    place = "lives"
    child, pipe = _forked(writer, disk.mounted / place, number, size)
    try:
        time.sleep(after)
        os.kill(child, signal.SIGSTOP)
        left = disk.as_it_is()
    finally:
        acknowledged = _ended(child, pipe, disk.mounted)
    with left as folder:
        return found(folder / place, acknowledged)


class Disk:
    """Disk image: an ext4 file system in a file, mounted through a loop device."""

    def __init__(self, folder: Path, megabytes: int = 512):
        self.image, self.mounted = folder / "disk.img", folder / "mounted"
        with self.image.open("wb") as file:
            file.truncate(megabytes << 20)
        _call("mkfs.ext4", "-q", "-F", str(self.image))
        self.mounted.mkdir()
        _call("mount", "-o", "loop", str(self.image), str(self.mounted))

    def close(self) -> None:
        """Unmount."""
        _call("umount", str(self.mounted))

    def as_it_is(self) -> AbstractContextManager[Path]:
        """Mount the data that a power cut now would leave: the journal is replayed as after one."""
        copy = self.image.with_name("copy.img")
        _call("cp", "--sparse=always", str(self.image), str(copy))
        return _mounted(copy)

    @staticmethod
    def unavailable() -> str:
        """Return why a disk image is not possible here; empty if it is."""
        if os.geteuid() != 0:
            return "mounting a loop device needs root"
        missing = [tool for tool in ("mkfs.ext4", "mount", "umount") if not shutil.which(tool)]
        if missing:
            return f"{', '.join(missing)} not found"
        try:
            with tempfile.TemporaryDirectory() as folder:
                Disk(Path(folder), megabytes=8).close()
        except SnapshotError as error:
            return str(error)
        return ""


@contextmanager
def _mounted(image: Path) -> Iterator[Path]:
    folder = image.with_suffix("")
    folder.mkdir(exist_ok=True)
    _call("mount", "-o", "loop", str(image), str(folder))
    try:
        yield folder
    finally:
        _call("umount", str(folder))
        image.unlink()


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SnapshotError(f"'{' '.join(command)}' failed: {done.stderr.strip()}")


def _forked(writer: Writer, folder: Path, number: int, size: int) -> tuple[int, int]:
    """Fork a writer; return its process id and the pipe of its acknowledgements."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            # Only the parent handles Ctrl-C, and kills this process.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.close(reading)
            writer(folder, number, size, lambda name: _tell(writing, name))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writing)
    return child, reading


def _ended(child: int, pipe: int, folder: Path) -> list[str]:
    """Kill a writer; return its acknowledgements."""
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with open(pipe, "rb") as said:
        acknowledged = said.read().decode().split("\n")[:-1]
    if os.WIFEXITED(status):
        raise SnapshotError(f"the writer in {folder} ended by itself, with code {os.WEXITSTATUS(status)}")
    return acknowledged


def _tell(handle: int, name: str) -> None:
    os.write(handle, f"{name}\n".encode())
