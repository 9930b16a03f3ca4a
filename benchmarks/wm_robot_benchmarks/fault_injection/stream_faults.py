"""Stream faults: messages that are old, duplicate, out of order or in the future, clocks that jump, and floods."""

import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from wm_robot.safety.gate import Gate
from wm_robot.spec import RobotSpec
from wm_robot.streams.command_buffer import CommandIntake
from wm_robot.streams.transition_assembler import Pairing
from wm_robot.types import Observation

MAX_AGE = 0.1
"""Default of the nodes, in s."""
HOUR = 3_600_000_000_000
FALSE = 0.77
"""Content of every false message, so that it is recognisable everywhere."""
START = 10**18
"""One hour, in ns."""


@dataclass
class Streamed:
    """Counters of the effects of false messages."""

    sent: int = 0
    learned: int = 0
    """Valid transitions with a false message."""
    acted: int = 0
    """Periods in which a false message was in force, or led to an action."""
    memory: int = 0
    """Growth of the memory, in bytes."""


@dataclass
class _Moment:
    """Arrival time and stamp of a message."""

    stamp: int
    now: int


def false_stamps(period: int) -> dict[str, Callable[[int, int], _Moment]]:
    """Return kind → stamp and arrival of a false message, from those of the last valid one."""
    late = round(1e9 * MAX_AGE)
    return {
        "stale": lambda now, last: _Moment(now - late - 1, now),
        "duplicate": lambda now, last: _Moment(last, now),
        "out of order": lambda now, last: _Moment(last - 1, now),
        "future": lambda now, last: _Moment(now + late + 1, now),
        "no stamp": lambda now, last: _Moment(0, now),
        "clock an hour ahead": lambda now, last: _Moment(now + HOUR, now),
        "clock an hour behind": lambda now, last: _Moment(now - HOUR, now),
    }


def try_stamps(spec: RobotSpec, each: int) -> dict[str, Streamed]:
    """Inject `each` false messages of every kind, one between two valid ones; return kind → counters."""
    period = round(1e9 * spec.dt)
    return {kind: _between_good_ones(spec, each, when) for kind, when in false_stamps(period).items()}


def _between_good_ones(spec: RobotSpec, count: int, when: Callable[[int, int], _Moment]) -> Streamed:
    node, result = _Node(spec), Streamed()
    for now, stamp in _periods(spec, count):
        node.hear(stamp, now, good=True)
        moment = when(now + 1000, stamp)
        result.acted += node.hear(moment.stamp, moment.now, good=False)
        result.sent += 1
        result.acted += node.period(now)
    result.learned = node.learned
    return result


def try_flood(spec: RobotSpec, count: int, rate: float = 10_000.0) -> Streamed:
    """Inject `count` messages at a rate in Hz, each a copy of the last valid one with false content."""
    node, result = _Node(spec), Streamed()
    good = _periods(spec, 2 + int(count / rate / spec.dt))
    begin, last = next(good)
    node.hear(last, begin, good=True)
    due, stamp = next(good)
    held = 0
    tracemalloc.start()
    for number in range(count):
        now = begin + round(1e9 * number / rate)
        if now >= due:
            node.hear(stamp, now, good=True)
            last, (due, stamp) = stamp, next(good)
            result.acted += node.period(now)
        result.acted += node.hear(last, now, good=False)
        result.sent += 1
        if number == count // 10:
            held = tracemalloc.get_traced_memory()[0]
    result.memory = tracemalloc.get_traced_memory()[0] - held
    tracemalloc.stop()
    result.learned = node.learned
    return result


def try_clock_jumps(spec: RobotSpec, count: int) -> tuple[int, int]:
    """Count lost periods and false starts when the wall clock jumps by an hour back and forth every hundred periods.

    Sender and receiver share the clock, as on one machine. A message in transit during the change is lost.
    """
    node, jump, lost = _Node(spec), 0, 0
    for number, (now, stamp) in enumerate(_periods(spec, count)):
        before = jump
        if number % 100 == 99:
            jump = HOUR - jump
        taken = node.hear(stamp + before, now + jump, good=True)
        lost += not taken
        node.period(now)
    return lost, node.learned


def _periods(spec: RobotSpec, count: int) -> Iterator[tuple[int, int]]:
    """Yield arrival time and stamp of valid messages, in ns."""
    period = round(1e9 * spec.dt)
    for number in range(count):
        yield START + number * period + 1_000_000, START + number * period


class _Node:
    """Message processing of agent and plant: the parts of the nodes, without ROS."""

    def __init__(self, spec: RobotSpec):
        self._spec = spec
        neutral = np.clip(np.zeros(spec.action_dim, np.float32), spec.action_low, spec.action_high)
        servo = np.array([actuator.unit == "rad" for actuator in spec.actuators])
        self._neutral, self._gate = neutral, Gate(spec, neutral)
        self._pairing = Pairing(period=spec.dt, max_age=MAX_AGE)
        self._intake = CommandIntake(neutral, servo=servo, max_age=MAX_AGE, timeout=0.5)
        self.learned = 0
        """Valid transitions with a false message."""

    def hear(self, stamp: int, now: int, *, good: bool) -> bool:
        """Process an observation and a command; return whether either was used."""
        obs = np.full(self._spec.obs_dim, 0.0 if good else FALSE, np.float32)
        action = self._neutral if good else np.full(self._spec.action_dim, FALSE, np.float32)
        if good:
            self._pairing.apply(stamp, action)
        used = self._pairing.sense(stamp, now, obs) is None
        used |= self._intake.offer(action, stamp, now, moment=now) is None
        while (lived := self._pairing.take()) is not None:
            false = np.float32(FALSE) in (lived.obs[0], lived.next_obs[0])
            self.learned += lived.valid and false
        return bool(used)

    def period(self, now: int) -> bool:
        """Run one period of the plant; return whether the applied command is false."""
        obs = Observation(stamp=0.0, values=np.zeros(self._spec.obs_dim, np.float32))
        applied = self._gate(self._intake.take(now), obs, now=0.0).applied
        return bool((applied != self._neutral).any())
