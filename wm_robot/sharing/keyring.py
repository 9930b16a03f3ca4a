"""Whose bundles are believed: keys of one's own, those that are trusted, and how far their products have come.

::

    KEYS/private/<name>.pem     a private key, PKCS #8; nobody else may read it
    KEYS/trusted/<name>.json    a public key that is believed, and until when
    KEYS/seen/                  the highest number of each product that was taken in
    KEYS/given/                 the highest number of each product that was signed here
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
    """A public key that is believed."""

    name: str
    public: bytes
    until: float | None
    """Wall clock, in s since 1970; None for ever."""

    @property
    def id(self) -> str:
        return key_id(self.public)


class Keyring:
    """A folder of keys."""

    def __init__(self, folder: str | Path | None = None, *, clock: Callable[[], float] = time.time):
        """Open a keyring.

        Args:
            folder: What `WM_ROBOT_KEYS` names by default, or `~/.config/wm_robot/keys`.
            clock: Wall clock, for what is trusted until a day.

        Raises:
            ConfigError: If none is named, and the user has no home.
        """
        try:
            self.folder = Path(folder or os.environ.get(VARIABLE) or DEFAULT).expanduser()
        except RuntimeError as error:
            raise ConfigError(
                f"there is no folder for keys: this user has no home, and {DEFAULT} is in it. "
                f"Name one with --keys FOLDER, or set {VARIABLE}"
            ) from error
        self.seen, self.given = Sequences(self.folder / "seen"), Sequences(self.folder / "given")
        self._clock = clock

    def new(self, name: str) -> SigningKey:
        """Make a key pair; what is signed with it is believed here.

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
        """The private key of that name.

        Raises:
            ConfigError: If there is none, or others can read it.
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
        """Names of the private keys."""
        found = (self.folder / "private").glob("*.pem")
        return sorted(path.stem for path in found if NAME.fullmatch(path.stem))

    def trust(self, name: str, public: bytes, *, until: float | None = None) -> Trusted:
        """Believe what this key signed, until a moment on the wall clock.

        Raises:
            ConfigError: If the key has another name here, or the name another key.
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
        """Believe a key no more. How far its products had come is kept, in case it is trusted again.

        Raises:
            ConfigError: If none of that name was believed.
        """
        if name not in self.trusted():
            raise ConfigError(f"no trusted key '{name}' in {self.folder}. See wm-robot keys ls")
        remove_file(self._public(name))

    def trusted(self) -> dict[str, Trusted]:
        """Name → key that is believed, those whose time is over too.

        Raises:
            ConfigError: If others may write here, or a file is damaged.
        """
        folder = self.folder / "trusted"
        if not folder.is_dir():
            return {}
        for place in (self.folder, folder):
            if place.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise ConfigError(
                    f"others may write in {place}, and so say what is trusted. Run: chmod 700 {place}"
                )
        names = sorted(path.stem for path in folder.glob("*.json") if NAME.fullmatch(path.stem))
        return {name: self._read(name) for name in names}

    def believed(self, identity: str) -> bytes:
        """The public key of that id, if it is trusted now.

        Raises:
            SnapshotError: If it is not, or not any more.
        """
        for key in self.trusted().values():
            if key.id == identity:
                if key.until is not None and self._clock() >= key.until:
                    raise SnapshotError(
                        f"key '{key.name}' ({key.id[:12]}) was trusted until {day(key.until)}. If it still is yours "
                        f"to trust, do so again: wm-robot keys trust {key.name} FILE.pem"
                    )
                return key.public
        raise SnapshotError(
            f"it is signed by key {identity[:12]}, which is not trusted in {self.folder}. If you know its owner, "
            "get the key from there: wm-robot keys trust NAME FILE.pem"
        )

    def _read(self, name: str) -> Trusted:
        path = self._public(name)
        try:
            found = read_canonical(path.read_bytes(), str(path))
            public, until = bytes.fromhex(found["public"]), found["until"]
            if len(public) != PUBLIC or not isinstance(until, float | int | None):
                raise ValueError("it has no key of 32 bytes and a time")
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
    """A private key's file, if nobody else can read it.

    Raises:
        ConfigError: If it cannot be read, or others can.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ConfigError(
                    f"{path} can be read by others (mode {stat.S_IMODE(mode):04o}), and may have been. "
                    f"Use a new key, or if you are sure: chmod 600 {path}"
                )
            return file.read(LARGEST_KEY)
    except OSError as error:
        raise ConfigError(f"private key {path} cannot be read: {error}") from error


def day(moment: float) -> str:
    """A moment on the wall clock, for people."""
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
