"""Attack classes: all attacks of the tamper bench, by class."""

from collections.abc import Callable
from functools import partial

import numpy as np

from wm_robot_benchmarks.tampering import foreign_files, signed_attacks, tensor_attacks, unsigned_attacks
from wm_robot_benchmarks.tampering.target import AttackTarget

Attack = Callable[[AttackTarget, np.random.Generator], bytes | None]
"""Attack: returns the bytes of a file, or creates an object at the target's path."""

CLASSES: dict[str, tuple[Attack, ...]] = {
    "bit flips": (unsigned_attacks.flip_bits,),
    "truncations": (unsigned_attacks.truncate_bundle,),
    "extensions": (unsigned_attacks.append_bytes,),
    "swaps": (
        unsigned_attacks.mix_files,
        unsigned_attacks.mix_manifest,
        unsigned_attacks.swap_file,
        unsigned_attacks.swap_order,
        unsigned_attacks.swap_bytes,
    ),
    "replays": (unsigned_attacks.replay_version, unsigned_attacks.reuse_number),
    "keys": (
        *(partial(unsigned_attacks.sign_by, owner) for owner in ("stranger", "expired")),
        *(
            partial(unsigned_attacks.sign_under_another_id, owner)
            for owner in ("stranger", "expired", "friend")
        ),
        *(partial(unsigned_attacks.sign_instead, what) for what in unsigned_attacks.SIGNED_INSTEAD),
        unsigned_attacks.sign_by_chance,
    ),
    "foreign files": (
        foreign_files.write_other_file,
        foreign_files.write_false_length,
        foreign_files.write_huge_file,
        foreign_files.create_link,
        foreign_files.create_pipe,
        foreign_files.create_folder,
        foreign_files.leave_empty,
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
        tensor_attacks.nan_state,
        tensor_attacks.other_weights,
    ),
    "signed millions": (tensor_attacks.a_million_tensors, tensor_attacks.a_million_listed),
}
ONCE_ONLY = {"signed millions"}
"""Classes of deterministic attacks that take long to make: each is tried once."""


def schedule_attacks(count: int) -> dict[str, list[Attack]]:
    """Return class → attacks to try in order, `count` in total."""
    once = {name: list(CLASSES[name]) for name in ONCE_ONLY}
    others = [name for name in CLASSES if name not in ONCE_ONLY]
    left = max(count - sum(map(len, once.values())), len(others))
    shares = {name: left // len(others) + (i < left % len(others)) for i, name in enumerate(others)}
    return {
        name: once.get(name) or [CLASSES[name][i % len(CLASSES[name])] for i in range(shares[name])]
        for name in CLASSES
    }


def write_attack(attack: Attack, target: AttackTarget, rng: np.random.Generator) -> None:
    """Write an attack to the target's path, which is empty."""
    content = attack(target, rng)
    if content is not None:
        target.path.write_bytes(content)
