"""Long measurements report what they have done, in order, up to all of it; they are the same when nobody watches."""

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.evaluation.acceptance import compute_errors
from wm_robot.evaluation.adaptation import Variant, compute_error_by_step
from wm_robot.evaluation.calibration import compute_standardised_errors
from wm_robot.model.config import ModelConfig
from wm_robot.model.torch_backend import TorchBackend
from wm_robot.model.world_model import WorldModel
from wm_robot.sharing.assimilate import RecordedSteps, replay_recordings
from wm_robot_benchmarks.measures.context_recall import measure_visits
from wm_robot_benchmarks.measures.linear_task import INPUTS, NUMBERS, STATES, generate_linear_trajectories
from wm_robot_benchmarks.measures.timing import time_in_turn

UNIT = np.ones(STATES, np.float32)


@pytest.fixture
def model() -> WorldModel:
    torch.manual_seed(0)
    config = ModelConfig(
        obs=STATES, action=INPUTS, truth=NUMBERS, dt=0.02, servo=(-1,), memory="delta", width=16
    )
    return WorldModel(config).requires_grad_(False)


class Said:
    """What was reported."""

    def __init__(self) -> None:
        self.fractions: list[float] = []

    def __call__(self, done: int, total: int) -> None:
        self.fractions.append(done / total)

    def check(self, times: int) -> None:
        assert self.fractions == sorted(self.fractions) and self.fractions[-1] == 1.0
        assert len(self.fractions) == times


def test_errors_by_steps_lived(model):
    lives, said = generate_linear_trajectories(2, 60, seed=0), Said()
    arm, points = Variant(name="delta", model=model), (0, 10, 40)
    watched = compute_error_by_step(arm, lives, points, change_std=UNIT, offsets=(0, 2), progress=said)
    np.testing.assert_array_equal(
        watched, compute_error_by_step(arm, lives, points, change_std=UNIT, offsets=(0, 2))
    )
    said.check(6)


def test_standardised_errors(model):
    said = Said()
    compute_standardised_errors(
        model,
        generate_linear_trajectories(2, 60, seed=0),
        update_counts=(0, 20),
        horizons=(1, 4),
        progress=said,
    )
    said.check(2)


def test_visits(model):
    said = Said()
    lives = generate_linear_trajectories(2, 2 * 20 + 8, seed=0, regime_steps=20)
    measure_visits(model, lives, visit_steps=20, points=(0, 10), change_std=UNIT, progress=said)
    said.check(40)


def test_functions_side_by_side():
    said = Said()
    time_in_turn({"a": lambda: None, "b": lambda: None}, 3, said)
    said.check(3)


def test_stretches(model):
    lives = generate_linear_trajectories(2, 30, seed=0)
    stretch = RecordedSteps(lives.obs, lives.action, lives.initial_action, np.ones((2, 30), np.float32))
    backend = TorchBackend(model)
    born = backend.initial_state(initial_action=lives.initial_action)
    said, other = Said(), Said()
    replay_recordings(backend, born, [stretch.select_steps(0, 10), stretch.select_steps(10, 30)], said)
    said.check(30)
    compute_errors(model, backend, born, stretch, other)
    other.check(30 - 8 + 1)
