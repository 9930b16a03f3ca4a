"""Validation rules: for every cause the right status, and for every subject one judgement."""

import math
from dataclasses import replace
from itertools import product

import pytest

from tests.validation_record.records import (
    BASE,
    FAILED_CHECK,
    HOUR,
    OTHER,
    PASSED_CHECK,
    STATE,
    failed_record,
    record,
    subject,
)
from wm_robot.validation_record.record import CheckStatus, Verdict
from wm_robot.validation_record.rules import (
    Judgement,
    RecordStatus,
    StaleCause,
    choose_judgement,
    judge_record,
    missing_record,
)
from wm_robot.validation_record.session_error import MIN_SESSION_TIME
from wm_robot.validation_record.subject import INITIAL_STATE, LineageEvent

CHANGES = {
    StaleCause.BASE: {"base": OTHER},
    StaleCause.MODEL: {"model": OTHER},
    StaleCause.SPEC: {"spec": OTHER},
    StaleCause.BATTERY: {"battery": OTHER},
    StaleCause.VERSION: {"version": "0.2.0"},
}


def judge(**changes):
    return judge_record(record(), subject(**changes))


def test_the_judged_snapshot_itself_counts_for_all_hours():
    found = judge()
    assert (found.status, found.cause, found.hours_left) == (RecordStatus.VALID, None, 8.0)
    assert judge(session={}).is_valid


@pytest.mark.parametrize("cause", CHANGES)
def test_each_change_makes_it_stale_at_once(cause):
    found = judge(**CHANGES[cause])
    assert (found.status, found.cause) == (RecordStatus.STALE, cause)
    assert not found.may_be_renewed and found.sentence.endswith(". Run: wm-robot validate BASE")


def test_the_source_alone_is_a_change_of_the_installed_version():
    assert judge(source=OTHER).cause is StaleCause.VERSION


def test_a_model_that_came_or_went_is_a_change():
    assert judge(model="").cause is StaleCause.MODEL
    assert judge_record(record(model=""), subject()).cause is StaleCause.MODEL
    assert judge_record(record(model=""), subject(model="")).is_valid


def test_a_robot_without_a_battery_here_is_not_compared_by_it():
    assert judge(battery="").is_valid


@pytest.mark.parametrize("event", LineageEvent)
def test_other_experience_makes_it_stale_at_once(event):
    found = judge(events=(event,), snapshot=OTHER)
    assert (found.status, found.cause) == (RecordStatus.STALE, StaleCause(event.value))
    assert not found.may_be_renewed


def test_the_first_of_several_events_is_the_reason():
    assert judge(events=(LineageEvent.POOL, LineageEvent.IMPORT)).cause is StaleCause.IMPORT


def test_hours_are_counted_in_steps_of_the_lifetime():
    assert judge(steps=1000 + 8 * HOUR).is_valid
    assert judge(steps=1000 + 8 * HOUR).hours_left == 0
    assert judge(steps=1000 + 6 * HOUR).hours_left == 2
    found = judge(steps=1001 + 8 * HOUR)
    assert (found.status, found.cause) == (RecordStatus.STALE, StaleCause.HOURS)
    assert found.may_be_renewed and found.sentence.endswith("Run: wm-robot validate BASE --quick")
    assert judge_record(record(rate=100.0), subject(steps=1000 + 16 * HOUR)).is_valid
    assert (
        judge_record(record(validation_hours=0.5), subject(steps=1001 + HOUR // 2)).cause is StaleCause.HOURS
    )


def test_fewer_steps_than_the_ancestor_are_refused():
    found = judge(steps=999)
    assert found.cause is StaleCause.STEPS and not found.may_be_renewed


@pytest.mark.parametrize(
    ("session", "valid"),
    [
        ({"surprise_p50": 1.0, "surprise_p95": 5.0}, True),
        ({"surprise_p50": -3.0, "surprise_p95": -1.0}, True),
        ({"surprise_p50": 1.0001, "surprise_p95": 5.0}, False),
        ({"surprise_p50": 0.0, "surprise_p95": 5.01}, False),
        ({"surprise_p50": math.nan, "surprise_p95": 4.0}, False),
        ({"surprise_p50": 0.0, "surprise_p95": 4.0, "unknown": 99.0}, True),
    ],
)
@pytest.mark.parametrize("steps", [1000, 1000 + HOUR])
def test_the_error_of_the_last_session_must_be_within_the_bounds(session, valid, steps):
    found = judge(session=session, steps=steps)
    assert found.is_valid is valid
    if not valid:
        assert found.cause is StaleCause.ERROR and found.may_be_renewed


def test_a_state_that_lived_for_a_minute_must_have_an_error():
    minute = round(MIN_SESSION_TIME * 50)
    assert judge(session={}, steps=1000 + minute - 1).is_valid
    found = judge(session={}, steps=1000 + minute)
    assert found.cause is StaleCause.NO_ERROR and found.may_be_renewed
    assert judge(session={"surprise_p50": 0.0}, steps=1000 + HOUR).cause is StaleCause.NO_ERROR


def test_another_robot_is_foreign():
    found = judge(robot="leg")
    assert found.status is RecordStatus.FOREIGN and "robot 'arm', and this is 'leg'" in found.sentence


@pytest.mark.parametrize("ancestor", [None, OTHER, INITIAL_STATE])
def test_a_record_of_a_state_that_is_no_ancestor_is_foreign(ancestor):
    found = judge(ancestor=ancestor)
    assert found.status is RecordStatus.FOREIGN and "does not descend" in found.sentence


def test_a_record_of_another_base_names_both():
    found = judge(ancestor=None, base=OTHER)
    assert (
        found.status is RecordStatus.FOREIGN and BASE[:12] in found.sentence and OTHER[:12] in found.sentence
    )


def test_a_record_of_the_initial_state_counts_for_what_begins_there():
    one = record(snapshot=INITIAL_STATE, steps=0)
    assert judge_record(one, subject(ancestor=INITIAL_STATE, snapshot=INITIAL_STATE, steps=0)).is_valid
    assert judge_record(one, subject(ancestor=INITIAL_STATE, steps=HOUR)).is_valid
    assert judge_record(one, subject(ancestor=None)).status is RecordStatus.FOREIGN


def test_a_failed_verdict_names_checks_and_the_first_remedy():
    checks = tuple(replace(FAILED_CHECK, name=f"check {i}", remedy=f"Do {i}") for i in range(5))
    found = judge_record(record(checks=(PASSED_CHECK, *checks), verdict=Verdict.FAILED), subject())
    assert found.status is RecordStatus.FAILED and not found.may_be_renewed
    assert found.sentence == (
        "the validation failed: 'check 0' failed, 'check 1' failed, 'check 2' failed and 2 more. Do 0"
    )
    skipped = replace(PASSED_CHECK, status=CheckStatus.NOT_RUN, remedy="")
    found = judge_record(record(checks=(skipped,), verdict=Verdict.FAILED), subject())
    assert found.sentence == "the validation failed: 'tip error' not run. Run: wm-robot validate BASE"


def test_no_record_is_missing():
    assert missing_record().status is RecordStatus.MISSING


def test_every_combination_has_the_reason_that_comes_first():
    """Brute force over robot, ancestor, changes, events, verdict, age and error."""
    choices = product(
        ("arm", "leg"),
        (STATE, None),
        (*CHANGES, None),
        ((), (LineageEvent.POOL,)),
        (record(), failed_record()),
        (1000, 1001 + 8 * HOUR),
        (0.0, 9.0),
    )
    num_valid = 0
    for robot, ancestor, change, events, one, steps, error in choices:
        found = judge_record(
            one,
            subject(
                robot=robot,
                ancestor=ancestor,
                events=events,
                steps=steps,
                session={"surprise_p50": error, "surprise_p95": error},
                **(CHANGES[change] if change else {}),
            ),
        )
        if robot != "arm" or ancestor is None:
            expected = RecordStatus.FOREIGN, None
        elif change or events:
            expected = RecordStatus.STALE, change or StaleCause.POOL
        elif one.verdict is Verdict.FAILED:
            expected = RecordStatus.FAILED, None
        elif steps > 1000:
            expected = RecordStatus.STALE, StaleCause.HOURS
        elif error:
            expected = RecordStatus.STALE, StaleCause.ERROR
        else:
            expected = RecordStatus.VALID, None
        num_valid += found.is_valid
        assert (found.status, found.cause) == expected
        assert found.sentence.isprintable() and "\n" not in found.sentence
    assert num_valid == 1


def status(of, cause=None):
    return Judgement(status=of, sentence="", cause=cause)


@pytest.mark.parametrize(
    ("records", "chosen"),
    [
        ([], None),
        ([(0, "2", RecordStatus.VALID), (0, "1", RecordStatus.FAILED)], 0),
        ([(0, "1", RecordStatus.VALID), (0, "2", RecordStatus.FAILED)], 1),
        ([(5, "2", RecordStatus.VALID), (1, "1", RecordStatus.FAILED)], 1),
        ([(1, "1", RecordStatus.VALID), (5, "2", RecordStatus.FAILED)], 0),
        ([(0, "9", RecordStatus.STALE), (5, "1", RecordStatus.VALID)], 1),
        ([(0, "9", RecordStatus.DAMAGED), (0, "1", RecordStatus.FOREIGN), (3, "1", RecordStatus.STALE)], 2),
        ([(0, "9", RecordStatus.DAMAGED), (0, "1", RecordStatus.FOREIGN)], 1),
    ],
)
def test_of_several_records_the_nearest_and_newest_that_counts_decides(records, chosen):
    assert choose_judgement([(near, time, status(of)) for near, time, of in records]) == chosen
