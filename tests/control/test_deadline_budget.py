"""When a step leaves out what can be left out."""

from wm_robot.control.deadline_budget import USUAL, Slack


def settled(ms):
    slack = Slack()
    for _ in range(20 * USUAL):
        slack.add(ms, hurried=False)
    return slack


def test_time_is_short_where_what_a_whole_step_usually_takes_does_not_fit():
    slack = settled(6.0)
    assert not slack.lacks(6.5) and slack.lacks(5.5)
    # One slow step is no habit.
    slack.add(30.0, hurried=False)
    assert not slack.lacks(6.5)
    assert slack.hurried == 0


def test_a_slow_spell_ends_and_whole_steps_are_tried_again():
    slack, hurried = settled(9.0), 0
    while slack.lacks(7.5):
        # What is left out says nothing of how long all of it would take.
        slack.add(4.0, hurried=True)
        hurried += 1
        assert hurried < USUAL
    assert hurried == slack.hurried > 0
