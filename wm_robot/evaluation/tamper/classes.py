"""All attacks, by class."""

from collections.abc import Callable
from functools import partial

import numpy as np

from wm_robot.evaluation.tamper import foreign, signed, tensors, unsigned
from wm_robot.evaluation.tamper.target import Target

Attack = Callable[[Target, np.random.Generator], bytes | None]
"""Gives the bytes of a file, or puts something at the target's path."""

CLASSES: dict[str, tuple[Attack, ...]] = {
    "bit flips": (unsigned.flip,),
    "truncations": (unsigned.cut,),
    "extensions": (unsigned.extend,),
    "swaps": (
        unsigned.mixed_files,
        unsigned.mixed_manifest,
        unsigned.swapped_file,
        unsigned.swapped_order,
        unsigned.swapped_bytes,
    ),
    "replays": (unsigned.replayed, unsigned.same_number),
    "keys": (
        *(partial(unsigned.signed_by, owner) for owner in ("stranger", "expired")),
        *(partial(unsigned.signed_under_another_id, owner) for owner in ("stranger", "expired", "friend")),
        *(partial(unsigned.signed_instead, what) for what in unsigned.SIGNED_INSTEAD),
        unsigned.signed_by_chance,
    ),
    "foreign files": (
        foreign.other_file,
        foreign.claims_much,
        foreign.huge,
        foreign.link,
        foreign.pipe,
        foreign.folder,
        foreign.nothing,
    ),
    "signed names": (signed.hostile_name, signed.file_twice, signed.file_missing, signed.file_order),
    "signed manifests": (signed.hostile_field, signed.hostile_size, signed.hostile_spelling),
    "signed files": (
        signed.hostile_content,
        signed.hostile_snapshot,
        signed.another_robot,
        signed.another_base,
    ),
    "signed tensors": (
        tensors.hostile_state,
        tensors.hostile_weights,
        tensors.other_state,
        tensors.unfinished_state,
        tensors.other_weights,
    ),
    "signed millions": (tensors.a_million_tensors, tensors.a_million_listed),
}
SELDOM = {"signed millions"}
"""Classes whose attacks are always the same and take long to make: each is tried once."""


def tries(count: int) -> dict[str, list[Attack]]:
    """Class → the attacks to try, one after the other, so many in all."""
    once = {name: list(CLASSES[name]) for name in SELDOM}
    others = [name for name in CLASSES if name not in SELDOM]
    left = max(count - sum(map(len, once.values())), len(others))
    shares = {name: left // len(others) + (i < left % len(others)) for i, name in enumerate(others)}
    return {
        name: once.get(name) or [CLASSES[name][i % len(CLASSES[name])] for i in range(shares[name])]
        for name in CLASSES
    }


def put(attack: Attack, target: Target, rng: np.random.Generator) -> None:
    """Put an attack at the target's path, where nothing is."""
    content = attack(target, rng)
    if content is not None:
        target.path.write_bytes(content)
