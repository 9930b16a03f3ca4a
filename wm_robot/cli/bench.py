"""`wm-robot bench NAME`: measure, print a table, and with `--json` one object as the last line."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from wm_robot.cli.provenance import commit
from wm_robot.errors import ConfigError, MissingExtraError

BASES = Path("bases")
JsonFlag = Annotated[bool, tyro.conf.arg(name="json")]


def bench() -> None:
    """Measure: `wm-robot bench adaptation|control|sim|loop`."""
    print("usage: wm-robot bench {adaptation,control,sim,loop} [--robot NAME] [--quick] [--json]")


def adaptation(
    robot: str = "arm",
    worlds: int = 200,
    seeds: tuple[int, ...] = (0, 1, 2),
    memory: str = "gru",
    bases: Path = BASES,
    quick: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """Open-loop error by steps lived in worlds never trained on, and what false histories do.

    Args:
        robot: Name of the robot.
        worlds: Held-out worlds for each seed.
        seeds: Of worlds, motion and noise.
        memory: Family that the figures are of.
        bases: Folder with the trained bases.
        quick: A quarter of the worlds, one seed.
        as_json: Print one JSON object as the last line.
    """
    from wm_robot.cli.bench_adaptation import run

    _finish(run(_Setting("adaptation", robot, seeds, quick, bases), memory, worlds), as_json)


def control(
    robot: str = "arm",
    episodes: int = 100,
    seeds: tuple[int, ...] = (0, 1),
    memory: str = "gru",
    bases: Path = BASES,
    quick: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """Settled target error after a hidden change, each arm driven by its own planner.

    Args:
        robot: Name of the robot.
        episodes: Episodes for each arm and seed.
        seeds: Of worlds, targets and noise.
        memory: Family that the figures are of.
        bases: Folder with the trained bases.
        quick: A fifth of the episodes, one seed.
        as_json: Print one JSON object as the last line.
    """
    from wm_robot.cli.bench_control import run

    _finish(run(_Setting("control", robot, seeds, quick, bases), memory, episodes), as_json)


def sim(
    robot: str = "arm",
    seconds: float = 20.0,
    threads: int = 1,
    quick: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """Transitions a second of a batched rollout, beside a bare `mujoco.rollout` loop in the same run.

    Args:
        robot: Name of the robot.
        seconds: Time for each of the two.
        threads: Physics threads of both.
        quick: A quarter of the time.
        as_json: Print one JSON object as the last line.
    """
    from wm_robot.cli.bench_sim import run

    _finish(run(_Setting("sim", robot, (0,), quick, BASES), seconds, threads), as_json)


def loop(
    robot: str = "arm",
    seconds: float = 60.0,
    memory: str = "gru",
    bases: Path = BASES,
    quick: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """Time from a sensor's stamp to the command for it, through ROS 2, plant and agent in processes of their own.

    Args:
        robot: Name of the robot.
        seconds: Length of the run.
        memory: Family of the agent's base.
        bases: Folder with the trained bases.
        quick: A quarter of the time.
        as_json: Print one JSON object as the last line.
    """
    from wm_robot.cli.bench_loop import run

    _finish(run(_Setting("loop", robot, (0,), quick, bases), memory, seconds), as_json)


@dataclass(frozen=True)
class _Setting:
    """What every bench is told."""

    bench: str
    robot: str
    seeds: Sequence[int]
    quick: bool
    bases: Path
    started: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What every bench gives back."""

    setting: _Setting
    figures: dict[str, float]
    """Numbers under names that stay stable."""
    table: list[dict[str, Any]]
    """Rows for people and plots."""
    notes: tuple[str, ...] = ()


def bases_of(setting: _Setting, arms: dict[str, str]) -> dict[str, Any]:
    """Load the base of every arm that an experiment needs.

    Raises:
        SnapshotError: If one is missing; the message says how to train it.
        MissingExtraError: If torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError(f"wm-robot bench {setting.bench}", "learn,sim") from error
    from wm_robot.models.base import load_base

    torch.set_num_threads(1)
    return {arm: load_base(setting.bases / f"{setting.robot}-{name}") for arm, name in arms.items()}


def _finish(result: Result, as_json: bool) -> None:
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
                    "seeds": list(setting.seeds),
                    "quick": setting.quick,
                    "seconds": seconds,
                    "figures": result.figures,
                    "table": result.table,
                },
                allow_nan=False,
            )
        )


def _print_table(result: Result) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(file=sys.stdout)
    title = f"{result.setting.bench} · {result.setting.robot}"
    table = Table(title=title + (" · quick: a smaller sample of the same" if result.setting.quick else ""))
    columns = list(dict.fromkeys(name for row in result.table for name in row))
    for name in columns:
        table.add_column(name, justify="left" if isinstance(result.table[0].get(name), str) else "right")
    for row in result.table:
        table.add_row(*(_cell(row.get(name, "")) for name in columns))
    console.print(table)
    for name, value in result.figures.items():
        console.print(f"  {name} = {value:.4g}")
    for note in result.notes:
        console.print(f"  {note}")


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def needs(condition: bool, message: str) -> None:
    """Refuse a setting that cannot work.

    Raises:
        ConfigError: If the condition does not hold.
    """
    if not condition:
        raise ConfigError(message)
