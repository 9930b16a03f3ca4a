"""Why transitions were not learned from."""

import numpy as np

from wm_robot.streams.transition_assembler import TransitionAssembler
from wm_robot.streams.unusable_transitions import UnusableTransitions

PERIOD = 20_000_000
START = 10**18


class Stream:
    """Observations with their applied commands, and what was made of them."""

    def __init__(self):
        self._pairing = TransitionAssembler(period=0.02, max_age=10.0)
        self.unlearned, self._stamp = UnusableTransitions(0.02), START

    def go_on(self, count, *, periods=1.0, applied=True):
        for _ in range(count):
            self._stamp += round(periods * PERIOD)
            if applied:
                self._pairing.add_applied(self._stamp, np.zeros(1, np.float32))
            self._pairing.add_observation(self._stamp, self._stamp, np.zeros(2, np.float32))
            while (lived := self._pairing.take_transition()) is not None:
                self.unlearned.count_transition(lived)


def test_a_stream_that_is_well_is_learned_from():
    stream = Stream()
    stream.go_on(101)
    assert stream.unlearned.to_dict() == {"gap": 0, "early": 0, "unpaired": 0, "missed_periods": 0}
    assert stream.unlearned.find_frequent_causes() == {}


def test_a_few_gaps_are_counted_with_the_periods_in_them_and_not_reported():
    stream = Stream()
    stream.go_on(20)
    stream.go_on(1, periods=4)
    stream.go_on(20)
    assert stream.unlearned.to_dict() == {"gap": 1, "early": 0, "unpaired": 0, "missed_periods": 3}
    assert stream.unlearned.find_frequent_causes() == {}


def test_many_gaps_are_reported_with_their_cause_as_long_as_they_last():
    stream = Stream()
    for _ in range(10):
        stream.go_on(4)
        stream.go_on(1, periods=2)
    assert stream.unlearned.to_dict()["missed_periods"] == 10
    assert "transitions span several periods of 20 ms" in stream.unlearned.find_frequent_causes()["gap"]
    stream.go_on(50)
    assert stream.unlearned.find_frequent_causes() == {}


def test_a_slow_clock_makes_every_transition_early():
    stream = Stream()
    stream.go_on(50, periods=0.3)
    assert stream.unlearned.to_dict()["early"] == 49
    (told,) = stream.unlearned.find_frequent_causes().values()
    assert "stamps closer together than the period of 20 ms" in told and "Does /clock run slowly" in told


def test_observations_without_applied_commands_are_reported_as_such():
    stream = Stream()
    stream.go_on(1)
    stream.go_on(50, applied=False)
    assert stream.unlearned.to_dict()["unpaired"] == 49
    (told,) = stream.unlearned.find_frequent_causes().values()
    assert told.startswith("observations have no applied_command of the same stamp")
