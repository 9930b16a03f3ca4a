"""Shipment: a lifetime state with its base, its robot's spec, and its evaluation. Numpy only.

A shipment is a set of files with fixed names, in a bundle or in a folder. The caller has verified their origin; this
module checks that they belong together.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_robot.errors import SnapshotError
from wm_robot.io import base_file
from wm_robot.io.durable import compute_digest
from wm_robot.io.strict_json import parse_canonical_json, parse_json
from wm_robot.io.tensor_file import describe_tensors, is_finite, parse_tensors
from wm_robot.sharing.signed_record import SignedRecord, parse_signed_record
from wm_robot.spec import RobotSpec, encode_canonical_json
from wm_robot.spec.sensor_difference import describe_sensor_difference
from wm_robot.store.snapshot import Snapshot
from wm_robot.validation_record.installation import compute_whole_spec_digest
from wm_robot.validation_record.record import MAX_RECORD_BYTES

README, BASE, CALIBRATION, EVALUATION = "README.md", base_file.CARD, "calibration.json", "evaluation.json"
MANIFEST, SPEC, STATE, WEIGHTS = "manifest.json", "spec.json", "state.safetensors", base_file.WEIGHTS
VALIDATION = "validation.json"
MAX_PART_BYTES: dict[str, int] = {
    README: 1 << 18,
    BASE: 1 << 20,
    CALIBRATION: 1 << 20,
    EVALUATION: 1 << 20,
    MANIFEST: 1 << 20,
    SPEC: 1 << 20,
    STATE: 32 << 20,
    VALIDATION: MAX_RECORD_BYTES,
    WEIGHTS: 64 << 20,
}
"""Name of each file, in their order → largest size, in bytes."""
OPTIONAL_PARTS = {CALIBRATION, VALIDATION}
RECORD_KEYS = ("bench", "when", "commit", "figures")
"""Required keys of a record of an evaluation."""
_VALUE_ERRORS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""Errors raised by values of a wrong type."""


@dataclass(frozen=True, kw_only=True)
class Shipment:
    """Lifetime state that can be continued on another robot, with the files it needs."""

    parts: Mapping[str, bytes]
    """The files."""
    base: Mapping[str, Any]
    """Values of the base's card."""
    snapshot: Snapshot
    """The state's manifest, as in its original store."""
    spec: RobotSpec
    evaluation: Sequence[Mapping[str, Any]]
    """Records of benchmarks of the state or its base, each with time and commit."""
    validation: SignedRecord | None
    """Validation record of the state or of an ancestor; None without one. Its signature is not verified here."""
    tensors: Mapping[str, Any]
    """Of weights and state: dtype and shape of each tensor, and whether it is finite. Weights may hold a NaN where
    a number has no meaning; the receiver must find them where the sender lists them. A state may not."""

    @classmethod
    def parse(cls, parts: Mapping[str, bytes], *, where: str) -> "Shipment":
        """Check and parse files whose origin was verified.

        Args:
            where: Source of the files, for the error.

        Raises:
            SnapshotError: If one is missing, too large or unreadable, or they do not belong together.
        """
        check_part_names(parts, where)
        with _explain_errors(README, where):
            _check_text(parts[README])
        with _explain_errors(BASE, where):
            base = base_file.check_base(parts[BASE], parts[WEIGHTS], where)
        with _explain_errors(MANIFEST, where):
            parse_canonical_json(parts[MANIFEST], f"{MANIFEST} of {where}")
            snapshot = Snapshot.parse(compute_digest(parts[MANIFEST]), parts[MANIFEST])
            if snapshot.encode() != parts[MANIFEST]:
                raise ValueError("it is not in the form that a store writes")
        with _explain_errors(SPEC, where):
            spec = RobotSpec.from_dict(parse_canonical_json(parts[SPEC], f"{SPEC} of {where}"))
        with _explain_errors(EVALUATION, where):
            evaluation = _check_records(parse_canonical_json(parts[EVALUATION], f"{EVALUATION} of {where}"))
        validation = None
        if VALIDATION in parts:
            validation = parse_signed_record(parts[VALIDATION], f"{VALIDATION} of {where}")
        tensors = {name: parse_tensors(parts[name], f"{name} of {where}") for name in (STATE, WEIGHTS)}
        found = cls(
            parts=dict(parts),
            base=base,
            snapshot=snapshot,
            spec=spec,
            evaluation=evaluation,
            validation=validation,
            tensors={name: describe_tensors(each) for name, each in tensors.items()},
        )
        if CALIBRATION in parts:
            with _explain_errors(CALIBRATION, where):
                calibrated = parse_json(parts[CALIBRATION], f"{CALIBRATION} of {where}")["base"]
            _check_equal("the calibration's base", calibrated, base["digest"], where)
        found._check_together(tensors[STATE], where)
        return found

    def _check_together(self, state: Mapping[str, np.ndarray], where: str) -> None:
        kept, spec = self.snapshot, self.spec.compute_digest()
        with _explain_errors(BASE, where):
            difference = describe_sensor_difference(self.base.get("sensors", ()), self.spec, "the base")
        for what, said, found, reason in (
            ("the state's base", kept.base_digest, self.base["digest"], ""),
            ("the state's robot", kept.spec_digest, spec, difference),
            ("the base's robot", self.base.get("spec_digest"), spec, difference),
            ("the state's tensors", kept.object, compute_digest(self.parts[STATE]), ""),
        ):
            _check_equal(what, said, found, where, reason)
        if self.validation is not None:
            record = self.validation.record
            whole_spec = compute_whole_spec_digest(self.spec)
            _check_equal("the validation record's base", record.base, self.base["digest"], where)
            _check_equal("the validation record's spec", record.spec, whole_spec, where)
            if record.steps > kept.steps:
                raise SnapshotError(
                    f"{where} does not belong together: the validation record judged {record.steps} steps, and the "
                    f"state has {kept.steps}"
                )
        expected = {
            name: (each["dtype"], each["shape"], each["sha256"]) for name, each in kept.tensors.items()
        }
        found_tensors = {
            name: (str(value.dtype), list(value.shape), compute_digest(value.tobytes()))
            for name, value in state.items()
        }
        if expected != found_tensors or kept.size != len(self.parts[STATE]):
            raise SnapshotError(f"{where} holds other tensors than the manifest of its state lists")
        if broken := sorted(name for name, value in state.items() if not is_finite(value)):
            raise SnapshotError(f"{STATE} of {where} holds numbers that are not finite, in {broken!r:.200}")


def check_part_names(names: Sequence[str] | Mapping[str, bytes], where: str) -> None:
    """Refuse a list of files that differs from that of a shipment, in its order.

    Raises:
        SnapshotError: If one is missing, foreign, duplicate, out of order or, where its bytes are given, too large.
    """
    wanted = [name for name in MAX_PART_BYTES if name in names or name not in OPTIONAL_PARTS]
    if list(names) != wanted:
        raise SnapshotError(f"{where} holds {list(names)!r:.200}; it must hold {wanted}")
    if isinstance(names, Mapping):
        for name, content in names.items():
            if len(content) > MAX_PART_BYTES[name]:
                raise SnapshotError(
                    f"{name} of {where} has {len(content)} bytes; at most {MAX_PART_BYTES[name]} are read"
                )


def strip_table(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of an evaluation record that is shipped: all but the table."""
    return {name: value for name, value in values.items() if name != "table"}


@contextmanager
def _explain_errors(what: str, where: str) -> Iterator[None]:
    try:
        yield
    except _VALUE_ERRORS as error:
        raise SnapshotError(f"{what} of {where} is not valid: {error!s:.200}") from error


def _check_records(records: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(records, list) or not all(set(RECORD_KEYS) <= set(each) for each in records):
        raise ValueError(f"it must list records with {', '.join(RECORD_KEYS)}")
    return tuple(dict(each) for each in records)


def _check_equal(what: str, claimed: Any, found: str, where: str, reason: str = "") -> None:
    if claimed != found:
        raise SnapshotError(
            f"{where} does not belong together: {what} is {str(claimed)[:12]}, here is {found[:12]}"
            + (f": {reason}" if reason else "")
        )


def _check_text(content: bytes) -> None:
    # It is shown in terminals, which execute control characters.
    if any(not (character.isprintable() or character in "\n\t") for character in content.decode()):
        raise ValueError("it holds control characters and must be plain text")


def make_parts(
    *,
    card: str,
    base: Mapping[str, bytes],
    snapshot: Snapshot,
    state: bytes,
    spec: RobotSpec,
    evaluation: Sequence[Mapping[str, Any]],
    validation: bytes = b"",
) -> dict[str, bytes]:
    """Return the files of a shipment, in their order.

    Args:
        card: README, in Markdown.
        base: The files of the base, by name; with its calibration if there is one.
        state: Bytes of the state's tensors.
        validation: Signed validation record; empty without one.
    """
    files = {
        **base,
        README: card.encode(),
        EVALUATION: encode_canonical_json(list(evaluation)),
        MANIFEST: snapshot.encode(),
        SPEC: encode_canonical_json(spec.to_dict()),
        STATE: state,
        **({VALIDATION: validation} if validation else {}),
    }
    return {name: files[name] for name in MAX_PART_BYTES if name in files}
