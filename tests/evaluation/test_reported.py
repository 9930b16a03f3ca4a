"""Long measurements report what they have done, in order, up to all of it; they are the same when nobody watches."""

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.evaluation.acceptance import errors
from wm_robot.evaluation.adaptation import Arm, error_by_step
from wm_robot.evaluation.calibration import standardised_errors
from wm_robot.model.config import ModelConfig
from wm_robot.model.torch_backend import ModelLives
from wm_robot.model.world_model import WorldModel
from wm_robot.sharing.assimilate import Stretch, lived
from wm_robot_benchmarks.measures.context_recall import visits_of
from wm_robot_benchmarks.measures.linear_task import INPUTS, NUMBERS, STATES, linear_lives
from wm_robot_benchmarks.measures.timing import side_by_side

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
    lives, said = linear_lives(2, 60, seed=0), Said()
    arm, points = Arm(name="delta", model=model), (0, 10, 40)
    watched = error_by_step(arm, lives, points, change_std=UNIT, moments=(0, 2), progress=said)
    np.testing.assert_array_equal(watched, error_by_step(arm, lives, points, change_std=UNIT, moments=(0, 2)))
    said.check(6)


def test_standardised_errors(model):
    said = Said()
    standardised_errors(model, linear_lives(2, 60, seed=0), ages=(0, 20), horizons=(1, 4), progress=said)
    said.check(2)


def test_visits(model):
    said = Said()
    lives = linear_lives(2, 2 * 20 + 8, seed=0, regime=20)
    visits_of(model, lives, visit=20, points=(0, 10), change_std=UNIT, progress=said)
    said.check(40)


def test_functions_side_by_side():
    said = Said()
    side_by_side({"a": lambda: None, "b": lambda: None}, 3, said)
    said.check(3)


def test_stretches(model):
    lives = linear_lives(2, 30, seed=0)
    stretch = Stretch(lives.obs, lives.action, lives.hold, np.ones((2, 30), np.float32))
    backend = ModelLives(model)
    born = backend.birth(hold=lives.hold)
    said, other = Said(), Said()
    lived(backend, born, [stretch.part(0, 10), stretch.part(10, 30)], said)
    said.check(30)
    errors(model, backend, born, stretch, other)
    other.check(30 - 8 + 1)
