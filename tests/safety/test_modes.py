"""The table, written out: a row for each mode, a column for each event. A dot changes nothing."""

import itertools

import pytest

from wm_robot.safety.modes import FAULT_EVENTS, Mode, SafetyEvent, select_next_mode

COLUMNS = "arm disarm homed commanded silent rejected violations surprise stale missed_deadlines broken guard"
ROWS = """
limp       homing  limp  .      .        .      .     .     .     .     .     .     safe-stop
homing     .       limp  ready  .        .      hold  hold  .     hold  hold  hold  safe-stop
ready      .       limp  .      learned  .      hold  hold  .     hold  hold  hold  safe-stop
learned    .       limp  .      .        ready  hold  hold  hold  hold  hold  hold  safe-stop
hold       ready   limp  .      .        .      .     .     .     .     .     .     safe-stop
safe-stop  homing  limp  .      .        .      .     .     .     .     .     .     safe-stop
"""
WRITTEN = {
    (Mode(mode), SafetyEvent(event)): mode if cell == "." else cell
    for mode, *cells in (row.split() for row in ROWS.strip().splitlines())
    for event, cell in zip(COLUMNS.split(), cells, strict=True)
}
ORDER = [Mode(row.split()[0]) for row in ROWS.strip().splitlines()]


def test_the_table_has_every_mode_and_event_once():
    assert len(WRITTEN) == len(Mode) * len(SafetyEvent)
    assert list(Mode) == ORDER


@pytest.mark.parametrize(("mode", "event"), WRITTEN, ids=lambda each: each.value)
def test_each_event_alone_leads_where_the_table_says(mode, event):
    expected = Mode(WRITTEN[mode, event])
    assert select_next_mode(mode, {event}) == (expected, event if expected is not mode else None)


def test_of_all_events_together_the_most_severe_wins_and_nobody_arms_into_a_fault():
    # All 4096 sets of events in all modes.
    for mode in Mode:
        for size in range(len(SafetyEvent) + 1):
            for events in itertools.combinations(SafetyEvent, size):
                heard = set(events) - ({SafetyEvent.ARM} if FAULT_EVENTS & set(events) else set())
                reached = {Mode(WRITTEN[mode, event]) for event in heard} - {mode}
                expected = max(reached, key=ORDER.index, default=mode)
                assert select_next_mode(mode, set(events))[0] is expected


@pytest.mark.parametrize("mode", [Mode.HOLD, Mode.SAFE_STOP])
def test_nothing_but_a_person_leads_out_of_hold_and_safe_stop(mode):
    for size in range(len(SafetyEvent)):
        for events in itertools.combinations(set(SafetyEvent) - {SafetyEvent.ARM, SafetyEvent.DISARM}, size):
            assert select_next_mode(mode, set(events))[0] in (mode, Mode.SAFE_STOP)
