"""Lives made one: exact where evidence adds up, refused where it does not."""

import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from tests.sharing.test_assimilate import episode, small
from wm_robot.adaptation.tensor_backends import TensorRecall
from wm_robot.errors import ConfigError
from wm_robot.model.residual import residual_of
from wm_robot.sharing.assimilate import Stretch, lived
from wm_robot.sharing.pool import pooled


def unforgetting(memory):
    """A model whose memories keep everything."""
    model = small(memory)
    for layer in model.memories:
        layer.log_half_life.fill_(30.0)
    return model


def born(model):
    return model.birth(1, hold=torch.zeros(1, 1))


@pytest.mark.parametrize("steps", [40, 150, pytest.param(1000, marks=pytest.mark.soak)])
def test_pooled_ridge_lives_are_one_that_lived_both(steps):
    model = unforgetting("ridge")
    one, other = (Stretch.of(episode(steps, seed=seed)) for seed in (1, 2))
    both = lived(model, born(model), [one, other])
    pool = pooled(model, [lived(model, born(model), [each]) for each in (one, other)])
    # None of them has a residual.
    for name in both.keys() - {"recent"} - residual_of(both).keys():
        apart = (pool[name] - both[name]).double().norm() / both[name].double().norm()
        assert apart <= 1e-6 or name.endswith("_low"), (name, apart)


@pytest.mark.parametrize("memory", ["gru", "kv", "delta", "hope"])
def test_other_families_are_refused_with_what_to_do(memory):
    model = small(memory)
    with pytest.raises(ConfigError, match="cannot merge 2 states.*recorded experience"):
        pooled(model, [born(model)] * 2)


def test_one_life_is_no_pool():
    model = small("ridge")
    with pytest.raises(ConfigError, match="at least two"):
        pooled(model, [born(model)])


def test_a_pool_remembers_the_conditions_that_any_of_them_used_last():
    model = unforgetting("ridge")
    recall = TensorRecall(model)
    lives = []
    for seed in (1, 2):
        state = lived(recall, recall.birth(born(model)), [Stretch.of(episode(30, seed=seed))])
        lives.append(state)
    # Conditions used at steps that everybody can tell apart.
    for number, state in enumerate(lives):
        slots = state["recall.used"].shape[1]
        state["recall.used"] = torch.tensor([[10 * k + number if k < 6 else -1 for k in range(slots)]])
        state["bank.0.S"] = (
            state["bank.0.S"] * 0 + torch.arange(slots + 1).view(1, -1, 1, 1, 1) + 100 * number
        )
        state["step"] = torch.tensor([100])
    pool = pooled(model, lives)
    assert pool["step"] == 200
    assert pool["bank.0.S"][0, :-1, 0, 0, 0].tolist() == [105, 5, 104, 4, 103, 3, 102, 2]
    assert pool["recall.used"].tolist() == [[151, 150, 141, 140, 131, 130, 121, 120]]


def test_lives_with_and_without_a_bank_do_not_mix():
    model = small("ridge")
    state = born(model)
    with pytest.raises(ConfigError, match="some do not"):
        pooled(model, [state, TensorRecall(model).birth(state)])
