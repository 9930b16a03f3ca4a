import pytest

from tests.tasks.robots import robot
from wm_robot.errors import SpecError
from wm_robot.tasks.channels import check_parameters, find_channels


def test_adjacent_channels_are_a_slice():
    spec = robot()
    assert find_channels(spec, ["turn/position", "lift/velocity"]) == slice(1, 3)
    assert find_channels(spec, ["lift/velocity", "lift/position"]) == [2, 0]


@pytest.mark.parametrize("value", ["low", None, True, -0.1, float("nan"), float("inf")])
def test_a_parameter_is_a_finite_number_that_is_large_enough(value):
    with pytest.raises(
        SpecError, match=f"parameter 'cost' of reward 'fame' is {value!r}; it must be a number"
    ):
        check_parameters("fame", cost=value)


def test_some_parameters_must_not_be_zero():
    check_parameters("fame", cost=0)
    with pytest.raises(SpecError, match="it must be a number, above 0"):
        check_parameters("fame", above=0, width=0)
