"""Verbs `wm-robot keys …`: trusted keys of other machines, and own keys for signatures.

The folder is `--keys`, or `WM_ROBOT_KEYS`, or `~/.config/wm_robot/keys`.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from wm_robot.errors import ConfigError
from wm_robot_cli.values import Duration

if TYPE_CHECKING:
    from wm_robot.sharing.keyring import Keyring

Name = Annotated[str, tyro.conf.Positional]
JsonFlag = Annotated[bool, tyro.conf.arg(name="json")]
DAY = 86400.0


def keys() -> None:
    """Keys for signed bundles: `wm-robot keys new|ls|show|trust|forget|sign`."""
    raise AssertionError("main calls the verbs of this group; this function is only listed")


def new(name: Name, /, *, keys: Path | None = None) -> None:
    """Create a signing key. This machine trusts its signatures.

    Args:
        name: Of the key.
        keys: Folder of keys.
    """
    ring = keyring(keys)
    made = ring.new(name)
    print(f"key '{name}' ({made.id[:12]}) in {ring.folder}; keep private/{name}.pem secret")
    print(f"machines that should trust it need the output of: wm-robot keys show {name}")


def ls(*, keys: Path | None = None, as_json: JsonFlag = False) -> None:
    """List trusted keys and own keys.

    Args:
        keys: Folder of keys.
        as_json: Print JSON.
    """
    from wm_robot.sharing.keyring import day
    from wm_robot_cli.tables import print_rows

    ring = keyring(keys)
    trusted, own, now = ring.trusted(), ring.own(), time.time()
    rows = []
    for name in sorted({*trusted, *own}):
        known = trusted.get(name)
        until = known.until if known else None
        rows.append(
            {
                "name": name,
                "key": known.id[:12] if known else ring.signing(name).id[:12],
                "trusted": "no" if known is None or (until is not None and until <= now) else "yes",
                "until": day(until) if until is not None else "",
                "can sign": "yes" if name in own else "no",
            }
        )
    print_rows(rows, as_json)


def show(name: Name, /, *, keys: Path | None = None, as_json: JsonFlag = False) -> None:
    """Print a public key, for other machines.

    Args:
        name: Of an own key, or a trusted one.
        keys: Folder of keys.
        as_json: Print JSON, with the key's full id.
    """
    from wm_robot.sharing.signature import key_id, public_pem

    ring = keyring(keys)
    known = ring.trusted().get(name)
    public = known.public if known else ring.signing(name).public
    pem = public_pem(public).decode()
    if as_json:
        print(json.dumps({"name": name, "key": key_id(public), "public": pem}))
    else:
        print(pem, end="")


def trust(
    name: Name,
    file: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    days: Duration | None = None,
    keys: Path | None = None,
) -> None:
    """Trust the signatures of a key.

    Args:
        name: Local name of the key.
        file: Its public key, the output of `wm-robot keys show`; get it from its owner.
        days: Days of trust; unlimited by default.
        keys: Folder of keys.
    """
    from wm_robot.sharing.keyring import LARGEST_KEY, day
    from wm_robot.sharing.signature import public_of

    if days is not None and not days > 0:
        raise ConfigError(f"days is {days}; it must be above 0")
    move = (
        f"Its owner creates one with: wm-robot keys new {name}, and prints the content of this file with: "
        f"wm-robot keys show {name}"
    )
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST_KEY)
    except OSError as error:
        raise ConfigError(f"public key {file} cannot be read: {error.strerror}. {move}") from error
    until = None if days is None else time.time() + days * DAY
    known = keyring(keys).trust(name, public_of(content, str(file), move=move), until=until)
    print(
        f"key '{name}' ({known.id[:12]}) is trusted {'' if until is None else 'until ' + day(until)}".rstrip()
    )


def forget(name: Name, /, *, keys: Path | None = None) -> None:
    """Remove a key from the trusted ones. A private key and the sequence numbers of its products stay.

    Args:
        name: Of the key.
        keys: Folder of keys.
    """
    keyring(keys).forget(name)
    print(f"key '{name}' is no longer trusted")


def sign(name: Name, spec: Annotated[Path, tyro.conf.Positional], /, *, keys: Path | None = None) -> None:
    """Sign the present content of a robot's spec; the signature is a file in the same folder. A plant may require one
    (`require_signed`).

    Args:
        name: Of an own key.
        spec: YAML file.
        keys: Folder of keys.
    """
    from wm_robot.sharing.signed_spec import sign_spec

    if not spec.is_file():
        raise ConfigError(f"there is no spec {spec}. Give the path of its YAML file")
    key = keyring(keys).signing(name)
    print(f"key '{name}' ({key.id[:12]}) signed {spec}: {sign_spec(spec, key)}")


def keyring(folder: Path | None) -> "Keyring":
    """Open the keyring of the option, or the user's."""
    from wm_robot.sharing.keyring import Keyring

    if folder is not None and folder.exists() and not folder.is_dir():
        raise ConfigError(f"--keys is {folder}, and that is not a folder. Give the folder of keys")
    return Keyring(folder)


VERBS: dict[str, Callable[..., Any]] = {
    "new": new,
    "ls": ls,
    "show": show,
    "trust": trust,
    "forget": forget,
    "sign": sign,
}
