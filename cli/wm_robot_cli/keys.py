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
from wm_robot_cli.values import Duration, JsonFlag

if TYPE_CHECKING:
    from wm_robot.sharing.keyring import Keyring

KeyName = Annotated[str, tyro.conf.Positional]
SECONDS_PER_DAY = 86400.0


def list_key_verbs() -> None:
    """Keys for signed bundles: `wm-robot keys new|ls|show|trust|distrust|sign`."""
    raise AssertionError("main calls the verbs of this group; this function is only listed")


def create_key(name: KeyName, /, *, keys: Path | None = None) -> None:
    """Create a signing key. This machine trusts its signatures.

    Args:
        name: Name of the key.
        keys: Folder of keys.
    """
    ring = open_keyring(keys)
    made = ring.create_key(name)
    print(f"key '{name}' ({made.id[:12]}) in {ring.folder}; keep private/{name}.pem secret")
    print(f"machines that should trust it need the output of: wm-robot keys show {name}")


def list_keys(*, keys: Path | None = None, as_json: JsonFlag = False) -> None:
    """List trusted keys and own keys.

    Args:
        keys: Folder of keys.
        as_json: Print JSON.
    """
    from wm_robot.sharing.keyring import format_time
    from wm_robot_cli.tables import print_rows

    ring = open_keyring(keys)
    trusted, own, now = ring.read_trusted_keys(), ring.list_private_keys(), time.time()
    rows = []
    for name in sorted({*trusted, *own}):
        known = trusted.get(name)
        until = known.expires_at if known else None
        rows.append(
            {
                "name": name,
                "key": known.id[:12] if known else ring.load_private_key(name).id[:12],
                "trusted": "no" if known is None or (until is not None and until <= now) else "yes",
                "until": format_time(until) if until is not None else "",
                "can sign": "yes" if name in own else "no",
            }
        )
    print_rows(rows, as_json)


def print_key(name: KeyName, /, *, keys: Path | None = None, as_json: JsonFlag = False) -> None:
    """Print a public key, for other machines.

    Args:
        name: Name of an own key, or a trusted one.
        keys: Folder of keys.
        as_json: Print JSON, with the key's full id.
    """
    from wm_robot.sharing.signature import compute_key_id, encode_public_key

    ring = open_keyring(keys)
    known = ring.read_trusted_keys().get(name)
    public = known.public_key if known else ring.load_private_key(name).public_key
    pem = encode_public_key(public).decode()
    if as_json:
        print(json.dumps({"name": name, "key": compute_key_id(public), "public": pem}))
    else:
        print(pem, end="")


def trust_key(
    name: KeyName,
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
    from wm_robot.sharing.keyring import MAX_KEY_BYTES, format_time
    from wm_robot.sharing.signature import decode_public_key

    if days is not None and not days > 0:
        raise ConfigError(f"days is {days}; it must be above 0")
    move = (
        f"Its owner creates one with: wm-robot keys new {name}, and prints the content of this file with: "
        f"wm-robot keys show {name}"
    )
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_KEY_BYTES)
    except OSError as error:
        raise ConfigError(f"public key {file} cannot be read: {error.strerror}. {move}") from error
    until = None if days is None else time.time() + days * SECONDS_PER_DAY
    known = open_keyring(keys).trust_key(
        name, decode_public_key(content, str(file), advice=move), expires_at=until
    )
    print(
        f"key '{name}' ({known.id[:12]}) is trusted {'' if until is None else 'until ' + format_time(until)}".rstrip()
    )


def distrust_key(name: KeyName, /, *, keys: Path | None = None) -> None:
    """Remove a key from the trusted ones. A private key and the sequence numbers of its products stay.

    Args:
        name: Name of the key.
        keys: Folder of keys.
    """
    open_keyring(keys).distrust_key(name)
    print(f"key '{name}' is no longer trusted")


def sign_robot_spec(
    name: KeyName, spec: Annotated[Path, tyro.conf.Positional], /, *, keys: Path | None = None
) -> None:
    """Sign the present content of a robot's spec; the signature is a file in the same folder.

    A plant can require a signature (parameter `require_signed`).

    Args:
        name: Name of an own key.
        spec: YAML file.
        keys: Folder of keys.
    """
    from wm_robot.sharing.signed_spec import sign_spec

    if not spec.is_file():
        raise ConfigError(f"there is no spec {spec}. Give the path of its YAML file")
    key = open_keyring(keys).load_private_key(name)
    print(f"key '{name}' ({key.id[:12]}) signed {spec}: {sign_spec(spec, key)}")


def open_keyring(folder: Path | None) -> "Keyring":
    """Open the keyring of the option, or the user's."""
    from wm_robot.sharing.keyring import Keyring

    if folder is not None and folder.exists() and not folder.is_dir():
        raise ConfigError(f"--keys is {folder}, and that is not a folder. Give the folder of keys")
    return Keyring(folder)


KEY_VERBS: dict[str, Callable[..., Any]] = {
    "new": create_key,
    "ls": list_keys,
    "show": print_key,
    "trust": trust_key,
    "distrust": distrust_key,
    "sign": sign_robot_spec,
}
