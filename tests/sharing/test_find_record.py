"""Finding a record: of the state or an ancestor, beside its store or base, whatever else lies there."""

from dataclasses import replace

import pytest

pytest.importorskip("cryptography")

from tests.sharing.shipments import base_files, lived
from tests.validation_record.records import OTHER, failed_record, record, subject
from wm_robot.sharing.find_record import find_valid_record
from wm_robot.sharing.keyring import Keyring
from wm_robot.sharing.signature import SigningKey
from wm_robot.sharing.signed_record import sign_record
from wm_robot.store.garbage_collection import collect_garbage
from wm_robot.store.record_folder import RecordFolder
from wm_robot.store.store import PRETRAINED_NOTE, Store
from wm_robot.store.transfer import clone_branch, import_root
from wm_robot.validation_record.lineage import iterate_ancestors
from wm_robot.validation_record.rules import RecordStatus, StaleCause
from wm_robot.validation_record.subject import INITIAL_STATE, LineageEvent

RATE = 50.0
GOOD = {"session_steps": 3000.0, "session_surprise_p50": 0.5, "session_surprise_p95": 4.0}
BAD = {"session_steps": 3000.0, "session_surprise_p50": 2.0, "session_surprise_p95": 4.0}
SHORT = {"session_steps": 2999.0, "session_surprise_p50": 9.0, "session_surprise_p95": 9.0}


@pytest.fixture
def ring(tmp_path):
    return Keyring(tmp_path / "keys")


@pytest.fixture
def key(ring):
    return ring.create_key("me")


@pytest.fixture
def place(tmp_path):
    return tmp_path / "state"


def find(place, ring, snapshot, **changes):
    options = {name: changes.pop(name) for name in ("places", "contents") if name in changes}
    now = subject(
        snapshot=snapshot.digest,
        steps=changes.pop("steps", snapshot.steps),
        ancestor=None,
        session={},
        **changes,
    )
    return find_valid_record(Store(place), now, ring, rate=RATE, **options)


def keep(place, key, snapshot, make=record, **changes):
    one = make(snapshot=snapshot.digest, steps=snapshot.steps, **changes)
    return Store(place).validation_records.write(sign_record(one, key).content)


def test_a_state_without_a_record_has_none(place, ring, key):
    found = find(place, ring, lived(place))
    assert found.judgement.status is RecordStatus.MISSING and found.signed is None and not found.content
    assert not (place / "validation").exists(), "looking for a record wrote something"


def test_the_record_of_the_state_and_of_its_ancestor_is_found(place, ring, key):
    first = lived(place, 1)
    digest = keep(place, key, first)
    for number in range(2, 6):
        newest = lived(place, number)
    for snapshot in (first, newest):
        found = find(place, ring, snapshot)
        assert found.judgement.is_valid and found.signed.digest == digest
        assert found.subject.ancestor == first.digest and found.subject.events == ()


def test_the_record_of_a_descendant_is_not_that_of_its_ancestor(place, ring, key):
    first, second = lived(place, 1), lived(place, 2)
    keep(place, key, second)
    found = find(place, ring, first)
    assert found.judgement.status is RecordStatus.FOREIGN and "does not descend" in found.judgement.sentence


def test_a_newer_record_that_failed_outweighs_an_older_one_that_passed(place, ring, key):
    first = lived(place, 1)
    keep(place, key, first)
    keep(place, key, first, failed_record, created="2026-12-02T00:00:00Z")
    assert find(place, ring, first).judgement.status is RecordStatus.FAILED
    keep(place, key, first, created="2026-12-03T00:00:00Z")
    assert find(place, ring, first).judgement.is_valid


def test_what_else_lies_there_does_not_hide_it(place, ring, key):
    first = lived(place, 1)
    keep(place, key, first)
    folder = Store(place).validation_records
    folder.write(b"{}")
    folder.write(b"[" * 1000)
    folder.write(sign_record(record(snapshot=first.digest, steps=1), SigningKey.generate()).content)
    folder.write(sign_record(record(snapshot=OTHER), key).content)
    (folder.path / ("0" * 64 + ".json")).write_bytes(b"a file under a wrong name")
    (folder.path / "notes.json").write_bytes(b"{}")
    assert find(place, ring, first).judgement.is_valid


@pytest.mark.parametrize(
    ("make", "status"),
    [(lambda key: b"{}", RecordStatus.DAMAGED),
     (lambda key: sign_record(record(), SigningKey.generate()).content, RecordStatus.FOREIGN)],
)  # fmt: skip
def test_a_record_that_is_refused_is_the_reason(place, ring, key, make, status):
    first = lived(place, 1)
    Store(place).validation_records.write(make(key))
    found = find(place, ring, first)
    assert found.judgement.status is status and found.signed is None and found.content


def test_the_error_of_the_last_long_session_since_the_record_decides(place, ring, key):
    first = lived(place, 1, metrics=BAD)
    keep(place, key, first)
    later = 1 + round(3600 * RATE)
    assert find(place, ring, first).judgement.is_valid, "the session before it is not judged"
    assert find(place, ring, lived(place, 2), steps=later).judgement.cause is StaleCause.NO_ERROR
    assert find(place, ring, lived(place, 3, metrics=GOOD), steps=later).judgement.is_valid
    assert find(place, ring, lived(place, 4, metrics=SHORT), steps=later).judgement.is_valid
    worse = lived(place, 5, metrics=BAD)
    assert find(place, ring, worse, steps=later).judgement.cause is StaleCause.ERROR
    assert find(place, ring, lived(place, 6, metrics=SHORT), steps=later).judgement.cause is StaleCause.ERROR
    assert find(place, ring, lived(place, 7, metrics=GOOD), steps=later).judgement.is_valid
    # A session that it lives now is the last one.
    now = subject(snapshot=worse.digest, steps=later, ancestor=None)
    assert find_valid_record(Store(place), now, ring, rate=RATE).judgement.is_valid


def test_a_lifetime_from_the_initial_state_has_the_record_of_its_base(place, tmp_path, ring, key):
    base = tmp_path / "base"
    one = sign_record(record(snapshot=INITIAL_STATE, steps=0), key)
    RecordFolder(base).write(one.content)
    now = subject(snapshot=INITIAL_STATE, steps=0, ancestor=None)
    assert find_valid_record(None, now, ring, rate=RATE, places=[base]).judgement.is_valid
    assert find_valid_record(None, now, ring, rate=RATE).judgement.status is RecordStatus.MISSING
    lived(place, 1)
    second = lived(place, 2)
    found = find(place, ring, second, places=[base])
    assert found.judgement.is_valid and found.subject.ancestor == INITIAL_STATE
    assert find(place, ring, second, contents=[one.content]).judgement.is_valid


def test_a_pretrained_state_does_not_have_the_record_of_its_base(place, tmp_path, ring, key):
    one = sign_record(record(snapshot=INITIAL_STATE, steps=0), key)
    root = lived(place, 1, note=PRETRAINED_NOTE)
    found = find(place, ring, root, contents=[one.content])
    assert found.judgement.cause is StaleCause.PRETRAINING
    keep(place, key, root)
    assert find(place, ring, lived(place, 2), contents=[one.content]).judgement.is_valid


def test_an_assimilation_a_pool_and_an_import_make_it_stale_and_a_new_record_counts(
    place, tmp_path, ring, key
):
    first = lived(place, 1)
    keep(place, key, first)
    assimilated = lived(place, 2, origin={"assimilated": {"other.mcap": OTHER}})
    assert find(place, ring, assimilated).judgement.cause is StaleCause.ASSIMILATION
    assert find(place, ring, lived(place, 3)).judgement.cause is StaleCause.ASSIMILATION
    keep(place, key, assimilated)
    assert find(place, ring, lived(place, 4)).judgement.is_valid

    other = lived(place, 5, branch="other", parents=[])
    pooled = lived(place, 6, branch="pool", parents=[first.digest, other.digest])
    assert find(place, ring, pooled).judgement.cause is StaleCause.POOL
    assert find(place, ring, lived(place, 7, branch="pool")).judgement.cause is StaleCause.POOL

    there = tmp_path / "there"
    arrived = import_root(
        Store(there), first.to_imported_root(product="arm"), Store(place).read_object(first)
    )
    contents = [content for _, content in Store(place).validation_records.read_all()]
    assert find(there, ring, arrived, contents=contents).judgement.cause is StaleCause.IMPORT
    assert find(there, ring, lived(there, 8), contents=contents).judgement.cause is StaleCause.IMPORT
    keep(there, key, arrived)
    assert find(there, ring, lived(there, 9)).judgement.is_valid


def test_a_state_that_was_imported_twice_names_all_its_earlier_ones(place, tmp_path, ring):
    first = lived(place, 1)
    second = lived(place, 2)
    content = Store(place).read_object(second)
    once = import_root(Store(tmp_path / "b"), second.to_imported_root(product="arm"), content)
    twice = import_root(Store(tmp_path / "c"), once.to_imported_root(product="arm"), content)
    line = list(iterate_ancestors(Store(tmp_path / "c"), twice.digest, rate=RATE))
    assert {each.snapshot for each in line} == {twice.digest, once.digest, second.digest, first.digest}
    assert all(each.events == (LineageEvent.IMPORT,) for each in line[1:])


def test_a_migrated_state_has_a_record_of_another_base(place, ring, key):
    first = lived(place, 1)
    keep(place, key, first)
    moved = lived(
        place, 2, branch="moved", parents=[], base=base_files(7.0), origin={"migrated_from": first.digest}
    )
    found = find(place, ring, moved, base=OTHER)
    assert found.judgement.cause is StaleCause.BASE
    assert find(place, ring, moved).judgement.cause is StaleCause.MIGRATION


def test_a_clone_keeps_its_records_and_garbage_collection_leaves_them(place, tmp_path, ring, key):
    first = lived(place, 1)
    keep(place, key, first)
    second = lived(place, 2)
    clone = Store(tmp_path / "clone")
    clone_branch(clone, Store(place), "main")
    assert find(clone.folder, ring, second).judgement.is_valid
    store = Store(place)
    store.reset_branch("main", first.digest)
    store.delete_branch("main")
    collect_garbage(store)
    assert len(list(store.validation_records.read_all())) == 1


def test_a_branch_keeps_the_record_of_where_it_began(place, ring, key):
    first = lived(place, 1)
    keep(place, key, first)
    lived(place, 2)
    Store(place).create_branch("careful", first.digest)
    careful = lived(place, 3, branch="careful")
    assert find(place, ring, careful).judgement.is_valid


def test_each_change_is_named_by_the_finder_too(place, ring, key):
    first = lived(place, 1)
    keep(place, key, first)
    for cause, change in (
        ("spec", "spec"),
        ("model", "model"),
        ("battery", "battery"),
        ("version", "source"),
    ):
        found = find(place, ring, first, **{change: OTHER})
        assert found.judgement.cause is StaleCause(cause)
    assert find(place, ring, first, robot="leg").judgement.status is RecordStatus.FOREIGN
    assert replace(found.subject, ancestor=None) != found.subject
