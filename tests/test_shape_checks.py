"""What the tests check of signatures while they run."""

from dataclasses import dataclass

import numpy as np
import pytest
from jaxtyping import Float

from tests.shape_checks import checked

TWO, THREE = np.zeros(2), np.zeros(3)


def added(x: Float[np.ndarray, "N"], y: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    return x + y


def cut(x: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    return x[1:]


def scaled(factor: float, of: "NotImported") -> str:
    return f"{factor * of}"


@dataclass(frozen=True)
class Size:
    width: int


def test_an_axis_has_one_length_in_arguments_and_result():
    assert checked(added)(TWO, TWO).shape == (2,)
    with pytest.raises(TypeError, match="added"):
        checked(added)(TWO, THREE)
    with pytest.raises(TypeError, match="cut"):
        checked(cut)(TWO)


def test_types_are_checked_and_an_int_may_stand_for_a_float():
    assert checked(scaled)(2, 3) == "6"
    with pytest.raises(TypeError, match="scaled"):
        checked(scaled)("2", 3)
    with pytest.raises(TypeError, match="width"):
        checked(Size)("wide")


def test_a_function_within_a_function_is_left_alone():
    def inner(number: int) -> int:
        return number

    assert checked(inner) is inner
