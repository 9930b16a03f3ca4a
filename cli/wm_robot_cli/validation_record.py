"""Validation records on disk: made of the results of a battery, signed, stored, found and described."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wm_robot.errors import ConfigError, SnapshotError

if TYPE_CHECKING:
    from wm_robot.sharing.find_record import FoundRecord
    from wm_robot.sharing.signed_record import SignedRecord
    from wm_robot.spec import RobotSpec
    from wm_robot.store.store import Store
    from wm_robot.validation_record.record import CheckResult, ValidationRecord
    from wm_robot.validation_record.subject import ValidationSubject


@dataclass(frozen=True, kw_only=True)
class RecordTarget:
    """What a validation judges: a base with its initial state or a snapshot, for a robot."""

    base: Path
    """Folder of the base."""
    spec: "RobotSpec"
    store: "Store | None"
    """Store of the snapshot; None for the initial state."""
    subject: "ValidationSubject"


def read_record_target(
    base: Path, robot: str | None = None, state: str | None = None, *, battery: str | None = None
) -> RecordTarget:
    """Read what a validation judges; no tensor is read.

    Args:
        base: Folder of the base, or the name of a bundled one.
        robot: Name of the robot, or the path of its spec; the robot of the base by default.
        state: `STORE`, `STORE@BRANCH` or `STORE@DIGEST`; the initial state of the base by default.
        battery: Digest of the battery; by default that of the robot's battery, see `read_battery_digest`.

    Raises:
        SnapshotError: If the base or the snapshot is missing, damaged, or of another base or robot.
        SpecError: If there is no such robot.
    """
    from wm_robot.io.base_file import CARD, WEIGHTS, check_base, check_same_base, find_base
    from wm_robot.robots import find_spec_path, load_spec
    from wm_robot.store.store import parse_reference
    from wm_robot.validation_record.installation import read_battery_digest
    from wm_robot.validation_record.subject import INITIAL_STATE

    base = find_base(base)
    try:
        card = check_base((base / CARD).read_bytes(), (base / WEIGHTS).read_bytes(), str(base))
    except OSError as error:
        raise SnapshotError(f"base {base} cannot be read: {error}. Fetch it again") from error
    robot = robot or str(card["robot"])
    spec = load_spec(robot)
    store, snapshot, steps = None, INITIAL_STATE, 0
    if state is not None:
        store, reference = parse_reference(state)
        found = store.read_manifest(reference)
        check_same_base(base, found.base_digest, state)
        if found.spec_digest != spec.compute_digest():
            raise SnapshotError(
                f"{state} was learned on a robot with spec {found.spec_digest[:12]}, and '{spec.name}' is "
                f"{spec.compute_digest()[:12]}. Give the robot of the state with --robot"
            )
        snapshot, steps = found.digest, found.steps
    if battery is None:
        battery = read_battery_digest(spec.name, find_spec_path(robot).parent)
    subject = make_subject(spec, str(card["digest"]), snapshot, steps, battery=battery)
    return RecordTarget(base=base, spec=spec, store=store, subject=subject)


def make_subject(
    spec: "RobotSpec", base_digest: str, snapshot: str, steps: int, *, battery: str
) -> "ValidationSubject":
    """Return a base and a state with this installation, for comparison with records.

    Args:
        battery: Digest of the robot's battery here; empty: it is not compared.
    """
    from wm_robot.validation_record.installation import compute_whole_spec_digest, read_installation
    from wm_robot.validation_record.subject import ValidationSubject

    installed = read_installation()
    return ValidationSubject(
        robot=spec.name,
        base=base_digest,
        spec=compute_whole_spec_digest(spec),
        model=spec.model_digest,
        battery=battery,
        version=installed.version,
        source=installed.source,
        snapshot=snapshot,
        steps=steps,
        ancestor=None,
    )


def make_record(
    target: RecordTarget,
    *,
    checks: "Sequence[CheckResult]",
    bounds: Mapping[str, float],
    seeds: Sequence[int],
    renews: str = "",
    notes: Sequence[str] = (),
) -> "ValidationRecord":
    """Make the record of a battery that was run now on this machine; its verdict follows from the checks.

    Args:
        checks: See `CheckResult.from_outcome`.
        bounds: Name of a session error → bound for descendants; see `compute_bounds`.
        renews: Digest of the record that a quick battery renews, see `find_renewable_record`; empty for a whole one.

    Raises:
        SnapshotError: If a value cannot be in a record.
    """
    from wm_robot.validation_record.installation import describe_machine
    from wm_robot.validation_record.record import ValidationRecord, decide_verdict

    subject = target.subject
    return ValidationRecord(
        robot=subject.robot,
        base=subject.base,
        snapshot=subject.snapshot,
        steps=subject.steps,
        spec=subject.spec,
        model=subject.model,
        battery=subject.battery,
        version=subject.version,
        source=subject.source,
        seeds=tuple(seeds),
        machine=describe_machine(),
        checks=tuple(checks),
        verdict=decide_verdict(checks),
        bounds=dict(bounds),
        rate=float(target.spec.rate),
        validation_hours=float(target.spec.safety.validation_hours),
        created=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        quick=bool(renews),
        renews=renews,
        notes=tuple(notes),
    )


def find_record(target: RecordTarget, keys: Path | None = None) -> "FoundRecord":
    """Find the record that decides for a state, beside its store or base; see `find_valid_record`."""
    from wm_robot.sharing.find_record import find_valid_record
    from wm_robot_cli.keys import open_keyring

    return find_valid_record(
        target.store, target.subject, open_keyring(keys), rate=target.spec.rate, places=[target.base]
    )


def find_renewable_record(target: RecordTarget, keys: Path | None = None) -> "SignedRecord":
    """Return the record that `validate --quick` renews.

    Raises:
        ConfigError: If there is none, or what it judged has changed since; then the whole battery is due.
    """
    found = find_record(target, keys)
    if found.signed is None or not found.judgement.may_be_renewed:
        sentence = found.judgement.sentence.partition(". Run: ")[0]
        raise ConfigError(f"--quick renews a validation, and {sentence}. Run it without --quick")
    return found.signed


def store_record(
    record: "ValidationRecord",
    target: RecordTarget,
    *,
    key: str,
    keys: Path | None = None,
    file: Path | None = None,
) -> tuple["SignedRecord", Path]:
    """Sign a record, store it beside the state's store or the base, and return it with its file.

    Args:
        key: Name of an own key.
        file: File for a further copy.

    Raises:
        ConfigError: If there is no such key.
        SnapshotError: If the record cannot be written.
    """
    from wm_robot.io.durable import write_file
    from wm_robot.sharing.signed_record import sign_record
    from wm_robot.store.record_folder import RecordFolder
    from wm_robot_cli.keys import open_keyring

    signed = sign_record(record, open_keyring(keys).load_private_key(key))
    if file is not None:
        write_file(file, signed.content)
    folder = target.store.validation_records if target.store else RecordFolder(target.base)
    return signed, folder.path / f"{folder.write(signed.content)}.json"


def describe_state_record(
    state: str, base: Path | None = None, robot: str | None = None, keys: Path | None = None
) -> dict[str, Any]:
    """Return status, sentence and digest of a state's record, as plain values for display. Never raises for a record.

    Args:
        base: Folder of its base; by default one that ships or is near its store.
        robot: Name of its robot, or the path of its spec; the robot of the base by default.
    """
    from wm_robot.errors import WmRobotError
    from wm_robot.io.base_file import find_base_by_digest
    from wm_robot.store.store import parse_reference

    store, reference = parse_reference(state)
    snapshot = store.read_manifest(reference)
    base = base or find_base_by_digest(snapshot.base_digest, store.folder.parent)
    if base is None:
        return {"status": "unknown", "sentence": "its base is not here. Name it with --base", "record": ""}
    try:
        found = find_record(read_record_target(base, robot, state), keys)
    except WmRobotError as error:
        return {"status": "unknown", "sentence": str(error), "record": ""}
    return describe_found_record(found)


def describe_found_record(found: "FoundRecord") -> dict[str, Any]:
    """Return status, sentence and digest of a record that was found, as plain values."""
    return {
        "status": found.judgement.status.value,
        "sentence": found.judgement.sentence,
        "record": found.signed.digest if found.signed else "",
    }
