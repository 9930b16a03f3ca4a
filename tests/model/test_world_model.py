import json
from dataclasses import replace

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.errors import ConfigError, SnapshotError
from wm_robot.memory.lifetime_state import list_values, map_values
from wm_robot.memory.registry import FAMILIES
from wm_robot.model.base import load_base, save_base
from wm_robot.model.config import ModelConfig
from wm_robot.model.physics_inference import predict_under_physics
from wm_robot.model.world_model import WorldModel
from wm_robot.spec import RobotSpec, Sensor
from wm_robot.training.export.folded_rollout import imagine_folded
from wm_robot.training.input_scales import fit_physics_prior, fit_scales
from wm_robot.types import Step


def make(memory: str, **shape) -> WorldModel:
    torch.manual_seed(0)
    config = ModelConfig(
        obs=4, action=2, truth=5, dt=0.02, servo=(0, 1), memory=memory, width=24, context=6, **shape
    )
    model = WorldModel(config)
    rng = np.random.default_rng(0)
    fit_scales(model, rng.normal(size=(8, 30, 4)).cumsum(1), rng.normal(size=(8, 29, 2)))
    return model


def life(batch: int = 3, steps: int = 20):
    torch.manual_seed(1)
    obs = torch.randn(batch, steps + 1, 4).cumsum(1)
    return obs, torch.randn(batch, steps, 2), torch.ones(batch, steps), torch.randn(batch, steps + 1, 5)


def with_residual(state):
    """The same lives, each with a residual of its own."""
    generator = torch.Generator().manual_seed(2)
    random = map_values(lambda v: 0.3 * torch.randn(v.shape, generator=generator), state.residual)
    return state.with_residual(random)


@pytest.mark.parametrize("residual", [False, True], ids=["newborn", "with a residual"])
@pytest.mark.parametrize("memory", sorted(FAMILIES))
def test_scan_equals_single_writes(memory, residual):
    model = make(memory)
    obs, action, valid, truth = life()
    valid[1, 4] = 0
    born = model.initial_state(initial_action=action[:, 0], truth=truth[:, 0])
    born = with_residual(born) if residual else born
    predicted, after = model.scan(born, obs, action, valid, truth)
    state = born
    for t in range(20):
        step = Step(obs[:, t], action[:, t], obs[:, t + 1], valid[:, t], truth=truth[:, t + 1])
        one, state = model.update(state, step)
        torch.testing.assert_close(one.mean, predicted.mean[:, t], atol=1e-4, rtol=1e-5)
    for one, other in zip(list_values(state), list_values(after), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert after.step.tolist() == [20, 19, 20]


@pytest.mark.parametrize("memory", sorted(FAMILIES))
def test_the_first_imagined_step_is_what_was_predicted(memory):
    model = make(memory)
    obs, action, valid, truth = life()
    state = with_residual(model.initial_state(initial_action=action[:, 0], truth=truth[:, 0]))
    predicted, _ = model.scan(state, obs[:, :2], action[:, :1], valid[:, :1], truth[:, :2])
    mean, log_variance = model.imagine(state, model.observe(state, obs[:, 0]), action[:, None, :1])
    torch.testing.assert_close(mean[:, 0, 0], predicted.mean[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(log_variance[:, 0, 0], predicted.log_variance[:, 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("together", [3, 128])
@pytest.mark.parametrize("memory", sorted(FAMILIES))
def test_a_life_alone_imagines_what_it_does_among_others(memory, together):
    model = make(memory, blocks=FAMILIES[memory].memory_class.max_layers or 2)
    obs, action, valid, truth = life(batch=1)
    born = with_residual(model.initial_state(initial_action=action[:, 0], truth=truth[:, 0]))
    _, state = model.scan(born, obs, action, valid, truth)
    z, plans = model.observe(state, obs[:, -1]), torch.randn(1, 7, 5, 2)
    alone = imagine_folded(model, state, z, plans, block_size=together)
    among, _ = model.imagine(state, z, plans)
    torch.testing.assert_close(alone, among, atol=1e-4, rtol=1e-4)
    assert (alone - model.imagine(born, z, plans).mean).abs().max() > 1e-3 or memory in ("null", "oracle")


@pytest.mark.parametrize("memory", ["delta", "ekf", "gru"])
def test_a_residual_is_what_stands_beside_the_weights(memory):
    model = make(memory).eval().requires_grad_(False)
    obs, action, valid, _ = life(batch=1)
    born = model.initial_state(initial_action=action[:, 0])
    told = with_residual(born)
    changed, _ = model.scan(told, obs, action, valid)
    beside = {name: (part.up @ part.down)[0] for name, part in told.residual.parts.items()}
    model.input_layer.weight += beside["first"][:24]
    model.linear_skip.weight += beside["first"][24:]
    model.output_head[1].weight[:4] += beside["last"]
    if "read.0" in beside:
        model.memories[0].film.modulate.weight += beside["read.0"]
    likewise, _ = model.scan(born, obs, action, valid)
    torch.testing.assert_close(changed.mean, likewise.mean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(changed.log_variance, likewise.log_variance, atol=1e-4, rtol=1e-4)
    assert (changed.mean - make(memory).scan(born, obs, action, valid)[0].mean).abs().max() > 1e-2


@pytest.mark.parametrize("memory", sorted(FAMILIES))
def test_a_life_without_a_residual_is_the_base_to_the_bit(memory):
    model = make(memory)
    obs, action, valid, truth = life()
    born = model.initial_state(initial_action=action[:, 0], truth=truth[:, 0])
    directions = born.residual.map_parts(lambda _, part: replace(part, down=torch.randn_like(part.down)))
    for one, other in zip(
        model.scan(born, obs, action, valid, truth)[0],
        model.scan(born.with_residual(directions), obs, action, valid, truth)[0],
        strict=True,
    ):
        assert torch.equal(one, other)


def test_many_plans_equal_single_ones_and_the_state_is_untouched():
    model = make("gru")
    obs, action, valid, _ = life()
    _, state = model.scan(model.initial_state(initial_action=action[:, 0]), obs, action, valid)
    kept = map_values(torch.clone, state)
    plans, z = torch.randn(3, 5, 7, 2), model.observe(state, obs[:, -1])
    together, _ = model.imagine(state, z, plans)
    for n in range(5):
        alone, _ = model.imagine(state, z, plans[:, n : n + 1])
        torch.testing.assert_close(alone[:, 0], together[:, n], atol=1e-5, rtol=1e-5)
    for value, before in zip(list_values(state), list_values(kept), strict=True):
        assert torch.equal(value, before)


def test_an_outcome_changes_no_earlier_prediction():
    model = make("delta")
    obs, action, valid, _ = life()
    born = model.initial_state(initial_action=action[:, 0])
    before, _ = model.scan(born, obs, action, valid)
    obs[:, 11:] += 1
    after, _ = model.scan(born, obs, action, valid)
    torch.testing.assert_close(before.mean[:, :11], after.mean[:, :11], atol=1e-5, rtol=0)
    assert (before.mean[:, 11] - after.mean[:, 11]).abs().max() > 1e-2


def test_actions_on_their_way_are_part_of_the_latent():
    model = make("gru")
    obs, action, _, _ = life()
    one = model.initial_state(initial_action=action[:, 0])
    other = model.initial_state(initial_action=action[:, 1])
    assert not torch.equal(model.observe(one, obs[:, 0]), model.observe(other, obs[:, 0]))


def test_the_gradient_reaches_the_writes():
    model = make("delta")
    obs, action, valid, _ = life()
    predicted, _ = model.scan(model.initial_state(initial_action=action[:, 0]), obs, action, valid)
    predicted.mean[:, -1].sum().backward()
    gate = model.memories[0].strength.weight
    assert gate.grad is not None and gate.grad.abs().max() > 0


def test_an_oracle_that_is_told_nothing_says_so():
    model = make("oracle")
    obs, action, valid, _ = life()
    with pytest.raises(ConfigError, match="must be given the true physics"):
        model.scan(model.initial_state(initial_action=action[:, 0]), obs, action, valid)


def inferring() -> WorldModel:
    """A model to be asked backwards, whose predictions depend on the physics by much."""
    model = make("ekf")
    fit_physics_prior(model, np.random.default_rng(0).normal(size=(500, 5)))
    return model


def test_inferring_in_one_scan_equals_single_writes():
    model = inferring()
    obs, action, valid, _ = life()
    valid[1, 4] = 0
    obs[2, 9] = torch.nan
    valid[2, 8:10] = 0
    born = model.initial_state(initial_action=action[:, 0])
    predicted, after = model.scan(born, obs, action, valid)
    state = born
    for t in range(20):
        one, state = model.update(state, Step(obs[:, t], action[:, t], obs[:, t + 1], valid[:, t]))
        torch.testing.assert_close(one.mean, predicted.mean[:, t], atol=1e-4, rtol=1e-5, equal_nan=True)
    for one, other in zip(list_values(state), list_values(after), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert after.step.tolist() == [20, 19, 18]
    assert {n: v.shape for n, v in born.flatten().items()} == {n: v.shape for n, v in after.flatten().items()}


def test_an_inferring_life_predicts_by_what_it_believes():
    model = inferring()
    obs, action, valid, _ = life()
    _, lived = model.scan(
        model.initial_state(initial_action=action[:, 0]), obs[:, :11], action[:, :10], valid[:, :10]
    )
    inferred, _ = model.scan(lived, obs[:, 10:12], action[:, 10:11], valid[:, :1])
    believed = model.estimate_physics(lived)
    truth = believed[:, None].expand(-1, 2, -1)
    told, _ = model.scan(
        model.set_true_physics(lived, believed), obs[:, 10:12], action[:, 10:11], valid[:, :1], truth
    )
    torch.testing.assert_close(inferred.mean, told.mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(inferred.log_variance, told.log_variance, atol=1e-5, rtol=1e-5)


def test_the_slope_by_which_it_infers_is_that_of_its_prediction():
    model = inferring().eval().requires_grad_(False)
    h, physics = torch.randn(2, 24), torch.randn(2, 3, 5)
    inference = model.memory_layers[0].physics_inference
    state = with_residual(model.initial_state(initial_action=torch.zeros(2, 2)))
    with torch.inference_mode():
        sensed = predict_under_physics(model, inference, state, h, physics)
    for i in range(5):
        aside = torch.zeros(5)
        aside[i] = 1e-2
        up, down = (
            predict_under_physics(model, inference, state, h, physics + sign * aside).mean for sign in (1, -1)
        )
        torch.testing.assert_close((up - down) / 2e-2, sensed.jacobian[..., i], atol=2e-3, rtol=2e-2)


def test_a_life_that_is_told_infers_no_more():
    model = inferring()
    obs, action, valid, truth = life()
    state = model.set_true_physics(model.initial_state(initial_action=action[:, 0]), truth[:, 0])
    assert [parts.keys() for parts in state.memory] == [{"physics"}]
    _, after = model.scan(state, obs, action, valid, truth)
    assert torch.equal(model.estimate_physics(after), truth[:, -1])


def test_the_physics_is_read_off_the_memory_and_nothing_else():
    model = make("delta")
    obs, action, valid, _ = life()
    _, state = model.scan(model.initial_state(initial_action=action[:, 0]), obs, action, valid)
    said = model.estimate_physics(state)
    assert said.shape == (3, 5)
    moved = replace(state, recent=state.recent + 1, step=state.step + 9)
    assert torch.equal(model.estimate_physics(moved), said)
    assert not torch.allclose(model.estimate_physics(state.with_memory(0, S=state.memory[0]["S"] + 1)), said)
    # In the order of their names, whatever the order of the state.
    turned = replace(state.learned, memory=tuple(dict(reversed(parts.items())) for parts in state.memory))
    assert torch.equal(model.estimate_physics(replace(state, learned=turned)), said)


def test_a_config_that_cannot_work_is_refused():
    with pytest.raises(ConfigError, match="family 'ekf' has at most 1 block"):
        ModelConfig(obs=4, action=2, truth=3, dt=0.02, servo=(0, 1), memory="ekf", blocks=2)
    with pytest.raises(ConfigError, match="model.width is 0; it must be at least 1"):
        ModelConfig(obs=4, action=2, truth=0, dt=0.02, servo=(0, 1), width=0)


@pytest.fixture
def spec() -> RobotSpec:
    joint = {"position": [-1.0, 1.0], "velocity": 1.0, "effort": 1.0}
    actuator = {"kind": "position", "range": [-1.0, 1.0], "rate": 1.0}
    return RobotSpec.from_dict(
        {
            "name": "twin",
            "rate": 50,
            "model": "twin.xml",
            "joints": [{"name": n, **joint} for n in "ab"],
            "actuators": [{"name": n, "joint": n, **actuator} for n in "ab"],
        }
    )


def test_a_base_on_disk_is_the_base_that_was_saved(tmp_path, spec):
    model = make("gru")
    digest = save_base(tmp_path, model, spec, {"seed": 0})
    base = load_base(tmp_path)
    assert base.digest == digest
    base.check_spec(spec)
    for name, value in model.state_dict().items():
        assert torch.equal(base.model.state_dict()[name], value)


def test_a_flipped_bit_in_a_base_is_refused(tmp_path, spec):
    save_base(tmp_path, make("gru"), spec, {})
    path = tmp_path / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(SnapshotError, match="damaged"):
        load_base(tmp_path)


def test_a_base_is_refused_by_the_first_difference_of_its_sensors(tmp_path, spec):
    flow = Sensor(name="flow", kind="vector", size=2, limits={"value": 5.0})
    sensing = replace(spec, sensors=(flow,))
    save_base(tmp_path / "plain", make("gru"), spec, {})
    save_base(tmp_path / "sensing", make("gru"), sensing, {})
    plain, with_flow = load_base(tmp_path / "plain"), load_base(tmp_path / "sensing")
    plain.check_spec(spec)
    with_flow.check_spec(sensing)
    with pytest.raises(SnapshotError, match="sensor 'flow' is in the base and not in the spec. Train a base"):
        with_flow.check_spec(spec)
    with pytest.raises(SnapshotError, match="sensor 'flow' is in the spec and not in the base"):
        plain.check_spec(sensing)
    slow = replace(spec, sensors=(replace(flow, delay=0.5),))
    with pytest.raises(SnapshotError, match="sensor 'flow' has delay 0.0 in the base and 0.5 in the spec"):
        with_flow.check_spec(slow)
    # A base of an earlier version lists no sensors; it has joints alone.
    card = json.loads((tmp_path / "plain" / "base.json").read_text())
    del card["sensors"]
    (tmp_path / "plain" / "base.json").write_text(json.dumps(card))
    old = load_base(tmp_path / "plain")
    old.check_spec(spec)
    assert old.digest == plain.digest
    with pytest.raises(SnapshotError, match="sensor 'flow' is in the spec and not in the base"):
        old.check_spec(sensing)
    with pytest.raises(SnapshotError, match=r"this robot is 'triplet' \(\w+\). Train a base for it"):
        old.check_spec(replace(spec, name="triplet"))


@pytest.mark.parametrize("card", ["{}", "[]", '{"format": 1, "digest": "0"}'])
def test_a_card_that_is_none_is_refused(tmp_path, spec, card):
    save_base(tmp_path, make("gru"), spec, {})
    (tmp_path / "base.json").write_text(card)
    with pytest.raises(SnapshotError, match="is no card of a base"):
        load_base(tmp_path)


def test_a_missing_base_says_how_to_make_one(tmp_path):
    with pytest.raises(SnapshotError, match="wm-robot train"):
        load_base(tmp_path / "nowhere")


def test_a_base_of_another_shape_says_so(tmp_path, spec, monkeypatch):
    save_base(tmp_path, make("gru"), spec, {})
    monkeypatch.setitem(FAMILIES, "gru", FAMILIES["delta"])
    with pytest.raises(SnapshotError, match="does not fit the model of this version"):
        _ = load_base(tmp_path).model
