"""Attack classes: all attacks of the tamper bench, by class."""

from collections.abc import Callable
from functools import partial

import numpy as np

from wm_robot_benchmarks.tampering import foreign_files, signed_attacks, tensor_attacks, unsigned_attacks
from wm_robot_benchmarks.tampering.target import Target

Attack = Callable[[Target, np.random.Generator], bytes | None]
"""Attack: returns the bytes of a file, or creates an object at the target's path."""

CLASSES: dict[str, tuple[Attack, ...]] = {
    "bit flips": (unsigned_attacks.flip,),
    "truncations": (unsigned_attacks.cut,),
    "extensions": (unsigned_attacks.extend,),
    "swaps": (
        unsigned_attacks.mixed_files,
        unsigned_attacks.mixed_manifest,
        unsigned_attacks.swapped_file,
        unsigned_attacks.swapped_order,
        unsigned_attacks.swapped_bytes,
    ),
    "replays": (unsigned_attacks.replayed, unsigned_attacks.same_number),
    "keys": (
        *(partial(unsigned_attacks.signed_by, owner) for owner in ("stranger", "expired")),
        *(
            partial(unsigned_attacks.signed_under_another_id, owner)
            for owner in ("stranger", "expired", "friend")
        ),
        *(partial(unsigned_attacks.signed_instead, what) for what in unsigned_attacks.SIGNED_INSTEAD),
        unsigned_attacks.signed_by_chance,
    ),
    "foreign files": (
        foreign_files.other_file,
        foreign_files.claims_much,
        foreign_files.huge,
        foreign_files.link,
        foreign_files.pipe,
        foreign_files.folder,
        foreign_files.nothing,
    ),
    "signed names": (
        signed_attacks.hostile_name,
        signed_attacks.file_twice,
        signed_attacks.file_missing,
        signed_attacks.file_order,
    ),
    "signed manifests": (
        signed_attacks.hostile_field,
        signed_attacks.hostile_size,
        signed_attacks.hostile_spelling,
    ),
    "signed files": (
        signed_attacks.hostile_content,
        signed_attacks.hostile_snapshot,
        signed_attacks.another_robot,
        signed_attacks.another_base,
    ),
    "signed tensors": (
        tensor_attacks.hostile_state,
        tensor_attacks.hostile_weights,
        tensor_attacks.other_state,
        tensor_attacks.unfinished_state,
        tensor_attacks.other_weights,
    ),
    "signed millions": (tensor_attacks.a_million_tensors, tensor_attacks.a_million_listed),
}
SELDOM = {"signed millions"}
"""Classes of deterministic attacks that take long to make: each is tried once."""


def tries(count: int) -> dict[str, list[Attack]]:
    """Return class → attacks to try in order, `count` in total."""
    once = {name: list(CLASSES[name]) for name in SELDOM}
    others = [name for name in CLASSES if name not in SELDOM]
    left = max(count - sum(map(len, once.values())), len(others))
    shares = {name: left // len(others) + (i < left % len(others)) for i, name in enumerate(others)}
    return {
        name: once.get(name) or [CLASSES[name][i % len(CLASSES[name])] for i in range(shares[name])]
        for name in CLASSES
    }


def put(attack: Attack, target: Target, rng: np.random.Generator) -> None:
    """Write an attack to the target's path, which is empty."""
    content = attack(target, rng)
    if content is not None:
        target.path.write_bytes(content)
