"""What every bench is told and gives back: a table for people, with `--json` one object as the last line."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wm_robot.cli.provenance import commit
from wm_robot.cli.tables import table_of
from wm_robot.errors import ConfigError, MissingExtraError


@dataclass(frozen=True)
class Setting:
    """What every bench is told."""

    bench: str
    robot: str
    asked: Sequence[int]
    """Seeds that were asked for."""
    quick: bool
    bases: Path
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        needs(len(self.asked) > 0, "seeds is empty; it must have at least one")

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds that are run: the first alone when it is to be quick."""
        return tuple(self.asked[:1] if self.quick else self.asked)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What every bench gives back."""

    setting: Setting
    figures: dict[str, float]
    """Numbers under names that stay stable."""
    table: list[dict[str, Any]]
    """Rows for people and plots."""
    bases: Mapping[str, str] = field(default_factory=dict)
    """Digest of the base of each arm."""
    notes: tuple[str, ...] = ()


def bases_of(setting: Setting, arms: dict[str, str]) -> dict[str, Any]:
    """Load the base of every arm that an experiment needs.

    Raises:
        SnapshotError: If one is missing.
        MissingExtraError: If torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError(f"wm-robot bench {setting.bench}", "learn,sim") from error
    from wm_robot.models.base import load_base

    torch.set_num_threads(1)
    return {arm: load_base(setting.bases / f"{setting.robot}-{name}") for arm, name in arms.items()}


def arms_with_base(setting: Setting) -> list[str]:
    """The arms of a robot whose bases are there."""
    cards = setting.bases.glob(f"{setting.robot}-*/base.json")
    return [card.parent.name.removeprefix(f"{setting.robot}-") for card in cards]


def finish(result: Result, as_json: bool) -> None:
    _print_table(result)
    if as_json:
        setting = result.setting
        seconds = round(time.monotonic() - setting.started, 1)
        print(
            json.dumps(
                {
                    "bench": setting.bench,
                    "robot": setting.robot,
                    "commit": commit(),
                    "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    "seeds": list(setting.seeds),
                    "quick": setting.quick,
                    "bases": dict(result.bases),
                    "seconds": seconds,
                    "figures": result.figures,
                    "table": result.table,
                },
                allow_nan=False,
            )
        )


def _print_table(result: Result) -> None:
    from rich.console import Console

    console = Console(file=sys.stdout)
    quick = " · quick: a smaller sample of the same" if result.setting.quick else ""
    console.print(f"{result.setting.bench} · {result.setting.robot}{quick}")
    by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in result.table:
        by_columns.setdefault(tuple(row), []).append(row)
    for columns, rows in by_columns.items():
        console.print(table_of(columns, rows))
    for name, value in result.figures.items():
        console.print(f"  {name} = {value:.4g}")
    for note in result.notes:
        console.print(f"  {note}")


def needs(condition: bool, message: str) -> None:
    """Refuse a setting that cannot work.

    Raises:
        ConfigError: If the condition does not hold.
    """
    if not condition:
        raise ConfigError(message)
