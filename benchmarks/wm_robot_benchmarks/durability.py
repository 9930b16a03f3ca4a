"""`wm-robot bench durability`: kills writers at random times, and checks their acknowledged data."""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wm_robot.errors import MissingExtraError
from wm_robot.progress import Progress, make_part_progress
from wm_robot_benchmarks.harness.bench import FirstSeedBench
from wm_robot_benchmarks.harness.result import Result, require
from wm_robot_benchmarks.measures.snapshot_durability import (
    DiskImage,
    DurabilityFinding,
    Writer,
    check_overwritten_file,
    check_store,
    cut_power_while_writing,
    kill_while_writing,
    overwrite_file,
    write_to_store,
    write_with_pauses,
    write_without_folder_sync,
)
from wm_robot_cli.values import Count, CountOrZero, Seed

LATEST, LATEST_RECORDER, LATEST_CUT = 0.15, 0.3, 0.6
"""Longest time until a writer of states is killed, until one of recordings is (it starts more slowly), and until its
power is cut (its disk is slow); in s."""


EPISODE = 250
"""Steps of an episode of the killed recorder."""


@dataclass(frozen=True, kw_only=True)
class DurabilityBench(FirstSeedBench):
    """Whether acknowledged data survives `kill -9` at random times; naive writers are the controls."""

    kills: CountOrZero = 1000
    """Kills of each writer of states."""
    power_cuts: CountOrZero = 0
    """Power cuts of each writer of states on its own disk image; needs root and a loop device."""
    recorder_kills: CountOrZero = 200
    """Kills of each writer of recordings, during an episode."""
    size: Count = 2 << 20
    """Size of a state, in bytes."""
    folder: Path | None = None
    """Folder on the tested disk; by default that of temporary files."""
    seeds: tuple[Seed, ...] = (0,)
    """Seeds; the first is used for the times."""
    quick: bool = False
    """A twentieth of each count."""

    def run(self, progress: Progress) -> Result:
        setting = self.make_setting()
        require(self.kills >= 10, f"kills is {self.kills}; it must be at least 10")
        require(sys.platform != "win32", "writers are forked, which Windows cannot")
        kills, power_cuts, recorder_kills = self.kills, self.power_cuts, self.recorder_kills
        if self.quick:
            kills, power_cuts = max(10, kills // 20), power_cuts // 20
            recorder_kills = recorder_kills and max(10, recorder_kills // 20)
        rng = np.random.default_rng(setting.seeds[0])
        shares = _ProgressShares(
            progress,
            {"store": kills, "naive": kills, "recorders": 4 * recorder_kills, "power": 2 * power_cuts},
        )
        rows, figures, notes = [], dict[str, float](), list[str]()
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            place = Path(scratch)
            store, naive = (
                _run_trials(
                    name,
                    "kill -9",
                    kills,
                    _make_kill_trial(writer, found, place / name, self.size),
                    rng,
                    progress=shares(name),
                )
                for name, writer, found in (
                    ("store", write_to_store, check_store),
                    ("naive", overwrite_file, check_overwritten_file),
                )
            )
            rows += [store, naive]
            figures |= {
                "lost": float(store["lost"]),
                "unreadable": float(store["unreadable"]),
                "naive_failed_fraction": naive["unreadable"] / kills,
            }
            notes.append(
                f"kill -9 up to {1e3 * LATEST:.0f} ms after a writer of {self.size / 2**20:.1f} MiB states started; "
                f"that of the store also collects garbage; none in {kills} means fewer than {3 / kills:.2%}, by the "
                "rule of three"
            )
            if recorder_kills:
                recorded, told, said = _measure_recorders(place, recorder_kills, rng, shares("recorders"))
                rows, figures = rows + recorded, figures | told
                notes.append(said)
            why_not = DiskImage.find_obstacle() if power_cuts else ""
            if why_not:
                notes.append(f"power cuts skipped: {why_not}")
            elif power_cuts:
                first, second = (make_part_progress(shares("power"), start, 1, 2) for start in (0, 1))
                store, control = (
                    _make_power_cut_trial(
                        name, writer, place / f"power-{name}", power_cuts, self.size, rng, share
                    )
                    for name, writer, share in (
                        ("store", write_with_pauses, first),
                        ("no folder fsync", write_without_folder_sync, second),
                    )
                )
                rows += [store, control]
                figures |= {
                    "power_cut_lost": float(store["lost"]),
                    "power_cut_unreadable": float(store["unreadable"]),
                    "power_cut_control_failed_fraction": max(control["lost"], control["unreadable"])
                    / power_cuts,
                }
                notes.append(
                    "power cut: an ext4 image at one instant, with its journal replayed; no torn sectors"
                )
        return Result(setting=setting, figures=figures, table=rows, notes=tuple(notes))


class _ProgressShares:
    """Shares of the progress, by name."""

    def __init__(self, progress: Progress, trials: dict[str, int]):
        self._progress, self._trials = progress, trials

    def __call__(self, name: str) -> Progress:
        names = list(self._trials)
        start = sum(self._trials[before] for before in names[: names.index(name)])
        return make_part_progress(self._progress, start, self._trials[name], sum(self._trials.values()))


def _measure_recorders(
    place: Path, kills: int, rng: np.random.Generator, progress: Progress
) -> tuple[list[dict[str, Any]], dict[str, float], str]:
    """Return rows, figures and a note of killed recorders, each with its control."""
    try:
        from wm_robot_benchmarks.measures import recording_durability
    except MissingExtraError as error:
        return [], {}, f"recorders skipped: {error}"
    recording_durability.load_recording_libraries()
    trials: dict[str, tuple[Writer, Callable[[Path, list[str]], DurabilityFinding]]] = {
        "episodes": (recording_durability.write_episodes, recording_durability.EpisodeFolderCheck(EPISODE)),
        "one Parquet file": (recording_durability.write_one_file, recording_durability.check_one_file),
        "session, recovered": (recording_durability.write_session, recording_durability.check_session),
        "session, as it was left": (
            recording_durability.write_session,
            recording_durability.check_unrecovered_session,
        ),
    }
    episodes, naive, session, left = rows = [
        _run_trials(
            name,
            "kill -9",
            kills,
            _make_kill_trial(writer, found, place / name, EPISODE),
            rng,
            LATEST_RECORDER,
            progress=make_part_progress(progress, number, 1, len(trials)),
        )
        for number, (name, (writer, found)) in enumerate(trials.items())
    ]
    figures = {
        "recorder_lost": float(episodes["lost"]),
        "recorder_unreadable": float(episodes["unreadable"]),
        "recorder_naive_failed_fraction": naive["unreadable"] / kills,
        "session_lost": float(session["lost"]),
        "session_unreadable": float(session["unreadable"]),
        "session_unrecovered_failed_fraction": left["unreadable"] / kills,
    }
    note = (
        f"recorders: episodes of {EPISODE} steps, acknowledged every "
        f"{recording_durability.SYNCED} steps and when they end, read back by wm_robot "
        "and by pyarrow; sessions by the indexed reader of mcap"
    )
    return rows, figures, note


def _make_kill_trial(
    writer: Writer, found: Callable[[Path, list[str]], DurabilityFinding], place: Path, size: int
) -> Callable[[int, float], DurabilityFinding]:
    return lambda number, after: kill_while_writing(
        writer, found, place, number=number, size=size, delay=after
    )


def _make_power_cut_trial(
    name: str,
    writer: Writer,
    place: Path,
    trials: int,
    size: int,
    rng: np.random.Generator,
    progress: Progress,
) -> dict[str, Any]:
    place.mkdir()
    disk = DiskImage(place)
    try:
        return _run_trials(
            name,
            "power cut",
            trials,
            lambda number, after: cut_power_while_writing(
                writer, check_store, disk, number=number, size=size, delay=after
            ),
            rng,
            LATEST_CUT,
            progress=progress,
        )
    finally:
        disk.close()


def _run_trials(
    name: str,
    end: str,
    trials: int,
    trial: Callable[[int, float], DurabilityFinding],
    rng: np.random.Generator,
    latest: float = LATEST,
    *,
    progress: Progress,
) -> dict[str, Any]:
    """Return a row with the data found after `count` ends at random times."""
    began, number, seen = time.monotonic(), 0, []
    for done in range(trials):
        progress(done, trials)
        seen.append(trial(number + 1, float(rng.uniform(0, latest))))
        number = max(number, seen[-1].number)
    return {
        "writer": name,
        "ended by": end,
        "trials": trials,
        "acknowledged": sum(each.acknowledged for each in seen),
        "lost": sum(each.lost for each in seen),
        "unreadable": sum(each.unreadable for each in seen),
        "seconds": round(time.monotonic() - began, 1),
    }
