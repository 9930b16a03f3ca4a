"""Keyring: private keys of the owner alone, trust that expires, and counters that never decrease."""

import os
import sys

import pytest

pytest.importorskip("cryptography")

from wm_robot.errors import ConfigError, MissingExtraError, SnapshotError
from wm_robot.sharing.keyring import DEFAULT_FOLDER, KEYS_VARIABLE, Keyring, read_private_key
from wm_robot.sharing.rollback_counters import CounterMark, RollbackCounters
from wm_robot.sharing.signature import (
    SigningKey,
    compute_key_id,
    decode_public_key,
    encode_public_key,
    is_signed,
)


@pytest.fixture
def ring(tmp_path):
    return Keyring(tmp_path / "keys")


def test_only_the_key_that_signed_is_believed_and_only_for_what_it_signed():
    one, other = SigningKey.generate(), SigningKey.generate()
    signature = one.sign(b"message")
    assert is_signed(b"message", signature, one.public_key)
    assert not is_signed(b"massage", signature, one.public_key)
    assert not is_signed(b"message", signature, other.public_key)
    assert not is_signed(b"message", bytes(64), one.public_key)


def test_a_key_survives_its_file(ring):
    made = ring.create_key("me")
    again = Keyring(ring.folder).load_private_key("me")
    assert again.id == made.id and is_signed(b"x", again.sign(b"x"), made.public_key)
    assert (
        decode_public_key(encode_public_key(made.public_key), "here") == made.public_key
        and compute_key_id(made.public_key) == made.id
    )


def test_a_private_key_is_made_so_that_nobody_else_can_read_it(ring):
    old = os.umask(0)
    try:
        ring.create_key("me")
    finally:
        os.umask(old)
    assert (ring.folder / "private" / "me.pem").stat().st_mode & 0o777 == 0o600
    assert ring.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o777])
def test_a_private_key_that_others_can_read_is_not_used(ring, mode):
    ring.create_key("me")
    path = ring.folder / "private" / "me.pem"
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"can be read by other users .mode {mode:04o}.*chmod 600"):
        ring.load_private_key("me")
    with pytest.raises(ConfigError, match="can be read by other users"):
        read_private_key(path)


def test_trust_that_others_may_write_is_none(ring):
    ring.create_key("me")
    (ring.folder / "trusted").chmod(0o770)
    with pytest.raises(ConfigError, match="other users may write in .*trusted.*chmod 700"):
        ring.read_trusted_keys()


def test_a_name_is_taken_once(ring):
    made = ring.create_key("me")
    with pytest.raises(ConfigError, match="key 'me' is there already"):
        ring.create_key("me")
    assert ring.load_private_key("me").id == made.id


@pytest.mark.parametrize("name", ["", "../me", "a/b", ".me", "x" * 101])
def test_a_name_leads_nowhere_else(ring, name):
    for verb in (ring.create_key, ring.load_private_key, lambda name: ring.trust_key(name, bytes(32))):
        with pytest.raises(SnapshotError, match="is no name"):
            verb(name)


def test_what_is_not_there_is_said_with_what_is(ring):
    ring.create_key("me")
    with pytest.raises(ConfigError, match="no private key 'you'.*there are: me.*wm-robot keys new you"):
        ring.load_private_key("you")
    with pytest.raises(ConfigError, match="no trusted key 'you'"):
        ring.distrust_key("you")


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\n", b"\xff" * 100])
def test_a_damaged_private_key_is_said_to_be_one(ring, content):
    ring.create_key("me")
    path = ring.folder / "private" / "me.pem"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="holds no readable key"):
        ring.load_private_key("me")


def test_a_key_of_another_kind_is_refused():
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    with pytest.raises(ConfigError, match="signed with Ed25519"):
        SigningKey.from_pem(pem, "here")
    public = private.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ConfigError, match="signed with Ed25519"):
        decode_public_key(public, "here")


def test_trust_ends_when_it_was_said_to(tmp_path):
    now = [100.0]
    ring, key = Keyring(tmp_path, clock=lambda: now[0]), SigningKey.generate()
    ring.trust_key("them", key.public_key, expires_at=200.0)
    assert ring.find_trusted_key(key.id) == key.public_key
    now[0] = 200.0
    with pytest.raises(SnapshotError, match="'them' .* was trusted until 1970-01-01 00:03 UTC"):
        ring.find_trusted_key(key.id)
    ring.trust_key("them", key.public_key)
    assert ring.find_trusted_key(key.id) == key.public_key


def test_a_key_is_believed_until_it_is_forgotten(ring):
    made = ring.create_key("me")
    assert ring.find_trusted_key(made.id) == made.public_key
    ring.distrust_key("me")
    with pytest.raises(SnapshotError, match=f"key {made.id[:12]}, which is not trusted"):
        ring.find_trusted_key(made.id)
    assert ring.list_private_keys() == ["me"]


def test_a_name_is_of_one_key_and_a_key_has_one_name(ring):
    one, other = SigningKey.generate(), SigningKey.generate()
    ring.trust_key("one", one.public_key)
    with pytest.raises(ConfigError, match="cannot be trusted as 'one'"):
        ring.trust_key("one", other.public_key)
    with pytest.raises(ConfigError, match="cannot be trusted as 'two'.*keys distrust one"):
        ring.trust_key("two", one.public_key)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"public":"00","until":null}', b'{"public":1,"until":null}']
)
def test_damaged_trust_is_none(ring, content):
    made = ring.create_key("me")
    (ring.folder / "trusted" / "me.json").write_bytes(content)
    with pytest.raises(ConfigError, match="me.json is damaged"):
        ring.find_trusted_key(made.id)


def test_the_folder_is_the_one_named_or_the_environments_or_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv(KEYS_VARIABLE, str(tmp_path / "a"))
    assert Keyring().folder == tmp_path / "a" and Keyring(tmp_path / "b").folder == tmp_path / "b"
    monkeypatch.delenv(KEYS_VARIABLE)
    assert Keyring().folder == DEFAULT_FOLDER.expanduser()


def test_without_the_library_the_command_that_installs_it_is_named(ring, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    with pytest.raises(MissingExtraError, match=r'pip install "wm_robot\[ship\]"'):
        ring.create_key("me")


def test_numbers_never_run_back(tmp_path):
    seen = RollbackCounters(tmp_path / "received")
    assert seen.read_highest("k", "p") == CounterMark(0, "")
    seen.record("k", "p", CounterMark(5, "a"))
    seen.record("k", "p", CounterMark(3, "b"))
    again = RollbackCounters(tmp_path / "received")
    assert again.read_highest("k", "p") == CounterMark(5, "a")
    again.check_not_older("k", "p", CounterMark(5, "a"))
    again.check_not_older("k", "p", CounterMark(6, "c"))
    with pytest.raises(SnapshotError, match="'p' number 4 .* is older than number 5.*--allow-rollback"):
        again.check_not_older("k", "p", CounterMark(4, "d"))
    with pytest.raises(SnapshotError, match="'p' number 5 .* is not the number 5"):
        again.check_not_older("k", "p", CounterMark(5, "e"))


def test_products_and_keys_are_counted_apart(tmp_path):
    seen = RollbackCounters(tmp_path)
    seen.record("k", "p", CounterMark(5, "a"))
    seen.check_not_older("k", "q", CounterMark(1, "b"))
    seen.check_not_older("l", "p", CounterMark(1, "b"))


def test_no_number_is_given_twice(tmp_path):
    assert [RollbackCounters(tmp_path).take_next("k", "p") for _ in range(4)] == [1, 2, 3, 4]
    assert RollbackCounters(tmp_path).take_next("k", "q") == 1


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"digest":"","sequence":1,"x":1}'])
def test_a_damaged_mark_is_not_taken_for_none(tmp_path, content):
    seen = RollbackCounters(tmp_path)
    seen.record("k", "p", CounterMark(5, "a"))
    (tmp_path / "k.p.json").write_bytes(content)
    with pytest.raises(SnapshotError):
        seen.check_not_older("k", "p", CounterMark(9, "b"))
