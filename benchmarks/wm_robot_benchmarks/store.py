"""`wm-robot bench store`: cost of a snapshot over its hash, writes and fsyncs, and speed of a very large store."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from wm_robot.io.durable import digest
from wm_robot.progress import Progress, part_of, unreported
from wm_robot.store.snapshot import Snapshot
from wm_robot.store.store import MAIN, Store
from wm_robot_benchmarks.harness.bench import Bench
from wm_robot_benchmarks.harness.result import Result, Setting, needs
from wm_robot_benchmarks.measures.snapshot_durability import BASE, SPEC, state_of
from wm_robot_cli.values import Count

SHARES = ((0, 1), (1, 4), (5, 5))
"""Start and size of the progress of snapshots, large store and its queries, in tenths."""


@dataclass(frozen=True, kw_only=True)
class StoreBench(Bench):
    """Cost of a snapshot over its bare hash, writes and fsyncs, and response time of a very large store."""

    size: Count = 2 << 20
    """Size of a state, in bytes."""
    rounds: Count = 40
    """Number of states that are written both ways."""
    snapshots: Count = 100_000
    """Number of snapshots of the large store."""
    folder: Path | None = None
    """Folder on the tested disk; by default that of temporary files."""
    quick: bool = False
    """A quarter of the rounds, a twentieth of the snapshots."""

    def run(self, setting: Setting, *, progress: Progress) -> Result:
        return run(setting, self.size, self.rounds, self.snapshots, self.folder, progress=progress)


def run(
    setting: Setting,
    size: int,
    rounds: int,
    snapshots: int,
    folder: Path | None,
    *,
    progress: Progress = unreported,
) -> Result:
    """See `wm-robot bench store --help`."""
    needs(rounds >= 3, f"rounds is {rounds}; it must be at least 3")
    if setting.quick:
        rounds, snapshots = max(3, rounds // 4), snapshots // 20
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        place = Path(scratch)
        first, second, third = (part_of(progress, start, size, 10) for start, size in SHARES)
        saving, bare, restoring = _costs(place, size, rounds, first)
        many = _many(place / "many", snapshots, second)
        asked = {}
        for number, name in enumerate(("ls", "log")):
            asked[name] = _seconds(name, many)
            third(number + 1, 2)
    rows = [
        {
            "what": what,
            "median": round(float(np.median(times)), 2),
            "p90": round(float(np.quantile(times, 0.9)), 2),
        }
        for what, times in (
            ("snapshot, ms", saving),
            ("the same hash, writes and fsyncs, ms", bare),
            ("restore, ms", restoring),
            *((f"wm-robot state {name}, s", seconds) for name, seconds in asked.items()),
        )
    ]
    return Result(
        setting=setting,
        figures={
            "snapshot_vs_bare": float(np.median(np.array(saving) / np.array(bare))),
            "restore_ms": float(np.median(restoring)),
            "ls_s": float(np.median(asked["ls"])),
            "log_s": float(np.median(asked["log"])),
        },
        table=rows,
        notes=(
            f"{rounds} states of {size / 2**20:.1f} MiB, each written both ways in turn; ls and log, with the start "
            f"of Python, in a store of {snapshots} snapshots",
        ),
    )


def _costs(
    place: Path, size: int, rounds: int, progress: Progress
) -> tuple[list[float], list[float], list[float]]:
    """Measure the time of each snapshot, of the bare operations, and of each restore, in ms."""
    store, saving, bare, restoring = Store(place / "store"), list[float](), list[float](), list[float]()
    _bare(place / "bare", b"", b"")
    for number in range(rounds + 1):
        state = state_of(number, size)
        saving.append(_timed(partial(store.save, state, base_digest=BASE, spec_digest=SPEC)))
        content, manifest = save(state_of(-1 - number, size)), store.show().manifest()
        bare.append(_timed(partial(_bare, place / "bare", content, manifest)))
        restoring.append(_timed(store.load))
        progress(number + 1, rounds + 1)
    # The first of each creates its folders.
    return saving[1:], bare[1:], restoring[1:]


def _bare(folder: Path, *contents: bytes) -> None:
    """Write content, manifest and branch name: hash, write, fsync, rename and fsync the folder."""
    folder.mkdir(exist_ok=True)
    for number, content in enumerate((*contents, b"0" * 65)):
        path = folder / f"{digest(content)}-{number}"
        with path.with_suffix(".part").open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        path.with_suffix(".part").replace(path)
        handle = os.open(folder, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def _many(folder: Path, count: int, progress: Progress) -> Path:
    """Make a store with a line of `count` snapshots, written without fsync."""
    store = Store(folder)
    snapshot = store.save(state_of(0, 64), base_digest=BASE, spec_digest=SPEC)
    for number in range(1, count):
        snapshot = _following(snapshot, number)
        (folder / "manifests" / f"{snapshot.digest}.json").write_bytes(snapshot.manifest())
        progress(number + 1, count)
    (folder / "branches" / MAIN).write_text(f"{snapshot.digest}\n")
    return folder


def _following(snapshot: Snapshot, number: int) -> Snapshot:
    after = replace(snapshot, parents=(snapshot.digest,), sequence=snapshot.sequence + 1, steps=number)
    return replace(after, digest=digest(after.manifest()))


def _seconds(verb: str, folder: Path, times: int = 3) -> list[float]:
    command = [sys.executable, "-m", "wm_robot_cli", "state", verb, str(folder)]
    return [
        1e-3 * _timed(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(times)
    ]


def _timed(work: Callable[[], object]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - began)
