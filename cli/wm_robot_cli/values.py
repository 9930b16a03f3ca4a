"""Types of options. Most are ranges of numbers; `check_before_call` rejects numbers outside.

::

    def bench(*, episodes: Count = 48, seeds: tuple[Seed, ...] = (0,)) -> None: ...
"""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_type_hints

import tyro

from wm_robot.errors import ConfigError


@dataclass(frozen=True)
class ValueRange:
    """Range from `low` to `high`. A number that is not finite is outside."""

    low: float
    high: float = math.inf
    is_low_excluded: bool = False
    """Whether `low` itself is outside."""

    def __contains__(self, value: float) -> bool:
        return (
            math.isfinite(value)
            and self.low <= value <= self.high
            and not (self.is_low_excluded and value == self.low)
        )

    def __str__(self) -> str:
        low = f"above {self.low:.15g}" if self.is_low_excluded else f"at least {self.low:.15g}"
        return low if self.high == math.inf else f"{low} and at most {self.high:.15g}"


JsonFlag = Annotated[bool, tyro.conf.arg(name="json")]
Seed = Annotated[int, ValueRange(0, 2**32 - 1)]
Count = Annotated[int, ValueRange(1)]
CountOrZero = Annotated[int, ValueRange(0)]
Threads = Annotated[int, ValueRange(1, 256)]
Priority = Annotated[int, ValueRange(0, 99)]
"""Of a real-time process; 0: a normal process."""
Domain = Annotated[int, ValueRange(0, 232)]
"""A ROS_DOMAIN_ID: DDS has no ports for larger ones."""
Share = Annotated[float, ValueRange(0, 1)]
Duration = Annotated[float, ValueRange(0, is_low_excluded=True)]
"""In the unit of the option's description."""
Milliseconds = Annotated[float, ValueRange(1, 10_000)]
Rate = Annotated[float, ValueRange(0, 10_000, is_low_excluded=True)]
"""In Hz."""
RateOrZero = Annotated[float, ValueRange(0, 10_000)]


def find_range(annotation: Any) -> ValueRange | None:
    """Find the range of an annotation, also inside `tuple[…]` or an optional type."""
    own = (each for each in getattr(annotation, "__metadata__", ()) if isinstance(each, ValueRange))
    inner = (find_range(each) for each in get_args(annotation))
    return next((each for each in (*own, *inner) if each is not None), None)


def check_ranges(verb: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Reject a number outside the range of its annotation.

    Args:
        verb: Function or dataclass with the annotations.
        given: Arguments by name.

    Raises:
        ConfigError: If a number is outside.
    """
    for name, hint in get_type_hints(verb, include_extras=True).items():
        allowed, value = find_range(hint), given.get(name)
        numbers = value if isinstance(value, tuple) else () if value is None else (value,)
        if allowed is not None and any(number not in allowed for number in numbers):
            told = " ".join(map(str, numbers))
            each = "each" if len(numbers) > 1 else "it"
            raise ConfigError(f"--{name.replace('_', '-')} is {told}; {each} must be {allowed}")


def check_before_call(verb: Callable[..., None]) -> Callable[..., None]:
    """Wrap a verb with a check of its numbers against their annotations.

    Raises:
        ConfigError: If a number is outside, from the returned function.
    """

    @functools.wraps(verb)
    def run_checked(*args: Any, **kwargs: Any) -> None:
        check_ranges(verb, inspect.signature(verb).bind(*args, **kwargs).arguments)
        return verb(*args, **kwargs)

    return run_checked
