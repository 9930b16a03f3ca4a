"""Attempt: runs a reader in its own process and measures its time and memory. Also a naive reader as control."""

import faulthandler
import json
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from safetensors.numpy import load

from wm_robot.errors import SnapshotError
from wm_robot.sharing.bundle import HEADER

MORE = 512 << 20
"""Address space that a reader may add to that of its parent, in bytes; a reader that needs more is ended."""
LATEST = 10
"""Time after which a reader is ended, in s."""

Verdict = Literal["accepted", "refused", "crashed"]


class ReaderOutcome(NamedTuple):
    """Result of a reader for one file."""

    verdict: Verdict
    why: str
    seconds: float
    peak_mb: float
    """Peak resident memory of its process, including its initial memory, in MB of a million bytes."""


def run_reader(read: Callable[[], object], *, timeout: int = LATEST) -> ReaderOutcome:
    """Run a reader in a child process: the typed error is a rejection, any other error or signal a crash.

    Args:
        timeout: Time after which the process is ended, in s.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            # The status also covers an abort after the message.
            faulthandler.disable()
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            _limit_resources(timeout)
            os.write(writing, _encode_verdict(read))
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    _, status, usage = os.wait4(child, 0)
    # Linux counts in KiB.
    peak_mb = usage.ru_maxrss * 1024 / 1e6
    if not said or status:
        return ReaderOutcome(
            "crashed", f"ended with status {status}", usage.ru_utime + usage.ru_stime, peak_mb
        )
    verdict, seconds, why = json.loads(said)
    return ReaderOutcome(verdict, why, seconds, peak_mb)


def read_naively(path: Path) -> dict[str, object]:
    """Read all content of a bundle without checks, as the control."""
    if not path.is_file():
        raise SnapshotError(f"{path} is no file")
    content = path.read_bytes()
    *_, length = HEADER.unpack_from(content)
    at = HEADER.size + length
    manifest, found = json.loads(content[HEADER.size : at]), dict[str, object]()
    for each in manifest["files"]:
        part = content[at : at + each["size"]]
        at += each["size"]
        if each["name"].endswith(".safetensors"):
            found[each["name"]] = load(part)
        elif each["name"].endswith(".json"):
            found[each["name"]] = json.loads(part)
    return found


def _encode_verdict(read: Callable[[], object]) -> bytes:
    began = time.monotonic()
    verdict: Verdict = "accepted"
    why = ""
    try:
        read()
    except SnapshotError as error:
        verdict, why = "refused", str(error)
    except BaseException as error:
        # Any error: this process exists to detect it.
        verdict, why = "crashed", f"{type(error).__name__}: {error}"
    return json.dumps([verdict, time.monotonic() - began, why[:500]]).encode()


def _limit_resources(timeout: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MORE
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    signal.alarm(timeout)
