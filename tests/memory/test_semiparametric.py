"""A memory whose hypotheses have a correction, beside a network with frozen weights."""

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.memory.memory import HypothesisPrediction, InferenceStep, MappedPrediction, StepPrediction
from wm_robot.memory.semiparametric import SemiparametricMemory
from wm_robot.training.correction_fit import compute_correction_loss

WIDTH, CHANNELS, COMMANDS, PHYSICS, NOISE = 6, 2, 2, 3, 0.02


@pytest.fixture
def memory() -> SemiparametricMemory:
    torch.manual_seed(0)
    made = SemiparametricMemory(
        width=WIDTH, outcome=PHYSICS, dt=0.02, channels=CHANNELS, commands=COMMANDS, size=8
    )
    made.fit_prior(np.random.default_rng(0).normal(size=(500, PHYSICS)))
    made.linear.log_noise.data.zero_()
    return made.requires_grad_(False)


class Plant:
    """Two channels moved by three physics parameters, by commands, and by a part of the query."""

    def __init__(
        self, batch: int = 4, *, undeclared: float = 0.0, frozen_error: float = 0.3, offset: float = 0.0
    ):
        rng = np.random.default_rng(1)
        self.rng, self.undeclared, self.frozen_error = rng, undeclared, frozen_error
        self.physics = torch.tensor(0.3 * rng.normal(size=(batch, PHYSICS)), dtype=torch.float32)
        self.effect = torch.tensor(rng.normal(size=(CHANNELS, WIDTH)), dtype=torch.float32)
        self.gain = torch.tensor(rng.normal(size=(CHANNELS, COMMANDS)), dtype=torch.float32)
        self.true_map = torch.zeros(batch, COMMANDS, 1 + COMMANDS)
        self.true_map[:, 0, 0] = offset

    def draw(self, *shape: int) -> torch.Tensor:
        return torch.tensor(self.rng.normal(size=shape), dtype=torch.float32)

    def make_step(self, age: int, state) -> InferenceStep:
        batch = len(self.physics)
        query, slope = self.draw(batch, WIDTH), self.draw(batch, CHANNELS, PHYSICS)
        command, strength = self.draw(batch, COMMANDS), self.draw(batch, 1)
        given = torch.cat([torch.ones(batch, 1), command], 1)[..., None]

        def push(command_map: torch.Tensor) -> torch.Tensor:
            # Its strength is in no query: only a map of the commands explains it.
            return strength * ((command_map @ given)[..., 0] @ self.gain.mT)

        def predict(physics: torch.Tensor) -> HypothesisPrediction:
            each = slope[:, None].expand(-1, physics.shape[1], -1, -1)
            mean = (each @ physics[..., None])[..., 0] + push(state["command_map"])[:, None]
            return HypothesisPrediction(mean, torch.full_like(mean, 2 * np.log(NOISE)), each)

        def predict_mapped(
            command_map: torch.Tensor, deviation: torch.Tensor, physics: torch.Tensor
        ) -> MappedPrediction:
            assert deviation.shape == command.shape and (deviation > 0).all()
            mean = (slope @ physics[..., None])[..., 0] + push(command_map)
            jacobian = strength[..., None] * self.gain
            return MappedPrediction(mean, torch.full_like(mean, 2 * np.log(NOISE)), query, jacobian)

        true = (slope @ self.physics[..., None])[..., 0] + self.undeclared * query @ self.effect.mT
        true = true + push(self.true_map)
        frozen = StepPrediction(
            true + self.frozen_error * self.draw(batch, CHANNELS), torch.full((batch, CHANNELS), -2.0)
        )
        return InferenceStep(
            torch.full((batch,), age),
            predict,
            query,
            true + NOISE * self.draw(batch, CHANNELS),
            torch.ones(batch),
            frozen=frozen,
            commands=command,
            predict_mapped=predict_mapped,
        )

    def live(self, memory: SemiparametricMemory, state, steps: int, *, age: int = 0):
        errors = []
        for now in range(age, age + steps):
            step = self.make_step(now, state)
            predicted, state = memory.infer_physics(state, step)
            errors.append((predicted.mean - step.outcome).square().mean())
        return torch.stack(errors), state


def test_it_begins_with_the_frozen_prediction_to_the_bit(memory):
    plant = Plant()
    step = plant.make_step(0, memory.initial_state(4))
    predicted, _ = memory.infer_physics(memory.initial_state(4), step)
    assert step.frozen is not None and torch.equal(predicted.mean, step.frozen.mean)
    assert memory.find_frozen(memory.initial_state(4)).all()


def test_no_evidence_of_the_first_steps_is_enough_to_leave_the_frozen_network(memory):
    plant, fewest = Plant(frozen_error=30.0), memory.FEWEST_UPDATES
    _, state = plant.live(memory, memory.initial_state(4), fewest - 1)
    assert memory.find_frozen(state).all()
    _, state = plant.live(memory, state, 1, age=fewest - 1)
    assert not memory.find_frozen(state).any()


@pytest.mark.parametrize("undeclared", [0.0, 0.2])
def test_it_learns_physics_and_what_no_parameter_describes(memory, undeclared):
    errors, state = Plant(undeclared=undeclared).live(memory, memory.initial_state(4), 150)
    assert not memory.find_frozen(state).any()
    assert errors[-50:].mean() < 4 * NOISE**2 < 0.1 * errors[0]


def test_without_the_correction_the_undeclared_part_stays(memory):
    memory.linear.log_scale.data.fill_(-20.0)
    errors, _ = Plant(undeclared=0.2, frozen_error=2.0).live(memory, memory.initial_state(4), 150)
    assert errors[-50:].mean() > 20 * NOISE**2


def test_it_stays_with_the_frozen_network_where_that_predicts_better(memory):
    plant = Plant(undeclared=0.5, frozen_error=0.0)
    errors, state = plant.live(memory, memory.initial_state(4), 20)
    assert memory.find_frozen(state).all() and errors.max() < 4 * NOISE**2


def test_it_returns_to_the_frozen_network_when_all_else_gets_worse(memory):
    _, state = Plant(frozen_error=0.1).live(memory, memory.initial_state(4), 100)
    assert not memory.find_frozen(state).any()
    _, state = Plant(undeclared=3.0, frozen_error=0.1).live(memory, state, 5, age=100)
    assert memory.find_frozen(state).all()


def test_a_masked_step_leaves_every_bit_and_may_hold_anything(memory):
    plant = Plant()
    _, state = plant.live(memory, memory.initial_state(4), 10)
    step = plant.make_step(10, state)
    weight = torch.tensor([1.0, 0.0, 1.0, 1.0])
    broken = step.outcome.clone()
    broken[1] = torch.nan
    _, after = memory.infer_physics(state, step._replace(outcome=broken, w=weight))
    for name, value in state.items():
        assert torch.equal(after[name][1], value[1]), name
        assert torch.isfinite(after[name]).all(), name
    assert not torch.equal(after["weights"][0], state["weights"][0])


def test_a_channel_without_a_reading_moves_no_weight_of_its_own(memory):
    plant = Plant(undeclared=0.5)
    state = memory.initial_state(4)
    step = plant.make_step(0, state)
    measured = torch.ones(4, CHANNELS)
    measured[:, 1] = 0
    _, after = memory.infer_physics(state, step._replace(measured=measured))
    first = after["weights"][:, 0]
    assert (first[:, 1] == 0).all() and (first[:, 0] != 0).any()


def test_it_learns_how_commands_act_and_uses_it(memory):
    plant = Plant(offset=0.3, frozen_error=2.0)
    errors, state = plant.live(memory, memory.initial_state(4), 400)
    assert (state["map_in_use"] > 0).all()
    torch.testing.assert_close(state["command_map"], plant.true_map, atol=0.12, rtol=0)
    memory.USE_MAP = 0.0
    without, _ = Plant(offset=0.3, frozen_error=2.0).live(memory, memory.initial_state(4), 400)
    assert errors[-50:].mean() < 0.1 * without[-50:].mean()


def test_a_robot_as_declared_keeps_its_commands(memory):
    _, state = Plant().live(memory, memory.initial_state(4), 200)
    assert state["command_map"].abs().max() < 0.05


def test_a_map_is_found_as_fast_after_a_long_life_as_declared(memory):
    _, state = Plant().live(memory, memory.initial_state(4), 500)
    _, old = Plant(offset=0.3, frozen_error=2.0).live(memory, state, 150)
    _, young = Plant(offset=0.3, frozen_error=2.0).live(memory, memory.initial_state(4), 150)
    assert (old["map_in_use"] > 0).all() and (young["map_in_use"] > 0).all()


def test_the_first_hypothesis_begins_with_the_physics_of_the_map(memory):
    plant, state, begun = Plant(offset=0.3, frozen_error=2.0), memory.initial_state(4), 0
    for age in range(400):
        _, after = memory.infer_physics(state, plant.make_step(age, state))
        rows = (after["map_in_use"] > 0) & (state["map_in_use"] == 0)
        begun += int(rows.sum())
        assert not after["physics"][rows].any()
        assert after["physics"][~rows].any(1).all()
        state = after
    assert begun >= 4


def test_a_map_that_harms_is_no_longer_used(memory):
    _, state = Plant(offset=0.3, frozen_error=2.0).live(memory, memory.initial_state(4), 300)
    assert (state["map_in_use"] > 0).all()
    _, state = Plant(offset=-4.0, frozen_error=0.05).live(memory, state, 60)
    assert not state["map_in_use"].any() and not state["command_map"].any()
    assert memory.find_frozen(state).all()


def test_the_state_stays_sound_over_a_long_life(memory):
    _, state = Plant(undeclared=0.3).live(memory, memory.initial_state(4), 1500)
    assert all(torch.isfinite(value).all() for value in state.values())
    values = torch.linalg.eigvalsh(state["weight_covariance"].double())
    assert values.min() > 0 and values.max() < 1 + 1e-4


def test_samples_spread_as_the_correction_is_uncertain(memory):
    _, state = Plant(undeclared=0.3).live(memory, memory.initial_state(4), 100)
    query, spreads = torch.randn(1, 20, WIDTH).expand(256, -1, -1), []
    for each in (memory.initial_state(4), state):
        sampled = memory.sample_posterior(each, 64)
        spreads.append(memory.open_correction(sampled)(query).unflatten(0, (4, 64)).std(1).mean())
    assert spreads[0] > 5 * spreads[1] > 0


def test_the_folded_correction_is_that_of_the_features(memory):
    _, state = Plant(undeclared=0.3).live(memory, memory.initial_state(4), 30)
    query = torch.randn(4, 5, WIDTH)
    expected = memory.linear.features(query) @ state["weights"][:, 0].mT
    torch.testing.assert_close(memory.open_correction(state)(query), expected, atol=1e-5, rtol=1e-5)


def test_the_gradient_of_its_regression_reaches_every_parameter_of_the_correction(memory):
    trained = {name: parameter.requires_grad_() for name, parameter in memory.linear.named_parameters()}
    loss, _ = compute_correction_loss(
        memory.linear,
        torch.randn(3, 20, WIDTH),
        torch.randn(3, 20, CHANNELS),
        torch.ones(3, 20, CHANNELS),
        5.0,
    )
    loss.backward()
    assert len(trained) == 6
    for name, parameter in trained.items():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
