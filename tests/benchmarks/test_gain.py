"""A gain that lasts is worth remembering, and what is false is worth nothing."""

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.memory.lifetime_state import LearnedState, LifetimeState
from wm_robot.model.backend import Prediction
from wm_robot.model.world_model import WorldModel
from wm_robot_benchmarks.measures.gain_task import (
    EPISODES,
    GAIN,
    LENGTH,
    NOISE,
    TARGETS,
    compute_first_costs,
    generate_gain_trajectories,
)


class Regression(WorldModel):
    """A model that expects y = ĝ u, ĝ by least squares over all it lived and a prior that pulls towards 0."""

    uses_privileged_state = False
    config = channels = None

    def __init__(self):
        torch.nn.Module.__init__(self)

    def initial_state(self, *, initial_action, truth=None):
        zero = torch.zeros(len(initial_action), 1)
        return LifetimeState(zero, initial_action[:, None], LearnedState(({"uu": zero + 1e-3, "uy": zero},)))

    def observe(self, state, obs):
        return obs

    def imagine(self, state, z, actions):
        sums = state.memory[0]
        gain = (sums["uy"] / sums["uu"])[:, None, None]
        return Prediction(gain * actions, torch.zeros_like(actions))

    def scan(self, state, obs, action, valid, truth=None):
        uu, uy = action.square().sum(1), (action * obs[:, 1:]).sum(1)
        nothing, sums = torch.zeros_like(obs[:, 1:]), state.memory[0]
        return Prediction(nothing, nothing), state.with_memory(0, uu=sums["uu"] + uu, uy=sums["uy"] + uy)


@pytest.fixture
def lives():
    return generate_gain_trajectories(200, seed=0)


def test_the_gain_lasts_or_does_not(lives):
    gain = np.take_along_axis(lives.physics[..., 0], lives.world, 1)
    assert (gain == gain[:, :1]).all() and lives.num_steps == EPISODES * LENGTH
    noise = lives.obs[:, 1:, 0] - gain * lives.action[..., 0]
    assert noise.std() == pytest.approx(NOISE, rel=0.03)
    assert GAIN[0] <= np.abs(gain).min() and np.abs(gain).max() <= GAIN[1]
    assert 0.4 < (gain > 0).mean() < 0.6
    fleeting = generate_gain_trajectories(200, seed=0, constant_gain=False)
    gain = np.take_along_axis(fleeting.physics[..., 0], fleeting.world, 1).reshape(200, EPISODES, LENGTH)
    assert (gain == gain[..., :1]).all() and (np.diff(gain[..., 0]) != 0).all()


def test_who_remembers_pays_once(lives):
    own, none = (compute_first_costs(Regression(), lives, history=how) for how in ("own", "none"))
    np.testing.assert_array_equal(own[:, 0], none[:, 0])
    assert own[:, 1:].mean() < 0.01
    # A newborn expects nothing of any action, and takes the first.
    gain, action = lives.physics[:, 0, 0], -3.0
    target = np.resize(np.array(TARGETS), 200)
    np.testing.assert_allclose(none[:, 3], (gain * action - target) ** 2, rtol=1e-5)


@pytest.mark.parametrize("history", ["shuffled", "other"])
def test_a_false_history_is_expensive(lives, history):
    assert compute_first_costs(Regression(), lives, history=history)[:, 1:].mean() > 1


def test_where_nothing_lasts_memory_is_expensive():
    assert (
        compute_first_costs(Regression(), generate_gain_trajectories(200, seed=0, constant_gain=False))[
            :, 1:
        ].mean()
        > 1
    )


def test_an_unknown_history_is_refused(lives):
    with pytest.raises(ValueError, match="'mine'; it must be"):
        compute_first_costs(Regression(), lives, history="mine")
