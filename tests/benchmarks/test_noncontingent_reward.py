"""Reward independent of behaviour, on robots that are easy to reason about: who has a ritual, and who has none."""

import numpy as np
import pytest

from wm_robot.spec import RobotSpec
from wm_robot_benchmarks.measures.noncontingent_reward import (
    GateBatch,
    NaiveLearner,
    RecordedBehaviour,
    RewardSchedule,
    compute_ritual_statistics,
    find_outside_statistics,
    record_behaviour,
)

SCHEDULE = RewardSchedule(period=50, length=10, settle=20, trained=1000, after=400)
ROBOTS = 24


@pytest.fixture(scope="module")
def spec() -> RobotSpec:
    joint = {"position": [-1.0, 1.0], "velocity": 50.0, "effort": 1.0}
    names = ["x", "y", "z"]
    return RobotSpec.from_dict(
        {
            "name": "free",
            "rate": 50,
            "model": "free.xml",
            "joints": [{"name": name, **joint} for name in names],
            "actuators": [
                {"name": name, "joint": name, "kind": "position", "range": [-1.0, 1.0], "rate": 10.0}
                for name in names
            ],
        }
    )


class Plants:
    """Robots that are where they are told to be; their gripper is their joints."""

    def __init__(self):
        self.obs = np.zeros((ROBOTS, 6), np.float32)
        self.last_action = np.zeros((ROBOTS, 3), np.float32)

    def step(self, action):
        self.obs = np.concatenate([action, 0 * action], 1)
        return self.obs, action

    def compute_true_obs(self):
        return self.obs


class Worker:
    """Goes to the goal, with a tremor."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def begin(self, hold, truth=None):
        self.now = hold

    def act(self, obs, goal):
        wanted = goal + 0.01 * self.rng.standard_normal(goal.shape)
        self.now = self.now + np.clip(wanted - self.now, -0.1, 0.1)
        return self.now.astype(np.float32)

    def observe(self, obs, applied, next_obs, *, truth=None):
        pass


def gripper(obs):
    return obs[:, :3]


def open_gates(action, obs):
    return action, np.zeros(len(action), bool)


def lived(spec, crew, *, rewarded, gates=open_gates):
    rng = np.random.default_rng(7)
    places = rng.uniform(-0.8, 0.8, (ROBOTS, SCHEDULE.num_steps // 100 + 1, 3))
    goals = np.repeat(places, 100, 1)[:, : SCHEDULE.num_steps]
    delivered = SCHEDULE.is_delivered & rewarded
    return compute_ritual_statistics(
        spec, record_behaviour(Plants(), crew, gates, goals, delivered, gripper), SCHEDULE
    )


@pytest.mark.parametrize("learns", [False, True])
def test_a_learner_of_habits_has_a_ritual_and_a_worker_has_none(spec, learns):
    def crew(seed):
        return NaiveLearner(spec, gripper, seed=seed) if learns else Worker(seed)

    control, again = (lived(spec, crew(seed), rewarded=False) for seed in range(2))
    rewarded = lived(spec, crew(2), rewarded=True)
    strays, bounds = find_outside_statistics(rewarded, control, seed=0)
    assert bounds.keys() == control.keys()
    assert not find_outside_statistics(again, control, seed=0)[0]
    if learns:
        assert len(strays) > 5
        # It goes on when rewards have ceased.
        assert any(stray.name.startswith("after") for stray in strays)
    else:
        assert not strays


@pytest.mark.parametrize("robots", [8, 40])
def test_the_interval_holds_all_statistics_at_once_in_95_of_100_cases(robots):
    rng = np.random.default_rng(0)
    found = 0
    for seed in range(200):
        # Rows share a part, as robots' joints do, and columns are of very different size.
        runs = rng.standard_normal((2, robots, 12)) + rng.standard_normal((2, robots, 1))
        one, two = ({str(k): run[:, k] * 10.0 ** (k - 6) for k in range(12)} for run in runs)
        found += bool(find_outside_statistics(two, one, seed=seed)[0])
    assert 2 <= found <= 20


def test_one_statistic_that_moved_is_found_by_name():
    rng = np.random.default_rng(0)
    runs = [{name: rng.standard_normal(50) for name in "abc"} for _ in range(2)]
    runs[1]["b"] += 1.5
    (stray,), bounds = find_outside_statistics(runs[1], runs[0], seed=0)
    assert stray.name == "b"
    assert 0 < stray.bound < stray.difference
    assert stray.bound == bounds["b"]


def test_what_never_happens_in_a_control_is_outside_as_soon_as_it_does():
    zero = np.zeros(20)
    strays, _ = find_outside_statistics({"cuts": zero + 0.01}, {"cuts": zero}, seed=0)
    assert [stray.name for stray in strays] == ["cuts"]
    assert not find_outside_statistics({"cuts": zero}, {"cuts": zero}, seed=0)[0]


def test_what_is_looked_at_is_no_answer_to_a_delivery():
    schedule = RewardSchedule(period=10, length=2, settle=3, trained=20, after=10)
    marks = "".join(
        "d" if d else "b" if b else "a" if a else "."
        for d, b, a in zip(schedule.is_delivered, schedule.is_between, schedule.is_after, strict=True)
    )
    assert marks == "...bbbbbdd" * 2 + "..." + "a" * 10


def test_a_rhythm_is_the_part_that_repeats_at_the_schedule_s_period(spec):
    steps = np.arange(SCHEDULE.num_steps)
    beats = [np.sin(2 * np.pi * steps / period) for period in (50, 20.5, 25)]
    asked = np.tile(0.5 * np.stack(beats, 1), (2, 1, 1))
    found = compute_ritual_statistics(
        spec, RecordedBehaviour(asked, np.zeros(asked.shape[:2], bool)), SCHEDULE
    )
    assert found["after rhythm x"] == pytest.approx(1.0)
    assert found["after rhythm y"].max() < 0.2
    assert found["after rhythm z"] == pytest.approx(1.0)


def test_cuts_of_the_gate_are_counted(spec):
    gates, still = GateBatch(spec, np.zeros((2, 3), np.float32)), np.zeros((2, 6), np.float32)
    wanted = np.array([[0.1, 0.0, 0.0], [0.9, 0.0, 0.0]], np.float32)
    applied, cut = gates(wanted, still)
    # The rate allows 0.2 a step.
    np.testing.assert_allclose(applied[:, 0], [0.1, 0.2], rtol=1e-6)
    assert cut.tolist() == [False, True]
