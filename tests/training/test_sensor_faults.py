"""Optional sensors of training segments that stop, freeze, lag or are noisy."""

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.errors import ConfigError
from wm_robot.model.config import ModelConfig
from wm_robot.model.world_model import WorldModel
from wm_robot.spec import RobotSpec
from wm_robot.training.input_scales import fit_scales
from wm_robot.training.loss import compute_segment_loss
from wm_robot.training.sensor_faults import MAX_LAG, NOISE, SensorFaultConfig, SensorFaults

ROWS, STEPS = 32, 24
ALWAYS = SensorFaultConfig(batch_fraction=1.0, chance=1.0)


@pytest.fixture(scope="module")
def spec() -> RobotSpec:
    joint = {"name": "x", "position": [-1.0, 1.0], "velocity": 1.0, "effort": 1.0}
    return RobotSpec.from_dict(
        {
            "name": "point",
            "rate": 50,
            "model": "point.xml",
            "joints": [joint],
            "actuators": [{"name": "x", "joint": "x", "kind": "position", "range": [-1.0, 1.0], "rate": 5.0}],
            "sensors": [
                {"name": "flow", "kind": "vector", "size": 2, "limits": 5.0},
                {"name": "level", "kind": "scalar", "limits": 5.0, "required": True},
            ],
        }
    )


def make_obs(spec: RobotSpec) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(ROWS, STEPS, spec.obs_dim)).astype(np.float32)


def test_only_optional_sensors_have_faults_and_the_first_observation_is_whole(spec):
    obs = make_obs(spec)
    sensed = SensorFaults(spec.layout, ALWAYS).disturb(obs, 3)
    flow = spec.layout.find_sensor("flow")
    others = np.delete(np.arange(spec.obs_dim), np.arange(flow.start, flow.stop))
    np.testing.assert_array_equal(sensed[..., others], obs[..., others])
    np.testing.assert_array_equal(sensed[:, 0], obs[:, 0])
    changed = (sensed[..., flow] != obs[..., flow]).all(-1)
    assert changed.any(1).all()


def test_each_kind_of_fault_occurs(spec):
    obs, flow = make_obs(spec), spec.layout.find_sensor("flow")
    sensed = SensorFaults(spec.layout, ALWAYS).disturb(obs, 0)[..., flow]
    found = set()
    for row, truth in zip(sensed, obs[..., flow], strict=True):
        times = np.flatnonzero((row != truth).any(-1))
        if np.isnan(row).any():
            assert np.isnan(row[times]).all()
            found.add("stop")
        elif (row[times] == truth[times[0] - 1]).all():
            found.add("freeze")
        else:
            lags = [
                lag
                for lag in range(1, MAX_LAG + 1)
                if (row[times] == truth[np.maximum(times - lag, 0)]).all()
            ]
            if lags:
                assert len(lags) == 1
                found.add("lag")
            else:
                noise = (row - truth)[times] / np.diff(truth, axis=0).std(0)
                assert 0.05 < noise.std() < 2 * NOISE[1]
                found.add("noise")
    assert found == {"stop", "freeze", "lag", "noise"}


def test_faults_are_a_function_of_seed_and_gradient_step(spec):
    obs = make_obs(spec)
    found = [
        SensorFaults(spec.layout, ALWAYS, seed=seed).disturb(obs, update)
        for seed, update in ((0, 5), (0, 5), (0, 6), (1, 5))
    ]
    np.testing.assert_array_equal(found[0], found[1])
    assert not any(np.array_equal(found[0], other, equal_nan=True) for other in found[2:])


def test_a_share_of_the_gradient_steps_is_whole(spec):
    faults = SensorFaults(spec.layout, SensorFaultConfig(batch_fraction=0.25))
    obs = make_obs(spec)[:1, :3]
    share = np.mean([faults.disturb(obs, update) is not None for update in range(400)])
    assert 0.18 < share < 0.32
    with pytest.raises(ConfigError, match=r"sensor_faults.chance is 2; it must be from 0 to 1"):
        SensorFaultConfig(chance=2)


@pytest.mark.parametrize("memory", ["ekf", "gru"])
def test_a_loss_with_faults_has_finite_gradients_and_learns_to_predict_what_was_not_sensed(spec, memory):
    torch.manual_seed(0)
    model = WorldModel(ModelConfig.from_spec(spec, truth=2, memory=memory, width=16, context=4, outcome=8))
    obs = make_obs(spec)
    action = torch.randn(ROWS, STEPS - 1, 1)
    fit_scales(model, obs, action.numpy())
    truth = torch.randn(ROWS, STEPS, 2)
    sensed = SensorFaults(spec.layout, ALWAYS).disturb(obs, 0)
    start = model.initial_state(initial_action=action[:, 0], truth=truth[:, 0])
    clean, given = torch.from_numpy(obs), torch.from_numpy(sensed)
    losses, state = compute_segment_loss(model, start, clean, action, truth, horizon=4, sensed=given)
    (losses.surprise + losses.open_loop).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(torch.isfinite(each).all() for each in gradients)
    # Without faults it is the loss of whole segments.
    whole, _ = compute_segment_loss(model, start, clean, action, truth, horizon=4, sensed=clean)
    plain, _ = compute_segment_loss(model, start, clean, action, truth, horizon=4)
    torch.testing.assert_close(whole.surprise, plain.surprise, atol=1e-5, rtol=1e-5)
    assert losses.surprise != plain.surprise
