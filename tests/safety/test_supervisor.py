import math

import pytest

from wm_robot.safety.limit_violations import LimitRule, LimitViolation
from wm_robot.safety.modes import Mode
from wm_robot.safety.supervisor import MAX_CHANGES, PeriodReport, Supervisor
from wm_robot.spec import Safety

CUT = LimitViolation(LimitRule.RATE, "m1", 2.0, 1.0)
SAFETY = Safety(
    surprise_threshold=10.0,
    surprise_count_window=(2, 4),
    missed_deadline_count_window=(3, 3),
    consecutive_violation_limit=3,
)


def acting(safety=SAFETY):
    supervisor = Supervisor(safety)
    supervisor.request_arming()
    for report in (PeriodReport(), PeriodReport(is_home=True), PeriodReport(has_command=True)):
        supervisor.step(report)
    assert supervisor.mode is Mode.LEARNED
    return supervisor


def test_from_the_start_to_acting_it_takes_a_person_and_the_way_home():
    supervisor = Supervisor(SAFETY)
    assert supervisor.step(PeriodReport(is_home=True, has_command=True)) is Mode.LIMP
    supervisor.request_arming()
    assert [supervisor.step(PeriodReport(is_home=True, has_command=True)) for _ in range(4)] == [
        Mode.HOMING,
        Mode.READY,
        Mode.LEARNED,
        Mode.LEARNED,
    ]


@pytest.mark.parametrize(
    ("report", "mode", "words"),
    [
        (
            PeriodReport(violations=(LimitViolation(LimitRule.FINITE, "m2", math.nan, 0.0),)),
            Mode.HOLD,
            "rejected an action (finite: m2 is nan",
        ),
        (
            PeriodReport(violations=(LimitViolation(LimitRule.STALE, "the age", 1.0, 0.1),)),
            Mode.HOLD,
            "rejected an observation",
        ),
        (PeriodReport(error="ValueError: no"), Mode.HOLD, "ValueError: no"),
        (PeriodReport(guard_reason="no progress for 31 ms"), Mode.SAFE_STOP, "no progress for 31 ms"),
        (PeriodReport(is_silent=True), Mode.READY, "the controller stopped sending commands"),
    ],
)  # fmt: skip
def test_what_ends_the_learned_controllers_turn_at_once(report, mode, words):
    supervisor = acting()
    assert supervisor.step(report) is mode
    assert words in supervisor.reason
    assert supervisor.mode_changes[-1][1:3] == (Mode.LEARNED, mode)


@pytest.mark.parametrize(
    ("bad", "steps", "words"),
    [
        (PeriodReport(surprise=10.1), 2, "surprise above 10 nats in 2 of 2 steps"),
        (PeriodReport(surprise=math.nan), 2, "surprise above 10 nats"),
        (PeriodReport(is_late=True), 3, "3 of 3 deadlines missed"),
        (
            PeriodReport(violations=(CUT,)),
            3,
            "the gate limited 3 actions in a row (the last: rate: m1 2 became 1)",
        ),
    ],
)
def test_what_ends_it_when_it_comes_often(bad, steps, words):
    supervisor = acting()
    for _ in range(steps - 1):
        assert supervisor.step(bad) is Mode.LEARNED
    assert supervisor.step(bad) is Mode.HOLD
    assert words in supervisor.reason


def test_n_of_m_forgets_what_is_longer_ago():
    supervisor = acting()
    for surprise in (11, 0, 0, 0, 11, 0, 0, 0, 11, None, 10):
        assert supervisor.step(PeriodReport(surprise=surprise)) is Mode.LEARNED
    assert supervisor.step(PeriodReport(surprise=99)) is Mode.HOLD


def test_a_cut_now_and_then_is_nothing():
    supervisor = acting()
    for number in range(20):
        assert supervisor.step(PeriodReport(violations=(CUT,) if number % 3 else ())) is Mode.LEARNED


def test_out_of_hold_leads_only_a_person_and_not_while_the_fault_lasts():
    supervisor = acting()
    supervisor.step(PeriodReport(error="no"))
    for _ in range(100):
        assert supervisor.step(PeriodReport(has_command=True, is_home=True)) is Mode.HOLD
    supervisor.request_arming()
    assert supervisor.step(PeriodReport(error="no")) is Mode.HOLD
    # The request was answered with no; it does not wait for better times.
    assert supervisor.step(PeriodReport()) is Mode.HOLD
    supervisor.request_arming()
    assert supervisor.step(PeriodReport()) is Mode.READY


def test_after_it_was_armed_the_counts_begin_anew():
    supervisor = acting()
    for _ in range(2):
        supervisor.step(PeriodReport(surprise=99))
    supervisor.request_arming()
    assert supervisor.step(PeriodReport()) is Mode.READY
    supervisor.step(PeriodReport(has_command=True))
    assert supervisor.step(PeriodReport(surprise=99)) is Mode.LEARNED


def test_it_remembers_only_so_many_changes():
    supervisor = Supervisor(SAFETY)
    for _ in range(3 * MAX_CHANGES):
        supervisor.request_arming()
        supervisor.step(PeriodReport())
        supervisor.request_disarming()
        supervisor.step(PeriodReport())
    assert len(supervisor.mode_changes) == MAX_CHANGES


def test_nothing_is_learned_while_it_holds():
    supervisor = acting()
    assert supervisor.may_learn
    supervisor.step(PeriodReport(error="no"))
    assert not supervisor.may_learn
