"""Bundle inputs: reads and checks all parts of a shipment for `state ship` and `state export`."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wm_robot.errors import ConfigError

if TYPE_CHECKING:
    from wm_robot.sharing.shipment import Shipment
    from wm_robot.spec import RobotSpec
    from wm_robot.store.snapshot import Snapshot
    from wm_robot.store.store import Store


def collect_shipment(
    state_reference: str,
    base: Path,
    product: str,
    card: Path | None,
    evaluation: Sequence[Path],
    spec: str | None,
    keys: Path | None = None,
) -> "Shipment":
    """Read a lifetime state with its base, its robot and its evaluation, and check that they match.

    Args:
        state_reference: Reference of the lifetime state.
        base: Folder of its base, or the name of a bundled one.
        product: Name in its card.
        card: Markdown file. None: a generated card.
        evaluation: Files with the output of benches.
        spec: Name of the robot, or the path of its spec.
        keys: Folder of the keys that a validation record is verified with.

    Raises:
        SnapshotError: If a part is damaged, or the parts do not match.
        ConfigError: If a file cannot be read, or a measurement belongs to another base.
    """
    from wm_robot.io.base_file import CARD, WEIGHTS, check_base, check_same_base, find_base
    from wm_robot.sharing.shipment import CALIBRATION, Shipment, make_parts
    from wm_robot.store.store import parse_reference
    from wm_robot_cli.model_card import write_model_card

    base = find_base(base)
    store, reference = parse_reference(state_reference)
    snapshot = store.read_manifest(reference)
    check_same_base(base, snapshot.base_digest, state_reference)
    names = [name for name in (CARD, CALIBRATION, WEIGHTS) if name != CALIBRATION or (base / name).exists()]
    files = {name: read_file(base / name, "Select the folder of the state's base") for name in names}
    known = check_base(files[CARD], files[WEIGHTS], str(base))
    robot = _read_spec(base, known["robot"], spec)
    records = [_read_record(path, known["digest"]) for path in evaluation]
    text = (
        read_file(card, "Select a Markdown file").decode()
        if card
        else write_model_card(product, base=known, snapshot=snapshot, spec=robot, evaluation=records)
    )
    parts = make_parts(
        card=text,
        base=files,
        snapshot=snapshot,
        state=store.read_object(snapshot),
        spec=robot,
        evaluation=records,
        validation=_find_validation(base, robot, store, snapshot, keys),
    )
    return Shipment.parse(parts, where=f"{state_reference} with {base}")


def _find_validation(
    base: Path, spec: "RobotSpec", store: "Store", snapshot: "Snapshot", keys: Path | None
) -> bytes:
    """Return the signed validation record of a state or of its nearest judged ancestor; empty without one.

    A record of what has changed since is evidence of nothing that is shipped, and stays here.
    """
    from wm_robot.errors import MissingExtraError
    from wm_robot.sharing.find_record import find_valid_record
    from wm_robot_cli.keys import open_keyring
    from wm_robot_cli.validation_record import make_subject

    try:
        subject = make_subject(spec, snapshot.base_digest, snapshot.digest, snapshot.steps, battery="")
        found = find_valid_record(store, subject, open_keyring(keys), rate=spec.rate, places=[base])
    except MissingExtraError:
        return b""
    counts = found.judgement.may_be_renewed or found.judgement.status.value == "failed"
    return found.content if found.signed and counts else b""


def read_file(path: Path, next_step: str) -> bytes:
    """Read the bytes of a file from an option.

    Args:
        next_step: Next step in the error message.

    Raises:
        ConfigError: If the file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}. {next_step}") from error


def _read_record(path: Path, base_digest: str) -> dict[str, Any]:
    """Read the last line of a bench's output, and check that it belongs to this base."""
    from wm_robot.io.strict_json import parse_json
    from wm_robot.sharing.shipment import RECORD_KEYS

    lines = read_file(path, "Select a file with the output of `wm-robot bench … --json`").strip().splitlines()
    record = parse_json(lines[-1] if lines else b"", f"the last line of {path}")
    written = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    record = {"when": written, **record} if isinstance(record, Mapping) else {}
    if missing := [name for name in RECORD_KEYS if name not in record]:
        raise ConfigError(
            f"the last line of {path} has no {', '.join(missing)}: it is not the output of a bench"
        )
    bases = record.get("bases") or {}
    if bases and base_digest not in bases.values():
        raise ConfigError(
            f"{path} was measured with bases {sorted(each[:12] for each in bases.values())}, none of which is the "
            f"base of this state ({base_digest[:12]}). Measure with that one"
        )
    return record


def _read_spec(base: Path, robot: str, spec_option: str | None) -> "RobotSpec":
    from wm_robot.io.strict_json import parse_json
    from wm_robot.robots import load_spec
    from wm_robot.sharing.shipment import SPEC
    from wm_robot.spec import RobotSpec

    if spec_option is None and (base / SPEC).exists():
        return RobotSpec.from_dict(parse_json((base / SPEC).read_bytes(), str(base / SPEC)))
    if spec_option is not None and Path(spec_option).is_file():
        return load_spec(spec_option)
    return load_spec(spec_option or robot)
