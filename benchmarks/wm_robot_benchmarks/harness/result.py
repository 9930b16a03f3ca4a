"""Settings and results of benches: a printed table, and with `--json` one JSON object as the last line."""

import json
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from statistics import pstdev
from typing import TYPE_CHECKING, Any

from wm_robot.errors import ConfigError, MissingExtraError, SnapshotError
from wm_robot.evaluation.gap import Comparison
from wm_robot.memory import registry
from wm_robot.memory.registry import DEFAULT_MEMORY
from wm_robot_cli.provenance import read_command, read_commit
from wm_robot_cli.tables import format_number, make_console, print_table

if TYPE_CHECKING:
    from wm_robot.model.base import Base

FAMILIES = tuple(name for name, family in registry.FAMILIES.items() if family.is_learned)
"""Families of memory that benches compare."""
OWN_BASES = Path("runs/bases")
"""Where to put bases of a robot whose name another has."""
VARIANTS = (*FAMILIES, "robust", "oracle", "nominal")
"""Names that a base can have after its robot's."""


@dataclass(frozen=True)
class Setting:
    """Settings that all benches share."""

    bench: str
    robot: str
    asked: Sequence[int]
    """Requested seeds."""
    quick: bool
    bases: Path
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        require(len(self.asked) > 0, "seeds is empty; it must have at least one")

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds that are run: with `quick` the first one only."""
        return tuple(self.asked[:1] if self.quick else self.asked)


@dataclass(frozen=True, kw_only=True)
class Result:
    """Result of a bench."""

    setting: Setting
    figures: Mapping[str, float | Comparison]
    """Numbers under stable names. A comparison without a value is null, and its reason is reported."""
    table: list[dict[str, Any]]
    """Rows of the printed table, also for plots."""
    bases: Mapping[str, str] = field(default_factory=dict)
    """Digest of the base of each variant."""
    notes: tuple[str, ...] = ()

    @property
    def values(self) -> dict[str, float | None]:
        """The figures as numbers; None where a comparison has no meaning."""
        return {
            name: each.value if isinstance(each, Comparison) else each for name, each in self.figures.items()
        }

    @property
    def reasons(self) -> dict[str, str]:
        """Why figures are None, by name."""
        return {
            name: each.reason
            for name, each in self.figures.items()
            if isinstance(each, Comparison) and each.value is None
        }


def require_gripper(setting: Setting) -> None:
    """Reject a robot whose first task is not about its gripper, before bases are trained for it.

    Raises:
        ConfigError: If the robot's spec has no chain, or its first task another reward than `reach`.
    """
    from wm_robot.robots import load_spec

    spec = load_spec(setting.robot)
    first = next(iter(spec.tasks.items()), None)
    why = (
        "whose spec has no chain, and so no gripper"
        if not spec.chain
        else "whose spec has no task"
        if first is None
        else f"whose first task '{first[0]}' has the reward '{first[1].reward}'"
    )
    require(
        bool(spec.chain) and first is not None and first[1].reward == "reach",
        f"robot is '{setting.robot}', {why}; bench {setting.bench} measures the distance of a gripper to its target. "
        "Use a robot with a gripper that reaches: --robot arm",
    )


def find_base_folder(setting: Setting, variant: str) -> Path:
    """Return the folder of one variant's base, checked as in `check_bases`."""
    return check_bases(setting, [variant])[variant]


def check_bases(setting: Setting, variants: Iterable[str]) -> dict[str, Path]:
    """Find the bases of all variants that a bench needs, before it simulates anything.

    Returns:
        Folder of each variant's base.

    Raises:
        SnapshotError: If bases are missing or of another spec of the robot; one sentence names them all.
    """
    from wm_robot.io.base_file import find_base
    from wm_robot.robots import load_spec

    spec = load_spec(setting.robot)
    wanted, found = list(dict.fromkeys(variants)), dict[str, Path]()
    for arm in wanted:
        if _has_base(folder := setting.bases / f"{spec.name}-{arm}"):
            found[arm] = find_base(folder)
    missing = [arm for arm in wanted if arm not in found]
    foreign = [arm for arm, folder in found.items() if _read_spec_digest(folder) != spec.compute_digest()]
    if missing or foreign:
        raise SnapshotError(_describe_missing_bases(setting, spec.name, wanted, missing, foreign))
    return found


def load_bases(setting: Setting, variants: Iterable[str]) -> "dict[str, Base]":
    """Load the base of every variant that an experiment needs.

    Raises:
        SnapshotError: See `check_bases`.
        MissingExtraError: If torch is not installed.
    """
    folders = check_bases(setting, variants)
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError(f"wm-robot bench {setting.bench}", "learn,sim") from error
    from wm_robot.model.base import load_base

    torch.set_num_threads(1)
    return {arm: load_base(folder) for arm, folder in folders.items()}


def list_variants_with_base(setting: Setting) -> list[str]:
    """List the variants of a robot with a base for its spec, in the folder or among the shipped bases."""
    from wm_robot.io.base_file import BASE_FOLDERS, CARD
    from wm_robot.robots import load_spec

    spec = load_spec(setting.robot)
    # Shipped bases are found under the default name from any folder: see `find_base`.
    places = [setting.bases, *(BASE_FOLDERS if setting.bases in (Path(), Path("bases")) else ())]
    folders = {
        card.parent.name: card.parent
        for place in reversed(places)
        for card in place.glob(f"{spec.name}-*/{CARD}")
    }
    own = (name for name, folder in folders.items() if _read_spec_digest(folder) == spec.compute_digest())
    return sorted(name.removeprefix(f"{spec.name}-") for name in own)


def read_base_digest(folder: Path) -> str:
    """Return the digest of a base from its card."""
    return _read_card(folder, "digest")


def _read_spec_digest(folder: Path) -> str:
    """Return the spec digest of the robot that a base was trained for, from its card."""
    return _read_card(folder, "spec_digest")


def _read_card(folder: Path, key: str) -> str:
    from wm_robot.io.base_file import CARD
    from wm_robot.io.strict_json import parse_json

    card = parse_json((folder / CARD).read_bytes(), str(folder / CARD))
    return str(card.get(key)) if isinstance(card, dict) else ""


def _describe_missing_bases(
    setting: Setting, robot: str, variants: list[str], missing: list[str], foreign: list[str]
) -> str:
    """Describe in one sentence all bases that are missing or of another robot, with the command to train them."""
    wanted = [f"{robot}-{arm}" for arm in variants]
    needed = f"bench {setting.bench} needs the base{'s' * (len(wanted) > 1)} {', '.join(wanted)}"
    said = (
        [f"missing in {setting.bases}: {', '.join(f'{robot}-{arm}' for arm in missing)}"] if missing else []
    )
    if foreign:
        said.append(
            f"trained for another spec than that of '{setting.robot}': "
            + ", ".join(f"{robot}-{arm}" for arm in foreign)
        )
    for arm in missing:
        if arm not in VARIANTS:
            close = get_close_matches(arm, VARIANTS, n=1)
            guess = f"; did you mean '{close[0]}'?" if close else f"; known are {', '.join(VARIANTS)}"
            return f"{needed}; '{arm}' is no family of memory{guess}"
    if foreign:
        # The bases of the other robot are not changed.
        make = _compose_train_command(setting.robot, robot, list(variants), OWN_BASES)
        return f"{needed}; {'; '.join(said)}. Make own ones, and name their folder by --bases {OWN_BASES}: {make}"
    make = _compose_train_command(setting.robot, robot, missing, setting.bases)
    return f"{needed}; {'; '.join(said)}. Make {'them' if len(missing) > 1 else 'it'}: {make}"


def _compose_train_command(robot_argument: str, robot: str, variants: list[str], folder: Path) -> str:
    """Return the command that trains the missing bases only.

    `train --all` trains one of a family, `robust` and `oracle`.

    Args:
        robot_argument: The robot's name or the path of its spec, as given by the user.
        folder: Folder of the bases.
    """
    default = folder == Path("bases")
    ends = [arm for arm in variants if arm in ("robust", "oracle", "nominal")]
    families = [arm for arm in variants if arm not in ends]
    there = [
        arm for arm in ("robust", "oracle") if arm not in variants and _has_base(folder / f"{robot}-{arm}")
    ]
    commands, train = list[str](), ["wm-robot", "train", robot_argument]
    if families and ends and not there:
        first = families.pop(0)
        of_family = [] if first == DEFAULT_MEMORY else ["--memory", first]
        out = [] if default else ["--out", str(folder)]
        commands.append(shlex.join([*train, "--all", *of_family, *out]))
        ends = [arm for arm in ends if arm not in ("robust", "oracle")]
    for arm in (*families, *ends):
        out = [] if default else ["--out", str(folder / f"{robot}-{arm}")]
        commands.append(shlex.join([*train, "--variant" if arm in ends else "--memory", arm, *out]))
    return " && ".join(commands)


def _has_base(folder: Path) -> bool:
    from wm_robot.io.base_file import find_base

    try:
        find_base(folder)
        return True
    except SnapshotError:
        return False


def describe_spread(values: Mapping[str, Sequence[float | None]]) -> str:
    """Describe the spread of figures over seeds; with one seed there is none.

    Args:
        values: Figure → value of each seed; seeds without a value are left out.
    """
    known = {name: [x for x in each if x is not None] for name, each in values.items()}
    if max((len(each) for each in values.values()), default=0) < 2:
        return "one seed: no spread over seeds"
    return "spread over seeds: " + ", ".join(
        f"{name} {min(each):.3g} to {max(each):.3g} (±{pstdev(each):.2g})"
        for name, each in known.items()
        if len(each) > 1
    )


def describe_seed_count(seeds: Sequence[int]) -> str:
    """Return `one seed`, or `3 seeds`."""
    return "one seed" if len(seeds) == 1 else f"{len(seeds)} seeds"


def print_result(result: Result, as_json: bool) -> None:
    """Print a result: table, figures and the command to reproduce them; with `as_json` as JSON too."""
    setting = result.setting
    seconds = round(time.monotonic() - setting.started, 1)
    made_by = {"commit": read_commit(), "command": read_command()}
    _print_table(result, seconds, **made_by)
    if as_json:
        print(
            json.dumps(
                {
                    "bench": setting.bench,
                    "robot": setting.robot,
                    **made_by,
                    "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    "seeds": list(setting.seeds),
                    "quick": setting.quick,
                    "bases": dict(result.bases),
                    "seconds": seconds,
                    "figures": result.values,
                    "reasons": result.reasons,
                    "table": result.table,
                },
                allow_nan=False,
            )
        )


def _print_table(result: Result, seconds: float, *, commit: str, command: str) -> None:
    console, setting = make_console(), result.setting

    def print_line(words: str) -> None:
        console.print(words, markup=False, highlight=False, soft_wrap=True)

    quick = " · quick: a smaller sample of the same" if setting.quick else ""
    print_line(f"{setting.bench} · {setting.robot}{quick}")
    by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in result.table:
        by_columns.setdefault(tuple(row), []).append(row)
    for rows in by_columns.values():
        print_table(console, rows)
    for name, value in result.values.items():
        print_line(f"  {name} = {result.reasons[name] if value is None else format_number(value, 4)}")
    for note in result.notes:
        print_line(f"  {note}")
    seeds = ", ".join(map(str, setting.seeds))
    bases = ", ".join(f"{name} {digest[:12]}" for name, digest in result.bases.items())
    print_line(f"  seed{'s' * (len(setting.seeds) > 1)} {seeds} · commit {commit} · {seconds:g} s")
    if bases:
        print_line(f"  bases: {bases}")
    print_line(f"  again: {command}")


def require(condition: bool, message: str) -> None:
    """Reject an invalid setting.

    Raises:
        ConfigError: If the condition is false.
    """
    if not condition:
        raise ConfigError(message)
