"""Signed validation record: proof of who ran a validation, not that its result is true.

::

    {"key": id of the key, "record": the record, "signature": hex}

The text is canonical JSON. Ed25519 signs the domain and the same text without the signature.
"""

from dataclasses import dataclass
from typing import Any

from wm_robot.errors import MissingExtraError, SnapshotError
from wm_robot.io.durable import compute_digest
from wm_robot.io.strict_json import parse_canonical_json
from wm_robot.sharing.keyring import Keyring
from wm_robot.sharing.signature import SIGNATURE_BYTES, SigningKey, is_signed
from wm_robot.spec import encode_canonical_json
from wm_robot.store.snapshot import SHA256
from wm_robot.validation_record.record import ValidationRecord, check_record_size
from wm_robot.validation_record.rules import Judgement, damaged_record, foreign_record, judge_record
from wm_robot.validation_record.subject import ValidationSubject

SIGNATURE_DOMAIN = b"wm_robot validation record 1\x00"
"""Prefix of the signed bytes, so that no signature made for another purpose fits a record."""


@dataclass(frozen=True, kw_only=True)
class SignedRecord:
    """Validation record with its signature."""

    record: ValidationRecord
    key: str
    """Id of the key."""
    signature: bytes
    content: bytes
    """The whole text."""

    @property
    def digest(self) -> str:
        """SHA-256 of the whole text: the record's name."""
        return compute_digest(self.content)


def sign_record(record: ValidationRecord, key: SigningKey) -> SignedRecord:
    """Sign a record.

    Raises:
        SnapshotError: If it is larger than a record can be.
    """
    values = {"key": key.id, "record": record.to_dict()}
    signature = key.sign(_compose_signed_bytes(values))
    content = encode_canonical_json(values | {"signature": signature.hex()})
    check_record_size(content, "the validation record")
    return SignedRecord(record=record, key=key.id, signature=signature, content=content)


def parse_signed_record(content: bytes, where: str) -> SignedRecord:
    """Parse a signed record without a check of the signature; see `verify_signed_record`.

    Args:
        where: Source of the text, for the error.

    Raises:
        SnapshotError: If it is too large, not canonical JSON, or not a signed record.
    """
    values, signature = _parse_envelope(content, where)
    record = ValidationRecord.from_dict(values["record"], where)
    return SignedRecord(record=record, key=values["key"], signature=signature, content=content)


def verify_signed_record(content: bytes, keyring: Keyring, where: str) -> SignedRecord:
    """Return a record that a trusted key signed. Its fields are parsed after the signature was verified.

    Raises:
        SnapshotError: If it is no signed record, its key is not trusted, or it was changed since.
        MissingExtraError: If signatures cannot be verified here.
    """
    values, signature = _parse_envelope(content, where)
    try:
        public = keyring.find_trusted_key(values["key"])
    except SnapshotError as error:
        raise UntrustedKeyError(f"{where}: {error}") from error
    if not is_signed(_compose_signed_bytes(values), signature, public):
        raise SnapshotError(f"{where} is not what key {values['key'][:12]} signed")
    record = ValidationRecord.from_dict(values["record"], where)
    return SignedRecord(record=record, key=values["key"], signature=signature, content=content)


class UntrustedKeyError(SnapshotError):
    """The key of a record is not trusted here, or not any more."""


def judge_signed_record(
    content: bytes, subject: ValidationSubject, keyring: Keyring, where: str = "it"
) -> tuple[Judgement, SignedRecord | None]:
    """Verify a signed record and judge it; see `judge_record`. Never raises for what it reads.

    Returns:
        The judgement, and the record if its signature is verified.
    """
    try:
        signed = verify_signed_record(content, keyring, where)
    except UntrustedKeyError as error:
        return foreign_record(str(error)), None
    except (SnapshotError, MissingExtraError) as error:
        return damaged_record(str(error)), None
    return judge_record(signed.record, subject), signed


def _parse_envelope(content: bytes, where: str) -> tuple[dict[str, Any], bytes]:
    """Return the values without the signature, and the signature."""
    check_record_size(content, where)
    values = parse_canonical_json(content, where)
    try:
        if values.keys() != {"key", "record", "signature"} or not SHA256.fullmatch(values["key"]):
            raise ValueError("it must have key, record and signature")
        signature = bytes.fromhex(values.pop("signature"))
        if len(signature) != SIGNATURE_BYTES or type(values["record"]) is not dict:
            raise ValueError(f"it must have a record and a signature of {SIGNATURE_BYTES} bytes")
    except (ValueError, TypeError, AttributeError) as error:
        raise SnapshotError(f"{where} is no signed validation record: {error!s:.100}") from error
    return values, signature


def _compose_signed_bytes(values: dict[str, Any]) -> bytes:
    """Return what is signed: the domain, and the canonical text of key and record."""
    return SIGNATURE_DOMAIN + encode_canonical_json({"key": values["key"], "record": values["record"]})
