from wm_robot.streams.throttled_log import (
    ACTIVE_TIME,
    DESCRIPTION_INTERVAL,
    MAX_LINES,
    REPEAT_INTERVAL,
    ThrottledLog,
)


class Listener:
    """Complaints at a time that stands still, and the lines that they made."""

    def __init__(self):
        self.now, self.lines, self.asked = 100.0, [], 0
        self.complaints = ThrottledLog(self.lines.append, clock=lambda: self.now)

    def complain(self, cause, words="bad"):
        def said():
            self.asked += 1
            return words

        self.complaints.report_cause(cause, said)


def test_a_flood_of_one_cause_is_one_line():
    heard = Listener()
    for _ in range(10_000):
        heard.complain("nan")
    assert heard.lines == ["bad"] and heard.asked == 1
    assert heard.complaints.list_active_causes() == ["bad (10000 times so far)"]


def test_each_cause_has_a_line_of_its_own():
    heard = Listener()
    heard.complain("nan", "it is not finite")
    heard.complain("names", "who is that?")
    heard.complain("nan", "it is not finite")
    assert heard.lines == ["it is not finite", "who is that?"]


def test_what_lasts_is_said_again_with_how_often_it_was():
    heard = Listener()
    for _ in range(2):
        heard.complain("nan")
        heard.now += REPEAT_INTERVAL / 2
    heard.complain("nan")
    assert heard.lines == ["bad", "bad (3 times so far)"]


def test_what_is_wrong_in_another_way_is_said_too_but_not_in_ever_so_many():
    heard = Listener()
    for number in range(2 * MAX_LINES):
        heard.complain("names", f"who is {number}?")
        heard.complain("names", "nobody asks so soon")
        heard.now += DESCRIPTION_INTERVAL
    assert len(heard.lines) == MAX_LINES and heard.lines[0] == "who is 0?"
    assert heard.complaints.list_active_causes() == [
        f"who is {2 * MAX_LINES - 1}? ({4 * MAX_LINES} times so far)"
    ]


def test_what_is_over_is_no_longer_wrong():
    heard = Listener()
    heard.complain("nan")
    heard.now += ACTIVE_TIME
    assert heard.complaints.list_active_causes() == []
