"""Levels that change ever more slowly: what each adds, and when."""

import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.memory.continuum import Continuum

WIDTH, OUTCOME, FEATURES, VALUES = 12, 5, 6, 3
PERIODS = (4, 8, 32)


@pytest.fixture
def levels():
    torch.manual_seed(0)
    made = Continuum(
        width=WIDTH, outcome=OUTCOME, periods=PERIODS, num_features=FEATURES, num_values=VALUES, dt=0.02
    )
    return made.double().requires_grad_(False)


def told(levels, weights):
    """The levels with a target that is these weights of the features, `F V`, whatever came out."""

    class Told(torch.nn.Module):
        def forward(self, x):
            return levels.compute_features(x[..., :WIDTH]) @ weights

    levels.target = Told()
    return levels


def live(levels, state, steps, start=0):
    """One life, chunk by chunk; the queries too."""
    asked = []
    for first in range(start, start + steps, PERIODS[0]):
        h = torch.randn(1, PERIODS[0], WIDTH).double()
        x, lived = torch.cat([h, torch.randn(1, PERIODS[0], OUTCOME).double()], -1), first + PERIODS[0]
        weights = torch.ones(1, PERIODS[0]).double()
        state = state | levels.update(state, h, x, weights, torch.tensor([lived]))
        asked.append((h, x))
    return state, asked


def born(levels):
    return {name: value.double() for name, value in levels.initial_state(1).items()}


def test_each_level_adds_what_the_slower_ones_do_not_explain(levels):
    for level in levels.levels:
        level.log_half_life.fill_(40.0)
    state, asked = live(levels, born(levels), 64)
    features = torch.cat([levels.compute_features(h)[0] for h, _ in asked])
    target = torch.cat([levels.target(x)[0] for _, x in asked])
    known = levels.initial
    for i in reversed(range(len(PERIODS))):
        level = levels.levels[i]
        # By stacked least squares: the prior is as many steps as it counts for, that say nothing is to be added.
        prior = level.compute_prior_evidence().sqrt() * torch.eye(FEATURES).double()
        rows = torch.cat([features, prior])
        wanted = torch.cat([target - features @ known, torch.zeros(FEATURES, VALUES).double()])
        added = torch.linalg.lstsq(rows, wanted).solution
        torch.testing.assert_close(state[f"level{i}"][0], added, atol=1e-6, rtol=1e-6)
        known = known + added


def test_what_is_always_so_is_held_by_the_slowest_and_what_is_new_by_the_fastest(levels):
    always, new = (torch.randn(FEATURES, VALUES).double() for _ in range(2))
    state, _ = live(told(levels, always), born(levels), 32 * 40)
    slowest = levels.initial + state["level2"][0]
    assert (slowest - always).norm() < 0.1 * (levels.initial - always).norm()
    assert state["level0"].norm() < 0.1 * state["level2"].norm()
    after, _ = live(told(levels, new), state, 24, start=32 * 40)
    assert torch.equal(after["level2"], state["level2"])
    before, now = (levels.open_reader(s)(torch.randn(1, 50, WIDTH).double()) for s in (state, after))
    torch.manual_seed(1)
    asked = torch.randn(1, 200, WIDTH).double()
    right = levels.out(levels.compute_features(asked) @ new)
    before, now = ((levels.open_reader(s)(asked) - right).square().mean() for s in (state, after))
    assert now < 0.4 * before


def test_evidence_is_halved_in_a_half_life(levels):
    level = levels.levels[0]
    level.log_half_life.fill_(float(torch.tensor(5 * PERIODS[0] * 0.02).log()))
    state, _ = live(levels, born(levels), PERIODS[0])
    first = state["gram0"].clone()
    for step in range(5):
        nothing = torch.zeros(1, PERIODS[0], WIDTH).double()
        levels.feature.bias.zero_()
        x = torch.zeros(1, PERIODS[0], WIDTH + OUTCOME).double()
        lived = torch.tensor([(step + 2) * PERIODS[0]])
        state = state | levels.update(state, nothing, x, torch.ones(1, PERIODS[0]).double(), lived)
    torch.testing.assert_close(state["gram0"], 0.5 * first)


def test_a_newborn_says_what_the_base_knows(levels):
    asked = torch.randn(1, 7, WIDTH).double()
    torch.testing.assert_close(
        levels.open_reader(born(levels))(asked), levels.out(levels.compute_features(asked) @ levels.initial)
    )
