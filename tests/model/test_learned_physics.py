"""What a lifetime state has learned of the physics and the commands is read as arrays."""

from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.model.base import load_base
from wm_robot.model.learned_physics import read_learned_physics

BASE = Path(__file__).parents[2] / "bases/arm-semiparametric"


@pytest.fixture(scope="module")
def model():
    return load_base(BASE).model


@pytest.fixture
def state(model):
    born = model.initial_state(initial_action=torch.zeros(1, 6))
    return {name: value.numpy().copy() for name, value in born.flatten().items()}


def test_an_initial_state_has_no_map_in_use(model, state):
    learned = read_learned_physics(model, state)
    assert learned.physics.shape == (model.memory_layers[0].num_physics,)
    assert learned.mixing is None and learned.offset is None


def test_a_map_is_read_as_mixing_and_offset(model, state):
    """The inverse of the map's formula, with numbers by hand."""
    wanted = np.eye(6)[[2, 1, 0, 3, 4, 5]]
    unit, std = model.command_unit.numpy(), model.action_std.numpy()
    (key,) = [name for name in state if name.endswith("command_map")]
    command_map = np.zeros_like(state[key])
    command_map[0, :, 1:] = (wanted - np.eye(6)) * std[None] / unit[:, None]
    command_map[0, 4, 0] = 0.2 / unit[4]
    learned = read_learned_physics(model, {**state, key: command_map})
    np.testing.assert_allclose(learned.mixing, wanted, atol=1e-4)
    assert learned.offset[4] == pytest.approx(0.2, abs=1e-4)
    assert np.abs(np.delete(learned.offset, 4)).max() < 1e-4


def test_a_physics_estimate_is_read(model, state):
    (key,) = [name for name in state if name.endswith(".physics")]
    physics = np.full_like(state[key], 0.5)
    learned = read_learned_physics(model, {**state, key: physics})
    np.testing.assert_allclose(learned.physics, 0.5)
