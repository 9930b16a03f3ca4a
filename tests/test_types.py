import numpy as np
import pytest

from wm_robot.errors import SpecError
from wm_robot.types import Episode, TrajectoryBatch

LIVES, STEPS, OBS, ACT, GOAL, WORLDS, PHYSICS = 2, 5, 3, 2, 1, 2, 4


def lives() -> TrajectoryBatch:
    """Every element is recognisable: life, step and channel can be read off it."""

    def numbered(*shape):
        return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)

    return TrajectoryBatch(
        obs=numbered(LIVES, STEPS + 1, OBS),
        action=numbered(LIVES, STEPS, ACT) + 1000,
        initial_action=numbered(LIVES, ACT) + 2000,
        goal=numbered(LIVES, STEPS + 1, GOAL) + 3000,
        physics=numbered(LIVES, WORLDS, PHYSICS) + 4000,
        world=np.array([[0, 0, 1, 1, 0], [1, 1, 1, 0, 0]]),
    )


def episode(**changes) -> Episode:
    """Every element is recognisable: step and channel can be read off it."""
    parts = {
        "stamp": np.arange(STEPS + 1) * 20_000_000,
        "obs": np.arange((STEPS + 1) * OBS, dtype=np.float64).reshape(STEPS + 1, OBS),
        "action": np.arange(STEPS * ACT, dtype=np.float64).reshape(STEPS, ACT) + 1000,
        "initial_action": np.full(ACT, 999.0),
        "reward": np.arange(STEPS, dtype=np.float64),
        "goal": np.zeros((STEPS + 1, 0)),
        "valid": np.ones(STEPS, bool),
    }
    return Episode(**{**parts, **changes})


def test_an_episode_is_walked_through_as_transitions():
    whole = episode()
    steps = list(whole)
    assert len(whole) == len(steps) == STEPS
    for number, step in enumerate(steps):
        np.testing.assert_array_equal(step.obs, whole.obs[number])
        np.testing.assert_array_equal(step.next_obs, whole.obs[number + 1])
        assert (step.action[0], step.reward, step.valid) == (1000 + ACT * number, number, True)


def test_what_is_not_finite_makes_the_transitions_beside_it_invalid():
    obs, action = episode().obs, episode().action
    obs[2, 1], action[4, 0] = np.nan, np.inf
    assert episode(obs=obs, action=action).valid.tolist() == [True, False, False, True, False]


@pytest.mark.parametrize("name", ["obs", "goal", "reward", "valid", "stamp"])
def test_an_episode_with_rows_missing_is_refused_by_name(name):
    with pytest.raises(SpecError, match=rf"{name} has \d rows with 5 actions; it needs \d"):
        episode(**{name: getattr(episode(), name)[:-1]})


@pytest.mark.parametrize("stamp", [20_000_000, 3])
def test_stamps_that_do_not_rise_are_refused(stamp):
    stamps = episode().stamp
    stamps[2] = stamp
    with pytest.raises(SpecError, match=f"stamp {stamp} of observation 2 is not after the stamp before it"):
        episode(stamp=stamps)


@pytest.mark.parametrize("name", ["obs", "goal"])
def test_lives_need_one_observation_and_one_goal_more_than_actions(name):
    whole = lives()
    parts = {name: getattr(whole, name) for name in whole.__dataclass_fields__}
    with pytest.raises(SpecError, match=name + r" is \(2, 5, \d\) with action \(2, 5, 2\)"):
        TrajectoryBatch(**{**parts, name: parts[name][:, :-1]})


def test_the_truth_at_a_step_is_that_of_the_world_in_force():
    whole = lives()
    truth = whole.true_physics()
    assert truth.shape == (LIVES, STEPS, PHYSICS)
    for life in range(LIVES):
        for step in range(STEPS):
            expected = whole.physics[life, whole.world[life, step]]
            np.testing.assert_array_equal(truth[life, step], expected)


def test_rows_take_whole_lives():
    row = lives().select_rows(np.array([1]))
    assert len(row) == 1 and row.num_steps == STEPS
    for name in row.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(row, name)[0], getattr(lives(), name)[1])
