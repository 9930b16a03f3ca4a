"""When a step leaves out what can be left out."""

from wm_robot.control.deadline_budget import AVERAGING_STEPS, DeadlineBudget


def settled(ms):
    slack = DeadlineBudget()
    for _ in range(20 * AVERAGING_STEPS):
        slack.add_step(ms, degraded=False)
    return slack


def test_time_is_short_where_what_a_whole_step_usually_takes_does_not_fit():
    slack = settled(6.0)
    assert not slack.is_exceeded(6.5) and slack.is_exceeded(5.5)
    # One slow step is no habit.
    slack.add_step(30.0, degraded=False)
    assert not slack.is_exceeded(6.5)
    assert slack.degraded_steps == 0


def test_a_slow_spell_ends_and_whole_steps_are_tried_again():
    slack, hurried = settled(9.0), 0
    while slack.is_exceeded(7.5):
        # What is left out says nothing of how long all of it would take.
        slack.add_step(4.0, degraded=True)
        hurried += 1
        assert hurried < AVERAGING_STEPS
    assert hurried == slack.degraded_steps > 0
