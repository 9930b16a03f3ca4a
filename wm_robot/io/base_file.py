"""Base files: card and weights, checked without torch."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from wm_robot.errors import SnapshotError
from wm_robot.io.durable import compute_digest
from wm_robot.io.strict_json import parse_json
from wm_robot.spec import encode_canonical_json

FORMAT, KIND = 2, "base"
CARD, WEIGHTS = "base.json", "weights.safetensors"
HERE = Path(__file__).resolve()
BASE_FOLDERS = (HERE.parents[2] / "bases", HERE.parents[1] / "bases")
"""Folders of the bases that ship: in the repository, and in an installed package."""


def find_base(folder: str | Path) -> Path:
    """Return the folder of a base: the named one, or the shipped base of that name.

    `arm-semiparametric` and `bases/arm-semiparametric` both name a shipped base, from any working folder. A folder
    that exists comes first.

    Raises:
        SnapshotError: If there is no such base; the error lists the available ones.
    """
    named = Path(folder)
    if (named / CARD).is_file():
        return named
    if not named.is_absolute() and named.parent in (Path(), Path("bases")):
        for place in BASE_FOLDERS:
            if (place / named.name / CARD).is_file():
                return place / named.name
    if named.exists():
        raise SnapshotError(f"no base in {named}: it has no {CARD}. {_list_bases(named)}")
    raise SnapshotError(f"no base in {named}. {_list_bases(named)}")


def resolve_base_folder(folder: str | Path) -> Path:
    """Return the folder of a base, for other files in it; the named one if `find_base` finds none."""
    try:
        return find_base(folder)
    except SnapshotError:
        return Path(folder)


def check_same_base(folder: Path, expected_digest: str, state_reference: str) -> None:
    """Refuse a base with which a lifetime state was not learned; its weights are not read.

    Args:
        expected_digest: Digest of the state's base.
        state_reference: Reference of the state, for the error.

    Raises:
        SnapshotError: If it is another base; the error names the right one if it is found.
    """
    found = _read_digest(folder)
    if found in (expected_digest, ""):
        return
    right = find_base_by_digest(expected_digest, folder.parent)
    raise SnapshotError(
        f"{state_reference} and base {folder} do not belong together: it was learned with base "
        f"{expected_digest[:12]}, and this is {found[:12]}. "
        + (f"Use: --base {right}" if right else "No shipped or nearby base matches; name its folder")
    )


def find_base_by_digest(digest: str, nearby: Path) -> Path | None:
    """Return the folder of the base with a digest, of those that ship and those in a folder; None for none.

    Args:
        nearby: Folder of bases.
    """
    cards = (path for place in (*BASE_FOLDERS, nearby) for path in sorted(place.glob(f"*/{CARD}")))
    return next((card.parent for card in cards if _read_digest(card.parent) == digest), None)


def _read_digest(folder: Path) -> str:
    """Return the digest in a card; empty if it cannot be read, which fails later when the base is used."""
    try:
        return str(parse_json((folder / CARD).read_bytes(), CARD)["digest"])
    except (OSError, SnapshotError, TypeError, KeyError):
        return ""


def _list_bases(missing_base: Path) -> str:
    """Return the available bases, for an error: shipped ones, and those in the searched folder."""
    shipped = sorted({card.parent.name for place in BASE_FOLDERS for card in place.glob(f"*/{CARD}")})
    own = sorted(str(card.parent) for card in missing_base.parent.glob(f"*/{CARD}"))
    known = [*shipped, *(path for path in own if Path(path).name not in shipped)]
    close = get_close_matches(missing_base.name, [Path(path).name for path in known], n=1)
    there = f"Available bases: {', '.join(known) or 'none'}"
    return f"Did you mean '{close[0]}'? {there}" if close else f"{there}. To train one: wm-robot train ROBOT"


def compute_base_digest(config: Mapping[str, Any], weights_sha256: str) -> str:
    """Return the SHA-256 of weights and config, in hex: a lifetime state is valid with this base alone."""
    return compute_digest(encode_canonical_json({"config": config, "weights": weights_sha256}))


def check_base(card: bytes, weights: bytes, where: str) -> dict[str, Any]:
    """Return the values of a card, after a check that it belongs to the weights. The weights are not parsed.

    Args:
        where: Place of the base, for the error.

    Raises:
        SnapshotError: If the card cannot be read, has another format, or belongs to other weights.
    """
    values, weights_sha256 = parse_json(card, f"{CARD} of {where}"), compute_digest(weights)
    try:
        version, found = values["format"], (values["weights_sha256"], values["digest"])
        known = (weights_sha256, compute_base_digest(values["config"], weights_sha256))
    except (KeyError, TypeError, RecursionError) as error:
        raise SnapshotError(f"{CARD} of {where} is no card of a base: {error}. Fetch it again") from error
    if version != FORMAT:
        raise SnapshotError(
            f"base in {where} has format {version}, this version reads {FORMAT}. "
            "Use the version that wrote it, or train it again: wm-robot train ROBOT"
        )
    if found != known:
        raise SnapshotError(
            f"base in {where} is damaged: its SHA-256 is not that of its card. Fetch it again"
        )
    return dict(values)
