"""Kinds of numbers that an argument may have. A verb's annotation says which; `checked` refuses what is outside.

::

    def bench(*, lives: Count = 48, seeds: tuple[Seed, ...] = (0,)) -> None: ...
"""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_type_hints

from wm_robot.errors import ConfigError


@dataclass(frozen=True)
class Within:
    """Numbers from `low` to `high`. A number that is not finite is never one of them."""

    low: float
    high: float = math.inf
    above: bool = False
    """Whether `low` itself is outside."""

    def __contains__(self, value: float) -> bool:
        return (
            math.isfinite(value) and self.low <= value <= self.high and not (self.above and value == self.low)
        )

    def __str__(self) -> str:
        low = f"above {self.low:.15g}" if self.above else f"at least {self.low:.15g}"
        return low if self.high == math.inf else f"{low} and at most {self.high:.15g}"


Seed = Annotated[int, Within(0, 2**32 - 1)]
Count = Annotated[int, Within(1)]
CountOrZero = Annotated[int, Within(0)]
Threads = Annotated[int, Within(1, 256)]
Priority = Annotated[int, Within(0, 99)]
"""Of a real-time process; 0: an ordinary one."""
Domain = Annotated[int, Within(0, 232)]
"""A ROS_DOMAIN_ID: DDS has ports for no others."""
Share = Annotated[float, Within(0, 1)]
Duration = Annotated[float, Within(0, above=True)]
"""In the unit that the argument says."""
Milliseconds = Annotated[float, Within(1, 10_000)]
Rate = Annotated[float, Within(0, 10_000, above=True)]
"""In Hz."""
RateOrZero = Annotated[float, Within(0, 10_000)]


def range_of(annotation: Any) -> Within | None:
    """The range that an annotation names, also inside `tuple[…]` or beside `None`."""
    own = (each for each in getattr(annotation, "__metadata__", ()) if isinstance(each, Within))
    inner = (range_of(each) for each in get_args(annotation))
    return next((each for each in (*own, *inner) if each is not None), None)


def check_ranges(verb: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Refuse a number that is outside the range of its annotation.

    Args:
        verb: Function or dataclass with the annotations.
        given: Arguments by name.

    Raises:
        ConfigError: If one is outside.
    """
    for name, hint in get_type_hints(verb, include_extras=True).items():
        allowed, value = range_of(hint), given.get(name)
        numbers = value if isinstance(value, tuple) else () if value is None else (value,)
        if allowed is not None and any(number not in allowed for number in numbers):
            told = " ".join(map(str, numbers))
            each = "each" if len(numbers) > 1 else "it"
            raise ConfigError(f"--{name.replace('_', '-')} is {told}; {each} must be {allowed}")


def checked(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb, called only when each of its numbers is in the range of its annotation.

    Raises:
        ConfigError: If one is not, from the function that is returned.
    """

    @functools.wraps(verb)
    def run(*args: Any, **kwargs: Any) -> None:
        check_ranges(verb, inspect.signature(verb).bind(*args, **kwargs).arguments)
        return verb(*args, **kwargs)

    return run
