"""The two files of a base, checked without torch: its card and its weights."""

from collections.abc import Mapping
from typing import Any

from wm_robot.errors import SnapshotError
from wm_robot.io.durable import digest
from wm_robot.io.strict_json import read_json
from wm_robot.spec import canonical_json

FORMAT, KIND = 1, "base"
CARD, WEIGHTS = "base.json", "weights.safetensors"


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
            "Use the version that made it, or train it again: wm-robot train"
        )
    if found != known:
        raise SnapshotError(f"base in {where} is damaged: its SHA-256 is not the manifest's. Fetch it again")
    return dict(values)
