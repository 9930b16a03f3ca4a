"""Validation record: exact after a round trip, and refused with one sentence otherwise."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.validation_record.records import FAILED_CHECK, PASSED_CHECK, failed_record, record
from wm_robot.errors import SnapshotError
from wm_robot.spec import encode_canonical_json
from wm_robot.validation_record.record import (
    MAX_RECORD_BYTES,
    CheckResult,
    CheckStatus,
    Severity,
    ValidationRecord,
    Verdict,
    decide_verdict,
)

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "one",
    [
        record(),
        failed_record(),
        record(snapshot="", steps=0, model="", notes=("a note",)),
        record(quick=True, renews="7" * 64),
    ],
)
def test_a_record_is_equal_after_a_round_trip(one):
    assert ValidationRecord.parse(one.encode(), "here") == one
    assert ValidationRecord.parse(one.encode(), "here").encode() == one.encode()


@pytest.mark.parametrize(
    ("severity", "status", "mandatory", "verdict"),
    [
        (severity, status, mandatory, verdict)
        for severity in Severity
        for mandatory in (False, True)
        for status, verdict in (
            (CheckStatus.PASSED, Verdict.PASSED),
            (CheckStatus.FAILED, Verdict.PASSED if severity is Severity.MINOR else Verdict.FAILED),
            (CheckStatus.NOT_RUN, Verdict.FAILED if mandatory else Verdict.PASSED),
        )
    ],
)
def test_a_check_that_failed_and_is_not_minor_or_a_mandatory_check_that_was_not_run_fails_the_battery(
    severity, status, mandatory, verdict
):
    check = replace(PASSED_CHECK, severity=severity, status=status, mandatory=mandatory)
    assert decide_verdict([PASSED_CHECK, check]) is verdict
    assert decide_verdict([check, PASSED_CHECK]) is verdict


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"base": "a" * 63}, "base must be a SHA-256"),
        ({"base": ""}, "base must be a SHA-256"),
        ({"spec": "G" * 64}, "spec must be a SHA-256"),
        ({"snapshot": "main"}, "snapshot must be a SHA-256"),
        ({"model": "x"}, "model must be a SHA-256"),
        ({"robot": "arm\n"}, "robot must be a name"),
        ({"robot": ""}, "robot must be a name"),
        ({"version": "\x1b[2J"}, "version must be a name"),
        ({"steps": -1}, "steps must be"),
        ({"steps": True}, "steps must be"),
        ({"snapshot": "", "steps": 5}, "the initial state has 0 steps"),
        ({"seeds": tuple(range(65))}, "seeds must be"),
        ({"rate": 0.0}, "rate must be above 0"),
        ({"rate": float("nan")}, "rate must be above 0"),
        ({"validation_hours": 0}, "validation_hours must be"),
        ({"validation_hours": float("inf")}, "validation_hours must be"),
        ({"validation_hours": 1e9}, "validation_hours must be"),
        ({"created": "yesterday"}, "created must be a time"),
        ({"machine": {"cpu": "a\x07"}}, "machine.'cpu'"),
        ({"machine": {f"m{i}": 1 for i in range(33)}}, "machine has too many"),
        ({"bounds": {"surprise_p50": float("inf")}}, "bound 'surprise_p50' must be a finite"),
        ({"bounds": {}}, "must have a bound"),
        ({"quick": True}, "renews an earlier one"),
        ({"renews": "7" * 64}, "renews an earlier one"),
        ({"notes": ("x" * 401,)}, "notes must be short"),
        ({"checks": ()}, "there must be 1 to"),
        ({"checks": (PASSED_CHECK, PASSED_CHECK)}, "same name"),
        ({"checks": (replace(PASSED_CHECK, figures={"x": float("nan")}),)}, "figures of check 'tip error'"),
        ({"checks": (replace(PASSED_CHECK, remedy="\x1b]0;x\x07"),)}, "texts of check 'tip error'"),
        ({"checks": (replace(PASSED_CHECK, name=""),)}, "has no name"),
        ({"checks": (PASSED_CHECK, FAILED_CHECK)}, "verdict is passed, and its checks make it failed"),
        ({"verdict": Verdict.FAILED}, "verdict is failed, and its checks make it passed"),
    ],
)
def test_a_record_with_an_invalid_field_is_refused_by_its_name(changes, why):
    with pytest.raises(SnapshotError, match=why):
        record(**changes)


def altered(**changes):
    return encode_canonical_json({**record().to_dict(), **changes})


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not valid JSON"),
        (b"null", "no validation record"),
        (b"[]", "no validation record"),
        (b"{}", "no validation record"),
        (b"1" * 5000, "not valid JSON"),
        (b"[" * 100_000, "not valid JSON|nested too deep"),
        (b" " + record().encode(), "not in canonical form"),
        (b'{"a":NaN}', "not a finite number"),
        (b'{"a":1,"a":2}', "occurs twice"),
        (b"x" * (MAX_RECORD_BYTES + 1), "at most"),
        (altered(format=2), "of format 2; this version reads"),
        (altered(format=True), "of format True; this version reads"),
        (altered(kind="bundle"), "is a 'bundle'"),
        (altered(extra=1), "exactly the known fields"),
        (altered(seeds={}), "must be lists"),
        (altered(machine=[]), "must be mappings"),
        (altered(verdict="maybe"), "maybe"),
        (altered(checks=[1]), "must be a mapping"),
        (altered(checks=[{}]), "no validation record"),
        (altered(checks=[{**record().to_dict()["checks"][0], "more": 1}]), "unknown or missing fields"),
        (altered(checks=[{**record().to_dict()["checks"][0], "severity": "bad"}]), "bad"),
        (altered(seeds=[-1]), "seeds must be"),
        (altered(bounds={"x ": 1, "\x07": 2}), "bound"),
    ],
)
def test_a_hostile_text_is_refused_with_one_sentence(content, why):
    with pytest.raises(SnapshotError, match=why) as found:
        ValidationRecord.parse(content, "here")
    assert len(str(found.value)) < 500 and str(found.value).isprintable()


def test_a_missing_field_is_refused():
    values = record().to_dict()
    for name in values:
        content = encode_canonical_json({key: value for key, value in values.items() if key != name})
        with pytest.raises(SnapshotError):
            ValidationRecord.parse(content, "here")


TYPES = """
import sys
from tests.validation_record.records import record, subject
from wm_robot.errors import SnapshotError
from wm_robot.validation_record.record import ValidationRecord
from wm_robot.validation_record.subject import ValidationSubject

others = [None, True, -1, 0.5, 10**20, "x", "\x1b", [], {}, [None], {"a": None}, [[]], "a" * 64]
others += [{"a": [1]}, [0.5], [{}]]
num_refused = 0
read_record = lambda values: ValidationRecord.from_dict(values, "here")
for one, read in ((record(), read_record), (subject(), ValidationSubject.from_dict)):
    values = one.to_dict()
    assert read(values) == one
    for name, value in values.items():
        for other in others:
            try:
                found = read({**values, name: other}).to_dict()[name]
            except SnapshotError:
                num_refused += 1
                continue
            assert type(found) is type(value) or (found is None and name == "ancestor"), (name, other, found)
            assert found == other, (name, other, found)
check = record().to_dict()["checks"][0]
for name in check:
    for other in others:
        try:
            found = ValidationRecord.from_dict({**record().to_dict(), "checks": [{**check, name: other}]}, "here")
        except SnapshotError:
            num_refused += 1
assert num_refused > 400, num_refused
assert not {"torch", "mujoco", "rclpy", "onnxruntime"} & set(sys.modules)
"""


def test_any_other_type_in_any_field_is_refused_where_no_type_is_checked_for_us():
    done = subprocess.run([sys.executable, "-c", TYPES], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


OUTCOME = {
    "name": "corners",
    "group": "declared ranges",
    "severity": "major",
    "mandatory": True,
    "status": "failed",
    "figures": {"settled": 3.5, "worst": float("nan"), "hits": None},
    "limits": "settled at most 3",
    "reasons": ["settled is 3.5;\n it must be at most 3", *["again"] * 20],
    "remedy": "x" * 1000,
    "cases": ["corner 3"],
    "seconds": 1.0,
}


def test_an_outcome_of_a_battery_becomes_a_result():
    found = CheckResult.from_outcome(OUTCOME)
    assert (found.name, found.group, found.severity) == ("corners", "declared ranges", Severity.MAJOR)
    assert found.mandatory and found.is_blocking and found.pass_line == "settled at most 3"
    assert found.figures == {"settled": 3.5, "worst": None, "hits": None}
    assert found.reasons[0] == "settled is 3.5; it must be at most 3" and len(found.reasons) == 8
    one = record(checks=(found,), verdict=Verdict.FAILED)
    assert ValidationRecord.parse(one.encode(), "here") == one
    for name in ("severity", "status"):
        with pytest.raises(SnapshotError, match="cannot be recorded"):
            CheckResult.from_outcome(OUTCOME | {name: "unknown"})
    with pytest.raises(SnapshotError, match="cannot be recorded"):
        CheckResult.from_outcome({})
