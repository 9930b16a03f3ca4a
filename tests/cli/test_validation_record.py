"""Validation records by the command line: made, signed, kept, found, shown, shipped and imported."""

import json
from dataclasses import replace

import pytest
import yaml

pytest.importorskip("cryptography")

from tests.sharing.shipments import POINT, SPEC, base_files, lived
from tests.validation_record.records import FAILED_CHECK, OTHER, PASSED_CHECK
from wm_robot.errors import ConfigError, SnapshotError
from wm_robot.io.durable import compute_digest
from wm_robot.store.store import Store
from wm_robot.validation_record.installation import (
    DEFAULT_BATTERY,
    compute_source_digest,
    compute_whole_spec_digest,
    describe_machine,
    read_battery_digest,
    read_installation,
)
from wm_robot.validation_record.record import Severity, Verdict
from wm_robot.validation_record.rules import RecordStatus, StaleCause
from wm_robot_cli.keys import create_key
from wm_robot_cli.ship import import_state, inspect_bundle, ship_state
from wm_robot_cli.state import show_snapshot
from wm_robot_cli.validation_record import (
    describe_state_record,
    find_record,
    find_renewable_record,
    make_record,
    read_record_target,
    store_record,
)

BOUNDS = {"surprise_p50": 1.0, "surprise_p95": 5.0}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("WM_ROBOT_KEYS", str(tmp_path / "keys"))
    create_key("me")
    for name, content in base_files().items():
        (tmp_path / "base").mkdir(exist_ok=True)
        (tmp_path / "base" / name).write_bytes(content)
    (tmp_path / "point.yaml").write_text(yaml.safe_dump(POINT))
    (tmp_path / "point.battery.yaml").write_text("version: 1\nchecks: []\n")
    lived(tmp_path / "state", 1)
    return tmp_path


def target(place, state="state", **options):
    return read_record_target(
        place / "base", str(place / "point.yaml"), state and str(place / state), **options
    )


def judge(place, state="state", *, checks=(PASSED_CHECK,), **options):
    found = target(place, state)
    made = make_record(found, checks=checks, bounds=BOUNDS, seeds=(0,), **options)
    return store_record(made, found, key="me")


def test_a_record_names_what_was_judged_and_where(place):
    signed, path = judge(place, notes=("a note",))
    record = signed.record
    assert path.parent == place / "state/validation" and path.read_bytes() == signed.content
    assert path.stem == compute_digest(signed.content) == signed.digest
    installed = read_installation()
    assert (record.version, record.source) == (installed.version, installed.source)
    assert record.machine == describe_machine() and {"cpu", "cores", "os", "python"} <= record.machine.keys()
    assert record.spec == compute_whole_spec_digest(SPEC) and record.model == SPEC.model_digest
    assert (record.robot, record.rate, record.validation_hours, record.steps) == ("point", 50.0, 8.0, 1)
    assert record.verdict is Verdict.PASSED and record.notes == ("a note",) and not record.quick
    assert find_record(target(place)).judgement.is_valid


def test_a_record_of_the_initial_state_is_kept_beside_its_base(place):
    _, path = judge(place, None)
    assert path.parent == place / "base/validation"
    assert find_record(target(place, None)).judgement.is_valid
    assert find_record(target(place)).judgement.is_valid, "this lifetime begins there"


def test_failed_checks_make_it_a_failed_record(place):
    judge(place, checks=(PASSED_CHECK, FAILED_CHECK))
    assert find_record(target(place)).judgement.status is RecordStatus.FAILED


def test_a_quick_battery_renews_a_record_that_only_grew_old(place):
    with pytest.raises(
        ConfigError, match="--quick renews a validation, and this state has no validation record"
    ):
        find_renewable_record(target(place))
    first, _ = judge(place)
    lived(place / "state", 1 + 9 * 3600 * 50)
    assert find_record(target(place)).judgement.cause is StaleCause.HOURS
    renewed = find_renewable_record(target(place))
    assert renewed.digest == first.digest
    second, _ = judge(place, renews=renewed.digest)
    assert second.record.quick and second.record.renews == first.digest
    assert find_record(target(place)).judgement.is_valid
    lived(place / "state", 2 + 9 * 3600 * 50, origin={"assimilated": {"other.mcap": OTHER}})
    with pytest.raises(
        ConfigError, match="it assimilated experience of another robot since. Run it without --quick"
    ):
        find_renewable_record(target(place))


def test_a_battery_beside_the_spec_is_compared(place):
    battery = place / "point.battery.yaml"
    battery.write_text("checks: [a, b]  # a comment\n")
    digest = read_battery_digest("point", place)
    battery.write_text("checks: ['a', 'b']")
    assert target(place).subject.battery == digest == read_battery_digest("point", place)
    judge(place)
    assert find_record(target(place)).judgement.is_valid
    battery.write_text("checks: [a]\n")
    assert find_record(target(place)).judgement.cause is StaleCause.BATTERY
    battery.write_text("checks: [a\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        target(place)
    assert target(place, battery=OTHER).subject.battery == OTHER
    battery.unlink()
    assert (read_battery_digest("point", place) == "") is not DEFAULT_BATTERY.is_file()


def test_a_changed_limit_is_a_changed_spec(place):
    judge(place)
    (place / "point.yaml").write_text(yaml.safe_dump(POINT | {"safety": {"acceleration": {"x": 5.0}}}))
    assert find_record(target(place)).judgement.cause is StaleCause.SPEC


def test_the_source_digest_changes_with_every_module(tmp_path):
    (tmp_path / "a.py").write_text("1")
    digests = {compute_source_digest(tmp_path)}
    (tmp_path / "a.py").write_text("2")
    digests.add(compute_source_digest(tmp_path))
    (tmp_path / "b.py").write_text("")
    digests.add(compute_source_digest(tmp_path))
    (tmp_path / "b.py").rename(tmp_path / "c.py")
    digests.add(compute_source_digest(tmp_path))
    assert len(digests) == 4
    (tmp_path / "notes.txt").write_text("")
    assert compute_source_digest(tmp_path) in digests


def test_another_robot_or_base_is_refused_before_anything_is_judged(place):
    (place / "other.yaml").write_text(yaml.safe_dump(POINT | {"rate": 100}))
    with pytest.raises(
        SnapshotError, match="was learned on a robot with spec .* Give the robot of the state"
    ):
        read_record_target(place / "base", str(place / "other.yaml"), str(place / "state"))
    lived(place / "state", 1, base_files(3.0), branch="other", parents=[])
    with pytest.raises(SnapshotError, match="do not belong together"):
        target(place, "state@other")


def show(place, capsys, **options):
    show_snapshot(str(place / "state"), base=place / "base", robot=str(place / "point.yaml"), **options)
    return capsys.readouterr().out


def test_show_tells_whether_a_state_has_a_record_and_why_not(place, capsys):
    assert "validation   missing: this state has no validation record" in show(place, capsys)
    signed, _ = judge(place)
    shown = json.loads(show(place, capsys, as_json=True))["validation"]
    assert shown["status"] == "valid" and shown["record"] == signed.digest
    assert "counts for 8.00 more hours" in show(place, capsys)


def test_without_its_base_or_robot_it_says_what_to_name(place):
    (place / "away").mkdir()
    (place / "base").rename(place / "away/base")
    assert "Name it with --base" in describe_state_record(str(place / "state"))["sentence"]
    (place / "away/base").rename(place / "base")
    found = describe_state_record(str(place / "state"), place / "base")
    assert found["status"] == "unknown" and "there is no robot 'point'" in found["sentence"]


def ship(place):
    ship_state(
        str(place / "state"),
        place / "a.bundle",
        base=place / "base",
        key="me",
        spec=str(place / "point.yaml"),
    )


def test_a_bundle_carries_the_record_and_an_import_makes_it_stale(place, capsys):
    ship(place)
    assert "validation record: none" in capsys.readouterr().out
    signed, _ = judge(place)
    ship(place)
    assert "validation record: passed, of this state" in capsys.readouterr().out
    inspect_bundle(place / "a.bundle")
    assert f"1 checks, key {signed.key[:12]}\n" in capsys.readouterr().out
    import_state(place / "a.bundle", str(place / "there"), bases=place / "bases")
    assert "it does not count here. Run: wm-robot validate" in capsys.readouterr().out
    assert [content for _, content in Store(place / "there").validation_records.read_all()] == [
        signed.content
    ]
    found = find_record(target(place, "there"))
    assert found.judgement.cause is StaleCause.IMPORT and found.signed.digest == signed.digest
    judge(place, "there")
    assert find_record(target(place, "there")).judgement.is_valid


def test_a_bundle_carries_no_record_of_what_has_changed_since(place, capsys):
    judge(place)
    (place / "point.yaml").write_text(yaml.safe_dump(POINT | {"safety": {"acceleration": {"x": 5.0}}}))
    ship(place)
    assert "validation record: none" in capsys.readouterr().out


def test_checks_that_are_only_minor_do_not_fail_it(place):
    judge(place, checks=(PASSED_CHECK, replace(FAILED_CHECK, severity=Severity.MINOR)))
    assert find_record(target(place)).judgement.is_valid
