"""Signed validation record: as it was signed, or refused with one sentence."""

import json

import pytest

pytest.importorskip("cryptography")

from tests.validation_record.records import failed_record, record, subject
from wm_robot.errors import SnapshotError
from wm_robot.sharing.keyring import Keyring
from wm_robot.sharing.signature import SigningKey
from wm_robot.sharing.signed_record import (
    SIGNATURE_DOMAIN,
    UntrustedKeyError,
    judge_signed_record,
    parse_signed_record,
    sign_record,
    verify_signed_record,
)
from wm_robot.spec import encode_canonical_json
from wm_robot.validation_record.rules import RecordStatus


@pytest.fixture
def now():
    return [1000.0]


@pytest.fixture
def ring(tmp_path, now):
    return Keyring(tmp_path / "keys", clock=lambda: now[0])


@pytest.fixture
def key(ring):
    return ring.create_key("me")


def test_a_signed_record_is_the_record(ring, key):
    signed = sign_record(record(), key)
    found = verify_signed_record(signed.content, ring, "here")
    assert found == signed and found.record == record() and found.key == key.id
    assert found.digest == sign_record(record(), key).digest
    assert parse_signed_record(signed.content, "here") == signed


def paths_in(value, path=()):
    """Every value inside a JSON value, by its path."""
    if isinstance(value, dict | list):
        for name in value if isinstance(value, dict) else range(len(value)):
            yield from paths_in(value[name], (*path, name))
    else:
        yield path, value


def changed(value):
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case None:
            return 1.0
        case _:
            return ("b" if value[:1] == "a" else "a") + value[1:]


def test_every_tampered_field_is_refused(ring, key):
    content = sign_record(failed_record(notes=("a note",)), key).content
    values = json.loads(content)
    places = list(paths_in(values["record"]))
    assert len(places) > 35
    for path, value in places:
        other = json.loads(content)
        inner = other["record"]
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = changed(value)
        with pytest.raises(SnapshotError, match="is not what key") as found:
            verify_signed_record(encode_canonical_json(other), ring, "here")
        assert not isinstance(found.value, UntrustedKeyError), path
        judged, signed = judge_signed_record(encode_canonical_json(other), subject(), ring)
        assert judged.status is RecordStatus.DAMAGED and signed is None


def test_every_changed_byte_is_refused(ring, key):
    content = sign_record(record(), key).content
    for place in range(len(content)):
        broken = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        with pytest.raises(SnapshotError):
            verify_signed_record(broken, ring, "here")
    for broken in (content[:-1], content + b" ", b"", content * 2):
        with pytest.raises(SnapshotError):
            verify_signed_record(broken, ring, "here")


def test_a_failed_record_cannot_be_made_a_passed_one(ring, key):
    values = json.loads(sign_record(failed_record(), key).content)
    values["record"] = record().to_dict()
    with pytest.raises(SnapshotError, match="is not what key"):
        verify_signed_record(encode_canonical_json(values), ring, "here")


def test_a_key_that_is_not_trusted_makes_it_foreign(ring, key):
    stranger = SigningKey.generate()
    content = sign_record(record(), stranger).content
    with pytest.raises(UntrustedKeyError, match="not trusted"):
        verify_signed_record(content, ring, "here")
    judged, signed = judge_signed_record(content, subject(), ring)
    assert judged.status is RecordStatus.FOREIGN and signed is None
    assert "wm-robot keys trust NAME FILE.pem" in judged.sentence
    # Nor does the id of a trusted key make it another's signature.
    values = json.loads(content) | {"key": key.id}
    assert (
        judge_signed_record(encode_canonical_json(values), subject(), ring)[0].status is RecordStatus.DAMAGED
    )


def test_a_key_whose_trust_ended_makes_it_foreign(ring, now):
    stranger = SigningKey.generate()
    ring.trust_key("guest", stranger.public_key, expires_at=2000.0)
    content = sign_record(record(), stranger).content
    assert judge_signed_record(content, subject(), ring)[0].is_valid
    now[0] = 2000.0
    assert judge_signed_record(content, subject(), ring)[0].status is RecordStatus.FOREIGN
    ring.distrust_key("guest")
    assert judge_signed_record(content, subject(), ring)[0].status is RecordStatus.FOREIGN


def test_a_signature_of_something_else_is_none_of_a_record(ring, key):
    values = {"key": key.id, "record": record().to_dict()}
    for domain in (b"", b"wm_robot bundle 1\x00", SIGNATURE_DOMAIN[:-1]):
        signature = key.sign(domain + encode_canonical_json(values))
        content = encode_canonical_json({**values, "signature": signature.hex()})
        with pytest.raises(SnapshotError, match="is not what key"):
            verify_signed_record(content, ring, "here")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'{"key":1,"record":{},"signature":"00"}',
        b'{"key":"' + b"a" * 64 + b'","record":{},"signature":"zz"}',
        b'{"key":"' + b"a" * 64 + b'","record":[],"signature":"' + b"0" * 128 + b'"}',
        b'{"key":"' + b"a" * 64 + b'","record":{},"signature":"' + b"0" * 126 + b'"}',
        b'{"key":"' + b"a" * 64 + b'","more":1,"record":{},"signature":"' + b"0" * 128 + b'"}',
        b"[" * 100_000,
        b"x" * (1 << 20),
    ],
)
def test_hostile_text_is_refused_with_one_sentence(ring, content):
    for read in (
        lambda: verify_signed_record(content, ring, "here"),
        lambda: parse_signed_record(content, "here"),
    ):
        with pytest.raises(SnapshotError) as found:
            read()
        assert len(str(found.value)) < 400 and str(found.value).isprintable()
    judged, _ = judge_signed_record(content, subject(), ring)
    assert judged.status is RecordStatus.DAMAGED


def test_what_a_trusted_key_signs_is_still_checked(ring, key):
    """A signer may make mistakes."""
    for change in ({"verdict": "failed"}, {"format": 2}, {"seeds": "0"}, {"checks": []}):
        values = {"key": key.id, "record": record().to_dict() | change}
        signature = key.sign(SIGNATURE_DOMAIN + encode_canonical_json(values))
        content = encode_canonical_json({**values, "signature": signature.hex()})
        with pytest.raises(SnapshotError):
            verify_signed_record(content, ring, "here")
