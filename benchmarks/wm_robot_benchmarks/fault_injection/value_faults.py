"""Value faults: wrong numbers to and from a robot, how many reach its motors, and how fast the mode changes."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np

from wm_robot.control.control_loop import ControlLoop, make_local_loop
from wm_robot.safety.modes import Mode
from wm_robot.spec import RobotSpec
from wm_robot.types import Observation
from wm_robot_benchmarks.fault_injection.motor_emulator import EmulatedMotors, EmulatedRobot

VALUES = {
    "nan": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
    "1e308": 1e308,
    "-1e308": -1e308,
    "1e30": 1e30,
}
"""Numbers that are invalid for every robot."""
TINY = {"denormal": 5e-324, "-denormal": -5e-324, "-0": -0.0}
"""Unusual numbers that are valid."""
SOON = 8
"""Steps after which an unchanged mode counts as never changed."""


@dataclass(frozen=True)
class ValueFault:
    """Fault that is injected for one step."""

    name: str
    action: Callable[[np.ndarray], Any] = lambda action: action
    """Change of the controller's action."""
    reading: Callable[[Observation], Observation] = lambda obs: obs
    """Change of the reading."""
    serious: bool = True
    """Whether the learned controller must be disabled."""


@dataclass
class FaultCounts:
    """Counters over many faults."""

    tried: int = 0
    driven: int = 0
    """Values that reached motors."""
    unsafe: int = 0
    """Unsafe values that reached motors."""
    steps: int = 0
    """Largest number of steps in mode `learned` after a fault, including its own."""
    harmed: int = 0
    """Faults with an unsafe value that reached a motor."""
    not_finite: int = 0
    """Faults with a value that was not finite and reached a motor."""


class WaveController:
    """Controller that moves every actuator back and forth through most of its range."""

    def __init__(self, spec: RobotSpec):
        self._middle = 0.5 * (spec.action_low + spec.action_high)
        self._width = 0.4 * (spec.action_high - spec.action_low)
        self._step = 0
        self.fault = ValueFault("none")

    def act(self, obs: np.ndarray) -> Any:
        self._step += 1
        action = self._middle + self._width * np.float32(np.sin(0.05 * self._step))
        return self.fault.action(action.astype(np.float32))

    def observe(
        self, obs: np.ndarray, applied: np.ndarray, next_obs: np.ndarray, *, valid: bool, intervention: bool
    ) -> float:
        return 0.0


def generate_faults(spec: RobotSpec) -> Iterator[ValueFault]:
    """Yield every fault: wrong values in each number of action and reading, wrong types, sizes and stamps."""
    for name, value in (VALUES | TINY).items():
        for motor, label in enumerate(spec.action_names):
            yield ValueFault(f"action {label} {name}", _corrupt_action(motor, value), serious=name in VALUES)
    for name, value in VALUES.items():
        for channel, label in enumerate(spec.observation_names):
            yield ValueFault(f"sensed {label} {name}", reading=_corrupt_reading(channel, value))
    size = spec.action_dim
    odd: tuple[Any, ...] = (None, "go", 0.0, [0.0] * size, {}, np.zeros(size, int), np.zeros(size, bool))
    for what in odd:
        yield ValueFault(f"action is {what!r}", _replace_action(what))
    for kind in (complex, np.longdouble, object, "U4", "M8[s]"):
        yield ValueFault(f"action of {kind}", _replace_action(np.zeros(size, kind)))
    for shape in ((size + 1,), (size - 1,), (0,), (), (1, size), (size, 1)):
        yield ValueFault(f"action of shape {shape}", _replace_action(np.zeros(shape, np.float32)))
    for shift in (3600.0, -3600.0, 1.0, -1.0, math.nan, math.inf, -math.inf):
        yield ValueFault(f"stamp {shift:+g} s", reading=_shift_stamp(shift))
    yield ValueFault(
        "reading too long", reading=lambda o: Observation(stamp=o.stamp, values=np.zeros(99, np.float32))
    )


def inject_all_faults(spec: RobotSpec) -> FaultCounts:
    """Inject every fault once, for one step, in a running loop."""
    tally = FaultCounts()
    for fault in generate_faults(spec):
        robot, loop, controller = start_robot(spec)
        unsafe = robot.motors.unsafe
        controller.fault, robot.motors.corrupt = fault, fault.reading
        modes = [loop.run_period()]
        controller.fault, robot.motors.corrupt = ValueFault("none"), lambda obs: obs
        modes += [loop.run_period() for _ in range(SOON - 1)]
        tally.tried += 1
        tally.driven += robot.motors.driven
        tally.unsafe += robot.motors.unsafe
        tally.harmed += robot.motors.unsafe > unsafe
        if fault.serious:
            tally.steps = max(tally.steps, len(list(takewhile(lambda mode: mode is Mode.LEARNED, modes))))
    return tally


def inject_random_faults(spec: RobotSpec, count: int, rng: np.random.Generator) -> FaultCounts:
    """Inject `count` random actions and readings, including invalid ones, one after the other into one robot."""
    tally, robot = FaultCounts(), EmulatedRobot(spec)
    for _ in range(count):
        unsafe = robot.motors.unsafe
        robot.motors.corrupt = _draw_reading(spec, rng)
        robot.read()
        robot.write(_draw_action(spec, rng))
        tally.tried += 1
        tally.harmed += robot.motors.unsafe > unsafe
    tally.driven, tally.unsafe = robot.motors.driven, robot.motors.unsafe
    return tally


def inject_into_clip(spec: RobotSpec, count: int, rng: np.random.Generator) -> FaultCounts:
    """Run the control condition: the same random actions through `np.clip`, as on many robots."""
    tally, motors = (
        FaultCounts(),
        EmulatedMotors(spec, spec.home_action),
    )
    for _ in range(count):
        action = _draw_action(spec, rng)
        tally.tried += 1
        try:
            clipped = np.clip(np.asarray(np.real(action), np.float64), spec.action_low, spec.action_high)
        except (TypeError, ValueError):
            # It ends here, with the motors on their last action.
            continue
        if clipped.shape == motors.last_action.shape:
            tally.harmed += bool(motors.find_unsafe(clipped).any())
            tally.not_finite += not np.isfinite(clipped).all()
            motors.drive(clipped)
    tally.driven, tally.unsafe = motors.driven, motors.unsafe
    return tally


def start_robot(spec: RobotSpec) -> tuple[EmulatedRobot, ControlLoop, WaveController]:
    """Return a robot whose controller is already acting."""
    robot, controller = EmulatedRobot(spec), WaveController(spec)
    loop = make_local_loop(robot, controller)
    loop.supervisor.request_arming()
    while loop.run_period() is not Mode.LEARNED:
        continue
    for _ in range(3):
        loop.run_period()
    return robot, loop, controller


def _replace_action(what: Any) -> Callable[[np.ndarray], Any]:
    return lambda action: what


def _corrupt_action(motor: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def corrupt(action: np.ndarray) -> np.ndarray:
        spoilt = action.astype(np.float64)
        spoilt[motor] = value
        return spoilt

    return corrupt


def _corrupt_reading(channel: int, value: float) -> Callable[[Observation], Observation]:
    def corrupt(obs: Observation) -> Observation:
        values = obs.values.astype(np.float64)
        values[channel] = value
        return Observation(stamp=obs.stamp, values=values)

    return corrupt


def _shift_stamp(shift: float) -> Callable[[Observation], Observation]:
    return lambda obs: Observation(stamp=obs.stamp + shift, values=obs.values)


def _draw_action(spec: RobotSpec, rng: np.random.Generator) -> Any:
    """Draw a random action, sometimes with one invalid number, a wrong size or a wrong type."""
    size = spec.action_dim
    action = rng.standard_normal(size) * 10.0 ** rng.uniform(-3, 3)
    kind = rng.integers(8)
    if kind == 0:
        action[rng.integers(size)] = rng.choice([*VALUES.values(), *TINY.values()])
    elif kind == 1:
        action = rng.standard_normal(rng.integers(0, 2 * size))
    elif kind == 2:
        # Random bits, as from a broken bus.
        action = np.frombuffer(rng.bytes(8 * size), np.float64)
    elif kind == 3:
        action = action.astype(rng.choice(["f2", "f4", ">f8", "i4", "c16", "U8", "?"]))
    return action


def _draw_reading(spec: RobotSpec, rng: np.random.Generator) -> Callable[[Observation], Observation]:
    kind = rng.integers(16)
    if kind == 0:
        return _corrupt_reading(
            int(rng.integers(spec.obs_dim)), float(rng.choice([math.nan, math.inf, 1e30]))
        )
    if kind == 1:
        return _shift_stamp(float(rng.choice([3600, -3600, 1, -1, math.nan])))
    noise = rng.standard_normal(spec.obs_dim).astype(np.float32)
    return lambda obs: Observation(stamp=obs.stamp, values=obs.values + noise)
