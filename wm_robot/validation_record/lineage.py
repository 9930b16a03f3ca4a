"""Validated lineage: the states from which a snapshot descends, and what other experience came in since each."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from wm_robot.store.snapshot import Snapshot
from wm_robot.store.store import PRETRAINED_NOTE, Store
from wm_robot.validation_record.session_error import MIN_SESSION_TIME, read_session_metrics
from wm_robot.validation_record.subject import INITIAL_STATE, LineageEvent

ASSIMILATED, MIGRATED_FROM = "assimilated", "migrated_from"
"""Keys in the origin of a snapshot: recordings of another robot, and the snapshot of the earlier base."""
PARENT_STATE_KEYS = ("snapshot", MIGRATED_FROM)


@dataclass(frozen=True, kw_only=True)
class Ancestor:
    """A state from which a snapshot descends, or the snapshot itself."""

    snapshot: str
    """Digest; empty for the initial state of the base."""
    distance: int
    """Number of snapshots between."""
    events: tuple[LineageEvent, ...]
    """Other experience than the robot's own in the snapshots after it, the newest first."""
    session: dict[str, float] = field(default_factory=dict)
    """Errors of the last session after it that was long enough; empty without one."""


def find_event(snapshot: Snapshot) -> LineageEvent | None:
    """Return what other experience than the robot's own a snapshot holds beyond its parents; None for none."""
    if len(snapshot.parents) > 1:
        return LineageEvent.POOL
    if ASSIMILATED in snapshot.origin:
        return LineageEvent.ASSIMILATION
    if snapshot.parents:
        return None
    if snapshot.origin:
        return LineageEvent.MIGRATION if MIGRATED_FROM in snapshot.origin else LineageEvent.IMPORT
    return LineageEvent.PRETRAINING if snapshot.note == PRETRAINED_NOTE else None


def iterate_ancestors(store: Store, reference: str, *, rate: float) -> Iterator[Ancestor]:
    """Yield a snapshot and the states that it descends from, the newest first, and at last its origin.

    The origin is the initial state of the base, or for an imported state those in the other store.

    Args:
        reference: See `Store.resolve`.
        rate: Control rate, in Hz.

    Raises:
        SnapshotError: If a manifest is missing or damaged.
    """
    events: tuple[LineageEvent, ...] = ()
    session: dict[str, float] = {}
    for distance, snapshot in enumerate(store.iterate_lineage(reference)):
        yield Ancestor(snapshot=snapshot.digest, distance=distance, events=events, session=session)
        if (event := find_event(snapshot)) is not None:
            events = (*events, event)
        steps, errors = read_session_metrics(snapshot.metrics)
        if not session and steps >= MIN_SESSION_TIME * rate:
            session = errors
        if not snapshot.parents:
            names = list(_list_earlier_states(snapshot.origin)) if snapshot.origin else [INITIAL_STATE]
            for name in names:
                yield Ancestor(snapshot=name, distance=distance + 1, events=events, session=session)


def _list_earlier_states(origin: Any) -> Iterator[str]:
    """Yield the digests of the states in other stores that an origin names."""
    while isinstance(origin, dict):
        named = [*map(origin.get, PARENT_STATE_KEYS), *(origin.get("parents") or ())]
        yield from (name for name in named if isinstance(name, str) and name)
        origin = origin.get("origin")
