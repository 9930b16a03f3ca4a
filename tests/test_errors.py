"""A number below the least value is refused in one sentence, the same for every part."""

from types import SimpleNamespace

import pytest

from wm_robot.errors import ConfigError, check_at_least


def test_the_first_field_below_the_least_value_is_named_with_its_value():
    config = SimpleNamespace(samples=1, horizon=0, elites=-1)
    with pytest.raises(ConfigError, match=r"^planner\.horizon is 0; it must be at least 1$"):
        check_at_least(1, config, "samples", "horizon", "elites", section="planner")
    check_at_least(1, config, "samples", section="planner")
    check_at_least(0, config, "samples", "horizon", section="planner")


def test_what_is_not_a_number_is_never_large_enough():
    with pytest.raises(ConfigError, match="stage.length is nan; it must be at least 0"):
        check_at_least(0, SimpleNamespace(length=float("nan")), "length", section="stage")
