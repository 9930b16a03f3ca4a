"""No attack is taken, none brings the reader down, and the control shows that they would be elsewhere."""

import json
import os
import signal

import numpy as np
import pytest

pytest.importorskip("cryptography")

from tests.sharing.shipments import shipment
from wm_robot.errors import SnapshotError
from wm_robot.sharing import bundle
from wm_robot.sharing.bundle import read_bundle
from wm_robot_benchmarks.tamper import check_untouched, run_attacks, run_attempt
from wm_robot_benchmarks.tampering.attack_classes import CLASSES, ONCE_ONLY, schedule_attacks
from wm_robot_benchmarks.tampering.attempt import read_naively, run_reader
from wm_robot_benchmarks.tampering.target import AttackTarget
from wm_robot_cli.main import main


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    place = tmp_path_factory.mktemp("tamper")
    return AttackTarget(shipment(place / "lives"), place)


def test_the_untouched_bundle_is_taken_by_the_reader_and_the_control(target):
    assert run_reader(lambda: read_bundle(target.genuine, target.ring)).verdict == "accepted"
    assert run_reader(lambda: read_naively(target.genuine)).verdict == "accepted"


@pytest.mark.parametrize("attempts", [8, pytest.param(24, marks=pytest.mark.soak)])
@pytest.mark.parametrize("kind", sorted(set(CLASSES) - ONCE_ONLY))
def test_no_attack_of_a_class_is_taken(target, kind, attempts):
    for number, attack in enumerate(CLASSES[kind] * (attempts // len(CLASSES[kind]) + 1)):
        outcome, _ = run_attempt(attack, target, np.random.default_rng(number))
        assert outcome.verdict == "refused", (attack, number, outcome)
        assert outcome.seconds < 5 and outcome.why


def test_a_million_tensors_are_refused_in_little_memory(target):
    for attack in CLASSES["signed millions"]:
        before = run_reader(lambda: None).peak_mb
        outcome, _ = run_attempt(attack, target, np.random.default_rng(0))
        assert outcome.verdict == "refused" and outcome.peak_mb - before < 100


def test_a_reader_that_trusts_takes_much_of_it(target):
    some = {kind: attacks for kind, attacks in schedule_attacks(100).items() if kind not in ONCE_ONLY}
    rows, naive, crash = run_attacks(target, some, 1)
    assert sum(row["attempts"] for row in rows) == 98 and not crash
    assert not any(row["accepted"] or row["crashed"] for row in rows)
    assert naive > 20


def test_a_reader_without_a_check_is_caught(target, monkeypatch):
    monkeypatch.setattr(bundle, "is_signed", lambda *_: True)
    rows, _, _ = run_attacks(target, {"keys": CLASSES["keys"]}, 2)
    assert rows[0]["accepted"] > 5


def test_a_reader_that_refuses_everything_is_no_result(tmp_path):
    target = AttackTarget(shipment(tmp_path / "lives"), tmp_path)
    check_untouched(target)
    target.ring.distrust_key("owner")
    with pytest.raises(
        SnapshotError, match="the untouched bundle is refused: .* The figures would mean nothing"
    ):
        check_untouched(target)


@pytest.mark.sim
def test_the_bench_ships_a_trained_life_and_needs_no_torch(capsys):
    main(["bench", "tamper", "--n", "100", "--json"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])["figures"]
    assert (figures["attempts"], figures["accepted"], figures["crashed"]) == (100, 0, 0)
    assert figures["naive_accepted_fraction"] > 0.2


@pytest.mark.parametrize(
    ("read", "verdict", "why"),
    [
        (lambda: None, "accepted", ""),
        (lambda: (_ for _ in ()).throw(SnapshotError("no")), "refused", "no"),
        (lambda: {}["x"], "crashed", "KeyError"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "crashed", "status 9"),
        (lambda: bytes(1 << 40), "crashed", "MemoryError"),
    ],
)
def test_a_child_tells_what_became_of_it(read, verdict, why):
    found = run_reader(read)
    assert found.verdict == verdict and why in found.why and found.peak_mb > 1


@pytest.mark.parametrize("count", [100, 137, 1000])
def test_attempts_are_shared_out_among_the_classes(count):
    shares = schedule_attacks(count)
    assert shares.keys() == CLASSES.keys() and sum(map(len, shares.values())) == count
    assert min(map(len, shares.values())) >= 2
