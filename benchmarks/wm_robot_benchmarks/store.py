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

from wm_robot.io.durable import compute_digest
from wm_robot.progress import Progress, make_part_progress
from wm_robot.store.snapshot import Snapshot
from wm_robot.store.store import DEFAULT_BRANCH, Store
from wm_robot_benchmarks.harness.bench import Bench
from wm_robot_benchmarks.harness.result import Result, require
from wm_robot_benchmarks.measures.snapshot_durability import BASE, SPEC, make_numbered_state
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

    def run(self, progress: Progress) -> Result:
        setting = self.make_setting()
        require(self.rounds >= 3, f"rounds is {self.rounds}; it must be at least 3")
        rounds, snapshots = self.rounds, self.snapshots
        if self.quick:
            rounds, snapshots = max(3, rounds // 4), snapshots // 20
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            place = Path(scratch)
            first, second, third = (make_part_progress(progress, start, share, 10) for start, share in SHARES)
            saving, bare, restoring = _measure_costs(place, self.size, rounds, first)
            many = _make_large_store(place / "many", snapshots, second)
            asked = {}
            for number, name in enumerate(("ls", "log")):
                asked[name] = _time_verb(name, many)
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
                f"{rounds} states of {self.size / 2**20:.1f} MiB, each written both ways in turn; ls and log, with "
                f"the start of Python, in a store of {snapshots} snapshots",
            ),
        )


def _measure_costs(
    place: Path, size: int, rounds: int, progress: Progress
) -> tuple[list[float], list[float], list[float]]:
    """Measure the time of each snapshot, of the bare operations, and of each restore, in ms."""
    store, saving, bare, restoring = Store(place / "store"), list[float](), list[float](), list[float]()
    _write_bare(place / "bare", b"", b"")
    for number in range(rounds + 1):
        state = make_numbered_state(number, size)
        saving.append(_time_call(partial(store.save, state, base_digest=BASE, spec_digest=SPEC)))
        content, manifest = save(make_numbered_state(-1 - number, size)), store.read_manifest().encode()
        bare.append(_time_call(partial(_write_bare, place / "bare", content, manifest)))
        restoring.append(_time_call(store.load))
        progress(number + 1, rounds + 1)
    # The first of each creates its folders.
    return saving[1:], bare[1:], restoring[1:]


def _write_bare(folder: Path, *contents: bytes) -> None:
    """Write content, manifest and branch name: hash, write, fsync, rename and fsync the folder."""
    folder.mkdir(exist_ok=True)
    for number, content in enumerate((*contents, b"0" * 65)):
        path = folder / f"{compute_digest(content)}-{number}"
        with path.with_suffix(".part").open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        path.with_suffix(".part").replace(path)
        handle = os.open(folder, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def _make_large_store(folder: Path, count: int, progress: Progress) -> Path:
    """Make a store with a line of `count` snapshots, written without fsync."""
    store = Store(folder)
    snapshot = store.save(make_numbered_state(0, 64), base_digest=BASE, spec_digest=SPEC)
    for number in range(1, count):
        snapshot = _make_successor(snapshot, number)
        (folder / "manifests" / f"{snapshot.digest}.json").write_bytes(snapshot.encode())
        progress(number + 1, count)
    (folder / "branches" / DEFAULT_BRANCH).write_text(f"{snapshot.digest}\n")
    return folder


def _make_successor(snapshot: Snapshot, number: int) -> Snapshot:
    after = replace(snapshot, parents=(snapshot.digest,), sequence=snapshot.sequence + 1, steps=number)
    return replace(after, digest=compute_digest(after.encode()))


def _time_verb(verb: str, folder: Path, times: int = 3) -> list[float]:
    command = [sys.executable, "-m", "wm_robot_cli", "state", verb, str(folder)]
    return [
        1e-3 * _time_call(lambda: subprocess.run(command, check=True, capture_output=True))
        for _ in range(times)
    ]


def _time_call(work: Callable[[], object]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - began)
