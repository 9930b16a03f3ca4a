"""Why a message is not used."""

from collections import Counter
from enum import Enum

from wm_robot.errors import WmRobotError


class Refusal(str, Enum):
    """Reasons, as the counters name them."""

    NAMES = "names"
    """A joint is missing, listed twice or unknown."""
    SIZE = "size"
    """Not one number for each name."""
    NOT_FINITE = "not_finite"
    """NaN or infinite."""
    RANGE = "range"
    """Far outside what the joint can do."""
    FRAME = "frame"
    """A point in another frame than the base's."""
    NO_STAMP = "no_stamp"
    DUPLICATE = "duplicate"
    """The stamp of the message before."""
    OUT_OF_ORDER = "out_of_order"
    """Older than the message before."""
    STALE = "stale"
    """Too old on arrival."""
    FUTURE = "future"
    """Stamped later than now: two clocks disagree."""
    GAP = "gap"
    """Not one period since the observation before."""
    UNPAIRED = "unpaired"
    """No applied command came for the observation."""
    SOURCE = "source"
    """Of another publisher than the one that is heard."""
    NO_CLOCK = "no_clock"
    """It came while our own clock stood still, so that nobody knows how old it is."""


UNTIMELY = {
    Refusal.NO_STAMP: "it has no stamp",
    Refusal.DUPLICATE: "it has the stamp of the one before",
    Refusal.OUT_OF_ORDER: "it is older than the one before. Does its sender's clock run back, or do two send?",
    Refusal.STALE: "it is too old. Is its sender's clock behind ours, use_sim_time set on one side alone, or the "
    "machine too busy?",
    Refusal.FUTURE: "it is of later than now. Is its sender's clock ahead of ours, or use_sim_time set on one side "
    "alone?",
}
"""What `check_time` found, in words."""


class BadMessageError(WmRobotError):
    """A message that must not be acted on nor learned from."""

    def __init__(self, reason: Refusal, detail: str):
        super().__init__(detail)
        self.reason = reason


class Refusals:
    """How often each reason was met."""

    def __init__(self) -> None:
        self._count: Counter[str] = Counter()

    def add(self, reason: Refusal) -> None:
        self._count[reason.value] += 1

    @property
    def total(self) -> int:
        return self._count.total()

    def to_dict(self) -> dict[str, int]:
        """Every reason with its count, zeros included."""
        return {reason.value: self._count[reason.value] for reason in Refusal}


def check_time(stamp: int, now: int, last: int, max_age: int) -> Refusal | None:
    """Whether a stamp may follow the last one; all in ns.

    Args:
        last: Stamp of the newest message that was used; 0 for none.
        max_age: How late, and how early, a message may be.
    """
    if stamp <= 0:
        return Refusal.NO_STAMP
    if last - now > max_age:
        # The clock was set back; without this nothing would pass until it has caught up.
        last = 0
    if stamp == last:
        return Refusal.DUPLICATE
    if stamp < last:
        return Refusal.OUT_OF_ORDER
    if now - stamp > max_age:
        return Refusal.STALE
    return Refusal.FUTURE if stamp - now > max_age else None
