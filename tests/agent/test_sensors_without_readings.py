"""An agent whose optional sensor has no readings for a while."""

from dataclasses import replace

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.agent.agent import Agent
from wm_robot.errors import InferenceError
from wm_robot.model.base import load_base, save_base
from wm_robot.model.config import ModelConfig
from wm_robot.model.world_model import WorldModel
from wm_robot.planning.mppi import MppiConfig
from wm_robot.spec import Sensor

PLANNER = MppiConfig(num_samples=16, horizon=4, num_iterations=1, num_elites=4)
GOAL = np.array([0.0, 1.0, 0.0], np.float32)
STEPS = 12
LOST = slice(4, 8)
"""Observations without a reading of the sensor."""


@pytest.fixture(params=["ekf", "gru", "semiparametric"])
def sensing(request, tmp_path, spec):
    """A base of a robot with an optional sensor of two values, and its spec."""
    sensor = Sensor(name="flow", kind="vector", size=2, limits={"value": 5.0})
    spec = replace(spec, sensors=(sensor,))
    torch.manual_seed(0)
    shape = ModelConfig.from_spec(spec, truth=1, memory=request.param, width=16, context=4, outcome=8)
    save_base(tmp_path / "base", WorldModel(shape), spec, {})
    return load_base(tmp_path / "base"), spec


def make_agent(sensing, **options) -> Agent:
    base, spec = sensing
    agent = Agent(base, spec, task="reach", planner=PLANNER, **options)
    agent.begin(np.zeros(1, np.float32))
    return agent


def make_readings(obs_dim: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(STEPS + 1, obs_dim)).astype(np.float32)
    return obs, rng.normal(size=(STEPS, 1)).astype(np.float32)


def observe_all(agent: Agent, obs: np.ndarray, action: np.ndarray) -> list:
    return [agent.observe(obs[t], action[t], obs[t + 1]) for t in range(STEPS)]


def test_surprise_is_of_the_channels_with_readings(sensing):
    _, spec = sensing
    obs, action = make_readings(spec.obs_dim)
    channels = spec.layout.find_sensor("flow")
    obs[LOST, channels] = np.nan
    found = observe_all(make_agent(sensing), obs, action)
    for t, each in enumerate(found):
        has_gap = bool(np.isnan(obs[t : t + 2, channels]).any())
        assert np.isfinite(each.nll) and np.isfinite(each.mean).all()
        assert np.isfinite(each.error[: channels.start]).all()
        nll = 0.5 * (each.error**2 + 2 * np.log(each.deviation) + np.log(2 * np.pi))
        kept = nll[: channels.start] if has_gap else nll
        assert each.nll == pytest.approx(float(kept.mean()), rel=1e-5)


def test_a_supervisor_may_ask_for_the_surprise_of_required_channels(sensing):
    _, spec = sensing
    obs, action = make_readings(spec.obs_dim)
    required, channels = spec.layout.is_required, spec.layout.find_sensor("flow")
    usual = make_agent(sensing).observe(obs[0], action[0], obs[1])
    assert usual.compute_nll(np.ones(spec.obs_dim, bool)) == pytest.approx(usual.nll, rel=1e-5)
    noisy = obs[1].copy()
    noisy[channels] += 50
    found = make_agent(sensing).observe(obs[0], action[0], noisy)
    assert found.nll > usual.nll + 10
    assert found.compute_nll(required) == pytest.approx(usual.compute_nll(required), rel=1e-5)


def test_what_the_sensor_would_have_said_does_not_matter(sensing):
    _, spec = sensing
    obs, action = make_readings(spec.obs_dim)
    states = []
    for missing in (np.nan, np.inf):
        heard = obs.copy()
        heard[LOST, spec.layout.find_sensor("flow")] = missing
        agent = make_agent(sensing)
        observe_all(agent, heard, action)
        states.append(agent.state.flatten())
    for name, value in states[0].items():
        assert np.isfinite(value).all(), name
        np.testing.assert_array_equal(states[1][name], value, err_msg=name)


def test_a_gap_is_filled_with_the_prediction_for_the_plan(sensing, monkeypatch):
    _, spec = sensing
    obs, action = make_readings(spec.obs_dim)
    channels = spec.layout.find_sensor("flow")
    agent, seen = make_agent(sensing), []
    search = agent._batch._planner_backend.iteration_at
    monkeypatch.setattr(
        agent._batch._planner_backend,
        "iteration_at",
        lambda state, obs, goals: seen.append(obs[0]) or search(state, obs, goals),
    )
    obs[LOST, channels] = np.nan
    expected = obs[0]
    for t in range(STEPS):
        agent.act(obs[t], GOAL)
        filled = np.where(np.isnan(obs[t]), expected, obs[t])
        np.testing.assert_allclose(seen[-1], filled, rtol=1e-5)
        expected = agent.observe(obs[t], action[t], obs[t + 1]).mean
    # A robot acts before it learns from the step that led there.
    agent.observe(obs[0], action[0], obs[1])
    lost = obs[5].copy()
    agent.act(lost, GOAL, applied=action[1])
    assert np.isfinite(seen[-1]).all() and (seen[-1][: channels.start] == lost[: channels.start]).all()


def test_a_lost_joint_is_not_filled(sensing):
    _, spec = sensing
    agent, obs = make_agent(sensing), np.zeros(spec.obs_dim, np.float32)
    obs[0] = np.nan
    with pytest.raises(InferenceError, match=r"Sensors \['.*'\] are not finite"):
        agent.act(obs, GOAL)


def test_a_required_sensor_is_not_filled(sensing):
    base, spec = sensing
    required = replace(spec, sensors=(replace(spec.sensors[0], required=True),))
    assert required.layout.optional == ()
    agent = Agent(base, required, task="reach", planner=PLANNER)
    agent.begin(np.zeros(1, np.float32))
    obs = np.zeros(spec.obs_dim, np.float32)
    obs[-1] = np.nan
    with pytest.raises(InferenceError, match=r"flow/value.1"):
        agent.act(obs, GOAL)
