"""An agent reports what it runs: each save, restore and import reaches the plant with the record that decides."""

import json

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim]
pytest.importorskip("cryptography")

from tests.ros.built import need_messages

need_messages()

import numpy as np
from std_msgs.msg import String
from wm_robot_msgs.srv import RestoreLifetime, SaveLifetime

from tests.ros.test_state_services import Robot
from tests.validation_record.records import record
from wm_robot.robots import find_spec_path, load_spec
from wm_robot.sharing.keyring import Keyring
from wm_robot.sharing.record_claim import ClaimJudge, RecordClaim
from wm_robot.sharing.signed_record import sign_record
from wm_robot.validation_record.installation import (
    compute_whole_spec_digest,
    read_battery_digest,
    read_installation,
)
from wm_robot.validation_record.rules import RecordStatus, StaleCause
from wm_robot.validation_record.subject import INITIAL_STATE, LineageEvent
from wm_robot_ros.middleware.qos import LATCHED_QOS

SPEC = load_spec("arm")
BASE = "b" * 64


def test_an_agent_reports_its_state_and_the_record_that_decides(start, peer, tmp_path):
    ring = Keyring(tmp_path / "keys")
    key, judge = ring.create_key("me"), ClaimJudge(SPEC, lambda: ring)
    heard = peer.hear(String, "agent/validation", latched=True)
    robot = Robot(start, peer, tmp_path / "lives", keys=str(ring.folder))

    def claim():
        return RecordClaim.parse(heard[-1].data)

    def until(holds, why):
        def step():
            robot.plant.advance()
            return heard and holds(claim())

        peer.until(step, f"{why}: {heard[-1].data[:500] if heard else 'nothing'}")

    until(lambda one: True, "no report")
    assert claim().subject.snapshot == INITIAL_STATE and not claim().record
    assert judge.judge(claim())[0].status is RecordStatus.MISSING

    robot.live(10)
    saved = robot.ask(SaveLifetime, "save_lifetime").snapshot
    installed = read_installation()
    made = sign_record(
        record(
            base=BASE,
            snapshot=saved.digest,
            steps=int(saved.steps),
            spec=compute_whole_spec_digest(SPEC),
            model=SPEC.model_digest,
            battery=read_battery_digest(SPEC.name, find_spec_path(SPEC.name).parent),
            version=installed.version,
            source=installed.source,
        ),
        key,
    )
    robot.store.validation_records.write(made.content)
    robot.live(10)
    newest = robot.ask(SaveLifetime, "save_lifetime").snapshot
    until(lambda one: one.subject.snapshot == newest.digest, "the save is not reported")
    assert claim().subject.ancestor == saved.digest and claim().record.encode() == made.content
    judged, digest = judge.judge(claim())
    assert judged.is_valid and digest == made.digest, judged
    robot.lived()
    told = robot.plant.told()["validation"]
    assert (told["record"], told["status"], told["snapshot"]) == (made.digest, "valid", newest.digest)
    assert (told["base"], told["spec"], told["version"]) == (BASE, claim().subject.spec, installed.version)

    # Another state comes in by a service.
    foreign = robot.store.save(
        {"step": np.array([int(newest.steps)], np.int64)},
        base_digest=BASE,
        spec_digest=SPEC.compute_digest(),
        branch="other",
        parents=[newest.digest],
        origin={"assimilated": {"other.mcap": "9" * 64}},
    )
    assert robot.ask(RestoreLifetime, "restore_lifetime", reference=foreign.digest).success
    until(lambda one: one.subject.events == (LineageEvent.ASSIMILATION,), "the assimilation is not reported")
    assert judge.judge(claim())[0].cause is StaleCause.ASSIMILATION

    # What the plant accepts meanwhile is noted in the lineage.
    plant = peer.node.create_publisher(String, "plant/validation", LATCHED_QOS)
    for in_force, note in ((True, "accepted risk: a test stand"), (False, "")):
        plant.publish(String(data=json.dumps({"accepted_risk": "a test stand", "risk_in_force": in_force})))
        peer.spin(0.5)
        robot.live(5)
        head = robot.ask(SaveLifetime, "save_lifetime").snapshot
        assert robot.store.read_manifest(head.digest).note == note
