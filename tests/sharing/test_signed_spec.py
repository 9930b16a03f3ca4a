"""Signed spec: equal to the signed bytes, or refused before it is parsed."""

import json

import pytest
import yaml

pytest.importorskip("cryptography")

from tests.safety.specs import spec_of
from wm_robot.errors import ConfigError, SpecError
from wm_robot.sharing.keyring import Keyring
from wm_robot.sharing.signature import SigningKey
from wm_robot.sharing.signed_spec import load_signed_spec, sign_spec, signature_path
from wm_robot.spec import RobotSpec, encode_canonical_json


@pytest.fixture
def ring(tmp_path):
    return Keyring(tmp_path / "keys")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "robot.yaml"
    path.write_bytes(encode_canonical_json(spec_of(acceleration={"m1": 30.0}).to_dict()))
    return path


def test_a_signed_spec_is_the_spec(ring, path):
    assert sign_spec(path, ring.create_key("me")) == signature_path(path)
    assert load_signed_spec(path, ring) == RobotSpec.load(path)


def test_an_unsigned_one_is_refused_with_the_command_that_signs_it(ring, path):
    ring.create_key("me")
    with pytest.raises(SpecError, match=r"is not signed.*Run: wm-robot keys sign NAME"):
        load_signed_spec(path, ring)


def test_one_changed_byte_anywhere_is_refused_before_it_is_parsed(ring, path):
    sign_spec(path, ring.create_key("me"))
    content = path.read_bytes()
    for place in range(0, len(content), 41):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(SpecError, match="was changed since"):
            load_signed_spec(path, ring)
    path.write_bytes(content + b"\n")
    with pytest.raises(SpecError, match="was changed since"):
        load_signed_spec(path, ring)


def test_a_stranger_signs_for_nobody(ring, path):
    sign_spec(path, SigningKey.generate())
    with pytest.raises(SpecError, match="cannot be trusted.*not trusted"):
        load_signed_spec(path, ring)


def test_a_signature_of_something_else_is_none_of_a_spec(ring, path):
    key = ring.create_key("me")
    made = {"key": key.id, "signature": key.sign(path.read_bytes()).hex()}
    signature_path(path).write_bytes(encode_canonical_json(made))
    with pytest.raises(SpecError, match="was changed since"):
        load_signed_spec(path, ring)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b'"x"',
        b"null",
        b'{"key":1,"signature":"00"}',
        b'{"key":"a","signature":"zz"}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_signature_is_refused(ring, path, content):
    signature_path(path).write_bytes(content)
    with pytest.raises(SpecError, match="is no signature of a spec"):
        load_signed_spec(path, ring)


def test_nobody_signs_what_no_robot_can_be(ring, path):
    values = yaml.safe_load(path.read_text()) | {"rate": -1}
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(SpecError, match="has rate -1 Hz"):
        sign_spec(path, ring.create_key("me"))


def test_by_command(ring, path, capsys):
    from wm_robot_cli import keys

    ring.create_key("me")
    keys.sign_robot_spec("me", path, keys=ring.folder)
    assert "signed" in capsys.readouterr().out
    load_signed_spec(path, ring)
    with pytest.raises(ConfigError, match="there is no spec"):
        keys.sign_robot_spec("me", path.with_name("nobody.yaml"), keys=ring.folder)


def test_a_signature_covers_the_stored_model_that_kinematics_come_from(ring, path):
    stored = path.with_name("robot.model.json")
    sign_spec(path, ring.create_key("me"))
    model = {"format": 1, "kind": "robot-model", "digest": "0", "sources": {}, "timestep": 0.01}
    stored.write_text(json.dumps({**model, "bodies": [], "joints": [], "actuators": [], "sites": []}))
    with pytest.raises(SpecError, match="changed since, or what is stored of its model"):
        load_signed_spec(path, ring)
