"""Keyring: own private keys, trusted public keys, and rollback counters of their products.

::

    KEYS/private/<name>.pem     a private key, PKCS #8; readable by its owner alone
    KEYS/trusted/<name>.json    a trusted public key, and until when
    KEYS/seen/                  the highest number received of each product
    KEYS/given/                 the highest number signed here of each product
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
from wm_robot.io.strict_json import read_canonical
from wm_robot.sharing.rollback_counters import Sequences
from wm_robot.sharing.signature import PUBLIC, SigningKey, key_id
from wm_robot.spec import canonical_json
from wm_robot.store.names import NAME, checked_name

VARIABLE = "WM_ROBOT_KEYS"
DEFAULT = Path("~/.config/wm_robot/keys")
LARGEST_KEY = 1 << 16
"""Bytes of a key's file."""


@dataclass(frozen=True, kw_only=True)
class Trusted:
    """Trusted public key."""

    name: str
    public: bytes
    until: float | None
    """End of trust on the wall clock, in s since 1970; None: unlimited."""

    @property
    def id(self) -> str:
        return key_id(self.public)


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
            self.folder = Path(folder or os.environ.get(VARIABLE) or DEFAULT).expanduser()
        except RuntimeError as error:
            raise ConfigError(
                f"there is no folder for keys: this user has no home for {DEFAULT}. "
                f"Name one with --keys FOLDER, or set {VARIABLE}"
            ) from error
        self.seen, self.given = Sequences(self.folder / "seen"), Sequences(self.folder / "given")
        self._clock = clock

    def new(self, name: str) -> SigningKey:
        """Make a key pair; its signatures are trusted here.

        Raises:
            ConfigError: If the name is taken.
        """
        path = self._private(name)
        if path.exists() or name in self.trusted():
            raise ConfigError(f"key '{name}' is there already in {self.folder}. Choose another name")
        key = SigningKey.new()
        self._prepare()
        write_file(path, key.pem(), mode=0o600)
        self.trust(name, key.public)
        return key

    def signing(self, name: str) -> SigningKey:
        """Return the private key of a name.

        Raises:
            ConfigError: If there is none, or other users can read it.
        """
        path = self._private(name)
        if not path.exists():
            raise ConfigError(
                f"no private key '{name}' in {self.folder}; there are: {', '.join(self.own()) or 'none'}. "
                f"Make one: wm-robot keys new {name}"
            )
        free = next(other for n in count(2) if not self._private(other := f"{name}-{n}").exists())
        move = f"Make another, and sign with that: wm-robot keys new {free}"
        return SigningKey.of(read_private(path), str(path), move=move)

    def own(self) -> list[str]:
        """Return the names of the private keys."""
        found = (self.folder / "private").glob("*.pem")
        return sorted(path.stem for path in found if NAME.fullmatch(path.stem))

    def trust(self, name: str, public: bytes, *, until: float | None = None) -> Trusted:
        """Trust signatures of a key, until a moment on the wall clock.

        Raises:
            ConfigError: If the key is trusted under another name, or the name belongs to another key.
        """
        known = Trusted(name=checked_name(name), public=public, until=until)
        for other in self.trusted().values():
            if (other.public == public) != (other.name == name):
                raise ConfigError(
                    f"key {known.id[:12]} cannot be trusted as '{name}': {other.id[:12]} is trusted as "
                    f"'{other.name}' already. Choose another name, or first: wm-robot keys forget {other.name}"
                )
        self._prepare()
        write_file(self._public(name), canonical_json({"public": public.hex(), "until": until}))
        return known

    def forget(self, name: str) -> None:
        """Stop trusting a key. The counters of its products are kept, in case it is trusted again.

        Raises:
            ConfigError: If no key of that name is trusted.
        """
        if name not in self.trusted():
            raise ConfigError(f"no trusted key '{name}' in {self.folder}. See wm-robot keys ls")
        remove_file(self._public(name))

    def trusted(self) -> dict[str, Trusted]:
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
        names = sorted(path.stem for path in folder.glob("*.json") if NAME.fullmatch(path.stem))
        return {name: self._read(name) for name in names}

    def believed(self, identity: str) -> bytes:
        """Return the public key of an id, if it is trusted now.

        Raises:
            SnapshotError: If it is not trusted, or its trust expired.
        """
        for key in self.trusted().values():
            if key.id == identity:
                if key.until is not None and self._clock() >= key.until:
                    raise SnapshotError(
                        f"key '{key.name}' ({key.id[:12]}) was trusted until {day(key.until)}. If its owner "
                        f"still holds it, trust it again: wm-robot keys trust {key.name} FILE.pem"
                    )
                return key.public
        raise SnapshotError(
            f"it is signed by key {identity[:12]}, which is not trusted in {self.folder}. If you trust its owner, "
            "get the public key from them, and run: wm-robot keys trust NAME FILE.pem"
        )

    def _read(self, name: str) -> Trusted:
        path = self._public(name)
        try:
            found = read_canonical(path.read_bytes(), str(path))
            public, until = bytes.fromhex(found["public"]), found["until"]
            if len(public) != PUBLIC or not isinstance(until, float | int | None):
                raise ValueError("it must have a key of 32 bytes and a time")
        except (SnapshotError, OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{path} is damaged: {error}. Remove it and trust the key again") from error
        return Trusted(name=name, public=public, until=until)

    def _prepare(self) -> None:
        for folder in (self.folder, self.folder / "private", self.folder / "trusted"):
            if not folder.is_dir():
                make_folder(folder)
                folder.chmod(0o700)

    def _private(self, name: str) -> Path:
        return self.folder / "private" / f"{checked_name(name)}.pem"

    def _public(self, name: str) -> Path:
        return self.folder / "trusted" / f"{checked_name(name)}.json"


def read_private(path: Path) -> bytes:
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
            return file.read(LARGEST_KEY)
    except OSError as error:
        raise ConfigError(f"private key {path} cannot be read: {error}") from error


def day(moment: float) -> str:
    """Return a moment on the wall clock as text."""
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
