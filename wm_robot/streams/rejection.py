"""Rejection of messages: reasons, counters and the check of stamps."""

from collections import Counter
from enum import Enum

from wm_robot.errors import WmRobotError


class RejectionReason(str, Enum):
    """Reasons for the rejection of a message, as the counters name them."""

    NAMES = "names"
    """A joint is missing, listed twice or unknown."""
    SIZE = "size"
    """Not one number for each name, or a goal or reading of another size."""
    NOT_FINITE = "not_finite"
    """NaN or infinite."""
    RANGE = "range"
    """A reading far outside the range of its joint, a goal outside it, or a quaternion without unit length."""
    FRAME = "frame"
    """Goal in a frame other than that of the base, or a reading in another frame than that of its sensor."""
    NO_STAMP = "no_stamp"
    DUPLICATE = "duplicate"
    """Same stamp as the previous message."""
    OUT_OF_ORDER = "out_of_order"
    """Older than the previous message."""
    STALE = "stale"
    """Too old on arrival."""
    FUTURE = "future"
    """Stamp in the future: two clocks disagree."""
    GAP = "gap"
    """Not one period since the previous observation."""
    UNPAIRED = "unpaired"
    """No applied command arrived for the observation."""
    SENSOR = "sensor"
    """An observation without a valid reading of a required sensor."""
    SOURCE = "source"
    """From a publisher other than the followed one."""
    UNVALIDATED = "unvalidated"
    """Command of an agent without a valid validation record, for a real robot."""
    NO_CLOCK = "no_clock"
    """Arrived while the clock of this node stood still: its age is undefined."""


STAMP_FAULTS = {
    RejectionReason.NO_STAMP: "it has no stamp",
    RejectionReason.DUPLICATE: "it has the same stamp as the previous one",
    RejectionReason.OUT_OF_ORDER: "it is older than the previous one. Did its sender's clock jump back, or are there "
    "two senders?",
    RejectionReason.STALE: "it is too old. Is its sender's clock behind that of this node, use_sim_time set on one "
    "side only, or the machine too busy?",
    RejectionReason.FUTURE: "its stamp is in the future. Is its sender's clock ahead of that of this node, or "
    "use_sim_time set on one side only?",
}
"""Text for each result of `check_stamp`."""


class BadMessageError(WmRobotError):
    """Raised for a message that must be neither acted on nor learned from."""

    def __init__(self, reason: RejectionReason, detail: str):
        super().__init__(detail)
        self.reason = reason


class RejectionCounters:
    """Counters of rejected messages, one for each reason."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count_rejection(self, reason: RejectionReason) -> None:
        self._counts[reason.value] += 1

    @property
    def total(self) -> int:
        return self._counts.total()

    def to_dict(self) -> dict[str, int]:
        """Return every reason with its count, including zeros."""
        return {reason.value: self._counts[reason.value] for reason in RejectionReason}


def check_stamp(stamp: int, now: int, last: int, max_age: int) -> RejectionReason | None:
    """Return why a stamp must not follow the last one; None if it may. All in ns.

    Args:
        last: Stamp of the newest used message; 0 for none.
        max_age: Largest difference between stamp and now, in both directions.
    """
    if stamp <= 0:
        return RejectionReason.NO_STAMP
    if last - now > max_age:
        # The clock was set back; without this all messages would be rejected until it has caught up.
        last = 0
    if stamp == last:
        return RejectionReason.DUPLICATE
    if stamp < last:
        return RejectionReason.OUT_OF_ORDER
    if now - stamp > max_age:
        return RejectionReason.STALE
    return RejectionReason.FUTURE if stamp - now > max_age else None
