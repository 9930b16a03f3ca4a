"""A spec that somebody signed: its limits are those that were meant. The signature lies beside it, in `<spec>.sig`.

It is of the file's bytes, limits and all; a model file that the spec names is not in it.
"""

from pathlib import Path
from typing import Any

from wm_robot.errors import SnapshotError, SpecError
from wm_robot.io.durable import write_file
from wm_robot.io.strict_json import read_canonical
from wm_robot.sharing.keyring import Keyring
from wm_robot.sharing.signature import SIGNATURE, SigningKey, is_signed
from wm_robot.spec import RobotSpec, canonical_json

ENDING = ".sig"
PURPOSE = b"wm_robot: the spec of a robot\n"
"""Goes before the bytes, so that no signature of anything else can be taken for one of a spec."""


def signature_of(path: Path) -> Path:
    """Where the signature of a spec lies."""
    return path.with_name(path.name + ENDING)


def sign_spec(path: Path, key: SigningKey) -> Path:
    """Sign a spec as it is now; returns where the signature is.

    Raises:
        SpecError: If it is no spec: nobody signs what no robot can be.
    """
    content = path.read_bytes()
    RobotSpec.read(content, path)
    made = {"key": key.id, "signature": key.sign(PURPOSE + content).hex()}
    write_file(signature_of(path), canonical_json(made))
    return signature_of(path)


def load_signed_spec(path: Path, keyring: Keyring) -> RobotSpec:
    """A spec that a trusted key signed. What is read is what was verified, whoever writes to the file meanwhile.

    Raises:
        SpecError: If it is not signed, was changed since, or by a key that is not trusted.
    """
    content, beside = path.read_bytes(), signature_of(path)
    if not beside.is_file():
        raise SpecError(
            f"{path} is not signed: there is no {beside.name}. Run: wm-robot keys sign NAME {path}"
        )
    found = _read(beside)
    try:
        public = keyring.believed(found["key"])
    except SnapshotError as error:
        raise SpecError(f"{path} cannot be believed: {error}") from error
    if not is_signed(PURPOSE + content, found["signature"], public):
        raise SpecError(
            f"{path} is not what key {found['key'][:12]} signed: it was changed since. If you changed it, sign it "
            f"again: wm-robot keys sign NAME {path}"
        )
    return RobotSpec.read(content, path)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_canonical(path.read_bytes(), str(path))
        signature = bytes.fromhex(found["signature"])
        if (
            set(found) != {"key", "signature"}
            or not isinstance(found["key"], str)
            or len(signature) != SIGNATURE
        ):
            raise ValueError(f"it has no key and signature of {SIGNATURE} bytes")
    except (SnapshotError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SpecError(f"{path} is no signature of a spec: {error}. Sign the spec again") from error
    return {"key": found["key"], "signature": signature}
