import numpy as np
import pytest

from wm_robot.errors import SpecError
from wm_robot.types import Episode, Lives, Transition

LIVES, STEPS, OBS, ACT, GOAL, WORLDS, PHYSICS = 2, 5, 3, 2, 1, 2, 4


def lives() -> Lives:
    """Every element is recognisable: life, step and channel can be read off it."""

    def numbered(*shape):
        return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)

    return Lives(
        obs=numbered(LIVES, STEPS + 1, OBS),
        action=numbered(LIVES, STEPS, ACT) + 1000,
        hold=numbered(LIVES, ACT) + 2000,
        goal=numbered(LIVES, STEPS + 1, GOAL) + 3000,
        physics=numbered(LIVES, WORLDS, PHYSICS) + 4000,
        world=np.array([[0, 0, 1, 1, 0], [1, 1, 1, 0, 0]]),
    )


def transition(step: int) -> Transition:
    return Transition(
        obs=np.full(OBS, step), action=np.full(ACT, step), reward=float(step), next_obs=np.full(OBS, step + 1)
    )


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_an_episode_that_ended_takes_no_more_steps(end):
    episode = Episode()
    episode.append(transition(0))
    episode.append(transition(1))
    setattr(episode, end, True)
    with pytest.raises(SpecError, match="the episode ended after 2 steps; begin another"):
        episode.append(transition(2))
    assert [step.reward for step in episode] == [0.0, 1.0]


@pytest.mark.parametrize("name", ["obs", "goal"])
def test_lives_need_one_observation_and_one_goal_more_than_actions(name):
    whole = lives()
    parts = {name: getattr(whole, name) for name in whole.__dataclass_fields__}
    with pytest.raises(SpecError, match=name + r" is \(2, 5, \d\) beside action \(2, 5, 2\)"):
        Lives(**{**parts, name: parts[name][:, :-1]})


def test_the_truth_at_a_step_is_that_of_the_world_in_force():
    whole = lives()
    truth = whole.truth()
    assert truth.shape == (LIVES, STEPS, PHYSICS)
    for life in range(LIVES):
        for step in range(STEPS):
            expected = whole.physics[life, whole.world[life, step]]
            np.testing.assert_array_equal(truth[life, step], expected)


def test_rows_take_whole_lives():
    row = lives().rows(np.array([1]))
    assert len(row) == 1 and row.steps == STEPS
    for name in row.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(row, name)[0], getattr(lives(), name)[1])
