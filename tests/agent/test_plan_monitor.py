"""Plans of a point on a circle, in worlds that keep what its model promises and in others."""

import re
from dataclasses import replace

import numpy as np
import pytest

from wm_robot.agent.plan_monitor import PlanMonitor, PlanMonitorConfig
from wm_robot.errors import ConfigError
from wm_robot.spec import Task
from wm_robot.tasks import REWARDS

HORIZON = 4
SHORT = PlanMonitorConfig(window=24, confirm_scores=2)


class Point:
    """One or more points whose servos go a part of the way in a step, and a model of them."""

    def __init__(self, watch, *, lives=1, model=0.5, seed=0):
        self.watch, self.model = watch, model
        self.rng = np.random.default_rng(seed)
        self.obs, self.hold = np.zeros((lives, 2)), np.zeros((lives, 1))
        self.goal, self.time = np.zeros(lives), 0
        watch.begin(lives)

    def expect(self, obs, recent, action):
        mean = obs.copy()
        mean[..., :1] += self.model * (action - obs[..., :1])
        return mean, np.full_like(mean, -30.0)

    def plan(self):
        if self.time % 16 == 0:
            self.goal = self.rng.uniform(-1, 1, len(self.goal))
        at = np.stack([np.cos(self.goal), np.sin(self.goal), 0 * self.goal], 1)
        most = 0.1 * np.arange(1, HORIZON + 1)[:, None]
        plan = self.hold[:, None] + np.clip((self.goal[:, None] - self.hold)[:, None], -most, most)
        goals = np.repeat(at[:, None], HORIZON, 1)
        self.watch.on_plan(self.obs, goals, plan, self.hold[:, None], self.expect, goal=at)
        return plan[:, 0]

    def follow(self, action, world, *, hurry=False):
        self.hold = action
        self.obs = self.obs.copy()
        self.obs[:, :1] += np.reshape(world, (-1, 1)) * (action - self.obs[:, :1])
        (self.watch.skip if hurry else self.watch.advance)()
        self.time += 1

    def live(self, steps, world):
        for _ in range(steps):
            self.follow(self.plan(), world)


@pytest.fixture
def watch(spec):
    return PlanMonitor(spec, task="reach", config=SHORT)


def test_what_a_true_model_promises_of_a_goal_that_stays_is_what_comes(watch):
    point = Point(watch)
    point.live(400, 0.5)
    # A new goal comes in the middle of some plans; between them the promise is exact.
    promised, staying, got = watch._plan_rewards[:, 0]
    exact = np.isclose(promised, got, atol=1e-6)
    assert exact.sum() >= 6
    assert (promised > staying + 1e-3).any()
    assert watch.counts["alarms"] == 0
    assert watch.counts["plans"] == 399 // HORIZON


def test_a_reward_of_what_was_before_is_promised_and_received_too(spec, monkeypatch):
    def progress(obs, action, next_obs, goal):
        return next_obs[..., 0] - obs[..., 0] - 0.1 * (action**2).sum(-1)

    monkeypatch.setitem(REWARDS, "progress", progress)
    task = Task(reward="progress", goal=3)
    point = Point(PlanMonitor(replace(spec, tasks={"go": task}), task="go", config=SHORT))
    point.live(200, 0.5)
    promised, staying, got = point.watch._plan_rewards[:, 0]
    exact = np.isclose(promised, got, atol=1e-6)
    assert exact.sum() >= 6 and (np.abs(promised - staying) > 1e-3).any()


@pytest.mark.parametrize("world", [0.0, 0.1])
def test_plans_of_which_little_comes_raise_the_alarm_and_it_ends_when_they_are_kept(watch, world):
    point = Point(watch, model=1.0)
    point.live(101, world)
    assert watch.is_alarmed.all()
    assert watch.score.realised < watch.score.predicted / 2
    point.live(200, 1.0)
    assert not watch.is_alarmed.any()
    raised, ended = watch.events
    assert re.fullmatch(
        r"plans predicted 0\.\d+ of reward .* received reward is .* below half\)", raised.description
    )
    assert ended.description == "received reward matches the plans again"
    assert 0 < raised.step <= 101 < ended.step
    assert watch.counts["alarms"] == 1
    assert 0 < watch.counts["alarm_steps"] < 300


def test_the_alarm_is_of_the_life_whose_plans_fail(watch):
    point = Point(watch, lives=3, model=1.0)
    point.live(300, [1.0, 0.0, 1.0])
    assert watch.is_alarmed.tolist() == [False, True, False]
    assert {event.row for event in watch.events} == {1}


@pytest.mark.parametrize("follows", [True, False])
def test_it_is_told_whether_reward_follows_what_plans_promise(watch, follows):
    rng, goal, hold = np.random.default_rng(0), np.array([[1.0, 0.0, 0.0]]), np.zeros((1, 1, 1))
    obs, found, last = np.zeros((1, 2)), [], 1.0

    def expect(obs, recent, action):
        place = np.where(action > 0, action, 0.6)
        return np.concatenate([place, np.zeros_like(place)], -1), np.full_like(obs, -30.0)

    for step in range(400):
        if step % HORIZON == 0:
            last = rng.uniform(0.1, 0.6)
        plan = np.full((1, HORIZON, 1), last)
        plan[:, 0] = 0.0
        watch.on_plan(obs, np.repeat(goal[:, None], HORIZON, 1), plan, hold, expect, goal=goal)
        watch.advance()
        # The mean reward is the same in both cases.
        got = last if follows else rng.uniform(0.1, 0.6)
        obs = np.array([[0.6 if step % HORIZON == 0 else got, 0.0]])
        if watch.score is not None:
            found += watch.score.uncorrelated.tolist()
    assert (np.mean(found) > 0.5) == (not follows)
    assert follows == (not any(found))


def test_noise_near_a_goal_is_no_broken_promise(spec):
    """What is sensed there is worse than what a model expects in the mean, and nobody's fault."""

    def alarms(told: float) -> int:
        watch = PlanMonitor(spec, task="reach", config=SHORT)
        watch.begin(1)
        rng = np.random.default_rng(0)

        def expect(obs, recent, action):
            return np.zeros_like(obs), np.full_like(obs, 2 * np.log(told))

        goal, plan = np.array([[1.0, 0.0, 0.0]]), np.zeros((1, HORIZON, 1))
        for _ in range(600):
            obs = 0.02 * rng.standard_normal((1, 2))
            watch.on_plan(obs, np.repeat(goal[:, None], HORIZON, 1), plan, plan[:, :1, :], expect, goal=goal)
            watch.advance()
        return watch.counts["alarms"]

    assert alarms(told=0.02) == 0
    assert alarms(told=1e-6) == 1


def test_plans_that_are_not_followed_or_doubted_are_not_judged(watch):
    point = Point(watch)
    for step in range(5 * HORIZON + 1):
        action = point.plan()
        if step == 1:
            action = action + 0.05
        if step == 2 * HORIZON:
            watch.invalidate()
        point.follow(action, 0.5)
    assert (watch.counts["plans"], watch.counts["plans_excluded"]) == (3, 2)


def test_a_period_in_which_another_acts_ends_the_plan_under_way(watch):
    point = Point(watch)
    point.live(HORIZON - 1, 0.5)
    point.watch.advance()
    point.live(1, 0.5)
    assert watch.counts["plans"] == 0
    point.live(HORIZON, 0.5)
    assert watch.counts["plans"] == 1


def test_in_a_hurry_the_plan_under_way_is_not_judged_and_one_that_is_over_is_judged_later(watch):
    point = Point(watch)
    point.live(2, 0.5)
    point.follow(point.plan(), 0.5, hurry=True)
    point.live(HORIZON, 0.5)
    # It is over now, as is seen with the next plan.
    point.follow(point.plan(), 0.5, hurry=True)
    assert watch.counts["plans"] == 0
    point.live(1, 0.5)
    assert (watch.counts["plans"], watch.counts["plans_excluded"]) == (1, 0)


def test_a_setting_that_cannot_work_is_refused():
    with pytest.raises(ConfigError, match="plan_monitor.window is 4; it must be at least 8"):
        PlanMonitorConfig(window=4)
    with pytest.raises(ConfigError, match="plan_monitor.clear_threshold is 9"):
        PlanMonitorConfig(clear_threshold=9)
