"""The model that flatters, and the crew whose plans are watched."""

import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from tests.model.small_model import small_model
from wm_robot_benchmarks.measures.optimistic_model import OptimisticModel


def test_a_flattered_joint_is_where_it_is_told_to_be_until_it_stops():
    model = small_model("ekf")
    flattered, state = OptimisticModel(model), model.initial_state(initial_action=torch.zeros(3, 1))
    obs, plans = torch.randn(3, 2), torch.randn(3, 5, 4, 1)
    z = flattered.observe(state, obs)
    told, honest = flattered.imagine(state, z, plans), model.imagine(state, z, plans)
    assert torch.equal(told.mean[..., 0], plans[..., 0])
    assert torch.equal(told.mean[..., 1], honest.mean[..., 1])
    assert not torch.equal(honest.mean[..., 0], plans[..., 0])
    one, _ = flattered.predict(state, obs, plans[:, 0, 0])
    assert torch.equal(one[:, 0], plans[:, 0, 0, 0])
    flattered.stop()
    assert torch.equal(flattered.imagine(state, z, plans).mean, honest.mean)
