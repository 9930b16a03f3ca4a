"""Keyring: own private keys, trusted public keys, and rollback counters of their products.

::

    KEYS/private/<name>.pem     a private key, PKCS #8; readable by its owner alone
    KEYS/trusted/<name>.json    a trusted public key, and until when
    KEYS/received/              the highest number received of each product
    KEYS/issued/                the highest number signed here of each product
"""

import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import count
from pathlib import Path

from wm_robot.errors import ConfigError, SnapshotError
from wm_robot.io.durable import make_folder, remove_file, write_file
from wm_robot.io.strict_json import parse_canonical_json
from wm_robot.sharing.rollback_counters import RollbackCounters
from wm_robot.sharing.signature import PUBLIC_KEY_BYTES, SigningKey, compute_key_id
from wm_robot.spec import encode_canonical_json
from wm_robot.store.names import NAME_PATTERN, check_name

KEYS_VARIABLE = "WM_ROBOT_KEYS"
DEFAULT_FOLDER = Path("~/.config/wm_robot/keys")
MAX_KEY_BYTES = 1 << 16
"""Bytes of a key's file."""


@dataclass(frozen=True, kw_only=True)
class TrustedKey:
    """Trusted public key."""

    name: str
    public_key: bytes
    expires_at: float | None
    """End of trust on the wall clock, in s since 1970; None: unlimited."""

    @property
    def id(self) -> str:
        return compute_key_id(self.public_key)


class Keyring:
    """Folder of keys."""

    def __init__(self, folder: str | Path | None = None, *, clock: Callable[[], float] = time.time):
        """Open a keyring.

        Args:
            folder: Default: `WM_ROBOT_KEYS`, or `~/.config/wm_robot/keys`.
            clock: Wall clock, for the end of trust.

        Raises:
            ConfigError: If no folder is given, and the user has no home.
        """
        try:
            self.folder = Path(folder or os.environ.get(KEYS_VARIABLE) or DEFAULT_FOLDER).expanduser()
        except RuntimeError as error:
            raise ConfigError(
                f"there is no folder for keys: this user has no home for {DEFAULT_FOLDER}. "
                f"Name one with --keys FOLDER, or set {KEYS_VARIABLE}"
            ) from error
        self.received_counters, self.issued_counters = (
            RollbackCounters(self.folder / "received"),
            RollbackCounters(self.folder / "issued"),
        )
        self._clock = clock

    def create_key(self, name: str) -> SigningKey:
        """Make a key pair; its signatures are trusted here.

        Raises:
            ConfigError: If the name is taken.
        """
        path = self._private_path(name)
        if path.exists() or name in self.read_trusted_keys():
            raise ConfigError(f"key '{name}' is there already in {self.folder}. Choose another name")
        key = SigningKey.generate()
        self._make_folders()
        write_file(path, key.to_pem(), mode=0o600)
        self.trust_key(name, key.public_key)
        return key

    def load_private_key(self, name: str) -> SigningKey:
        """Return the private key of a name.

        Raises:
            ConfigError: If there is none, or other users can read it.
        """
        path = self._private_path(name)
        if not path.exists():
            raise ConfigError(
                f"no private key '{name}' in {self.folder}; there are: "
                f"{', '.join(self.list_private_keys()) or 'none'}. Make one: wm-robot keys new {name}"
            )
        free = next(other for n in count(2) if not self._private_path(other := f"{name}-{n}").exists())
        move = f"Make another, and sign with that: wm-robot keys new {free}"
        return SigningKey.from_pem(read_private_key(path), str(path), advice=move)

    def list_private_keys(self) -> list[str]:
        """Return the names of the private keys."""
        found = (self.folder / "private").glob("*.pem")
        return sorted(path.stem for path in found if NAME_PATTERN.fullmatch(path.stem))

    def trust_key(self, name: str, public_key: bytes, *, expires_at: float | None = None) -> TrustedKey:
        """Trust signatures of a key, until a moment on the wall clock.

        Raises:
            ConfigError: If the key is trusted under another name, or the name belongs to another key.
        """
        known = TrustedKey(name=check_name(name), public_key=public_key, expires_at=expires_at)
        for other in self.read_trusted_keys().values():
            if (other.public_key == public_key) != (other.name == name):
                raise ConfigError(
                    f"key {known.id[:12]} cannot be trusted as '{name}': {other.id[:12]} is trusted as "
                    f"'{other.name}' already. Choose another name, or first: wm-robot keys distrust {other.name}"
                )
        self._make_folders()
        write_file(
            self._public_path(name), encode_canonical_json({"public": public_key.hex(), "until": expires_at})
        )
        return known

    def distrust_key(self, name: str) -> None:
        """Stop trusting a key. The counters of its products are kept, in case it is trusted again.

        Raises:
            ConfigError: If no key of that name is trusted.
        """
        if name not in self.read_trusted_keys():
            raise ConfigError(f"no trusted key '{name}' in {self.folder}. See wm-robot keys ls")
        remove_file(self._public_path(name))

    def read_trusted_keys(self) -> dict[str, TrustedKey]:
        """Return name → trusted key, expired ones included.

        Raises:
            ConfigError: If other users may write here, or a file is damaged.
        """
        folder = self.folder / "trusted"
        if not folder.is_dir():
            return {}
        for place in (self.folder, folder):
            if place.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise ConfigError(
                    f"other users may write in {place}, and could add trusted keys. Run: chmod 700 {place}"
                )
        names = sorted(path.stem for path in folder.glob("*.json") if NAME_PATTERN.fullmatch(path.stem))
        return {name: self._read_trusted_key(name) for name in names}

    def find_trusted_key(self, key_id: str) -> bytes:
        """Return the public key of an id, if it is trusted now.

        Raises:
            SnapshotError: If it is not trusted, or its trust expired.
        """
        for key in self.read_trusted_keys().values():
            if key.id == key_id:
                if key.expires_at is not None and self._clock() >= key.expires_at:
                    raise SnapshotError(
                        f"key '{key.name}' ({key.id[:12]}) was trusted until {format_time(key.expires_at)}. If its "
                        f"owner still holds it, trust it again: wm-robot keys trust {key.name} FILE.pem"
                    )
                return key.public_key
        raise SnapshotError(
            f"it is signed by key {key_id[:12]}, which is not trusted in {self.folder}. If you trust its owner, "
            "get the public key from them, and run: wm-robot keys trust NAME FILE.pem"
        )

    def _read_trusted_key(self, name: str) -> TrustedKey:
        path = self._public_path(name)
        try:
            found = parse_canonical_json(path.read_bytes(), str(path))
            public, until = bytes.fromhex(found["public"]), found["until"]
            if len(public) != PUBLIC_KEY_BYTES or not isinstance(until, float | int | None):
                raise ValueError("it must have a key of 32 bytes and a time")
        except (SnapshotError, OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{path} is damaged: {error}. Remove it and trust the key again") from error
        return TrustedKey(name=name, public_key=public, expires_at=until)

    def _make_folders(self) -> None:
        for folder in (self.folder, self.folder / "private", self.folder / "trusted"):
            if not folder.is_dir():
                make_folder(folder)
                folder.chmod(0o700)

    def _private_path(self, name: str) -> Path:
        return self.folder / "private" / f"{check_name(name)}.pem"

    def _public_path(self, name: str) -> Path:
        return self.folder / "trusted" / f"{check_name(name)}.json"


def read_private_key(path: Path) -> bytes:
    """Return the content of a private key's file, if no other user can read it.

    Raises:
        ConfigError: If it cannot be read, or other users can read it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ConfigError(
                    f"{path} can be read by other users (mode {stat.S_IMODE(mode):04o}), and may be copied already. "
                    f"Use a new key, or if you are sure: chmod 600 {path}"
                )
            return file.read(MAX_KEY_BYTES)
    except OSError as error:
        raise ConfigError(f"private key {path} cannot be read: {error}") from error


def format_time(moment: float) -> str:
    """Return a moment on the wall clock as text."""
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
