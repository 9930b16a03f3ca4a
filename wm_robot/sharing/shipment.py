"""What is shipped of a life: its base, one state, the robot, and how it was measured. Numpy only.

A shipment is a handful of files under fixed names, in a bundle or in a folder. Whoever makes one of files has made
sure where they come from; here it is made sure that they belong together.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_robot.errors import SnapshotError
from wm_robot.io import base_file
from wm_robot.io.durable import digest
from wm_robot.io.strict_json import read_canonical, read_json
from wm_robot.io.tensor_file import described, is_finite, read_tensors
from wm_robot.spec import RobotSpec, canonical_json
from wm_robot.store.snapshot import Snapshot

README, BASE, CALIBRATION, EVALUATION = "README.md", base_file.CARD, "calibration.json", "evaluation.json"
MANIFEST, SPEC, STATE, WEIGHTS = "manifest.json", "spec.json", "state.safetensors", base_file.WEIGHTS
PARTS: dict[str, int] = {
    README: 1 << 18,
    BASE: 1 << 20,
    CALIBRATION: 1 << 20,
    EVALUATION: 1 << 20,
    MANIFEST: 1 << 20,
    SPEC: 1 << 20,
    STATE: 32 << 20,
    WEIGHTS: 64 << 20,
}
"""Name of each file, in their order → bytes that it may have at most."""
OPTIONAL = {CALIBRATION}
RECORD = ("bench", "when", "commit", "figures")
"""What every record of an evaluation has at least."""
_WRONG = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What reading values of a wrong kind raises."""


@dataclass(frozen=True, kw_only=True)
class Shipment:
    """A life that can be gone on with elsewhere."""

    parts: Mapping[str, bytes]
    """The files."""
    base: Mapping[str, Any]
    """What the base's card says."""
    snapshot: Snapshot
    """The state's manifest, as it is where it comes from."""
    spec: RobotSpec
    evaluation: Sequence[Mapping[str, Any]]
    """Last lines of benches: what the life or its base was measured on, when, and at which commit."""
    tensors: Mapping[str, Any]
    """Of weights and state: dtype and shape of each tensor, and whether it is finite. Weights may hold a NaN where
    a number has no meaning; which of them do is what the sender says, and found. A state may not."""

    @classmethod
    def of(cls, parts: Mapping[str, bytes], *, where: str) -> "Shipment":
        """Read files whose origin is known.

        Args:
            where: They are from, for the error.

        Raises:
            SnapshotError: If one is missing, too large or unreadable, or they do not belong together.
        """
        check_names(parts, where)
        with _reading(README, where):
            _check_text(parts[README])
        with _reading(BASE, where):
            base = base_file.check_base(parts[BASE], parts[WEIGHTS], where)
        with _reading(MANIFEST, where):
            read_canonical(parts[MANIFEST], f"{MANIFEST} of {where}")
            snapshot = Snapshot.of(digest(parts[MANIFEST]), parts[MANIFEST])
            if snapshot.manifest() != parts[MANIFEST]:
                raise ValueError("a store writes it in another way")
        with _reading(SPEC, where):
            spec = RobotSpec.from_dict(read_canonical(parts[SPEC], f"{SPEC} of {where}"))
        with _reading(EVALUATION, where):
            evaluation = _records(read_canonical(parts[EVALUATION], f"{EVALUATION} of {where}"))
        tensors = {name: read_tensors(parts[name], f"{name} of {where}") for name in (STATE, WEIGHTS)}
        found = cls(
            parts=dict(parts),
            base=base,
            snapshot=snapshot,
            spec=spec,
            evaluation=evaluation,
            tensors={name: described(each) for name, each in tensors.items()},
        )
        if CALIBRATION in parts:
            with _reading(CALIBRATION, where):
                calibrated = read_json(parts[CALIBRATION], f"{CALIBRATION} of {where}")["base"]
            _check_equal("the calibration's base", calibrated, base["digest"], where)
        found._check_together(tensors[STATE], where)
        return found

    def _check_together(self, state: Mapping[str, np.ndarray], where: str) -> None:
        kept, spec = self.snapshot, self.spec.digest()
        for what, said, found in (
            ("the state's base", kept.base_digest, self.base["digest"]),
            ("the state's robot", kept.spec_digest, spec),
            ("the base's robot", self.base.get("spec_digest"), spec),
            ("the state's tensors", kept.object, digest(self.parts[STATE])),
        ):
            _check_equal(what, said, found, where)
        listed = {name: (each["dtype"], each["shape"], each["sha256"]) for name, each in kept.tensors.items()}
        held = {
            name: (str(value.dtype), list(value.shape), digest(value.tobytes()))
            for name, value in state.items()
        }
        if listed != held or kept.size != len(self.parts[STATE]):
            raise SnapshotError(f"{where} holds other tensors than the manifest of its state says")
        if broken := sorted(name for name, value in state.items() if not is_finite(value)):
            raise SnapshotError(f"{STATE} of {where} holds numbers that are not finite, in {broken!r:.200}")


def check_names(names: Sequence[str] | Mapping[str, bytes], where: str) -> None:
    """Refuse any list of files but that of a shipment, in its order.

    Raises:
        SnapshotError: If one is missing, unknown, twice there, out of order or, where its bytes are given, too large.
    """
    wanted = [name for name in PARTS if name in names or name not in OPTIONAL]
    if list(names) != wanted:
        raise SnapshotError(f"{where} holds {list(names)!r:.200}; it must hold {wanted}")
    if isinstance(names, Mapping):
        for name, content in names.items():
            if len(content) > PARTS[name]:
                raise SnapshotError(
                    f"{name} of {where} has {len(content)} bytes; at most {PARTS[name]} are read"
                )


def record_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a life carries of a record of its evaluation: all but the table."""
    return {name: value for name, value in values.items() if name != "table"}


@contextmanager
def _reading(what: str, where: str) -> Iterator[None]:
    try:
        yield
    except _WRONG as error:
        raise SnapshotError(f"{what} of {where} is not what its name says: {error!s:.200}") from error


def _records(records: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(records, list) or not all(set(RECORD) <= set(each) for each in records):
        raise ValueError(f"it must list records with {', '.join(RECORD)}")
    return tuple(dict(each) for each in records)


def _check_equal(what: str, said: Any, found: str, where: str) -> None:
    if said != found:
        raise SnapshotError(
            f"{where} does not belong together: {what} is {str(said)[:12]}, here is {found[:12]}"
        )


def _check_text(content: bytes) -> None:
    # It is shown in terminals, which obey control characters.
    if any(not (character.isprintable() or character in "\n\t") for character in content.decode()):
        raise ValueError("it holds control characters and must be plain text")


def files_of(
    *,
    card: str,
    base: Mapping[str, bytes],
    snapshot: Snapshot,
    state: bytes,
    spec: RobotSpec,
    evaluation: Sequence[Mapping[str, Any]],
) -> dict[str, bytes]:
    """The files of a shipment, in their order.

    Args:
        card: README, in Markdown.
        base: The files of the base, by name; its calibration where there is one.
        state: Bytes of the state's tensors.
    """
    files = {
        **base,
        README: card.encode(),
        EVALUATION: canonical_json(list(evaluation)),
        MANIFEST: snapshot.manifest(),
        SPEC: canonical_json(spec.to_dict()),
        STATE: state,
    }
    return {name: files[name] for name in PARTS if name in files}
