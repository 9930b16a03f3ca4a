"""Find the validation record of a lifetime state, among those beside its store and its base."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wm_robot.errors import MissingExtraError, SnapshotError
from wm_robot.sharing.keyring import Keyring
from wm_robot.sharing.signed_record import SignedRecord, UntrustedKeyError, verify_signed_record
from wm_robot.store.record_folder import RecordFolder
from wm_robot.store.store import Store
from wm_robot.validation_record.lineage import Ancestor, iterate_ancestors
from wm_robot.validation_record.rules import (
    Judgement,
    choose_judgement,
    damaged_record,
    foreign_record,
    judge_record,
    missing_record,
)
from wm_robot.validation_record.subject import INITIAL_STATE, MAX_EVENTS, ValidationSubject


@dataclass(frozen=True, kw_only=True)
class FoundRecord:
    """Record that decides for a lifetime state, and its judgement."""

    judgement: Judgement
    subject: ValidationSubject
    """The state in its relation to the judged snapshot."""
    signed: SignedRecord | None = None
    """None if there is none, or its signature is not verified."""
    content: bytes = b""
    """Text of the record, verified or not; empty if there is none."""


def find_valid_record(
    store: Store | None,
    subject: ValidationSubject,
    keyring: Keyring,
    *,
    rate: float,
    places: Sequence[Path] = (),
    contents: Sequence[bytes] = (),
) -> FoundRecord:
    """Find the record that decides for a lifetime state: that of the nearest ancestor, of several there the newest.

    Args:
        store: Store of `subject.snapshot`; None for the initial state.
        subject: What the robot runs now; its relation to a record is computed here, except that a `session` that is
            given there is the newer one.
        rate: Control rate, in Hz.
        places: Further folders with records, such as that of the base.
        contents: Further records that are given by themselves.

    Raises:
        SnapshotError: If the lineage is damaged.
    """
    folders = [*([store.validation_records] if store else []), *map(RecordFolder, places)]
    texts = dict.fromkeys([*contents, *(content for folder in folders for _, content in folder.read_all())])
    found = [_verify(content, keyring) for content in texts]
    line = _index_line(store, subject, rate, found)
    judged: list[FoundRecord] = []
    distances: list[int] = []
    for content, (signed, refused) in zip(texts, found, strict=True):
        if signed is None:
            assert refused is not None
            judged.append(FoundRecord(judgement=refused, subject=subject.with_line(None), content=content))
            distances.append(len(line))
            continue
        ancestor = line.get(signed.record.snapshot)
        here = subject.with_line(None) if ancestor is None else _relate(subject, ancestor)
        judgement = judge_record(signed.record, here)
        judged.append(FoundRecord(judgement=judgement, subject=here, signed=signed, content=content))
        distances.append(len(line) if ancestor is None else ancestor.distance)
    times = [each.signed.record.created if each.signed else "" for each in judged]
    chosen = choose_judgement(list(zip(distances, times, [each.judgement for each in judged], strict=True)))
    if chosen is None:
        return FoundRecord(judgement=missing_record(), subject=subject.with_line(None))
    return judged[chosen]


def _verify(content: bytes, keyring: Keyring) -> tuple[SignedRecord | None, Judgement | None]:
    try:
        return verify_signed_record(content, keyring, "it"), None
    except UntrustedKeyError as error:
        return None, foreign_record(str(error))
    except (SnapshotError, MissingExtraError) as error:
        return None, damaged_record(str(error))


def _index_line(
    store: Store | None,
    subject: ValidationSubject,
    rate: float,
    found: Sequence[tuple[SignedRecord | None, Judgement | None]],
) -> dict[str, Ancestor]:
    """Return digest → ancestor, up to the oldest one that a record names."""
    wanted = {signed.record.snapshot for signed, _ in found if signed is not None}
    line: dict[str, Ancestor] = {}
    for ancestor in _iterate_line(store, subject, rate):
        if not wanted:
            break
        line.setdefault(ancestor.snapshot, ancestor)
        wanted.discard(ancestor.snapshot)
    return line


def _iterate_line(store: Store | None, subject: ValidationSubject, rate: float) -> Iterator[Ancestor]:
    if store is None or subject.snapshot == INITIAL_STATE:
        return iter([Ancestor(snapshot=INITIAL_STATE, distance=0, events=())])
    return iterate_ancestors(store, subject.snapshot, rate=rate)


def _relate(subject: ValidationSubject, ancestor: Ancestor) -> ValidationSubject:
    """Return the subject in its relation to an ancestor. A session that it lives now is newer than any saved one."""
    return replace(
        subject.with_line(ancestor.snapshot, ancestor.events[-MAX_EVENTS:]),
        session=dict(subject.session or ancestor.session),
    )
