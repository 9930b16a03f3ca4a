"""Competence is what was foreseen of what moved, before it was seen."""

import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.memory.lifetime_state import LearnedState, LifetimeState
from wm_robot.model.backend import Prediction
from wm_robot.model.observed_channels import ObservedChannels
from wm_robot.model.world_model import WorldModel
from wm_robot.training.competence import CompetenceEstimator


class Pushed(WorldModel):
    """A model for which every action adds `gain` times itself."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self.register_buffer("change_std", torch.ones(1))
        self.channels = ObservedChannels(1, wraps=(), rotations=())

    def observe(self, state, obs):
        return obs

    def imagine(self, state, z, actions):
        mean = z[:, None, None] + state.memory[0]["gain"] * actions.cumsum(2)
        return Prediction(mean, torch.zeros_like(mean))


def marked(gain: float, *, true_gain: float = 1.0, steps: int = 60) -> CompetenceEstimator:
    generator = torch.Generator().manual_seed(0)
    exam, obs = CompetenceEstimator(Pushed(), horizon=3, interval=2, num_scores=10), torch.zeros(1, 1)
    recent, learned = torch.zeros(1, 1, 1), LearnedState(({"gain": torch.tensor([gain])},))
    state = LifetimeState(torch.zeros(1, dtype=torch.int64), recent, learned)
    for _ in range(steps):
        action = torch.randn(1, 1, generator=generator)
        exam.add_step(state, obs, action)
        obs = obs + true_gain * action
    return exam


def test_who_foresees_everything_is_fully_competent_and_who_expects_nothing_not_at_all():
    assert marked(1.0).competence == pytest.approx(1.0)
    assert marked(0.0).competence == pytest.approx(0.0)
    assert marked(0.5).competence == pytest.approx(0.75)
    assert marked(-1.0).competence == pytest.approx(-3.0)


def test_there_is_none_before_enough_questions_and_after_a_new_beginning():
    # The first of ten questions is asked of the fourth step or the one after.
    assert marked(1.0, steps=20).competence is None
    exam = marked(1.0)
    exam.clear_scores()
    assert exam.competence is None


def test_a_life_at_rest_says_nothing_of_its_competence():
    assert marked(1.0, true_gain=0.0).competence == 0.0
