"""An agent whose optional sensor repeats its bits: masked from then on, until the bits change."""

from types import SimpleNamespace

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.adaptation.frozen_readings import FrozenReadingsConfig
from wm_robot.adaptation.reading_checks import ReadingChecks
from wm_robot.agent.agent import Agent
from wm_robot.model.base import load_base, save_base
from wm_robot.model.config import ModelConfig
from wm_robot.model.world_model import WorldModel
from wm_robot.planning.mppi import MppiConfig
from wm_robot.spec import RobotSpec

PLANNER = MppiConfig(num_samples=16, horizon=4, num_iterations=1, num_elites=4)
GYRO = [2, 3, 4]
GOAL = np.float32([0.0, 1.0, 0.0])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small base that was not trained, and the spec of a point with a gyroscope."""
    sensor = {"name": "imu", "kind": "imu", "frame": "tip", "fields": ["angular_velocity"], "limits": 10.0}
    joint = {"position": [-1.0, 1.0], "velocity": 1.0, "effort": 1.0}
    spec = RobotSpec.from_dict(
        {
            "name": "point",
            "rate": 50,
            "model": "point.xml",
            "joints": [{"name": "x", **joint}],
            "actuators": [{"name": "x", "joint": "x", "kind": "position", "range": [-1.0, 1.0], "rate": 5.0}],
            "sensors": [sensor],
            "chain": [{"joint": "x", "origin": [0, 0, 0], "axis": [0, 0, 1.0]}],
            "tip": [1.0, 0.0, 0.0],
            "tasks": {"reach": {"reward": "reach", "goal": 3}},
        }
    )
    torch.manual_seed(0)
    model = WorldModel(ModelConfig.from_spec(spec, truth=1, memory="ekf", width=16, context=4, outcome=8))
    folder = tmp_path_factory.mktemp("base")
    save_base(folder, model, spec, {})
    return SimpleNamespace(base=load_base(folder), spec=spec)


def begin(made, **options):
    agent = Agent(made.base, made.spec, task="reach", planner=PLANNER, **options)
    agent.begin(np.zeros(1, np.float32))
    return agent


def live(agent, steps, *, obs, frozen, seed=0):
    """Steps of motion in which the gyroscope repeats its bits or not; the last observation and all results."""
    rng, results = np.random.default_rng(seed), []
    for _ in range(steps):
        next_obs = rng.normal(size=5).astype(np.float32)
        if frozen:
            next_obs[GYRO] = obs[GYRO]
        results.append(agent.observe(obs, rng.normal(size=1).astype(np.float32), next_obs))
        obs = next_obs
    return obs, results


def detector(spec):
    """A detector for a model that was not trained, whose predictions are a part of its deviations."""
    return ReadingChecks(spec, FrozenReadingsConfig(slack=0.0, min_change=0.1))


def test_a_frozen_sensor_is_masked_from_then_on_and_used_again_when_it_changes(made):
    agent = begin(made, reading_checks=detector(made.spec))
    obs, results = live(agent, 10, obs=np.ones(5, np.float32), frozen=False)
    assert not agent.find_faults(obs) and np.isfinite(results[-1].error).all()
    obs, results = live(agent, 10, obs=obs, frozen=True, seed=1)
    assert agent.find_faults(obs) == {"imu/angular_velocity": "frozen"}
    assert np.isfinite(results[-1].error).all(), "the tenth was not masked yet"
    obs, results = live(agent, 5, obs=obs, frozen=True, seed=2)
    assert all(np.isnan(each.error[GYRO]).all() and np.isfinite(each.nll) for each in results)
    assert agent.counters["frozen_readings"] == 1 and agent.counters["num_valid"] == 25
    assert "imu/angular_velocity" in agent.events[-1].description
    obs, results = live(agent, 2, obs=obs, frozen=False, seed=3)
    # The transition from a masked reading is none of evidence; the next one is.
    assert np.isfinite(results[-1].error).all() and not agent.find_faults(obs)


def test_masked_channels_take_no_part_in_learning_and_planning(made):
    """After the freeze, the frozen bits make no difference: the state is that of an agent without these readings."""
    masking, told = (begin(made, reading_checks=part) for part in (detector(made.spec), None))
    for agent in (masking, told):
        obs, _ = live(agent, 10, obs=np.ones(5, np.float32), frozen=False)
        obs, _ = live(agent, 10, obs=obs, frozen=True, seed=1)
    gap = obs.copy()
    gap[GYRO] = np.nan
    rng = np.random.default_rng(2)
    for _ in range(5):
        next_obs, applied = rng.normal(size=5).astype(np.float32), rng.normal(size=1).astype(np.float32)
        next_obs[GYRO] = obs[GYRO]
        next_gap = next_obs.copy()
        next_gap[GYRO] = np.nan
        # It acts before it learns, as on a robot.
        actions = [
            agent.act(each, GOAL, applied=applied) for agent, each in ((masking, next_obs), (told, next_gap))
        ]
        np.testing.assert_array_equal(*actions)
        first, second = masking.observe(obs, applied, next_obs), told.observe(gap, applied, next_gap)
        assert first.nll == second.nll
        obs, gap = next_obs, next_gap
    other = told.state.flatten()
    for name, value in masking.state.flatten().items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_readings_that_a_slow_sensor_holds_are_not_counted(made):
    agent = begin(made, reading_checks=detector(made.spec))
    rng, obs = np.random.default_rng(0), np.ones(5, np.float32)
    for _ in range(40):
        next_obs = rng.normal(size=5).astype(np.float32)
        next_obs[GYRO] = obs[GYRO]
        agent.observe(obs, np.zeros(1, np.float32), next_obs, is_new=np.array([True] * 2 + [False] * 3))
        obs = next_obs
    assert not agent.find_faults(obs)


def test_a_frozen_required_channel_is_reported_and_nothing_is_learned_from_it(made):
    agent = begin(made, reading_checks=detector(made.spec))
    rng, obs = np.random.default_rng(0), np.ones(5, np.float32)
    for _ in range(15):
        next_obs = rng.normal(size=5).astype(np.float32)
        next_obs[0] = obs[0]
        agent.observe(obs, rng.normal(size=1).astype(np.float32), next_obs)
        obs = next_obs
    assert agent.find_faults(obs) == {"x/position": "frozen"}
    counted = agent.counters
    assert counted["num_invalid"] >= 4 and counted["num_steps"] == counted["num_valid"]


def test_a_new_beginning_forgets_what_was_frozen(made):
    agent = begin(made, reading_checks=detector(made.spec))
    obs, _ = live(agent, 15, obs=np.ones(5, np.float32), frozen=True)
    assert agent.find_faults(obs)
    agent.begin(np.zeros(1, np.float32))
    assert not agent.find_faults(obs)
