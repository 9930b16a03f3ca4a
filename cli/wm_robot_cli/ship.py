"""`wm-robot state ship|import|inspect|export`: a life with all that it needs, to go on elsewhere."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from wm_robot.errors import ConfigError, SnapshotError
from wm_robot_cli.bundle_inputs import gathered, read_file
from wm_robot_cli.keys import keyring
from wm_robot_cli.tables import print_rows

if TYPE_CHECKING:
    from wm_robot.sharing.bundle import Bundle
    from wm_robot.sharing.shipment import Shipment

Life = Annotated[str, tyro.conf.Positional]
Place = Annotated[Path, tyro.conf.Positional]
JsonFlag = Annotated[bool, tyro.conf.arg(name="json")]
BASES = Path("bases")


def ship(
    life: Life,
    file: Place,
    /,
    *,
    base: Path,
    key: str,
    product: str | None = None,
    card: Path | None = None,
    evaluation: tuple[Path, ...] = (),
    spec: str | None = None,
    keys: Path | None = None,
) -> None:
    """Write a signed bundle: a life, its base, its robot, its card, and what it was measured on.

    Args:
        life: `STORE`, `STORE@BRANCH` or `STORE@DIGEST`.
        file: To write.
        base: Folder of the life's base.
        key: Name of one's own key, see `wm-robot keys`.
        product: Name under which receivers follow it; later bundles of it replace earlier ones. The base's folder's
            by default.
        card: Markdown file with the card; one is written from what is known by default.
        evaluation: What `wm-robot bench … --json` printed, a file each; the last line is kept.
        spec: Name of the robot, or the path of its spec; the one that the base names by default.
        keys: Folder of keys.
    """
    from wm_robot.io.base_file import find_base
    from wm_robot.sharing.bundle import write_bundle

    base = find_base(base)
    ring = keyring(keys)
    signing = ring.signing(key)
    product = product or base.resolve().name
    shipment = gathered(life, base, product, card, evaluation, spec)
    sequence = ring.given.next(signing.id, product)
    write_bundle(file, shipment, product=product, sequence=sequence, key=signing)
    print(
        f"{file}: '{product}' number {sequence}, life {shipment.snapshot.digest[:12]} of {shipment.snapshot.steps} "
        f"steps, base {shipment.base['digest'][:12]}, {file.stat().st_size / 2**20:.1f} MiB, "
        f"signed by '{key}' ({signing.id[:12]})"
    )


def take_in(
    source: Place,
    life: Life,
    /,
    *,
    bases: Path = BASES,
    allow_rollback: bool = False,
    openssf: Path | None = None,
    unsigned: bool = False,
    keys: Path | None = None,
) -> None:
    """Take in a life that was shipped: it is verified, its base put in place, and a branch begins with it.

    Taken in twice, nothing changes. Its ancestors stay where it comes from; `state show` names them.

    Args:
        source: A bundle, or a folder that `export` wrote.
        life: `STORE` or `STORE@BRANCH`; a branch that holds another life is refused.
        bases: Folder for the base, if it is not there.
        allow_rollback: Take a bundle that is older than one of its product that was here already.
        openssf: Of a folder: PEM file with the public key of whoever signed it.
        unsigned: Of a folder: take it though nobody signed it.
        keys: Folder of keys.
    """
    from wm_robot.sharing.shipment import record_of
    from wm_robot.store.store import opened
    from wm_robot.store.transfer import import_root

    if source.is_dir():
        shipment, origin = _from_folder(source, openssf, unsigned)
    elif openssf or unsigned:
        raise ConfigError(
            f"{source} is no folder; --openssf and --unsigned are for folders that `export` wrote"
        )
    else:
        shipment, origin = _from_bundle(source, keys, allow_rollback)
    evaluation = [record_of(each) for each in shipment.evaluation]
    received = shipment.snapshot.received(**origin, evaluation=evaluation)
    store, branch = opened(life)
    here = import_root(store, received, shipment.parts["state.safetensors"], branch=branch)
    place, is_new = _base_in(bases, origin["product"], shipment)
    begins = "begins at" if here.digest == store.find(branch) else "came from it already, by"
    print(
        f"branch '{branch}' {begins} {here.digest[:12]} in {store.folder}, life {shipment.snapshot.digest[:12]}"
    )
    print(f"its base {shipment.base['digest'][:12]} {'is now' if is_new else 'was already'} in {place}")
    if is_new:
        print(f"make its graphs with: wm-robot export {place}")


def inspect(
    bundle: Place, /, *, card: bool = False, keys: Path | None = None, as_json: JsonFlag = False
) -> None:
    """Verify a bundle and say what is in it; nothing is taken in.

    Args:
        bundle: File to read.
        card: Print its card too.
        keys: Folder of keys.
        as_json: Print JSON, with the card.
    """
    from wm_robot.sharing.bundle import read_bundle

    ring = keyring(keys)
    found = read_bundle(bundle, ring, allow_rollback=True)
    values = _told(found) | {"seen": ring.seen.highest(found.signer, found.product).sequence}
    if as_json:
        readme = found.shipment.parts["README.md"].decode()
        print(json.dumps(values | {"evaluation": list(found.shipment.evaluation), "card": readme}))
        return
    for name, value in values.items():
        print(f"{name:10} {value}")
    print_rows([{"file": name, "bytes": len(each)} for name, each in found.shipment.parts.items()], as_json)
    for each in found.shipment.evaluation:
        print(
            f"bench {each['bench']}, {each['when']}, commit {each['commit']}: {json.dumps(each['figures'])}"
        )
    if card:
        print(found.shipment.parts["README.md"].decode())


def export(
    life: Life,
    folder: Place,
    /,
    *,
    base: Path,
    openssf: Path | None = None,
    card: Path | None = None,
    evaluation: tuple[Path, ...] = (),
    spec: str | None = None,
) -> None:
    """Write a life as a plain folder that others can read, with a card as Hugging Face wants it.

    Args:
        life: `STORE`, `STORE@BRANCH` or `STORE@DIGEST`.
        folder: To write; it must not be there, or be empty.
        base: Folder of the life's base.
        openssf: PEM file with a private key on a curve of NIST, to sign the folder in the OpenSSF format.
        card: Markdown file with the card; one is written from what is known by default.
        evaluation: What `wm-robot bench … --json` printed, a file each; the last line is kept.
        spec: Name of the robot, or the path of its spec; the one that the base names by default.
    """
    from wm_robot.io.durable import write_file
    from wm_robot.sharing.keyring import read_private
    from wm_robot.sharing.openssf import SIGNATURE, signer_of

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already. Name a folder that is not, or is empty")
    sign = None
    if openssf is not None:
        read_private(openssf)
        sign = signer_of(openssf)
    shipment = gathered(life, base, folder.resolve().name, card, evaluation, spec)
    for name, content in shipment.parts.items():
        write_file(folder / name, content)
    if sign is not None:
        sign(folder)
    signed = f"signed in {SIGNATURE}" if sign else "not signed"
    print(f"{folder}: life {shipment.snapshot.digest[:12]}, base {shipment.base['digest'][:12]}, {signed}")


def _from_bundle(path: Path, keys: Path | None, allow_rollback: bool) -> "tuple[Shipment, dict[str, Any]]":
    from wm_robot.sharing.bundle import read_bundle

    ring = keyring(keys)
    bundle = read_bundle(path, ring, allow_rollback=allow_rollback)
    ring.seen.note(bundle.signer, bundle.product, bundle.mark)
    return bundle.shipment, {
        "product": bundle.product,
        "sequence": bundle.sequence,
        "bundle": bundle.digest,
        "signer": bundle.signer,
    }


def _from_folder(folder: Path, openssf: Path | None, unsigned: bool) -> "tuple[Shipment, dict[str, Any]]":
    from wm_robot.io.durable import digest
    from wm_robot.sharing.openssf import private_copy, verify_folder
    from wm_robot.sharing.shipment import OPTIONAL, PARTS, Shipment
    from wm_robot.store.names import checked_name

    if (openssf is None) != unsigned:
        raise ConfigError(
            f"{folder} is a folder: say --openssf PUBLIC.pem, the key of whoever signed it, or --unsigned"
        )
    with private_copy(folder) as copy:
        if openssf is not None:
            verify_folder(copy, openssf, where=folder)
        there = [name for name in PARTS if (copy / name).is_file()]
        if missing := PARTS.keys() - OPTIONAL - set(there):
            raise SnapshotError(
                f"{folder} has no {', '.join(sorted(missing))}: it is not what `export` wrote"
            )
        parts = {name: read_file(copy / name, "") for name in there}
    signer = digest(read_file(openssf, "")) if openssf else ""
    origin = {"product": checked_name(folder.resolve().name), "format": "openssf", "signer": signer}
    return Shipment.of(parts, where=str(folder)), origin


def _base_in(bases: Path, product: str, shipment: "Shipment") -> tuple[Path, bool]:
    """Folder of the shipment's base, and whether it had to be written."""
    from wm_robot.io.base_file import CARD, WEIGHTS, check_base
    from wm_robot.io.durable import write_file
    from wm_robot.sharing.shipment import CALIBRATION, SPEC

    wanted = shipment.base["digest"]
    for path in sorted(bases.glob(f"*/{CARD}")):
        try:
            if (
                check_base(path.read_bytes(), (path.parent / WEIGHTS).read_bytes(), str(path))["digest"]
                == wanted
            ):
                return path.parent, False
        except (OSError, SnapshotError):
            # A folder that is no base any more is not the one; whoever uses it is told so.
            continue
    folder = bases / product
    if folder.exists():
        folder = bases / f"{product}-{wanted[:8]}"
    # The card last: without it, it is no base yet.
    for name in (WEIGHTS, CALIBRATION, SPEC, CARD):
        if name in shipment.parts:
            write_file(folder / name, shipment.parts[name])
    return folder, True


def _told(bundle: "Bundle") -> dict[str, Any]:
    shipment = bundle.shipment
    return {
        "product": bundle.product,
        "sequence": bundle.sequence,
        "signer": bundle.signer,
        "created": bundle.created,
        "life": shipment.snapshot.digest,
        "steps": shipment.snapshot.steps,
        "base": shipment.base["digest"],
        "robot": shipment.spec.name,
    }
