"""Sensors without readings: filled with the model's own prediction, and no evidence."""

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.memory.lifetime_state import list_values
from wm_robot.memory.registry import FAMILIES
from wm_robot.model.config import ModelConfig
from wm_robot.model.gap_filling import fill_gaps
from wm_robot.model.torch_backend import TorchBackend, to_array, to_arrays
from wm_robot.model.world_model import WorldModel
from wm_robot.training.export.update_step import UpdateStepExport
from wm_robot.training.input_scales import fit_scales
from wm_robot.types import Step

OBS, ACTION, TRUTH, STEPS, ROBOTS = 5, 2, 3, 12, 4
OPTIONAL = [3, 4]
"""Channels of an optional sensor."""
LEARNERS = sorted(set(FAMILIES) - {"null", "oracle"})


def make_model(memory: str) -> WorldModel:
    torch.manual_seed(0)
    config = ModelConfig(
        obs=OBS,
        action=ACTION,
        truth=TRUTH,
        dt=0.02,
        servo=(0, 1),
        memory=memory,
        width=24,
        context=6,
        optional=(3, 4),
    )
    model = WorldModel(config).eval().requires_grad_(False)
    rng = np.random.default_rng(0)
    fit_scales(model, rng.normal(size=(8, 30, OBS)).cumsum(1), rng.normal(size=(8, 29, ACTION)))
    return model


def make_steps():
    torch.manual_seed(1)
    obs = torch.randn(ROBOTS, STEPS + 1, OBS).cumsum(1)
    return obs, torch.randn(ROBOTS, STEPS, ACTION), torch.ones(ROBOTS, STEPS)


def start(model, action):
    return model.initial_state(initial_action=action[:, 0])


@pytest.mark.parametrize("memory", LEARNERS)
def test_a_gap_holds_the_prediction_and_readings_stay(memory):
    model, (obs, action, valid) = make_model(memory), make_steps()
    obs[:, 4:8, OPTIONAL] = torch.nan
    filled, measured = fill_gaps(model, start(model, action), obs, action, valid)
    gaps = torch.isnan(obs)
    assert torch.equal(filled[~gaps], obs[~gaps])
    # A change is evidence where both of its readings are.
    assert torch.equal(measured == 0, gaps[:, 1:] | gaps[:, :-1]) and (measured[:, 3:8, OPTIONAL] == 0).all()
    found, state = model.scan(start(model, action), filled, action, valid, None, measured)
    torch.testing.assert_close(filled[:, 1:][gaps[:, 1:]], found.mean[gaps[:, 1:]], atol=1e-4, rtol=1e-4)
    assert all(torch.isfinite(value).all() for value in list_values(state))


def test_the_first_observation_is_filled_with_the_mean():
    model, (obs, action, valid) = make_model("gru"), make_steps()
    obs[:, 0, OPTIONAL] = torch.nan
    filled, _ = fill_gaps(model, start(model, action), obs, action, valid)
    assert torch.equal(filled[:, 0, OPTIONAL], model.obs_mean[OPTIONAL].expand(ROBOTS, -1))


def update_after_reading(model, memory_step: Step, reading: float):
    """The state after a step whose optional channels had some value, and were no reading."""
    obs = memory_step.next_obs.clone()
    obs[:, OPTIONAL] = reading
    step = Step(memory_step.obs, memory_step.action, obs, memory_step.valid, measured=memory_step.measured)
    return model.update(start(model, memory_step.action[:, None]), step)[1]


def test_the_filter_ignores_whatever_stands_where_no_reading_was():
    model, (obs, action, valid) = make_model("ekf"), make_steps()
    measured = torch.ones(ROBOTS, OBS)
    step = Step(obs[:, 0], action[:, 0], obs[:, 1], valid[:, 0], measured=measured)
    seen = [update_after_reading(model, step, value).memory[0]["mean"] for value in (0.0, 5.0)]
    assert not torch.equal(*seen)
    measured[:, OPTIONAL] = 0
    states = [update_after_reading(model, step, value) for value in (0.0, 5.0, torch.inf, torch.nan)]
    for other in states[1:]:
        for one, two in zip(list_values(states[0].learned), list_values(other.learned), strict=True):
            assert torch.equal(one, two)


def test_a_channel_without_a_reading_does_not_make_the_filter_surer():
    model, (obs, action, valid) = make_model("ekf"), make_steps()
    volumes = {}
    for name, known in (("all", 1.0), ("none of the sensor", 0.0)):
        measured = torch.ones(ROBOTS, OBS)
        measured[:, OPTIONAL] = known
        step = Step(obs[:, 0], action[:, 0], obs[:, 1], valid[:, 0], measured=measured)
        _, after = model.update(start(model, action), step)
        volumes[name] = torch.logdet(after.memory[0]["covariance"][:, 0])
    assert (volumes["none of the sensor"] > volumes["all"]).all()


@pytest.mark.parametrize("memory", sorted(set(LEARNERS) - {"ekf"}))
def test_a_learned_memory_is_told_which_channels_are_readings(memory):
    model, (obs, action, valid) = make_model(memory), make_steps()
    states = []
    for known in (1.0, 0.0):
        measured = torch.ones(ROBOTS, OBS)
        measured[:, OPTIONAL] = known
        step = Step(obs[:, 0], action[:, 0], obs[:, 1], valid[:, 0], measured=measured)
        states.append(model.update(start(model, action), step)[1])
    changed = [
        not torch.equal(one, two)
        for one, two in zip(*(list_values(state.learned) for state in states), strict=True)
    ]
    assert any(changed)


@pytest.mark.parametrize("memory", ["ekf", "gru", "semiparametric"])
def test_the_exported_update_has_the_mask(memory):
    onnx = pytest.importorskip("wm_robot.model.onnx_backend")
    from wm_robot.model.onnx_session import OnnxFunction

    model, rng = make_model(memory), np.random.default_rng(0)
    # Hypotheses that are equal are ordered by rounding.
    model.memory_layers[0].fit_prior(
        rng.choice([-1.0, 1.0], (500, TRUTH)) * rng.uniform(0.8, 1.2, (500, TRUTH))
    )
    export = UpdateStepExport(model)
    updates = {rows: OnnxFunction(export.export_update(rows), "update") for rows in (1, 2)}
    graph = onnx.OnnxBackend(
        OnnxFunction(export.export_predict(), "predict"), updates, export.make_initial_arrays()
    )
    assert max(export.compute_differences(graph, 14)) < 1e-4


def test_the_torch_backend_passes_the_mask_on():
    model, (obs, action, valid) = make_model("ekf"), make_steps()
    measured = torch.ones(ROBOTS, OBS)
    measured[:, OPTIONAL] = 0
    step = Step(obs[:, 0], action[:, 0], obs[:, 1], valid[:, 0], measured=measured)
    _, expected = model.update(start(model, action), step)
    arrays = Step(
        *(to_array(x) for x in (step.obs, step.action, step.next_obs, step.valid)),
        measured=to_array(measured),
    )
    _, found = TorchBackend(model).update(to_arrays(start(model, action)), arrays)
    np.testing.assert_array_equal(found.memory[0]["mean"], to_array(expected.memory[0]["mean"]))
