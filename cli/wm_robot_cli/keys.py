"""`wm-robot keys …`: whose bundles this machine believes, and keys of one's own to sign with.

The folder is `--keys`, or what `WM_ROBOT_KEYS` names, or `~/.config/wm_robot/keys`.
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
    raise AssertionError("main has verbs of its own for this one; it stands here to be listed")


def new(name: Name, /, *, keys: Path | None = None) -> None:
    """Make a key to sign with; what it signs is trusted on this machine.

    Args:
        name: For it.
        keys: Folder of keys.
    """
    ring = keyring(keys)
    made = ring.new(name)
    print(f"key '{name}' ({made.id[:12]}) in {ring.folder}; nobody but you may read private/{name}.pem")
    print(f"those who are to trust it need what this prints: wm-robot keys show {name}")


def ls(*, keys: Path | None = None, as_json: JsonFlag = False) -> None:
    """Keys that are trusted, and keys of one's own.

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
    """Print a public key, for others to trust.

    Args:
        name: Of a key of one's own, or a trusted one.
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
    """Believe from now on what a key signed.

    Args:
        name: For it, here.
        file: Its public key, as `wm-robot keys show` prints it; get it from its owner.
        days: After which it is not trusted any more.
        keys: Folder of keys.
    """
    from wm_robot.sharing.keyring import LARGEST_KEY, day
    from wm_robot.sharing.signature import public_of

    if days is not None and not days > 0:
        raise ConfigError(f"days is {days}; it must be above 0")
    move = (
        f"Who owns it makes one with: wm-robot keys new {name}, and prints what to put there with: "
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
    """Believe a key no more. A private key stays; how far its products had come is remembered.

    Args:
        name: Of the key.
        keys: Folder of keys.
    """
    keyring(keys).forget(name)
    print(f"key '{name}' is trusted no more")


def sign(name: Name, spec: Annotated[Path, tyro.conf.Positional], /, *, keys: Path | None = None) -> None:
    """Sign a robot's spec as it is now; the signature lies beside it. A plant may ask for one (`require_signed`).

    Args:
        name: Of a key of one's own.
        spec: YAML file.
        keys: Folder of keys.
    """
    from wm_robot.sharing.signed_spec import sign_spec

    if not spec.is_file():
        raise ConfigError(f"there is no spec {spec}. Give the path of its YAML file")
    key = keyring(keys).signing(name)
    print(f"key '{name}' ({key.id[:12]}) signed {spec}: {sign_spec(spec, key)}")


def keyring(folder: Path | None) -> "Keyring":
    """The keyring that was named, or the user's."""
    from wm_robot.sharing.keyring import Keyring

    if folder is not None and folder.exists() and not folder.is_dir():
        raise ConfigError(f"--keys is {folder}, and that is no folder. Name the folder of keys")
    return Keyring(folder)


VERBS: dict[str, Callable[..., Any]] = {
    "new": new,
    "ls": ls,
    "show": show,
    "trust": trust,
    "forget": forget,
    "sign": sign,
}
