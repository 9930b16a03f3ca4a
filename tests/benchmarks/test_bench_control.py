"""The figures of `bench control` are of the seconds and arms that they name."""

from dataclasses import replace

import numpy as np
import pytest

from wm_robot.errors import ConfigError
from wm_robot.evaluation.gap import Comparison
from wm_robot.robots import load_spec
from wm_robot.tasks.task_error import TILT_SCALE
from wm_robot_benchmarks.control import (
    AFTER_S,
    BEFORE_S,
    SETTLED_S,
    AwayEpisode,
    _compute_figures,
    _compute_settled_error,
    _count_away,
    _make_row,
    judge_away_episode,
    select_measured_task,
)

RATE = 50
TOLERANCE = 0.015
TIME = np.arange(round((BEFORE_S + AFTER_S) * RATE)) / RATE


def errors(before: float, early: float, settled: float, episodes: int = 3) -> np.ndarray:
    since = TIME - BEFORE_S
    one = np.where(since < 0, before, np.where(since < SETTLED_S, early, settled))
    return np.tile(one, (episodes, 1))


def test_settled_leaves_out_the_first_second_after_the_change():
    np.testing.assert_allclose(_compute_settled_error(errors(9.0, 5.0, 0.01)), 0.01)


def test_a_row_names_its_seconds():
    each = np.concatenate([errors(9.0, 5.0, settled, 1) for settled in (1.0, 2.0, 6.0)])
    row = _make_row("delta", each, np.array([1.0] * 3), TILT_SCALE)
    assert (row["before"], row["second 0-1"], row["second 1-2"]) == (9.0, 5.0, 3.0)
    assert (row["settled mean"], row["settled median"], row["above oracle"]) == (3.0, 2.0, 1.0)


def test_an_episode_is_solved_whose_settled_error_is_within_the_tolerance():
    settled = {
        "delta": np.array([0.1, 0.2, 0.3]),
        "robust": np.array([0.5, 0.6, 0.7]),
        "oracle": np.array([0.1, 0.1, 0.1]),
    }
    figures = _compute_figures(settled, "delta", 0.2)
    solved = [figures[name] for name in ("solved", "solved_by_robust", "solved_by_oracle")]
    assert solved == [pytest.approx(2 / 3), 0.0, 1.0]


def test_a_robot_without_a_task_is_refused():
    spec = load_spec("so101")
    assert select_measured_task(spec) == "reach" and select_measured_task(spec, "hold") == "hold"
    with pytest.raises(ConfigError, match="robot 'so101' has no task. Add one"):
        select_measured_task(replace(spec, tasks={}))


def test_ratios_are_of_means_and_of_medians():
    settled = {
        "delta": np.array([1.0, 2.0, 6.0]),
        "robust": np.array([5.0, 10.0, 15.0]),
        "oracle": np.array([1.0, 1.0, 1.0]),
    }
    figures = _compute_figures(settled, "delta", TOLERANCE)
    assert figures["error_vs_robust"] == pytest.approx(0.3) and figures["median_vs_robust"] == pytest.approx(
        0.2
    )
    assert figures["error_vs_oracle"] == Comparison(3.0) and figures["median_vs_oracle"] == Comparison(2.0)


def test_a_ratio_to_an_oracle_that_is_no_better_than_robust_is_refused():
    settled = {
        "delta": np.array([1.0, 2.0, 6.0]),
        "robust": np.array([1.0, 3.0, 5.0]),
        "oracle": np.array([1.0, 1.0, 10.0]),
    }
    figures = _compute_figures(settled, "delta", TOLERANCE)
    assert figures["error_vs_oracle"] == Comparison(None, "no gap: oracle 4 is no better than robust 3")
    # The median is not moved by one episode.
    assert figures["median_vs_oracle"] == Comparison(2.0)


def test_an_episode_is_judged_where_its_goal_was_reachable_for_a_second():
    error, reachable = np.full(200, 0.1), np.ones(200, bool)
    reachable[:100] = False
    error[150:] = 0.004
    # Of the second after the last unreachable goal nothing counts.
    assert judge_away_episode(error, reachable, RATE) == AwayEpisode(pytest.approx(0.004), True)
    assert judge_away_episode(error, np.ones(200, bool), RATE) == AwayEpisode(
        pytest.approx(error.mean()), False
    )
    assert np.isnan(judge_away_episode(error, np.zeros(200, bool), RATE).error)


def test_episodes_that_stayed_away_and_those_with_unreachable_goals_are_counted_apart():
    episodes = [
        AwayEpisode(0.1, False),
        AwayEpisode(0.1, True),
        AwayEpisode(0.004, True),
        AwayEpisode(np.nan, True),
    ]
    assert _count_away(episodes) == (2, 2)
