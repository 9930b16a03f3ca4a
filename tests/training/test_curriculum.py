"""Easy comes before hard, and competence decides when it is over."""

from dataclasses import replace

import numpy as np
import pytest

from wm_robot.errors import ConfigError
from wm_robot.training.curriculum import DEFAULT_STAGES, Stage, sort_by_severity
from wm_robot.training.segments import SegmentSampler
from wm_robot.types import TrajectoryBatch


def lives(deviations: list[list[float]], world: list[list[int]]) -> TrajectoryBatch:
    """Lives whose worlds deviate as told in their one number of physics; what is sensed is the life's number."""
    steps = len(world[0])
    return TrajectoryBatch(
        obs=np.tile(np.arange(len(world), dtype=np.float32)[:, None, None], (1, steps + 1, 1)),
        action=np.zeros((len(world), steps, 1), np.float32),
        initial_action=np.zeros((len(world), 1), np.float32),
        goal=np.zeros((len(world), steps + 1, 0), np.float32),
        physics=np.array(deviations, np.float32)[..., None],
        world=np.array(world),
    )


def test_what_a_life_meets_decides_how_mild_it_is():
    # The worst world of the first is never met, and in the second it is met most of the time.
    some = lives([[0.1, 9.0], [0.1, -2.0], [1.0, 1.0]], [[0, 0, 0, 0], [0, 1, 1, 1], [0, 0, 1, 1]])
    assert sort_by_severity(some).tolist() == [0, 2, 1]


def test_only_the_mildest_lives_are_drawn_until_all_are():
    count, steps = 20, 8
    worlds = [[float(count - i)] for i in range(count)]
    pool = lives(worlds, [[0] * steps] * count)
    sampler = SegmentSampler([(pool, 1.0)], num_rows=4, num_steps=4, num_recent=1, seed=0)

    def met() -> set[int]:
        return {int(i) for _ in range(100) for i in sampler.draw_segments().obs[:, 0, 0]}

    sampler.set_shape(num_rows=8, num_steps=2, continued_share=0.5, world_share=0.25)
    assert met() == set(range(15, 20))
    assert sampler.draw_segments().obs.shape[:2] == (8, 3)
    sampler.set_shape(num_rows=4, num_steps=4, continued_share=0.5)
    assert met() == set(range(count))


def test_competence_or_time_ends_a_stage():
    stage = Stage(min_competence=0.8, max_progress=0.5)
    assert not stage.is_complete(0.79, 0.49)
    assert stage.is_complete(0.8, 0.0) and stage.is_complete(-1.0, 0.5)


def test_the_stages_that_ship_go_from_easy_to_hard():
    stages = (*DEFAULT_STAGES, Stage())
    for before, after in zip(stages, stages[1:], strict=False):
        assert before.world_fraction < after.world_fraction and before.carry_fraction < after.carry_fraction
        assert (
            before.segment_fraction <= after.segment_fraction and before.physics_factor > after.physics_factor
        )
        assert before.min_competence < after.min_competence and before.max_progress < after.max_progress


@pytest.mark.parametrize(
    "change",
    [{"segment_fraction": 0.0}, {"world_fraction": 1.5}, {"carry_fraction": -0.1}, {"max_progress": 2.0}],
)
def test_a_stage_that_cannot_be_is_refused(change):
    (name,) = change
    with pytest.raises(ConfigError, match=f"stage.{name} is"):
        replace(Stage(), **change)
