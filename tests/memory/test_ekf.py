"""The filter on worlds whose physics are known: y = gain · push + offset, sensed with noise."""

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.memory.ekf import MultipleModelEkf
from wm_robot.memory.memory import HypothesisPrediction, InferenceStep

NOISE = 0.05


def gains(rng: np.random.Generator, count: int) -> np.ndarray:
    """Two motors' gains, one in five reversed, and an offset."""
    gain = rng.uniform(0.7, 1.3, (count, 2)) * np.where(rng.random((count, 2)) < 0.2, -1, 1)
    return np.concatenate([gain, 0.3 * rng.standard_normal((count, 1))], 1)


@pytest.fixture
def memory() -> MultipleModelEkf:
    made = MultipleModelEkf(width=4, outcome=3, dt=0.02)
    made.fit_prior(gains(np.random.default_rng(0), 4000))
    return made


class Plant:
    """`B` linear worlds. `y_i = gain_i · push_i + offset`."""

    def __init__(self, batch: int, seed: int = 1):
        self.rng = np.random.default_rng(seed)
        self.physics = torch.tensor(gains(self.rng, batch), dtype=torch.float32)

    def step(self):
        push = torch.tensor(self.rng.normal(size=(len(self.physics), 2)), dtype=torch.float32)
        slope = torch.cat([torch.diag_embed(push), torch.ones(len(push), 2, 1)], 2)

        def sense(physics):
            each = slope[:, None].expand(-1, physics.shape[1], -1, -1)
            mean = (each @ physics[..., None])[..., 0]
            return HypothesisPrediction(mean, torch.full_like(mean, 2 * np.log(NOISE)), each)

        noise = torch.tensor(self.rng.normal(size=push.shape), dtype=torch.float32)
        outcome = (slope @ self.physics[..., None])[..., 0] + NOISE * noise
        return sense, outcome

    def live(self, memory, state, steps, weight=1.0, age=0):
        batch = len(self.physics)
        for t in range(steps):
            sense, outcome = self.step()
            counted = torch.full((batch,), age + t)
            _, state = infer(memory, state, counted, sense, outcome, torch.full((batch,), weight))
        return state


def infer(memory, state, counted, sense, outcome, weight):
    query = torch.zeros(len(outcome), 4)
    return memory.infer_physics(state, InferenceStep(counted, sense, query, outcome, weight))


def says_nothing(physics):
    """A step at rest: all hypotheses expect the same."""
    expected = torch.zeros(*physics.shape[:2], 2)
    return HypothesisPrediction(expected, expected, torch.zeros(*expected.shape, 3))


def error(state, plant) -> float:
    return float((state["physics"] - plant.physics).abs().mean())


def test_the_prior_is_that_of_the_worlds_and_knows_which_numbers_have_two_sides(memory):
    values = gains(np.random.default_rng(0), 4000)
    np.testing.assert_allclose(memory.prior_mean, values.mean(0), atol=1e-5)
    np.testing.assert_allclose(memory.prior_covariance, np.cov(values.T) + 1e-3 * np.eye(3), atol=1e-5)
    # A gain of 1 has its other side at -1; an offset has one side only, and so has a number that never changes.
    np.testing.assert_allclose(memory.reflection_sum[:2], 0.0, atol=0.03)
    assert torch.isnan(memory.reflection_sum[2])
    values[:, 2] = 0.5
    memory.fit_prior(values)
    assert torch.isnan(memory.reflection_sum[2]) and torch.isfinite(memory.reflection_sum[:2]).all()


def test_a_uniform_number_has_one_side(memory):
    memory.fit_prior(np.random.default_rng(0).uniform(-1, 1, (4000, 3)))
    assert torch.isnan(memory.reflection_sum).all()
    # And then there is nothing to turn; it lives all the same.
    plant = Plant(3)
    assert torch.isfinite(plant.live(memory, memory.initial_state(3), 20)["physics"]).all()


def test_it_finds_the_physics_reversed_motors_and_all(memory):
    plant = Plant(64)
    newborn = memory.initial_state(64)
    lived = plant.live(memory, newborn, 40)
    assert (plant.physics[:, :2] < 0).any()
    assert error(newborn, plant) > 0.4
    assert error(lived, plant) < 0.03


def test_after_a_change_it_finds_the_new_physics(memory):
    plant = Plant(64)
    lived = plant.live(memory, memory.initial_state(64), 200)
    before = error(lived, plant)
    plant.physics = torch.tensor(gains(np.random.default_rng(5), 64), dtype=torch.float32)
    assert error(lived, plant) > 10 * before
    assert error(plant.live(memory, lived, 50, age=200), plant) < 0.03


def test_a_long_life_stays_sound_and_sure(memory):
    plant = Plant(4)
    lived = plant.live(memory, memory.initial_state(4), 2000)
    assert error(lived, plant) < 0.03
    assert all(torch.isfinite(value).all() for value in lived.values())
    best = lived["covariance"][:, 0]
    assert (torch.linalg.eigvalsh(best) > 0).all()


def test_a_robot_at_rest_forgets_what_it_cannot_see_and_doubts_no_more_than_a_newborn(memory):
    lived = Plant(2).live(memory, memory.initial_state(2), 50)

    before = lived["physics"]
    for t in range(2000):
        _, lived = infer(memory, lived, torch.full((2,), t), says_nothing, torch.zeros(2, 2), torch.ones(2))
    believed = lived["covariance"][:, 0]
    torch.testing.assert_close(believed, memory.prior_covariance.expand(2, -1, -1), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(lived["physics"], before)


def test_what_is_believed_is_the_best_hypothesis_and_within_what_training_saw(memory):
    plant = Plant(16)
    lived = plant.live(memory, memory.initial_state(16), 7)
    best = lived["mean"][:, 0]
    assert torch.equal(lived["physics"], best)
    assert (lived["mean"] >= memory.low).all() and (lived["mean"] <= memory.high).all()


@pytest.mark.parametrize(("ahead", "believed"), [(0.8, 0), (1.5, 3)])
def test_another_hypothesis_is_believed_when_it_is_clearly_ahead(memory, ahead, believed):
    lived = Plant(2).live(memory, memory.initial_state(2), 50)
    lived["mean"][:, 3] = memory.prior_mean
    lived["score"] = torch.full((2, memory.num_hypotheses), -100.0)
    lived["score"][:, 0], lived["score"][:, 3] = 0.0, ahead * memory.SWITCH_THRESHOLD
    _, after = infer(
        memory, lived, torch.zeros(2, dtype=torch.int64), says_nothing, torch.zeros(2, 2), torch.ones(2)
    )
    torch.testing.assert_close(after["physics"], lived["mean"][:, believed])
    torch.testing.assert_close(after["mean"][:, 0], lived["mean"][:, believed])


@pytest.mark.parametrize(("parameters", "hypotheses"), [(46, 8), (100, 8), (101, 6)])
def test_many_parameters_have_fewer_hypotheses(parameters, hypotheses):
    state = MultipleModelEkf(width=4, outcome=parameters, dt=0.02).initial_state(2)
    assert {value.shape[1] for name, value in state.items() if name != "physics"} == {hypotheses}


def test_a_masked_step_leaves_every_bit_and_may_hold_anything(memory):
    plant = Plant(3)
    lived = plant.live(memory, memory.initial_state(3), 10)
    sense, outcome = plant.step()
    outcome[1] = torch.nan
    weight = torch.tensor([1.0, 0.0, 1.0])
    _, after = infer(memory, lived, torch.full((3,), 10), sense, outcome, weight)
    for name, value in lived.items():
        assert torch.equal(after[name][1], value[1])
        assert torch.isfinite(after[name]).all()
    assert not torch.equal(after["physics"][0], lived["physics"][0])


def test_a_hypothesis_that_breaks_is_given_up(memory):
    plant = Plant(2)
    lived = plant.live(memory, memory.initial_state(2), 10)
    sense, outcome = plant.step()

    def broken(physics):
        sensed = sense(physics)
        mean = sensed.mean.clone()
        mean[0, 0] = torch.inf
        return sensed._replace(mean=mean)

    _, after = infer(memory, lived, torch.full((2,), 10), broken, outcome, torch.ones(2))
    assert all(torch.isfinite(value).all() for value in after.values())
    assert not torch.equal(after["mean"][0, 0], lived["mean"][0, 0])


def test_a_step_of_half_the_weight_moves_it_less(memory):
    full, half = Plant(8), Plant(8)
    sure = full.live(memory, memory.initial_state(8), 1)["covariance"]
    unsure = half.live(memory, memory.initial_state(8), 1, weight=0.5)["covariance"]
    volumes = [torch.linalg.slogdet(c[:, 0]).logabsdet for c in (sure, unsure)]
    assert (volumes[0] < volumes[1]).all()
