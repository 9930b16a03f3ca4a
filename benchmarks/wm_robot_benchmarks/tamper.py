"""`wm-robot bench tamper`: attempts to make a reader accept an untrusted or hostile bundle."""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_robot.errors import SnapshotError
from wm_robot.progress import Progress, ignore_progress
from wm_robot.sharing.bundle import read_bundle
from wm_robot_benchmarks.harness.bench import FirstSeedBench, MemoryBench
from wm_robot_benchmarks.harness.result import Result, find_base_folder, require
from wm_robot_benchmarks.tampering.attack_classes import schedule_attacks, write_attack
from wm_robot_benchmarks.tampering.attempt import ReaderOutcome, read_naively, run_reader
from wm_robot_benchmarks.tampering.target import AttackTarget
from wm_robot_cli.bundle_inputs import collect_shipment
from wm_robot_cli.values import Count, Seed

if TYPE_CHECKING:
    from wm_robot_benchmarks.tampering.attack_classes import Attack

LEAST = 100
MAKE_TIMEOUT = 120
"""Time after which the process that makes an attack is ended, in s. The largest takes over 10 s on a busy machine."""


@dataclass(frozen=True, kw_only=True)
class TamperBench(MemoryBench, FirstSeedBench):
    """Whether a damaged, forged, old or hostile bundle is ever accepted; a naive reader is the control."""

    n: Count = 10_000
    """Total number of attempts."""
    memory: str = "gru"
    """Memory family of the shipped state."""
    seeds: tuple[Seed, ...] = (0,)
    """Seeds; the first is used for the attacks."""
    quick: bool = False
    """A twentieth of the attempts."""

    def run(self, progress: Progress) -> Result:
        setting = self.make_setting()
        require(self.n >= LEAST, f"n is {self.n}; it must be at least {LEAST}")
        require(
            sys.platform == "linux",
            "readers are forked and their memory is read from /proc, which needs Linux",
        )
        count = max(LEAST, self.n // 20) if self.quick else self.n
        base = find_base_folder(setting, self.memory)
        shipment = collect_shipment(f"{base / 'pretrained'}", base, "life", None, (), None)
        with tempfile.TemporaryDirectory() as folder:
            target = AttackTarget(shipment, Path(folder))
            check_untouched(target)
            rows, naive, crash = run_attacks(target, schedule_attacks(count), setting.seeds[0], progress)
            check_untouched(target)
        made = sum(row["attempts"] for row in rows)
        figures = {
            "attempts": float(made),
            "accepted": float(sum(row["accepted"] for row in rows)),
            "crashed": float(sum(row["crashed"] for row in rows)),
            "slowest_s": max(row["slowest s"] for row in rows),
            "peak_mb": max(row["peak MB"] for row in rows),
            "naive_accepted_fraction": naive / made,
        }
        notes = (
            f"a bundle of {len(target.newest) / 2**20:.1f} MiB, accepted untouched before and after; each attempt in "
            "its own process, through the function of `state import`; peak is the whole memory of the process",
            "in the signed classes a trusted key has signed hostile content; naive: json and safetensors, no checks",
            *((f"a crash: {crash}",) if crash else ()),
        )
        bases = {self.memory: str(shipment.base["digest"])}
        return Result(setting=setting, figures=figures, table=rows, bases=bases, notes=notes)


def run_attacks(
    target: AttackTarget,
    attempts: "Mapping[str, Sequence[Attack]]",
    seed: int,
    progress: Progress = ignore_progress,
) -> tuple[list[dict[str, Any]], int, str]:
    """Run all attempts; return a row per class, the number that the control accepted, and the first crash."""
    rows, naive, crash, number = [], 0, "", 0
    whole = sum(len(attacks) for attacks in attempts.values())
    for name, attacks in attempts.items():
        seen, trusting = list[ReaderOutcome](), 0
        for attack in attacks:
            number += 1
            outcome, control = run_attempt(attack, target, np.random.default_rng([seed, number]))
            seen.append(outcome)
            trusting += control.verdict == "accepted"
            progress(number, whole)
            crash = crash or (outcome.why if outcome.verdict == "crashed" else "")
        rows.append(_make_row(name, seen, trusting))
        naive += trusting
    return rows, naive, crash


def run_attempt(
    attack: "Attack", target: AttackTarget, rng: np.random.Generator
) -> tuple[ReaderOutcome, ReaderOutcome]:
    """Run the reader and the control on one attack.

    Raises:
        SnapshotError: If the attack could not be made: then nothing was tested.
    """
    # Made in its own process too, or the readers would start with the attacker's memory.
    made = run_reader(lambda: write_attack(attack, target, rng), timeout=MAKE_TIMEOUT)
    if made.verdict != "accepted":
        raise SnapshotError(f"attack {attack} could not be made: {made.why}")
    try:
        return (
            run_reader(lambda: read_bundle(target.path, target.ring)),
            run_reader(lambda: read_naively(target.path)),
        )
    finally:
        _remove_path(target.path)


def check_untouched(target: AttackTarget) -> None:
    """Check that the reader accepts the genuine bundle.

    Raises:
        SnapshotError: If it does not: rejecting all attacks would then mean nothing.
    """
    found = run_reader(lambda: read_bundle(target.genuine, target.ring))
    if found.verdict != "accepted":
        raise SnapshotError(
            f"the untouched bundle is {found.verdict}: {found.why}. The figures would mean nothing"
        )


def _make_row(name: str, seen: Sequence[ReaderOutcome], trusting: int) -> dict[str, Any]:
    return {
        "class": name,
        "attempts": len(seen),
        "accepted": sum(each.verdict == "accepted" for each in seen),
        "crashed": sum(each.verdict == "crashed" for each in seen),
        "slowest s": round(max(each.seconds for each in seen), 4),
        "peak MB": round(max(each.peak_mb for each in seen), 1),
        "naive accepted": trusting,
    }


def _remove_path(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
