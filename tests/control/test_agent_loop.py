import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from wm_robot.control.agent_loop import AgentLoop
from wm_robot.robots import load_spec
from wm_robot.streams.transition_assembler import StampedTransition

SPEC = load_spec("arm")
GOAL = np.float32([0.3, 0.1, 0.2])
MS = 1_000_000


class Clock:
    """In ns; it moves on when somebody works."""

    now = 1_000 * MS

    def __call__(self):
        return self.now


class Agent:
    """Notes what it is asked; acting and learning take what `clock` is moved by."""

    def __init__(self, clock):
        self.clock, self.notes, self.is_new = clock, [], []
        self.act_ms = self.learn_ms = 1.0
        self.action, self.nll = np.zeros(SPEC.action_dim, np.float32), 0.5

    def act(self, obs, goal, *, applied=None):
        self.clock.now += round(self.act_ms * MS)
        self.notes.append(("act", float(obs[0]), None if applied is None else float(applied[0])))
        return self.action

    def observe(
        self, obs, applied, next_obs, *, valid=True, intervention=False, skip_optional=False, is_new=None
    ):
        self.clock.now += round(self.learn_ms * MS)
        self.notes.append(("learn", float(next_obs[0]), valid, intervention, skip_optional))
        self.is_new.append(is_new)
        return SimpleNamespace(nll=self.nll)


class Robot:
    def __init__(self):
        self.clock, self.monotonic = Clock(), 0.0
        self.agent = Agent(self.clock)
        self.sent, self.learned, self.failed, self.periods = [], [], [], []
        self.loop = AgentLoop(
            self.agent,
            SPEC,
            send=lambda stamp, action: self.sent.append(stamp),
            on_update=lambda transition, surprise: self.learned.append((transition.stamp, surprise.nll)),
            on_error=self.failed.append,
            log=self.periods.append,
            clock=self.clock,
            monotonic=lambda: self.monotonic,
        )
        self.loop.start()

    def step(self, number, ready=(), goal=GOAL):
        stamp = self.clock.now
        self.loop.run_guarded(self.loop.run_step, stamp, observation(number), goal, list(ready))
        return stamp


def observation(number):
    return np.full(SPEC.obs_dim, number, np.float32)


def transition(number, **values):
    """The one that leads to an observation."""
    applied = np.full(SPEC.action_dim, number / 8, np.float32)
    obs, next_obs = observation(number - 1), observation(number)
    return StampedTransition(
        stamp=number,
        obs=obs,
        applied=applied,
        next_obs=next_obs,
        **{"valid": True, "intervention": False, **values},
    )


@pytest.fixture
def robot():
    return Robot()


def kinds(robot):
    return [note[0] for note in robot.agent.notes]


def test_it_acts_before_it_learns_from_the_transition_that_led_to_the_observation(robot):
    stamp = robot.step(2, [transition(2)])
    assert robot.agent.notes == [("act", 2.0, 0.25), ("learn", 2.0, True, False, False)]
    assert robot.sent == [stamp] and robot.learned == [(2, 0.5)]
    assert (robot.loop.num_actions, robot.loop.surprise) == (1, 0.5)


def test_older_transitions_are_learned_from_before_it_acts(robot):
    robot.step(4, [transition(2), transition(3, intervention=True), transition(4, valid=False)])
    assert kinds(robot) == ["learn", "learn", "act", "learn"]
    assert robot.agent.notes[1] == ("learn", 3.0, True, True, False)
    assert robot.agent.notes[3] == ("learn", 4.0, False, False, False)


def test_without_a_goal_it_learns_and_does_not_act(robot):
    robot.step(2, [transition(2)], goal=None)
    assert kinds(robot) == ["learn"] and not robot.sent and robot.loop.num_actions == 0
    assert robot.loop.latency.count == 0 and robot.loop.learn_time.count == 1


def test_readings_count_as_held_until_it_has_acted(robot):
    """A robot that nothing moved yet gives equal readings, and none of its sensors is frozen."""
    new = np.arange(SPEC.obs_dim) % 2 == 0
    robot.step(2, [transition(2, is_new=new)], goal=None)
    robot.step(3, [transition(3, is_new=new)])
    robot.step(4, [transition(4)], goal=None)
    robot.loop.start()
    robot.step(5, [transition(5)], goal=None)
    held, first, second, again = robot.agent.is_new
    assert not held.any() and first is new and second is None and not again.any()


def test_it_hurries_where_a_whole_step_does_not_fit_before_the_next_observation(robot):
    robot.agent.act_ms, robot.agent.learn_ms = 5.0, 20.0
    hurried = []
    for number in range(2, 200):
        robot.step(number, [transition(number)])
        hurried.append(robot.agent.notes[-1][-1])
    # The arm's period is 20 ms; a step takes 25 ms.
    assert not hurried[0] and any(hurried) and robot.loop.deadline_budget.degraded_steps == sum(hurried)
    # A plan that takes a whole period leaves no time, however short learning is.
    robot.agent.act_ms, robot.agent.learn_ms = 21.0, 0.1
    robot.step(200, [transition(200)])
    assert robot.agent.notes[-1][-1]


def test_times_are_from_the_stamp_to_the_command_and_of_each_part(robot):
    robot.agent.act_ms, robot.agent.learn_ms = 3.0, 2.0
    stamp = robot.clock.now
    robot.clock.now += 4 * MS
    robot.loop.run_step(stamp, observation(2), GOAL, [transition(2)])
    assert robot.loop.latency.last_ms == 7.0
    assert (robot.loop.act_time.last_ms, robot.loop.learn_time.last_ms) == (3.0, 2.0)
    assert robot.periods[-1][:6] == (stamp, robot.periods[-1].late_ms, 7.0, 3.0, 2.0, 0.5)


def test_what_a_step_did_not_do_is_no_number_in_its_log(robot):
    robot.step(1)
    robot.step(2, [transition(2)], goal=None)
    first, second = robot.periods
    assert math.isnan(first.learn_ms) and math.isnan(first.surprise) and first.act_ms == 1.0
    assert math.isnan(second.act_ms) and math.isnan(second.latency_ms) and second.learn_ms == 1.0
    json.dumps(first._asdict())


def test_an_action_that_is_not_finite_is_not_sent_and_stops_the_agent(robot):
    robot.agent.action = np.float32([0, np.nan, 0, 0, np.inf, 0])
    robot.step(1, [transition(1)])
    bad = [SPEC.action_names[1], SPEC.action_names[4]]
    assert not robot.sent and not robot.loop.active and len(robot.failed) == 1
    assert robot.loop.fault == f"FloatingPointError: the action of {bad} is not finite"
    assert kinds(robot) == ["act"]


def test_a_surprise_that_is_not_finite_stops_the_agent(robot):
    robot.agent.nll = math.nan
    robot.step(2, [transition(2)])
    assert robot.sent and not robot.learned and robot.loop.surprise is None
    assert not robot.loop.active and robot.loop.fault == "FloatingPointError: surprise is nan"


def test_an_error_of_what_a_caller_adds_to_a_step_stops_the_agent_until_it_is_started_again(robot):
    def fall_over():
        raise RuntimeError("the publisher fell over")

    robot.loop.run_guarded(fall_over)
    assert not robot.loop.active and str(robot.failed[0]) == "the publisher fell over"
    assert robot.loop.fault == "RuntimeError: the publisher fell over"
    robot.loop.start()
    assert robot.loop.active and robot.loop.fault == ""


def test_the_time_left_runs_out_and_is_endless_once_the_plant_is_late_by_a_period_or_the_agent_stopped(robot):
    robot.loop.expect_observation(100.02)
    for now, left in ((100.0, 0.02), (100.03, -0.01), (100.041, math.inf)):
        robot.monotonic = now
        assert robot.loop.time_left() == pytest.approx(left)
    robot.monotonic = 100.0
    robot.loop.stop()
    assert robot.loop.time_left() == math.inf
