import numpy as np
import pytest

from wm_robot.adaptation.experience_buffer import ExperienceBuffer, ExperienceConfig
from wm_robot.errors import ConfigError
from wm_robot.memory.lifetime_state import LearnedState, LifetimeState
from wm_robot.types import Step

SIZES = ExperienceConfig(segment_steps=4, num_sampled=8, num_recent=3)


def state(here: np.ndarray) -> LifetimeState[np.ndarray]:
    return LifetimeState(np.zeros(2, np.int64), here[:, None], LearnedState(({"s": here},)))


def lived(steps: int, begun: ExperienceBuffer | None = None, start: int = 0) -> ExperienceBuffer:
    """Lives of which every number says at which step it came."""
    past = begun or ExperienceBuffer(SIZES)
    for t in range(start, start + steps):
        here = np.full((2, 1), t, np.float32)
        past = past.append_step(state(here), Step(here, here, here + 1, np.ones(2, np.float32)))
    return past


def like() -> tuple[LifetimeState[np.ndarray], Step[np.ndarray]]:
    one = np.zeros((2, 1), np.float32)
    return state(one), Step(one, one, one, np.zeros(2, np.float32))


def numbers(chapters) -> list[int]:
    return [int(chapter.number[0]) for chapter in chapters]


def test_a_chapter_is_its_steps_and_the_state_before_the_first():
    newest = lived(4 * 5 + 2).latest[-1]
    assert newest.steps.obs[1, :, 0].tolist() == [16, 17, 18, 19]
    assert newest.steps.next_obs[1, :, 0].tolist() == [17, 18, 19, 20]
    assert newest.start.memory[0]["s"][1, 0] == 16


def test_the_latest_chapters_are_whole():
    past = lived(4 * 20)
    assert numbers(past.latest) == [17, 18, 19]
    assert past.chapters == 20


def test_what_is_kept_is_a_fair_sample_of_the_life():
    # Over 2000 chapters a sample of 8 is uniform: each eighth of the life holds about one of them.
    past = ExperienceBuffer(ExperienceConfig(segment_steps=1, num_sampled=200, num_recent=1))
    kept = numbers(lived(2000, past).kept)
    assert len(kept) == len(set(kept)) == 200
    counts = np.histogram(kept, bins=4, range=(0, 2000))[0]
    assert (abs(counts - 50) < 25).all(), counts


@pytest.mark.parametrize("stop", [3, 4, 30, 61])
def test_saved_and_resumed_equals_never_stopped(stop):
    stopped = lived(stop)
    resumed = ExperienceBuffer.from_arrays(stopped.to_arrays(*like()), SIZES)
    whole, gone_on = lived(90), lived(90 - stop, resumed, start=stop)
    one, other = (each.to_arrays(*like()) for each in (whole, gone_on))
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_its_arrays_have_the_same_shapes_at_every_age():
    shapes = [
        {name: (value.shape, value.dtype) for name, value in lived(steps).to_arrays(*like()).items()}
        for steps in (0, 3, 50)
    ]
    assert shapes[0] == shapes[1] == shapes[2]


def test_what_is_not_finite_is_kept_as_invalid():
    past, bad = ExperienceBuffer(SIZES), np.full((2, 1), np.nan, np.float32)
    good, one = np.zeros((2, 1), np.float32), np.ones(2, np.float32)
    for t in range(4):
        past = past.append_step(state(good), Step(good, good, bad if t == 2 else good, one))
    assert past.latest[-1].steps.valid.tolist() == [[1, 1, 0, 1]] * 2
    assert np.isfinite(past.latest[-1].steps.next_obs).all()


def test_a_state_without_a_past_begins_one():
    assert ExperienceBuffer.from_arrays({}).chapters == 0


def test_sizes_that_cannot_work_are_refused():
    with pytest.raises(ConfigError, match="experience.num_sampled is 0; it must be at least 1"):
        ExperienceConfig(num_sampled=0)
