"""Signed spec: proof that a robot's spec, with its limits, is the one that was signed. Signature file: `<spec>.sig`.

The file's bytes are signed, limits included; a model file that the spec names is not.
"""

from pathlib import Path
from typing import Any

from wm_robot.errors import SnapshotError, SpecError
from wm_robot.io.durable import compute_digest, write_file
from wm_robot.io.strict_json import parse_canonical_json
from wm_robot.robots import attach_stored_model, read_stored_model
from wm_robot.sharing.keyring import Keyring
from wm_robot.sharing.signature import SIGNATURE_BYTES, SigningKey, is_signed
from wm_robot.spec import RobotSpec, encode_canonical_json

SIGNATURE_SUFFIX = ".sig"
SIGNATURE_DOMAIN = b"wm_robot: the spec of a robot\n"
"""Prefix of the signed bytes, so that no signature made for another purpose fits a spec."""


def signature_path(path: Path) -> Path:
    """Return the file of a spec's signature."""
    return path.with_name(path.name + SIGNATURE_SUFFIX)


def sign_spec(path: Path, key: SigningKey) -> Path:
    """Sign a spec as it is now, and return the file of the signature.

    Raises:
        SpecError: If the file is no valid spec.
    """
    content, model = path.read_bytes(), read_stored_model(path)
    attach_stored_model(RobotSpec.parse(content, path), path, model)
    made = {"key": key.id, "signature": key.sign(_compose_signed_bytes(content, model)).hex()}
    write_file(signature_path(path), encode_canonical_json(made))
    return signature_path(path)


def load_signed_spec(path: Path, keyring: Keyring) -> RobotSpec:
    """Return a spec that a trusted key signed. The file is read once, so the verified bytes are those parsed.

    Raises:
        SpecError: If it is not signed, was changed since, or was signed by a key that is not trusted.
    """
    content, model, signature_file = path.read_bytes(), read_stored_model(path), signature_path(path)
    if not signature_file.is_file():
        raise SpecError(
            f"{path} is not signed: there is no {signature_file.name}. Run: wm-robot keys sign NAME {path}"
        )
    found = _read_signature(signature_file)
    try:
        public = keyring.find_trusted_key(found["key"])
    except SnapshotError as error:
        raise SpecError(f"{path} cannot be trusted: {error}") from error
    if not is_signed(_compose_signed_bytes(content, model), found["signature"], public):
        raise SpecError(
            f"{path} is not what key {found['key'][:12]} signed: it was changed since, or what is stored of its "
            f"model. If you changed it, sign it again: wm-robot keys sign NAME {path}"
        )
    return attach_stored_model(RobotSpec.parse(content, path), path, model)


def _compose_signed_bytes(content: bytes, model: bytes | None) -> bytes:
    """Return what is signed: the spec, and the stored model, from which its kinematics may come."""
    return SIGNATURE_DOMAIN + compute_digest(model or b"").encode() + content


def _read_signature(path: Path) -> dict[str, Any]:
    try:
        found = parse_canonical_json(path.read_bytes(), str(path))
        signature = bytes.fromhex(found["signature"])
        if (
            set(found) != {"key", "signature"}
            or not isinstance(found["key"], str)
            or len(signature) != SIGNATURE_BYTES
        ):
            raise ValueError(f"it must have a key and a signature of {SIGNATURE_BYTES} bytes")
    except (SnapshotError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SpecError(f"{path} is no signature of a spec: {error}. Sign the spec again") from error
    return {"key": found["key"], "signature": signature}
