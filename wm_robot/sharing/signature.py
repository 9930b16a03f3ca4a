"""Ed25519 signatures: a private key signs bytes, its public key verifies the signature."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wm_robot.errors import ConfigError, MissingExtraError
from wm_robot.io.durable import compute_digest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNATURE_BYTES, PUBLIC_KEY_BYTES = 64, 32
"""Bytes."""


@dataclass(frozen=True)
class SigningKey:
    """Private key in memory."""

    private_key: "Ed25519PrivateKey"

    @classmethod
    def generate(cls) -> "SigningKey":
        """Generate a random key."""
        return cls(_import_ed25519().Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes, where: str, *, advice: str = "") -> "SigningKey":
        """Read a private key, PKCS #8 in PEM without a password.

        Args:
            advice: Advice if it is no such key, for the error.

        Raises:
            ConfigError: If it is no private key, or of another kind.
        """
        advice = advice or "Make one: wm-robot keys new NAME"
        found = _load_key(pem, where, "load_pem_private_key", advice, password=None)
        if not isinstance(found, _import_ed25519().Ed25519PrivateKey):
            raise ConfigError(
                f"{where} holds a {type(found).__name__}; bundles are signed with Ed25519. {advice}"
            )
        return cls(found)

    @property
    def public_key(self) -> bytes:
        """The public key, 32 bytes."""
        return self.private_key.public_key().public_bytes_raw()

    @property
    def id(self) -> str:
        return compute_key_id(self.public_key)

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message, 64 bytes."""
        return self.private_key.sign(message)

    def to_pem(self) -> bytes:
        """Return the key as PEM; its file must be readable by the owner alone."""
        from cryptography.hazmat.primitives import serialization as form

        return self.private_key.private_bytes(
            form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
        )


def compute_key_id(public_key: bytes) -> str:
    """Return the SHA-256 of a public key, in hex: its id in every keyring."""
    return compute_digest(public_key)


def is_signed(message: bytes, signature: bytes, public_key: bytes) -> bool:
    """Whether the owner of the public key signed exactly this message."""
    key = _import_ed25519().Ed25519PublicKey.from_public_bytes(public_key)
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def encode_public_key(public_key: bytes) -> bytes:
    """Return a public key as PEM."""
    from cryptography.hazmat.primitives import serialization as form

    key = _import_ed25519().Ed25519PublicKey.from_public_bytes(public_key)
    found: bytes = key.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    return found


def decode_public_key(pem: bytes, where: str, *, advice: str = "") -> bytes:
    """Return the 32 bytes of a public key in PEM.

    Args:
        advice: Advice if it is no such key, for the error.

    Raises:
        ConfigError: If it is no public key, or of another kind.
    """
    advice = advice or "Its owner prints it with: wm-robot keys show NAME"
    found = _load_key(pem, where, "load_pem_public_key", advice)
    if not isinstance(found, _import_ed25519().Ed25519PublicKey):
        raise ConfigError(
            f"{where} holds a {type(found).__name__}; bundles are signed with Ed25519. {advice}"
        )
    raw: bytes = found.public_bytes_raw()
    return raw


def _load_key(pem: bytes, where: str, reader: str, advice: str, **options: Any) -> Any:
    _import_ed25519()
    if not pem.strip():
        raise ConfigError(f"{where} holds no readable key: it is empty. {advice}")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        return getattr(serialization, reader)(pem, **options)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{where} holds no readable key: {error}. {advice}") from error


def _import_ed25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingExtraError("a signed bundle", "ship") from error
    return ed25519
