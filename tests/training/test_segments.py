"""Segments are cut where they say, and carried rows follow their lives."""

import numpy as np
import pytest

from wm_robot.errors import ConfigError
from wm_robot.training.segments import SegmentSampler
from wm_robot.types import TrajectoryBatch

STEPS, ROWS, FRESH = 16, 4, 2


def numbered(lives: int = 5, steps: int = 80, worlds: int = 3) -> TrajectoryBatch:
    """Lives whose every number tells life and step; worlds change every 7 steps."""
    at = 1000.0 * np.arange(lives)[:, None, None] + np.arange(steps + 1)[None, :, None]
    return TrajectoryBatch(
        obs=at.astype(np.float32),
        action=at[:, :-1].astype(np.float32) + 0.5,
        initial_action=np.full((lives, 1), -1, np.float32),
        goal=at.astype(np.float32) + 0.25,
        physics=(10.0 * np.arange(lives)[:, None, None] + np.arange(worlds)[None, :, None]).astype(
            np.float32
        ),
        world=np.broadcast_to(np.arange(steps) // 7 % worlds, (lives, steps)).copy(),
    )


def sampler(lives: TrajectoryBatch | None = None, **options) -> SegmentSampler:
    return SegmentSampler(
        [(lives or numbered(), 1.0)], num_rows=ROWS, num_steps=STEPS, num_recent=3, seed=0, **options
    )


def place(drawn, row: int) -> tuple[int, int]:
    """Life and first step that a row was cut from."""
    life, step = divmod(int(drawn.obs[row, 0, 0]), 1000)
    return life, step


def test_a_row_is_one_piece_of_one_life():
    source = sampler()
    lives = numbered()
    for _ in range(20):
        drawn = source.draw_segments()
        for row in range(ROWS):
            life, start = place(drawn, row)
            stop = start + STEPS
            np.testing.assert_array_equal(drawn.obs[row], lives.obs[life, start : stop + 1])
            np.testing.assert_array_equal(drawn.action[row], lives.action[life, start:stop])
            before = [
                lives.action[life, t] if t >= 0 else lives.initial_action[life]
                for t in range(start - 3, start)
            ]
            np.testing.assert_array_equal(drawn.recent[row], before)


def test_the_truth_is_that_of_the_world_in_force_after_the_last_step_too():
    source, lives = sampler(), numbered()
    for _ in range(40):
        drawn = source.draw_segments()
        for row in range(ROWS):
            life, start = place(drawn, row)
            steps = np.minimum(np.arange(start, start + STEPS + 1), lives.num_steps - 1)
            np.testing.assert_array_equal(drawn.truth[row], lives.physics[life, lives.world[life, steps]])


def test_carried_rows_go_on_where_they_were_and_fresh_rows_are_born():
    source = sampler(restart_probability=0.0)
    last = source.draw_segments()
    assert last.is_initial.tolist() == [True] * ROWS
    went_on = 0
    for _ in range(30):
        now = source.draw_segments()
        assert now.num_fresh == FRESH and now.is_initial[:FRESH].all() and not now.is_initial[FRESH:].any()
        for row in range(FRESH, ROWS):
            if last.obs[row, -1, 0] % 1000 + STEPS <= 80:
                went_on += 1
                np.testing.assert_array_equal(now.obs[row, 0], last.obs[row, -1])
                np.testing.assert_array_equal(now.recent[row], last.action[row, -3:])
        last = now
    assert went_on > 20


def test_carried_rows_begin_off_the_grid_and_near_the_beginning_of_a_life():
    source = sampler(restart_probability=1.0)
    begun = set()
    for _ in range(200):
        drawn = source.draw_segments()
        begun |= {place(drawn, row)[1] for row in range(FRESH, ROWS) if drawn.is_initial[row]}
    assert begun == set(range(STEPS))


def test_a_sampler_restored_draws_the_same():
    one, other = sampler(), sampler()
    for _ in range(7):
        one.draw_segments()
    other.restore_state(one.get_state())
    np.testing.assert_array_equal(one.draw_segments().obs, other.draw_segments().obs)


def test_lives_shorter_than_a_segment_are_refused():
    with pytest.raises(ConfigError, match="trajectories are 10 steps long; segments need at least 16"):
        sampler(numbered(steps=10))
