"""Signed bundle: verified before it is parsed; any content without a trusted signature raises one kind of error."""

import dataclasses
import json
import os

import pytest

pytest.importorskip("cryptography")

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sharing.shipments import RECORD, SPEC, base_files, lived, point_record, shipment
from wm_robot.errors import SnapshotError
from wm_robot.io.durable import compute_digest
from wm_robot.io.strict_json import parse_json
from wm_robot.sharing import bundle as bundle_module
from wm_robot.sharing.bundle import HEADER, MAGIC, describe_bundle, read_bundle, seal_bundle, write_bundle
from wm_robot.sharing.keyring import Keyring
from wm_robot.sharing.rollback_counters import CounterMark
from wm_robot.sharing.shipment import MAX_PART_BYTES, Shipment
from wm_robot.sharing.signed_record import sign_record
from wm_robot.spec import Sensor, encode_canonical_json
from wm_robot.spec.sensor_difference import list_sensor_values
from wm_robot.store.garbage_collection import collect_garbage
from wm_robot.store.snapshot import Snapshot
from wm_robot.store.store import Store
from wm_robot.store.transfer import import_root
from wm_robot.store.verification import find_damage


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("bundle")


@pytest.fixture(scope="module")
def ring(place):
    return Keyring(place / "keys")


@pytest.fixture(scope="module")
def key(ring):
    return ring.create_key("me")


@pytest.fixture(scope="module")
def shipped(place, key):
    return shipment(place / "lives", validation=sign_record(point_record("b" * 64, 1), key).content)


@pytest.fixture(scope="module")
def file(place, ring, key, shipped):
    write_bundle(place / "true", shipped, product="point", sequence=3, key=key)
    return place / "true"


def refused(ring: Keyring, path, content: bytes, words: str | None = None) -> None:
    path.write_bytes(content)
    with pytest.raises(SnapshotError, match=words):
        read_bundle(path, ring)


def test_what_was_shipped_comes_back(ring, key, shipped, file):
    found = read_bundle(file, ring)
    assert (found.product, found.sequence, found.signer) == ("point", 3, key.id)
    assert found.shipment == shipped and found.shipment.spec.compute_digest() == SPEC.compute_digest()
    assert found.shipment.evaluation == (RECORD,) and found.shipment.snapshot.parents
    assert list(found.shipment.parts) == list(MAX_PART_BYTES)


def test_a_spec_comes_back_as_the_same_robot(shipped):
    assert shipped.spec.to_dict() == SPEC.to_dict() and shipped.spec.find_task("reach") == SPEC.find_task(
        "reach"
    )


def test_every_byte_of_header_and_manifest_counts(place, ring, file):
    content = file.read_bytes()
    head = HEADER.size + HEADER.unpack_from(content)[3]
    for at in range(head):
        refused(
            ring, place / "flipped", content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :]
        )


def test_every_beginning_is_refused(place, ring, file):
    content = file.read_bytes()
    for end in range(0, len(content), 7):
        refused(ring, place / "cut", content[:end])
    refused(ring, place / "cut", content[:-1], "longer or shorter")
    refused(ring, place / "longer", content + b"\0", "longer or shorter")


def test_nothing_is_parsed_before_it_is_verified(place, ring, file, monkeypatch):
    def parsed(*_):
        raise AssertionError("it was parsed")

    monkeypatch.setattr(bundle_module, "parse_canonical_json", parsed)
    content = file.read_bytes()
    for at in (0, 8, 40, 104, HEADER.size + 20):
        refused(ring, place / "unparsed", content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with pytest.raises(AssertionError, match="it was parsed"):
        read_bundle(file, ring)


def test_no_file_is_read_before_its_digest_is_known_to_be_right(place, ring, file, monkeypatch):
    monkeypatch.setattr(Shipment, "parse", lambda *_, **__: pytest.fail("it was read"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    refused(ring, place / "unread", bytes(content), "weights.safetensors of .* is damaged")


def test_a_key_that_is_not_trusted_or_not_any_more_is_refused(tmp_path, shipped):
    ring = Keyring(tmp_path / "keys", clock=lambda: 1000.0)
    key = Keyring(tmp_path / "others").create_key("them")
    write_bundle(tmp_path / "x", shipped, product="point", sequence=1, key=key)
    with pytest.raises(SnapshotError, match="is not trusted in .*wm-robot keys trust"):
        read_bundle(tmp_path / "x", ring)
    ring.trust_key("them", key.public_key, expires_at=1000.5)
    assert read_bundle(tmp_path / "x", ring).signer == key.id
    ring.trust_key("them", key.public_key, expires_at=999.5)
    with pytest.raises(SnapshotError, match="was trusted until"):
        read_bundle(tmp_path / "x", ring)


def test_an_older_version_is_refused_unless_it_is_asked_for(tmp_path, shipped):
    ring = Keyring(tmp_path / "keys")
    key = ring.create_key("me")
    for number in (1, 2):
        write_bundle(tmp_path / str(number), shipped, product="point", sequence=number, key=key)
    newer = read_bundle(tmp_path / "2", ring)
    assert read_bundle(tmp_path / "1", ring).sequence == 1
    ring.received_counters.record(newer.signer, newer.product, newer.counter_mark)
    with pytest.raises(SnapshotError, match="'point' number 1 .* is older than number 2"):
        read_bundle(tmp_path / "1", ring)
    assert read_bundle(tmp_path / "1", ring, allow_rollback=True).sequence == 1
    assert read_bundle(tmp_path / "2", ring) == newer
    ring.received_counters.record(newer.signer, newer.product, CounterMark(2, "another"))
    assert ring.received_counters.read_highest(newer.signer, newer.product) == newer.counter_mark


def test_another_bundle_under_the_same_number_is_refused(tmp_path, shipped):
    ring = Keyring(tmp_path / "keys")
    key = ring.create_key("me")
    other = shipment(tmp_path / "other", 5.0)
    write_bundle(tmp_path / "one", shipped, product="point", sequence=1, key=key)
    write_bundle(tmp_path / "two", other, product="point", sequence=1, key=key)
    taken = read_bundle(tmp_path / "one", ring)
    ring.received_counters.record(taken.signer, taken.product, taken.counter_mark)
    with pytest.raises(SnapshotError, match="is not the number 1"):
        read_bundle(tmp_path / "two", ring)


def test_a_signature_made_for_something_else_fits_no_bundle(place, ring, key, shipped):
    manifest = encode_canonical_json(describe_bundle(shipped, product="point", sequence=9))
    header = HEADER.pack(MAGIC, bytes.fromhex(key.id), key.sign(manifest), len(manifest))
    refused(ring, place / "x", header + manifest + b"".join(shipped.parts.values()), "is not what key")


def test_a_later_format_says_so(place, ring, file):
    content = file.read_bytes()
    refused(ring, place / "x", MAGIC[:-1] + b"\x02" + content[8:], "has format 2, this version reads 1")


@pytest.mark.parametrize("kind", ["link", "dangling", "folder", "pipe", "missing"])
def test_what_is_no_file_is_refused_at_once(tmp_path, ring, file, kind):
    path = tmp_path / "x"
    {
        "link": lambda: path.symlink_to(file),
        "dangling": lambda: path.symlink_to("nowhere"),
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "missing": lambda: None,
    }[kind]()
    with pytest.raises(SnapshotError, match="is a link|is no file|cannot be read"):
        read_bundle(path, ring)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path, ring, file):
    path = tmp_path / "x"
    path.write_bytes(file.read_bytes())
    os.truncate(path, 10 << 30)
    with pytest.raises(SnapshotError, match="at most .* are read"):
        read_bundle(path, ring)


def test_weights_may_hold_a_nan_where_the_sender_says_so(tmp_path, ring, key):
    base = base_files(float("nan"))
    sent = shipment(tmp_path / "lives", base=base)
    assert sent.tensors["weights.safetensors"]["layer.weight"]["finite"] is False
    write_bundle(tmp_path / "x", sent, product="nan", sequence=1, key=key)
    assert (
        read_bundle(tmp_path / "x", ring).shipment.base["digest"]
        == parse_json(base["base.json"], "")["digest"]
    )


def test_what_does_not_belong_together_is_not_shipped(tmp_path, shipped):
    other = shipment(tmp_path / "lives", base=base_files(2.0))
    names = ("base.json", "calibration.json", "weights.safetensors")
    mixed = {**shipped.parts, **{name: other.parts[name] for name in names}}
    with pytest.raises(SnapshotError, match="does not belong together: the state's base is"):
        Shipment.parse(mixed, where="here")
    with pytest.raises(SnapshotError, match="the calibration's base is"):
        Shipment.parse({**other.parts, "calibration.json": shipped.parts["calibration.json"]}, where="here")
    faster = dataclasses.replace(SPEC, rate=100.0)
    with pytest.raises(SnapshotError, match="the state's robot is"):
        Shipment.parse({**shipped.parts, "spec.json": encode_canonical_json(faster.to_dict())}, where="here")


def test_another_set_of_sensors_is_refused_by_its_first_difference(tmp_path, shipped):
    battery = Sensor(name="battery", kind="battery", nominal=24.0)
    sensing = dataclasses.replace(SPEC, sensors=(battery,))
    parts = {**shipped.parts, "spec.json": encode_canonical_json(sensing.to_dict())}
    with pytest.raises(SnapshotError, match="sensor 'battery' is in the spec and not in the base"):
        Shipment.parse(parts, where="here")
    files = base_files()
    sensors = list_sensor_values(sensing)
    files["base.json"] = json.dumps(json.loads(files["base.json"]) | {"sensors": sensors}).encode()
    with pytest.raises(
        SnapshotError, match="the state's robot is .*: sensor 'battery' has rate 0.0 in the base and 5"
    ):
        slower = dataclasses.replace(SPEC, sensors=(dataclasses.replace(battery, rate=5.0),))
        spec = encode_canonical_json(slower.to_dict())
        Shipment.parse({**shipped.parts, **files, "spec.json": spec}, where="here")
    files["base.json"] = json.dumps(json.loads(files["base.json"]) | {"sensors": [1]}).encode()
    with pytest.raises(SnapshotError, match="base.json of here is not valid"):
        Shipment.parse({**shipped.parts, **files}, where="here")


def test_a_manifest_is_read_as_it_was_written(tmp_path):
    snapshot = lived(tmp_path)
    assert Snapshot.parse(snapshot.digest, snapshot.encode()) == snapshot


def test_a_life_taken_in_goes_on_and_its_store_is_whole(tmp_path, shipped):
    store = Store(tmp_path / "there")
    received = shipped.snapshot.to_imported_root(product="point")
    here = import_root(store, received, shipped.parts["state.safetensors"], branch="new")
    assert here.parents == () and here.origin["parents"] == list(shipped.snapshot.parents)
    assert here.origin["snapshot"] == shipped.snapshot.digest and here.sequence == shipped.snapshot.sequence
    assert store.load("new")["0.s"].tobytes() == Store(tmp_path / "there").load(here.digest)["0.s"].tobytes()
    after = lived(store.folder, 9.0, branch="new")
    assert [each.digest for each in store.iterate_lineage("new")] == [after.digest, here.digest]
    assert find_damage(store) == [] and collect_garbage(store) == [] and store.list_snapshots()
    other = Store(tmp_path / "clone")
    other.create_branch("x", other.copy_from(store, "new"))
    assert [each.origin for each in other.iterate_lineage("x")] == [{}, here.origin] and collect_garbage(
        other
    ) == []


def test_a_life_taken_in_twice_is_there_once(tmp_path, shipped):
    store, content = Store(tmp_path / "there"), shipped.parts["state.safetensors"]
    here = import_root(store, shipped.snapshot.to_imported_root(sequence=1), content)
    lived(store.folder, 9.0)
    assert import_root(store, shipped.snapshot.to_imported_root(sequence=2), content) == here
    assert len(store.list_snapshots()) == 2
    other = shipment(tmp_path / "other", 5.0)
    with pytest.raises(SnapshotError, match="branch 'main' .* is at an unrelated snapshot"):
        import_root(store, other.snapshot.to_imported_root(), other.parts["state.safetensors"])
    with pytest.raises(SnapshotError, match="is not the first of a line, with its tensors"):
        import_root(store, other.snapshot.to_imported_root(), content, branch="x")


def test_where_a_life_was_before_is_kept_over_two_journeys(shipped):
    first = shipped.snapshot.to_imported_root(product="a")
    second = first.to_imported_root(product="b")
    assert second.origin["snapshot"] == first.digest and second.origin["origin"] == first.origin
    assert Snapshot.parse(second.digest, second.encode()) == second


CHANGE = st.tuples(st.integers(0, 2**31), st.integers(0, 255))


@settings(max_examples=300, deadline=None)
@given(
    changes=st.lists(CHANGE, min_size=1, max_size=5), cut=st.integers(0, 2**31), more=st.binary(max_size=20)
)
def test_a_bundle_that_was_changed_is_refused(place, ring, file, changes, cut, more):
    content = bytearray(file.read_bytes())
    whole = bytes(content)
    for at, value in changes:
        content[at % len(content)] = value
    changed = bytes(content[: cut % (2 * len(content))]) + more
    if changed != whole:
        refused(ring, place / "changed", changed)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_noise_is_refused(place, ring, key, noise, with_header):
    header = HEADER.pack(MAGIC, bytes.fromhex(key.id), bytes(64), len(noise))
    refused(ring, place / "noise", header + noise if with_header else noise)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_trusted_key_that_signs_nonsense_is_refused_with_the_same_error(place, ring, key, shipped, data):
    parts = dict(shipped.parts)
    named = data.draw(
        st.sampled_from(["values", "manifest.json", "spec.json", "evaluation.json", "base.json"])
    )
    values = describe_bundle(shipped, product="point", sequence=9)
    if named == "values":
        changed = values
    else:
        changed = parse_json(parts[named], named)
    if isinstance(changed, list) or data.draw(st.booleans()):
        changed = data.draw(JSON)
    else:
        changed[data.draw(st.sampled_from(sorted(changed)))] = data.draw(JSON)
    if named != "values":
        parts[named] = encode_canonical_json(changed)
        changed = values | {
            "files": bundle_module.make_file_entries(parts),
            "snapshot": compute_digest(parts["manifest.json"]),
        }
    (place / "nonsense").write_bytes(seal_bundle(encode_canonical_json(changed), list(parts.values()), key))
    try:
        read_bundle(place / "nonsense", ring)
    except SnapshotError:
        return
    # Free texts may change: notes, times, cards and external names of a robot.
    assert named != "values" or changed["files"] == values["files"]


def test_a_bundle_may_hold_the_validation_record_of_its_state(ring, key, tmp_path):
    signed = sign_record(point_record("b" * 64, 1), key)
    sent = shipment(tmp_path / "state", 3.0, validation=signed.content)
    assert sent.validation == signed
    write_bundle(tmp_path / "b", sent, product="point", sequence=1, key=key)
    assert read_bundle(tmp_path / "b", ring).shipment.validation == signed
    assert shipment(tmp_path / "other").validation is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"base": "b" * 64}, "the validation record's base"),
        ({"spec": "b" * 64}, "the validation record's spec"),
        ({"steps": 4}, "the validation record judged 4 steps"),
    ],
)
def test_a_validation_record_of_something_else_does_not_belong_to_a_bundle(key, tmp_path, changes, why):
    one = point_record(**({"snapshot": "b" * 64, "steps": 1} | changes))
    with pytest.raises(SnapshotError, match=why):
        shipment(tmp_path / "state", 3.0, validation=sign_record(one, key).content)


@pytest.mark.parametrize("content", [b"{}", b"null", b"[" * 10_000, b"x" * ((1 << 18) + 1)])
def test_what_is_no_validation_record_is_refused(tmp_path, content):
    with pytest.raises(SnapshotError, match="validation.json of here"):
        shipment(tmp_path / "state", validation=content)
