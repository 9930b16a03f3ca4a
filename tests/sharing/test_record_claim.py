"""Record claim: a plant judges by what the agent reports and by what it knows itself."""

import json
from dataclasses import replace

import pytest

pytest.importorskip("cryptography")

from tests.sharing.shipments import SPEC
from tests.validation_record.records import BATTERY, OTHER, record, subject
from wm_robot.errors import ConfigError, SnapshotError
from wm_robot.sharing.keyring import Keyring
from wm_robot.sharing.record_claim import (
    MAX_CLAIM_CHARACTERS,
    MAX_REASON,
    ClaimJudge,
    RecordClaim,
    check_risk_reason,
)
from wm_robot.sharing.signature import SigningKey
from wm_robot.sharing.signed_record import sign_record
from wm_robot.validation_record.installation import Installation, compute_whole_spec_digest
from wm_robot.validation_record.rules import RecordStatus, StaleCause

HERE = {"robot": "point", "spec": compute_whole_spec_digest(SPEC), "model": SPEC.model_digest}
INSTALLED = Installation(version="0.1.0", source="f" * 64)


@pytest.fixture
def ring(tmp_path):
    return Keyring(tmp_path / "keys")


@pytest.fixture
def key(ring):
    return ring.create_key("me")


def judge(ring, *, battery=BATTERY, installation=INSTALLED):
    return ClaimJudge(SPEC, lambda: ring, battery=battery, installation=installation)


def claim(key, record_changes=None, **changes):
    signed = sign_record(record(**(HERE | (record_changes or {}))), key)
    return RecordClaim(subject=subject(**(HERE | changes)), record=signed.content.decode())


def test_a_claim_is_equal_after_a_round_trip(key):
    one = claim(key)
    assert RecordClaim.parse(json.dumps(one.to_dict())) == one


def test_a_claim_that_agrees_with_the_plant_is_valid(ring, key):
    judged, digest = judge(ring).judge(claim(key))
    assert judged.is_valid and digest == sign_record(record(**HERE), key).digest


def test_no_claim_and_no_record_are_missing(ring, key):
    assert judge(ring).judge(None)[0].status is RecordStatus.MISSING
    assert judge(ring).judge(replace(claim(key), record=""))[0].status is RecordStatus.MISSING


@pytest.mark.parametrize(
    ("differs", "status", "cause"),
    [
        ({"robot": "arm"}, RecordStatus.FOREIGN, None),
        ({"spec": OTHER}, RecordStatus.STALE, StaleCause.SPEC),
        ({"model": OTHER}, RecordStatus.STALE, StaleCause.MODEL),
        ({"battery": OTHER}, RecordStatus.STALE, StaleCause.BATTERY),
        ({"version": "0.0.9"}, RecordStatus.STALE, StaleCause.VERSION),
        ({"source": OTHER}, RecordStatus.STALE, StaleCause.VERSION),
    ],
)
def test_a_record_for_what_the_agent_runs_alone_is_not_one_for_the_plant(ring, key, differs, status, cause):
    judged, _ = judge(ring).judge(claim(key, differs, **differs))
    assert (judged.status, judged.cause) == (status, cause)
    judged, _ = judge(ring).judge(claim(key, **differs))
    assert (judged.status, judged.cause) == (status, cause)


def test_a_plant_without_a_battery_compares_that_of_the_agent(ring, key):
    alone = judge(ring, battery="")
    assert alone.judge(claim(key))[0].is_valid
    assert alone.judge(claim(key, battery=OTHER))[0].cause is StaleCause.BATTERY


def test_a_record_is_verified_once_and_judged_each_time(ring, key):
    one, plant = claim(key), judge(ring)
    assert plant.judge(one)[0].is_valid
    ring.distrust_key("me")
    assert plant.judge(one)[0].is_valid
    assert (
        plant.judge(replace(one, subject=subject(**(HERE | {"steps": 10**9}))))[0].cause is StaleCause.HOURS
    )
    plant.forget()
    assert plant.judge(one)[0].status is RecordStatus.FOREIGN


def test_keys_that_cannot_be_read_are_no_crash(key, tmp_path):
    def refuse():
        raise ConfigError("other users may write there")

    plant = ClaimJudge(SPEC, refuse, installation=INSTALLED)
    judged, digest = plant.judge(claim(key))
    assert judged.status is RecordStatus.DAMAGED and "other users" in judged.sentence and not digest


def test_a_strangers_record_is_foreign_to_the_plant(ring, key):
    assert judge(ring).judge(claim(SigningKey.generate()))[0].status is RecordStatus.FOREIGN


@pytest.mark.parametrize(
    "text",
    ["", "null", "{}", "[" * 10_000, '{"subject":{},"record":""}', '{"subject":null,"record":1}', "\ud800",
     '{"subject":[],"record":""}', "x" * (MAX_CLAIM_CHARACTERS + 1), '{"a":NaN}'],
)  # fmt: skip
def test_a_hostile_claim_is_refused_with_one_sentence(text):
    with pytest.raises(SnapshotError) as found:
        RecordClaim.parse(text)
    assert len(str(found.value)) < 400


@pytest.mark.parametrize("reason", ["two\nlines", "x" * (MAX_REASON + 1), " ", "\x1b[2J"])
def test_a_reason_for_a_risk_is_one_plain_line(reason):
    with pytest.raises(ConfigError, match="accept_risk must be"):
        check_risk_reason(reason)


def test_a_reason_may_be_empty():
    assert check_risk_reason("") == "" and check_risk_reason(" bench ") == "bench"
