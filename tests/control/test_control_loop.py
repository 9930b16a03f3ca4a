from types import SimpleNamespace

import numpy as np
import pytest

from tests.safety.specs import every, spec_of
from wm_robot.control.command_arbiter import CommandArbiter
from wm_robot.control.control_loop import ControlLoop, make_local_loop
from wm_robot.control.realtime import Deadlines
from wm_robot.errors import DeviceError
from wm_robot.safety.limit_violations import LimitRule
from wm_robot.safety.modes import Mode
from wm_robot.types import Observation
from wm_robot_benchmarks.fault_injection.motor_emulator import EmulatedRobot

HOME = every("joint", 0.0)
"""Rest where the controllers of these tests begin: at zero."""
SPEC = spec_of(
    home=HOME,
    acceleration=every("actuator", 60.0),
    surprise_threshold=10.0,
    surprise_count_window=[2, 3],
    missed_deadline_count_window=[2, 3],
)
START = np.float32([0.4, -0.3, 0.2])


class Swing:
    """Moves every joint to and fro, and does on the way what a test asks for."""

    def __init__(self):
        self.steps, self.surprise, self.lived, self.touched = 0, 0.0, [], []
        self.act_instead = None

    def act(self, obs):
        self.steps += 1
        if self.act_instead is not None:
            return self.act_instead()
        return np.full(len(obs) // 2, 0.2 * np.sin(0.1 * self.steps), np.float32)

    def observe(self, obs, applied, next_obs, *, valid, intervention):
        self.lived.append(valid)
        self.touched.append(intervention)
        return self.surprise


class Commands:
    """A source of one action."""

    is_active, is_overdue, rejection, fault, surprise = True, False, "", "", None
    action = np.zeros(3, np.float32)

    def start_period(self):
        pass

    def clear_reports(self):
        pass

    def select_command(self, obs):
        return self.action


def controller_of(loop):
    return loop.arbiter.source.controller


def started(robot=None):
    loop = make_local_loop(robot or EmulatedRobot(SPEC, START), Swing())
    loop.supervisor.request_arming()
    for _ in range(200):
        if loop.run_period() is Mode.LEARNED:
            break
    for _ in range(20):
        assert loop.run_period() is Mode.LEARNED
    return loop


def refuse(*arguments):
    raise ValueError("no plan")


def test_armed_it_goes_home_and_then_the_controller_acts():
    robot = EmulatedRobot(SPEC, START)
    loop = make_local_loop(robot, Swing())
    assert {loop.run_period() for _ in range(20)} == {Mode.LIMP}
    np.testing.assert_array_equal(robot.motors.last_action, START)
    loop.supervisor.request_arming()
    modes = [loop.run_period() for _ in range(200)]
    assert list(dict.fromkeys(modes)) == [Mode.HOMING, Mode.READY, Mode.LEARNED]
    assert controller_of(loop).steps == modes.count(Mode.LEARNED)
    assert robot.motors.unsafe == 0 and not any(robot.gate.counts.values())


@pytest.mark.parametrize(
    "action",
    [lambda: np.full(3, np.nan, np.float32), lambda: np.float32([0, np.inf, 0]), lambda: np.zeros(4), lambda: None,
     lambda: np.full(3, 1e308), lambda: np.zeros(3, complex), refuse],
    ids=["nan", "inf", "size", "none", "huge", "complex", "raises"],
)  # fmt: skip
def test_after_one_bad_action_the_baseline_has_taken_over(action):
    loop = started()
    robot = loop.robot
    before = robot.motors.last_action.copy()
    controller_of(loop).act_instead = action
    loop.run_period()
    # With no more speed than it had, and less with each period.
    assert np.abs(robot.motors.last_action - before).max() < 0.05
    assert loop.run_period() is Mode.HOLD
    asked = controller_of(loop).steps
    for _ in range(100):
        assert loop.run_period() is Mode.HOLD
    np.testing.assert_allclose(robot.motors.last_action, robot.gate.last_action)
    assert np.abs(robot.motors.velocity).max() < 1e-6
    assert controller_of(loop).steps == asked and robot.motors.unsafe == 0


def test_after_it_was_armed_again_the_controller_goes_on():
    loop = started()
    controller_of(loop).act_instead = refuse
    assert [loop.run_period(), loop.run_period()] == [Mode.LEARNED, Mode.HOLD]
    assert loop.supervisor.reason == "ValueError: no plan"
    controller_of(loop).act_instead = None
    loop.supervisor.request_arming()
    assert [loop.run_period() for _ in range(3)] == [Mode.READY, Mode.LEARNED, Mode.LEARNED]


def test_surprise_and_missed_deadlines_end_its_turn():
    loop = started()
    controller_of(loop).surprise = 11.0
    assert [loop.run_period(), loop.run_period(), loop.run_period()] == [
        Mode.LEARNED,
        Mode.LEARNED,
        Mode.HOLD,
    ]
    loop = started()
    assert [loop.run_period(late=True), loop.run_period(late=True)] == [Mode.LEARNED, Mode.HOLD]


def test_a_guard_that_has_tripped_ends_it_and_keeps_it_ended():
    why = [""]
    guard = SimpleNamespace(driver=1, stopped=lambda: why[0], release=lambda: None)
    loop = make_local_loop(EmulatedRobot(SPEC, START), Swing(), guard=guard)
    loop.supervisor.request_arming()
    for _ in range(200):
        loop.run_period()
    why[0] = "no progress for 40 ms"
    assert loop.run_period() is Mode.SAFE_STOP
    loop.supervisor.request_arming()
    assert loop.run_period() is Mode.SAFE_STOP
    why[0] = ""
    assert loop.run_period() is Mode.SAFE_STOP
    loop.supervisor.request_arming()
    assert loop.run_period() is Mode.HOMING


def gone(obs):
    raise DeviceError("motor 3 does not answer")


@pytest.mark.parametrize(
    ("spoil", "steps"),
    [
        (lambda obs: Observation(stamp=obs.stamp, values=obs.values * np.nan), 1),
        (lambda obs: Observation(stamp=obs.stamp + 3600, values=obs.values), 1),
        (lambda obs: Observation(stamp=obs.stamp - 3600, values=obs.values), 1),
        (lambda obs: Observation(stamp=float("nan"), values=obs.values), 1),
        (gone, 1),
    ],
    ids=["nan", "future", "past", "no stamp", "no answer"],
)
def test_what_was_not_sensed_well_is_neither_acted_on_nor_learned_from(spoil, steps):
    robot = EmulatedRobot(SPEC, START)
    loop = started(robot)
    controller_of(loop).lived.clear()
    robot.motors.corrupt = spoil
    for _ in range(steps):
        loop.run_period()
    assert loop.run_period() is Mode.HOLD
    for _ in range(10):
        loop.run_period()
    assert not any(controller_of(loop).lived) and robot.motors.unsafe == 0


def test_a_sensor_that_stands_still_is_stale_after_the_age_that_is_allowed():
    robot = EmulatedRobot(SPEC, START)
    loop = started(robot)
    frozen = robot.read()
    robot.motors.corrupt = lambda obs: frozen
    followed = [loop.run_period() is Mode.LEARNED and not robot.gate.violations for _ in range(6)]
    assert loop.mode is Mode.HOLD and "the age of the observation" in loop.supervisor.reason
    assert sum(followed) <= SPEC.safety.max_age_periods + 1


def test_progress_is_told_once_a_period():
    beats = []
    loop = make_local_loop(EmulatedRobot(SPEC), Swing(), progress=lambda: beats.append(1))
    for _ in range(7):
        loop.run_period()
    assert len(beats) == 7


class Time:
    """A clock that moves when somebody sleeps."""

    def __init__(self):
        self.now = 50.0

    def __call__(self):
        return self.now

    def sleep_until(self, moment):
        self.now = max(self.now, moment)


def test_it_runs_at_its_deadlines_and_notes_every_period():
    clock, beats, lefts, periods = Time(), [], [], []
    swing = Swing()

    def act(obs):
        # The tenth takes two periods and a half, all others a quarter.
        clock.now += SPEC.dt * (2.5 if len(periods) == 9 else 0.25)
        return np.zeros(3, np.float32)

    swing.act = act
    loop = make_local_loop(
        EmulatedRobot(spec_of(home=HOME, missed_deadline_count_window=[3, 5])),
        swing,
        progress=lambda: beats.append(clock.now),
        between_periods=lefts.append,
        log=periods.append,
        clock=clock,
    )
    loop.supervisor.mode = Mode.LEARNED
    loop.run(Deadlines(SPEC.dt, clock=clock, sleep_until=clock.sleep_until), lambda: len(periods) == 20)
    assert len(periods) == loop.latency.count == loop.lateness.count == 20
    milliseconds = 1e3 * SPEC.dt
    # It lived through 20 periods, and one more passed beside them: of two and a half, half of one is made up for.
    assert clock.now == pytest.approx(50 + 21 * SPEC.dt + 0.25 * SPEC.dt)
    late = [period.late_ms for period in periods]
    assert late[10] == pytest.approx(1.5 * milliseconds) and max(late[:10] + late[11:]) < 1e-6
    # From the deadline, and not from when it began.
    assert periods[10].latency_ms == pytest.approx(1.75 * milliseconds)
    assert periods[9].act_ms == pytest.approx(2.5 * milliseconds)
    assert {period.mode for period in periods} == {Mode.LEARNED} and all(p.violations == () for p in periods)
    assert lefts[0] == pytest.approx(0.75 * SPEC.dt) and min(lefts) < 0
    assert max(b - a for a, b in zip(beats, beats[1:], strict=False)) == pytest.approx(2.5 * SPEC.dt)


def test_missed_deadlines_end_its_turn_where_it_runs():
    clock, periods, swing = Time(), [], Swing()

    def act(obs):
        clock.now += 1.2 * SPEC.dt
        return np.zeros(3, np.float32)

    swing.act = act
    loop = make_local_loop(EmulatedRobot(SPEC), swing, log=periods.append, clock=clock)
    loop.supervisor.mode = Mode.LEARNED
    loop.run(Deadlines(SPEC.dt, clock=clock, sleep_until=clock.sleep_until), lambda: len(periods) == 40)
    assert loop.mode is Mode.HOLD and "deadlines missed" in loop.supervisor.reason


def test_what_the_gate_made_of_an_action_is_told_to_whoever_learns_from_it():
    robot = EmulatedRobot(SPEC, START)
    loop = started(robot)
    controller_of(loop).touched.clear()
    for _ in range(3):
        loop.run_period()
    # A limit that is met every day is no intervention.
    controller_of(loop).act_instead = lambda: np.full(3, 3.0, np.float32)
    loop.run_period()
    assert robot.gate.counts[LimitRule.RANGE] or robot.gate.counts[LimitRule.RATE]
    controller_of(loop).act_instead = None
    loop.run_period()
    controller_of(loop).act_instead = lambda: np.full(3, np.nan, np.float32)
    loop.run_period()
    assert loop.run_period() is Mode.HOLD
    assert controller_of(loop).touched == [False] * 6 + [True]


def test_what_is_not_written_was_not_cut_and_a_plant_that_is_left_alone_can_be_armed():
    robot = EmulatedRobot(SPEC, START)
    source = Commands()
    arbiter = CommandArbiter(SPEC, source, robot.last_action, mode=Mode.LEARNED)
    outcomes = []

    def write(mode, action):
        return robot.last_action if mode is Mode.LIMP else robot.write(action)

    loop = ControlLoop(robot, arbiter, report=lambda *outcome: outcomes.append(outcome), write=write)
    source.action = np.full(3, 3.0, np.float32)
    loop.run_period()
    assert outcomes[-1][2] == robot.gate.violations != ()
    arbiter.request_disarming()
    assert [loop.run_period() for _ in range(50)] == [Mode.LIMP] * 50
    assert outcomes[-1][2] == ()
    arbiter.request_arming()
    assert loop.run_period() is Mode.HOMING


def test_an_outcome_that_cannot_be_reported_stops_the_controller():
    robot = EmulatedRobot(SPEC, START)
    arbiter = CommandArbiter(SPEC, Commands(), robot.last_action, mode=Mode.LEARNED)
    loop = ControlLoop(robot, arbiter, report=refuse)
    assert [loop.run_period(), loop.run_period()] == [Mode.LEARNED, Mode.HOLD]


def test_a_wait_that_ends_early_is_gone_on_with_and_the_guard_is_heeded_meanwhile():
    clock, why = Time(), [""]
    guard = SimpleNamespace(driver=1, stopped=lambda: why[0], release=lambda: None)
    loop = make_local_loop(EmulatedRobot(SPEC), Swing(), guard=guard, clock=clock)
    modes = []

    def wait():
        modes.append(loop.mode)
        clock.now += 0.45 * SPEC.dt
        why[0] = "no progress" if len(modes) == 4 else why[0]

    loop.run(Deadlines(SPEC.dt, clock=clock), lambda: loop.num_periods == 3, wait)
    assert modes == [Mode.LIMP] * 4 + [Mode.SAFE_STOP] * 3
