"""One attempt: a reader in a process of its own, with its time and memory measured; and a reader that trusts."""

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
"""Bytes of address space that a reader may add to what its parent has; what asks for more is ended."""
LATEST = 10
"""Seconds after which it is ended."""

Verdict = Literal["accepted", "refused", "crashed"]


class Outcome(NamedTuple):
    """What a reader did with a file."""

    verdict: Verdict
    why: str
    seconds: float
    peak_mb: float
    """Most memory that its process ever had resident, with what it began with, in MB of a million bytes."""


def tried(read: Callable[[], object]) -> Outcome:
    """Let a child process read: the typed error is a refusal, any other and any signal a crash."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            # What is said before an abort is told by the status too.
            faulthandler.disable()
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            _limit()
            os.write(writing, _said(read))
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    _, status, usage = os.wait4(child, 0)
    # Linux counts in KiB.
    peak_mb = usage.ru_maxrss * 1024 / 1e6
    if not said or status:
        return Outcome("crashed", f"ended with status {status}", usage.ru_utime + usage.ru_stime, peak_mb)
    verdict, seconds, why = json.loads(said)
    return Outcome(verdict, why, seconds, peak_mb)


def read_naively(path: Path) -> dict[str, object]:
    """The control: all that is in a bundle, by one who believes what stands there."""
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


def _said(read: Callable[[], object]) -> bytes:
    began = time.monotonic()
    verdict: Verdict = "accepted"
    why = ""
    try:
        read()
    except SnapshotError as error:
        verdict, why = "refused", str(error)
    except BaseException as error:
        # Whatever it is: this process is there to find out.
        verdict, why = "crashed", f"{type(error).__name__}: {error}"
    return json.dumps([verdict, time.monotonic() - began, why[:500]]).encode()


def _limit() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MORE
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    signal.alarm(LATEST)
