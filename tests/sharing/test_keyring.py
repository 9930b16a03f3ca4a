"""Keyring: private keys of the owner alone, trust that expires, and counters that never decrease."""

import os
import sys

import pytest

pytest.importorskip("cryptography")

from wm_robot.errors import ConfigError, MissingExtraError, SnapshotError
from wm_robot.sharing.keyring import DEFAULT, VARIABLE, Keyring, read_private
from wm_robot.sharing.rollback_counters import Mark, Sequences
from wm_robot.sharing.signature import SigningKey, is_signed, key_id, public_of, public_pem


@pytest.fixture
def ring(tmp_path):
    return Keyring(tmp_path / "keys")


def test_only_the_key_that_signed_is_believed_and_only_for_what_it_signed():
    one, other = SigningKey.new(), SigningKey.new()
    signature = one.sign(b"message")
    assert is_signed(b"message", signature, one.public)
    assert not is_signed(b"massage", signature, one.public)
    assert not is_signed(b"message", signature, other.public)
    assert not is_signed(b"message", bytes(64), one.public)


def test_a_key_survives_its_file(ring):
    made = ring.new("me")
    again = Keyring(ring.folder).signing("me")
    assert again.id == made.id and is_signed(b"x", again.sign(b"x"), made.public)
    assert public_of(public_pem(made.public), "here") == made.public and key_id(made.public) == made.id


def test_a_private_key_is_made_so_that_nobody_else_can_read_it(ring):
    old = os.umask(0)
    try:
        ring.new("me")
    finally:
        os.umask(old)
    assert (ring.folder / "private" / "me.pem").stat().st_mode & 0o777 == 0o600
    assert ring.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o777])
def test_a_private_key_that_others_can_read_is_not_used(ring, mode):
    ring.new("me")
    path = ring.folder / "private" / "me.pem"
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"can be read by other users .mode {mode:04o}.*chmod 600"):
        ring.signing("me")
    with pytest.raises(ConfigError, match="can be read by other users"):
        read_private(path)


def test_trust_that_others_may_write_is_none(ring):
    ring.new("me")
    (ring.folder / "trusted").chmod(0o770)
    with pytest.raises(ConfigError, match="other users may write in .*trusted.*chmod 700"):
        ring.trusted()


def test_a_name_is_taken_once(ring):
    made = ring.new("me")
    with pytest.raises(ConfigError, match="key 'me' is there already"):
        ring.new("me")
    assert ring.signing("me").id == made.id


@pytest.mark.parametrize("name", ["", "../me", "a/b", ".me", "x" * 101])
def test_a_name_leads_nowhere_else(ring, name):
    for verb in (ring.new, ring.signing, lambda name: ring.trust(name, bytes(32))):
        with pytest.raises(SnapshotError, match="is no name"):
            verb(name)


def test_what_is_not_there_is_said_with_what_is(ring):
    ring.new("me")
    with pytest.raises(ConfigError, match="no private key 'you'.*there are: me.*wm-robot keys new you"):
        ring.signing("you")
    with pytest.raises(ConfigError, match="no trusted key 'you'"):
        ring.forget("you")


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\n", b"\xff" * 100])
def test_a_damaged_private_key_is_said_to_be_one(ring, content):
    ring.new("me")
    path = ring.folder / "private" / "me.pem"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="holds no readable key"):
        ring.signing("me")


def test_a_key_of_another_kind_is_refused():
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    with pytest.raises(ConfigError, match="signed with Ed25519"):
        SigningKey.of(pem, "here")
    public = private.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ConfigError, match="signed with Ed25519"):
        public_of(public, "here")


def test_trust_ends_when_it_was_said_to(tmp_path):
    now = [100.0]
    ring, key = Keyring(tmp_path, clock=lambda: now[0]), SigningKey.new()
    ring.trust("them", key.public, until=200.0)
    assert ring.believed(key.id) == key.public
    now[0] = 200.0
    with pytest.raises(SnapshotError, match="'them' .* was trusted until 1970-01-01 00:03 UTC"):
        ring.believed(key.id)
    ring.trust("them", key.public)
    assert ring.believed(key.id) == key.public


def test_a_key_is_believed_until_it_is_forgotten(ring):
    made = ring.new("me")
    assert ring.believed(made.id) == made.public
    ring.forget("me")
    with pytest.raises(SnapshotError, match=f"key {made.id[:12]}, which is not trusted"):
        ring.believed(made.id)
    assert ring.own() == ["me"]


def test_a_name_is_of_one_key_and_a_key_has_one_name(ring):
    one, other = SigningKey.new(), SigningKey.new()
    ring.trust("one", one.public)
    with pytest.raises(ConfigError, match="cannot be trusted as 'one'"):
        ring.trust("one", other.public)
    with pytest.raises(ConfigError, match="cannot be trusted as 'two'.*keys forget one"):
        ring.trust("two", one.public)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"public":"00","until":null}', b'{"public":1,"until":null}']
)
def test_damaged_trust_is_none(ring, content):
    made = ring.new("me")
    (ring.folder / "trusted" / "me.json").write_bytes(content)
    with pytest.raises(ConfigError, match="me.json is damaged"):
        ring.believed(made.id)


def test_the_folder_is_the_one_named_or_the_environments_or_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "a"))
    assert Keyring().folder == tmp_path / "a" and Keyring(tmp_path / "b").folder == tmp_path / "b"
    monkeypatch.delenv(VARIABLE)
    assert Keyring().folder == DEFAULT.expanduser()


def test_without_the_library_the_command_that_installs_it_is_named(ring, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    with pytest.raises(MissingExtraError, match=r'pip install "wm_robot\[ship\]"'):
        ring.new("me")


def test_numbers_never_run_back(tmp_path):
    seen = Sequences(tmp_path / "seen")
    assert seen.highest("k", "p") == Mark(0, "")
    seen.note("k", "p", Mark(5, "a"))
    seen.note("k", "p", Mark(3, "b"))
    again = Sequences(tmp_path / "seen")
    assert again.highest("k", "p") == Mark(5, "a")
    again.check("k", "p", Mark(5, "a"))
    again.check("k", "p", Mark(6, "c"))
    with pytest.raises(SnapshotError, match="'p' number 4 .* is older than number 5.*--allow-rollback"):
        again.check("k", "p", Mark(4, "d"))
    with pytest.raises(SnapshotError, match="'p' number 5 .* is not the number 5"):
        again.check("k", "p", Mark(5, "e"))


def test_products_and_keys_are_counted_apart(tmp_path):
    seen = Sequences(tmp_path)
    seen.note("k", "p", Mark(5, "a"))
    seen.check("k", "q", Mark(1, "b"))
    seen.check("l", "p", Mark(1, "b"))


def test_no_number_is_given_twice(tmp_path):
    assert [Sequences(tmp_path).next("k", "p") for _ in range(4)] == [1, 2, 3, 4]
    assert Sequences(tmp_path).next("k", "q") == 1


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"digest":"","sequence":1,"x":1}'])
def test_a_damaged_mark_is_not_taken_for_none(tmp_path, content):
    seen = Sequences(tmp_path)
    seen.note("k", "p", Mark(5, "a"))
    (tmp_path / "k.p.json").write_bytes(content)
    with pytest.raises(SnapshotError):
        seen.check("k", "p", Mark(9, "b"))
