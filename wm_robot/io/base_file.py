"""The two files of a base, checked without torch: its card and its weights."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from wm_robot.errors import SnapshotError
from wm_robot.io.durable import digest
from wm_robot.io.strict_json import read_json
from wm_robot.spec import canonical_json

FORMAT, KIND = 1, "base"
CARD, WEIGHTS = "base.json", "weights.safetensors"
HERE = Path(__file__).resolve()
SHIPPED = (HERE.parents[2] / "bases", HERE.parents[1] / "bases")
"""Folders of the bases that ship: in the repository, and in an installed package."""


def find_base(folder: str | Path) -> Path:
    """The folder of a base: the named one, or the base of that name that ships.

    `arm-ekf` and `bases/arm-ekf` both name a shipped base, from any working folder. A folder that exists comes first.

    Raises:
        SnapshotError: If there is no such base; the error lists those that are there.
    """
    named = Path(folder)
    if (named / CARD).is_file():
        return named
    if not named.is_absolute() and named.parent in (Path(), Path("bases")):
        for place in SHIPPED:
            if (place / named.name / CARD).is_file():
                return place / named.name
    if named.exists():
        raise SnapshotError(f"no base in {named}: it has no {CARD}. {_known_bases(named)}")
    raise SnapshotError(f"no base in {named}. {_known_bases(named)}")


def beside_base(folder: str | Path) -> Path:
    """The folder with what lies beside a base: where `find_base` finds it, or the named one if there is none."""
    try:
        return find_base(folder)
    except SnapshotError:
        return Path(folder)


def check_is_of(folder: Path, digest: str, life: str) -> None:
    """Refuse a base that a life was not lived with; its weights are not read.

    Args:
        digest: Of the life's base.
        life: As it was named, for the error.

    Raises:
        SnapshotError: If it is another; the error names the right one if that is near.
    """
    found = _digest_in(folder)
    if found in (digest, ""):
        return
    near = (path for place in (*SHIPPED, folder.parent) for path in sorted(place.glob(f"*/{CARD}")))
    right = next((card.parent for card in near if _digest_in(card.parent) == digest), None)
    raise SnapshotError(
        f"{life} and base {folder} do not belong together: it was lived with base {digest[:12]}, and this is "
        f"{found[:12]}. "
        + (
            f"Give its own: --base {right}"
            if right
            else "None that ships or is near is its own; name its folder"
        )
    )


def _digest_in(folder: Path) -> str:
    """What the card says; empty where none can be read, which is found out when it is used."""
    try:
        return str(read_json((folder / CARD).read_bytes(), CARD)["digest"])
    except (OSError, SnapshotError, TypeError, KeyError):
        return ""


def _known_bases(wrong: Path) -> str:
    """What bases there are, for an error: those that ship, and those in the folder where one was looked for."""
    shipped = sorted({card.parent.name for place in SHIPPED for card in place.glob(f"*/{CARD}")})
    own = sorted(str(card.parent) for card in wrong.parent.glob(f"*/{CARD}"))
    known = [*shipped, *(path for path in own if Path(path).name not in shipped)]
    close = get_close_matches(wrong.name, [Path(path).name for path in known], n=1)
    there = f"Bases that are there: {', '.join(known) or 'none'}"
    return f"Did you mean '{close[0]}'? {there}" if close else f"{there}. To make one: wm-robot train ROBOT"


def base_digest(config: Mapping[str, Any], weights_sha256: str) -> str:
    """SHA-256 of weights and config, in hex: a lifetime state is valid with this base alone."""
    return digest(canonical_json({"config": config, "weights": weights_sha256}))


def check_base(card: bytes, weights: bytes, where: str) -> dict[str, Any]:
    """What the card says, once it is known to be of these weights. The weights are not parsed.

    Args:
        where: The base is, for the error.

    Raises:
        SnapshotError: If the card cannot be read, is of another format, or not of these weights.
    """
    values, weights_sha256 = read_json(card, f"{CARD} of {where}"), digest(weights)
    try:
        version, found = values["format"], (values["weights_sha256"], values["digest"])
        known = (weights_sha256, base_digest(values["config"], weights_sha256))
    except (KeyError, TypeError, RecursionError) as error:
        raise SnapshotError(f"{CARD} of {where} is no card of a base: {error}. Fetch it again") from error
    if version != FORMAT:
        raise SnapshotError(
            f"base in {where} has format {version}, this version reads {FORMAT}. "
            "Use the version that made it, or train it again: wm-robot train ROBOT"
        )
    if found != known:
        raise SnapshotError(f"base in {where} is damaged: its SHA-256 is not the manifest's. Fetch it again")
    return dict(values)
