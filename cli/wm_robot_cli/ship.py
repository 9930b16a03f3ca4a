"""Verbs `wm-robot state ship|import|inspect|export`: transfer a lifetime state with its base to another machine."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from wm_robot.errors import ConfigError, SnapshotError
from wm_robot_cli.bundle_inputs import collect_shipment, read_file
from wm_robot_cli.keys import open_keyring
from wm_robot_cli.tables import print_rows
from wm_robot_cli.values import JsonFlag

if TYPE_CHECKING:
    from wm_robot.sharing.bundle import Bundle
    from wm_robot.sharing.keyring import Keyring
    from wm_robot.sharing.shipment import Shipment

StateReference = Annotated[str, tyro.conf.Positional]
PathArgument = Annotated[Path, tyro.conf.Positional]
BASES_FOLDER = Path("bases")


def ship_state(
    state: StateReference,
    file: PathArgument,
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
    """Write a signed bundle: a lifetime state, its base, its robot, its card and its evaluation.

    Args:
        state: `STORE`, `STORE@BRANCH` or `STORE@DIGEST`.
        file: Output file.
        base: Folder of the state's base.
        key: Name of an own key, see `wm-robot keys`.
        product: Product name for receivers; later bundles of it replace earlier ones. The base's folder by default.
        card: Markdown file with the card; a generated card by default.
        evaluation: Output of `wm-robot bench … --json`, a file each; the last line is used.
        spec: Name of the robot, or the path of its spec; the robot of the base by default.
        keys: Folder of keys.
    """
    from wm_robot.io.base_file import find_base
    from wm_robot.sharing.bundle import write_bundle

    base = find_base(base)
    ring = open_keyring(keys)
    signing = ring.load_private_key(key)
    product = product or base.resolve().name
    shipment = collect_shipment(state, base, product, card, evaluation, spec, keys)
    sequence = ring.issued_counters.take_next(signing.id, product)
    write_bundle(file, shipment, product=product, sequence=sequence, key=signing)
    print(
        f"{file}: '{product}' number {sequence}, state {shipment.snapshot.digest[:12]} of {shipment.snapshot.steps} "
        f"steps, base {shipment.base['digest'][:12]}, {file.stat().st_size / 2**20:.1f} MiB, "
        f"signed by '{key}' ({signing.id[:12]})"
    )
    print(f"validation record: {_describe_validation(shipment)}")


def import_state(
    source: PathArgument,
    state: StateReference,
    /,
    *,
    bases: Path = BASES_FOLDER,
    allow_rollback: bool = False,
    openssf: Path | None = None,
    unsigned: bool = False,
    keys: Path | None = None,
) -> None:
    """Import a shipped lifetime state: verify it, copy its base, and create a branch from it.

    A second import changes nothing. Its ancestors are not imported; `state show` lists their digests.

    Args:
        source: A bundle, or a folder from `export`.
        state: `STORE` or `STORE@BRANCH`; a branch with another state is rejected.
        bases: Folder for the base, if it is missing.
        allow_rollback: Accept a bundle that is older than an imported one of the same product.
        openssf: For a folder: PEM file with the signer's public key.
        unsigned: For a folder: accept it without a signature.
        keys: Folder of keys.
    """
    from wm_robot.sharing.shipment import strip_table
    from wm_robot.store.store import parse_reference
    from wm_robot.store.transfer import import_root

    if source.is_dir():
        shipment, origin = _read_folder(source, openssf, unsigned)
    elif openssf or unsigned:
        raise ConfigError(f"{source} is not a folder; --openssf and --unsigned are for folders from `export`")
    else:
        shipment, origin = _read_bundle(source, keys, allow_rollback)
    evaluation = [strip_table(each) for each in shipment.evaluation]
    received = shipment.snapshot.to_imported_root(**origin, evaluation=evaluation)
    store, branch = parse_reference(state)
    here = import_root(store, received, shipment.parts["state.safetensors"], branch=branch)
    if shipment.validation is not None:
        # Evidence of what was judged there; it does not count here.
        store.validation_records.write(shipment.validation.content)
    place, is_new = _find_or_write_base(bases, origin["product"], shipment)
    begins = "starts at" if here.digest == store.resolve(branch) else "already descends from it, by"
    print(
        f"branch '{branch}' {begins} {here.digest[:12]} in {store.folder}, state {shipment.snapshot.digest[:12]}"
    )
    print(f"its base {shipment.base['digest'][:12]} {'is now' if is_new else 'was already'} in {place}")
    if shipment.validation is not None:
        print(
            f"validation record: {_describe_validation(shipment)}; it does not count here. "
            f"Run: wm-robot validate {place}"
        )
    if is_new:
        print(f"export its ONNX models with: wm-robot export {place}")


def inspect_bundle(
    bundle: PathArgument, /, *, card: bool = False, keys: Path | None = None, as_json: JsonFlag = False
) -> None:
    """Verify a bundle and print its contents; nothing is imported.

    Args:
        bundle: File to read.
        card: Print its card too.
        keys: Folder of keys.
        as_json: Print JSON, with the card.
    """
    from wm_robot.sharing.bundle import read_bundle

    ring = open_keyring(keys)
    found = read_bundle(bundle, ring, allow_rollback=True)
    values = _describe_bundle(found, ring) | {
        "received": ring.received_counters.read_highest(found.signer, found.product).sequence
    }
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


def export_state_folder(
    state: StateReference,
    folder: PathArgument,
    /,
    *,
    base: Path,
    openssf: Path | None = None,
    card: Path | None = None,
    evaluation: tuple[Path, ...] = (),
    spec: str | None = None,
) -> None:
    """Write a lifetime state as a plain folder, with a card for Hugging Face.

    Args:
        state: `STORE`, `STORE@BRANCH` or `STORE@DIGEST`.
        folder: Output folder; it must be missing or empty.
        base: Folder of the state's base.
        openssf: PEM file with a private key on a NIST curve, to sign the folder in the OpenSSF format.
        card: Markdown file with the card; a generated card by default.
        evaluation: Output of `wm-robot bench … --json`, a file each; the last line is used.
        spec: Name of the robot, or the path of its spec; the robot of the base by default.
    """
    from wm_robot.io.durable import write_file
    from wm_robot.sharing.keyring import read_private_key
    from wm_robot.sharing.openssf import SIGNATURE_FILE, make_signer

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists already. Give a new or an empty folder")
    sign = None
    if openssf is not None:
        read_private_key(openssf)
        sign = make_signer(openssf)
    shipment = collect_shipment(state, base, folder.resolve().name, card, evaluation, spec)
    for name, content in shipment.parts.items():
        write_file(folder / name, content)
    if sign is not None:
        sign(folder)
    signed = f"signed in {SIGNATURE_FILE}" if sign else "not signed"
    print(f"{folder}: state {shipment.snapshot.digest[:12]}, base {shipment.base['digest'][:12]}, {signed}")


def _read_bundle(path: Path, keys: Path | None, allow_rollback: bool) -> "tuple[Shipment, dict[str, Any]]":
    from wm_robot.sharing.bundle import read_bundle

    ring = open_keyring(keys)
    bundle = read_bundle(path, ring, allow_rollback=allow_rollback)
    ring.received_counters.record(bundle.signer, bundle.product, bundle.counter_mark)
    return bundle.shipment, {
        "product": bundle.product,
        "sequence": bundle.sequence,
        "bundle": bundle.digest,
        "signer": bundle.signer,
    }


def _read_folder(folder: Path, openssf: Path | None, unsigned: bool) -> "tuple[Shipment, dict[str, Any]]":
    from wm_robot.io.durable import compute_digest
    from wm_robot.sharing.openssf import open_private_copy, verify_folder
    from wm_robot.sharing.shipment import MAX_PART_BYTES, OPTIONAL_PARTS, Shipment
    from wm_robot.store.names import check_name

    if (openssf is None) != unsigned:
        raise ConfigError(
            f"{folder} is a folder: give --openssf PUBLIC.pem, the key of its signer, or --unsigned"
        )
    with open_private_copy(folder) as copy:
        if openssf is not None:
            verify_folder(copy, openssf, where=folder)
        there = [name for name in MAX_PART_BYTES if (copy / name).is_file()]
        if missing := MAX_PART_BYTES.keys() - OPTIONAL_PARTS - set(there):
            raise SnapshotError(
                f"{folder} has no {', '.join(sorted(missing))}: it is not a folder from `export`"
            )
        parts = {name: read_file(copy / name, "") for name in there}
    signer = compute_digest(read_file(openssf, "")) if openssf else ""
    origin = {"product": check_name(folder.resolve().name), "format": "openssf", "signer": signer}
    return Shipment.parse(parts, where=str(folder)), origin


def _find_or_write_base(bases: Path, product: str, shipment: "Shipment") -> tuple[Path, bool]:
    """Find the folder of the shipment's base, or write it. Return whether it was written."""
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
            # A damaged base is not the searched one; its next use reports the error.
            continue
    folder = bases / product
    if folder.exists():
        folder = bases / f"{product}-{wanted[:8]}"
    # The card last: without it, the folder is not yet a base.
    for name in (WEIGHTS, CALIBRATION, SPEC, CARD):
        if name in shipment.parts:
            write_file(folder / name, shipment.parts[name])
    return folder, True


def _describe_bundle(bundle: "Bundle", ring: "Keyring") -> dict[str, Any]:
    shipment = bundle.shipment
    return {
        "product": bundle.product,
        "sequence": bundle.sequence,
        "signer": bundle.signer,
        "created": bundle.created,
        "snapshot": shipment.snapshot.digest,
        "steps": shipment.snapshot.steps,
        "base": shipment.base["digest"],
        "robot": shipment.spec.name,
        "validation": _describe_validation(shipment, ring),
    }


def _describe_validation(shipment: "Shipment", ring: "Keyring | None" = None) -> str:
    """Return verdict, judged state, time and key of a shipment's validation record.

    Args:
        ring: Keys to verify it with; None: its signature is not mentioned.
    """
    from wm_robot.sharing.signed_record import verify_signed_record

    if shipment.validation is None:
        return "none"
    record, state = shipment.validation.record, shipment.snapshot.digest
    judged = (
        "this state"
        if record.snapshot == state
        else f"an ancestor ({record.snapshot[:12] or 'initial state'})"
    )
    refused = ""
    try:
        if ring is not None:
            verify_signed_record(shipment.validation.content, ring, "it")
    except SnapshotError as error:
        refused = f", refused: {error}"
    return (
        f"{record.verdict.value}, of {judged}, {record.created}, {len(record.checks)} checks, "
        f"key {shipment.validation.key[:12]}{refused}"
    )
