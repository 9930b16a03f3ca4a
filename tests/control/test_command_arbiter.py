"""What the arbiter makes of commands, cuts, lateness and guard; the source of commands is played here."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from tests.safety.specs import every, spec_of
from wm_robot.control.command_arbiter import CommandArbiter
from wm_robot.safety.limit_violations import LimitRule, LimitViolation
from wm_robot.safety.modes import Mode

SPEC = spec_of(
    acceleration=every("actuator", 60.0),
    surprise_threshold=10.0,
    surprise_count_window=[2, 3],
    missed_deadline_count_window=[2, 3],
    consecutive_violation_limit=3,
)
HOLD = np.float32([0.4, -0.3, 0.2])
COMMAND = np.float32([0.1, 0.1, 0.1])
RATE, WORKSPACE = (
    LimitViolation(LimitRule.RATE, "m1", 2.0, 1.0),
    LimitViolation(LimitRule.WORKSPACE, "z", 0.0, 0.1),
)


@dataclass
class Source:
    """Commands as a test asks for them."""

    is_active: bool = True
    is_overdue: bool = False
    rejection: str = ""
    fault: str = ""
    surprise: float | None = None
    raises: bool = False

    def start_period(self):
        pass

    def clear_reports(self):
        self.rejection, self.fault, self.surprise = "", "", None

    def select_command(self, obs):
        if self.raises:
            raise ValueError("no plan")
        return COMMAND


def arbiter_of(mode=Mode.LEARNED, **given):
    return CommandArbiter(SPEC, Source(), HOLD, mode=mode, **given)


def modes_of(arbiter, steps, **given):
    return [arbiter.step(None, HOLD, **given)[0] for _ in range(steps)]


def test_the_controller_acts_in_mode_learned_and_the_baseline_in_all_others():
    for mode in set(Mode) - {Mode.READY}:
        arbiter = arbiter_of(mode)
        arbiter.source.is_active = mode is Mode.LEARNED
        after, action = arbiter.step(None, HOLD)
        assert (action is COMMAND) == (after is Mode.LEARNED) == (mode is Mode.LEARNED)


def test_it_goes_home_from_the_action_in_force_and_not_from_an_old_one():
    arbiter = arbiter_of(Mode.LIMP)
    arbiter.request_arming()
    elsewhere = np.float32([1.0, 1.0, 1.0])
    mode, action = arbiter.step(None, elsewhere)
    assert mode is Mode.HOMING
    np.testing.assert_allclose(action, elsewhere, atol=0.02)


@pytest.mark.parametrize(
    ("source", "reason"),
    [(Source(rejection="a command was rejected: NaN"), "a command was rejected: NaN"),
     (Source(fault="the agent stopped: no plan"), "the agent stopped: no plan")],
    ids=["refused", "broken"],
)  # fmt: skip
def test_what_the_source_reports_ends_its_turn_at_once_and_is_judged_once(source, reason):
    arbiter = arbiter_of()
    arbiter.source = source
    assert modes_of(arbiter, 1) == [Mode.HOLD] and arbiter.supervisor.reason == reason
    arbiter.request_arming()
    assert modes_of(arbiter, 2) == [Mode.READY, Mode.LEARNED]


def test_of_a_controller_that_raises_the_action_in_force_stays_and_the_next_period_holds():
    arbiter = arbiter_of()
    arbiter.source.raises = True
    mode, action = arbiter.step(None, HOLD)
    np.testing.assert_array_equal(action, HOLD)
    assert mode is Mode.LEARNED
    assert modes_of(arbiter, 1) == [Mode.HOLD] and arbiter.supervisor.reason == "ValueError: no plan"


def test_a_silent_controller_gives_the_turn_back():
    arbiter = arbiter_of()
    arbiter.source.is_active = False
    assert modes_of(arbiter, 1) == [Mode.READY]
    arbiter.source.is_active = True
    assert modes_of(arbiter, 1) == [Mode.LEARNED]


def test_late_is_who_acts_and_commands_late_or_owes_a_command():
    for given, overdue in (({"late": True}, False), ({}, True)):
        arbiter = arbiter_of()
        arbiter.source.is_overdue = overdue
        assert modes_of(arbiter, 2, **given) == [Mode.LEARNED, Mode.HOLD]
        assert arbiter.num_unanswered == 2 * overdue
        # The baseline is never late: what it does was decided before.
        arbiter = arbiter_of(Mode.READY)
        arbiter.source.is_active, arbiter.source.is_overdue = False, overdue
        assert modes_of(arbiter, 9, **given) == [Mode.READY] * 9 and arbiter.num_unanswered == 0


def test_where_lateness_is_only_counted_nothing_ends():
    arbiter = arbiter_of(hold_if_late=False)
    arbiter.source.is_overdue = True
    assert modes_of(arbiter, 9, late=True) == [Mode.LEARNED] * 9 and arbiter.num_unanswered == 9


def test_surprise_is_judged_once_for_each_time_that_it_came():
    arbiter = arbiter_of()
    arbiter.source.surprise = 99.0
    assert modes_of(arbiter, 5) == [Mode.LEARNED] * 5
    for expected in (Mode.LEARNED, Mode.HOLD):
        arbiter.source.surprise = 99.0
        assert modes_of(arbiter, 1) == [expected] and arbiter.surprise == 99.0


def test_behind_a_guard_commands_count_while_a_process_drives_and_the_guard_stops_between_periods():
    guard = SimpleNamespace(driver=1, why="", released=0)
    guard.stopped = lambda: guard.why

    def release():
        guard.released += 1
        guard.why = ""

    guard.release = release
    arbiter = arbiter_of(guard=guard)
    assert modes_of(arbiter, 1) == [Mode.LEARNED]
    guard.driver = 0
    assert modes_of(arbiter, 1) == [Mode.READY]
    guard.why = "no progress"
    arbiter.stop_if_required(HOLD)
    assert arbiter.mode is Mode.SAFE_STOP and arbiter.supervisor.reason == "no progress"
    assert modes_of(arbiter, 3) == [Mode.SAFE_STOP] * 3
    assert arbiter.request_arming() == "" and guard.released == 1
    assert modes_of(arbiter, 1) == [Mode.HOMING]


def test_a_guard_that_is_gone_is_no_reason_that_anybody_can_lower():
    guard = SimpleNamespace(driver=1, stopped=lambda: "the guard is gone", release=lambda: None)
    arbiter = arbiter_of(Mode.LIMP, guard=guard)
    assert arbiter.request_arming() == "the guard is gone"


def test_an_intervention_is_what_stood_between_controller_and_robot():
    arbiter = arbiter_of()
    assert not arbiter.has_intervened(())
    assert not arbiter.has_intervened((RATE,)), "a rate limit is met every day"
    assert arbiter.has_intervened((RATE, WORKSPACE))
    arbiter.step(None, HOLD, fault="ValueError: no")
    assert arbiter.has_intervened(()), "the baseline acts"
