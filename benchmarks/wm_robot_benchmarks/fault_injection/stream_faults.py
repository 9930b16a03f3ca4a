"""Stream faults: messages that are old, duplicate, out of order or in the future, clocks that jump, and floods."""

import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from wm_robot.safety.gate import Gate
from wm_robot.spec import RobotSpec, make_home_obs
from wm_robot.streams.command_buffer import CommandBuffer
from wm_robot.streams.transition_assembler import TransitionAssembler
from wm_robot.types import Observation

MAX_AGE = 0.1
"""Default of the nodes, in s."""
HOUR = 3_600_000_000_000
FALSE = 0.77
"""Content of every false message, so that it is recognisable everywhere."""
START = 10**18
"""One hour, in ns."""


@dataclass
class StreamFaultCounts:
    """Counters of the effects of false messages."""

    num_sent: int = 0
    num_learned: int = 0
    """Valid transitions with a false message."""
    num_acted: int = 0
    """Periods in which a false message was in force, or led to an action."""
    memory_growth: int = 0
    """Growth of the memory, in bytes."""


@dataclass
class _Arrival:
    """Arrival time and stamp of a message."""

    stamp: int
    now: int


def make_false_stamps(period: int) -> dict[str, Callable[[int, int], _Arrival]]:
    """Return kind → stamp and arrival of a false message, from those of the last valid one."""
    late = round(1e9 * MAX_AGE)
    return {
        "stale": lambda now, last: _Arrival(now - late - 1, now),
        "duplicate": lambda now, last: _Arrival(last, now),
        "out of order": lambda now, last: _Arrival(last - 1, now),
        "future": lambda now, last: _Arrival(now + late + 1, now),
        "no stamp": lambda now, last: _Arrival(0, now),
        "clock an hour ahead": lambda now, last: _Arrival(now + HOUR, now),
        "clock an hour behind": lambda now, last: _Arrival(now - HOUR, now),
    }


def inject_false_stamps(spec: RobotSpec, each: int) -> dict[str, StreamFaultCounts]:
    """Inject `each` false messages of every kind, one between two valid ones; return kind → counters."""
    period = round(1e9 * spec.dt)
    return {kind: _inject_between_valid(spec, each, when) for kind, when in make_false_stamps(period).items()}


def _inject_between_valid(
    spec: RobotSpec, count: int, when: Callable[[int, int], _Arrival]
) -> StreamFaultCounts:
    node, result = _NodeModel(spec), StreamFaultCounts()
    for now, stamp in _generate_periods(spec, count):
        node.receive(stamp, now, is_valid=True)
        moment = when(now + 1000, stamp)
        result.num_acted += node.receive(moment.stamp, moment.now, is_valid=False)
        result.num_sent += 1
        result.num_acted += node.run_period(now)
    result.num_learned = node.learned
    return result


def inject_flood(spec: RobotSpec, count: int, rate: float = 10_000.0) -> StreamFaultCounts:
    """Inject `count` messages at a rate in Hz, each a copy of the last valid one with false content."""
    node, result = _NodeModel(spec), StreamFaultCounts()
    good = _generate_periods(spec, 2 + int(count / rate / spec.dt))
    begin, last = next(good)
    node.receive(last, begin, is_valid=True)
    due, stamp = next(good)
    held = 0
    tracemalloc.start()
    for number in range(count):
        now = begin + round(1e9 * number / rate)
        if now >= due:
            node.receive(stamp, now, is_valid=True)
            last, (due, stamp) = stamp, next(good)
            result.num_acted += node.run_period(now)
        result.num_acted += node.receive(last, now, is_valid=False)
        result.num_sent += 1
        if number == count // 10:
            held = tracemalloc.get_traced_memory()[0]
    result.memory_growth = tracemalloc.get_traced_memory()[0] - held
    tracemalloc.stop()
    result.num_learned = node.learned
    return result


def inject_clock_jumps(spec: RobotSpec, count: int) -> tuple[int, int]:
    """Count lost periods and false starts when the wall clock jumps by an hour back and forth every hundred periods.

    Sender and receiver share the clock, as on one machine. A message in transit during the change is lost.
    """
    node, jump, lost = _NodeModel(spec), 0, 0
    for number, (now, stamp) in enumerate(_generate_periods(spec, count)):
        before = jump
        if number % 100 == 99:
            jump = HOUR - jump
        taken = node.receive(stamp + before, now + jump, is_valid=True)
        lost += not taken
        node.run_period(now)
    return lost, node.learned


def _generate_periods(spec: RobotSpec, count: int) -> Iterator[tuple[int, int]]:
    """Yield arrival time and stamp of valid messages, in ns."""
    period = round(1e9 * spec.dt)
    for number in range(count):
        yield START + number * period + 1_000_000, START + number * period


class _NodeModel:
    """Message processing of agent and plant: the parts of the nodes, without ROS."""

    def __init__(self, spec: RobotSpec):
        self._spec = spec
        home = spec.home_action
        servo = np.array([actuator.is_servo for actuator in spec.actuators])
        self._home_action, self._gate = home, Gate(spec, home)
        self._pairing = TransitionAssembler(period=spec.dt, max_age=MAX_AGE)
        self._intake = CommandBuffer(home, is_servo=servo, max_age=MAX_AGE, timeout=0.5)
        self.learned = 0
        """Valid transitions with a false message."""

    def receive(self, stamp: int, now: int, *, is_valid: bool) -> bool:
        """Process an observation and a command; return whether either was used."""
        obs = np.full(self._spec.obs_dim, 0.0 if is_valid else FALSE, np.float32)
        action = self._home_action if is_valid else np.full(self._spec.action_dim, FALSE, np.float32)
        if is_valid:
            self._pairing.add_applied(stamp, action)
        used = self._pairing.add_observation(stamp, now, obs) is None
        used |= self._intake.offer_command(action, stamp, now, time=now) is None
        while (lived := self._pairing.take_transition()) is not None:
            false = np.float32(FALSE) in (lived.obs[0], lived.next_obs[0])
            self.learned += lived.valid and false
        return bool(used)

    def run_period(self, now: int) -> bool:
        """Run one period of the plant; return whether the applied command is false."""
        obs = Observation(stamp=0.0, values=make_home_obs(self._spec))
        applied = self._gate(self._intake.take_command(now), obs, now=0.0).applied
        return bool((applied != self._home_action).any())
