"""A robot that is not the base's any more: what a residual makes of it, and what it must not do."""

from dataclasses import replace

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from tests.model.small_model import small_model
from wm_robot.adaptation.experience_buffer import ExperienceBuffer
from wm_robot.adaptation.residual_fit import (
    CandidateErrors,
    ResidualFitConfig,
    ResidualFitter,
    collect_moments,
    compute_relative_norms,
    compute_weight_norms,
    get_segment_residual,
    limit_norm,
)
from wm_robot.errors import ConfigError
from wm_robot.memory.lifetime_state import convert_values, list_values, map_values
from wm_robot.model.torch_backend import to_array, to_arrays
from wm_robot.model.world_model import WorldModel
from wm_robot.types import Step

CONFIG = ResidualFitConfig(updates=25, segment_interval=6, num_held_out=2)
QUICK = ResidualFitConfig(updates=3, segment_interval=3, num_held_out=1, batch_size=16)
"""For what holds whether or not anything is learned: three chapters are enough."""


@pytest.fixture(scope="module", params=["gru", "ekf"])
def model(request) -> WorldModel:
    return make(request.param)


def make(memory: str) -> WorldModel:
    made = small_model(memory)
    # Slow enough that a chapter stays where it began.
    made.change_std.fill_(0.03)
    return made


@pytest.fixture(scope="module")
def changed(model):
    """The residual of what the robot has become."""
    generator = torch.Generator().manual_seed(5)
    born = model.initial_state(initial_action=torch.zeros(1, 1))
    return map_values(lambda v: 0.4 * torch.randn(v.shape, generator=generator), born.residual)


@torch.no_grad()
def chapters(model, changed, count=CONFIG.segment_interval, batch=1, seed=0):
    """Chapters of a robot that moves as the model with a residual expects, with a little noise."""
    generator, past = torch.Generator().manual_seed(seed), ExperienceBuffer()
    state = model.initial_state(initial_action=torch.zeros(batch, 1))
    other = map_values(lambda value: value.expand(batch, *value.shape[1:]), changed)
    obs, ones = torch.zeros(batch, 2), torch.ones(batch)
    for _ in range(64 * count):
        action = torch.randn(1, 1, generator=generator).expand(batch, 1).contiguous()
        change = model.predict(state.with_residual(other), obs, action).mean - obs
        then = obs + change + 0.001 * torch.randn(1, 2, generator=generator)
        step = Step(obs, action, then, ones)
        past = past.append_step(to_arrays(state), convert_values(to_array, step))
        _, state = model.update(state, step)
        # Put back where it began, which is a gap, when it has gone far.
        obs = torch.where(then.abs().amax(1, keepdim=True) < 2, then, 0.0)
    return past.latest


@pytest.fixture(scope="module")
def listed(model, changed):
    return chapters(model, changed)


def taken(model, listed, config=CONFIG):
    consolidation = ResidualFitter(model, config)
    return [found for chapter in listed if (found := consolidation.add_segment(chapter))]


def test_what_the_memories_leave_over_is_learned_and_shown_on_what_was_held_out(model, listed):
    (candidate,) = taken(model, listed)
    assert candidate.segment_number == 5
    assert candidate.errors.is_better.all()
    assert candidate.errors.candidate < 0.8 * candidate.errors.without_residual
    assert candidate.errors.current == candidate.errors.without_residual


def test_the_same_chapters_give_the_same_candidate(model, listed):
    (one,), (other,) = taken(model, listed[:3], QUICK), taken(model, listed[:3], QUICK)
    for value, again in zip(list_values(one.residual), list_values(other.residual), strict=True):
        assert np.array_equal(value, again)


def test_lives_side_by_side_are_fitted_as_each_would_be_alone(model, changed, listed):
    (alone,) = taken(model, listed[:3], QUICK)
    (together,) = taken(model, chapters(model, changed, count=3, batch=2), QUICK)
    pairs = zip(list_values(alone.residual), list_values(together.residual), strict=True)
    for value, beside_another in pairs:
        np.testing.assert_allclose(beside_another[1:], value, atol=5e-3, rtol=5e-2)


def test_a_candidate_that_is_no_better_is_refused():
    # One step of a robot without a memory is what is expected, and nothing is left over. Further ahead an untrained
    # base errs by itself.
    model, config = make("null"), replace(CONFIG, updates=20, horizon=1)
    nothing = model.initial_state(initial_action=torch.zeros(1, 1)).residual
    (candidate,) = taken(model, chapters(model, nothing), config)
    assert not candidate.errors.is_better.any()


def test_a_verdict_asks_for_a_margin_over_both():
    errors = np.array([0.96, 0.98, 0.5, np.nan], np.float32), np.ones(4), np.array([1.0, 1.0, 0.5, 1.0])
    assert CandidateErrors(*errors, 0.03).is_better.tolist() == [True, False, False, False]


def test_a_residual_never_grows_beyond_its_bound(model):
    large = map_values(torch.ones_like, model.initial_state(initial_action=torch.zeros(1, 1)).residual)
    sizes = compute_weight_norms(model)
    for size in compute_relative_norms(limit_norm(large, sizes, 0.5), sizes).values():
        assert float(size) == pytest.approx(0.5, rel=1e-5)
    small = map_values(lambda value: 1e-3 * value, large)
    for value, as_before in zip(list_values(limit_norm(small, sizes, 0.5)), list_values(small), strict=True):
        assert torch.equal(value, as_before)


def test_nothing_of_the_base_changes(model, listed):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert taken(model, listed[:3], QUICK)
    for name, value in model.state_dict().items():
        assert torch.equal(value.nan_to_num(), before[name].nan_to_num()), name


def test_no_lesson_crosses_a_gap(model, changed):
    listed = chapters(model, changed, count=2)
    for chapter in listed:
        chapter.steps.obs[:, 1:] = chapter.steps.next_obs[:, :-1]
    listed[0].steps.valid[0, 20] = 0
    listed[1].steps.obs[0, 40] += 1
    lesson = collect_moments(
        model, listed, get_segment_residual(listed[0]), ResidualFitConfig(stride=1, horizon=8)
    )
    known = lesson.is_valid[0].numpy().reshape(2, -1)
    assert np.flatnonzero(known[0] == 0).tolist() == list(range(13, 21))
    assert np.flatnonzero(known[1] == 0).tolist() == list(range(33, 40))


def test_chapters_that_are_missing_decide_nothing(model, listed):
    assert taken(model, listed[:4] + listed[5:]) == []


def test_a_config_that_cannot_work_is_refused():
    with pytest.raises(ConfigError, match="residual_fit.updates is 0; it must be at least 1"):
        ResidualFitConfig(updates=0)
