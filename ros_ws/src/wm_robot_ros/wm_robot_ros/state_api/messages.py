"""Lives as messages of `wm_robot_msgs`; imported only where that is built."""

from array import array
from collections.abc import Mapping
from datetime import datetime, timezone

import numpy as np
from wm_robot_msgs.msg import Metric
from wm_robot_msgs.msg import Snapshot as SnapshotMessage

from wm_robot.store.snapshot import Snapshot
from wm_robot.store.store import Store
from wm_robot.streams.joint_message import NANO
from wm_robot_ros.middleware.convert import time_message


def snapshot_message(store: Store, digest: str) -> SnapshotMessage:
    """A snapshot of a store; an empty message for an empty digest.

    Raises:
        SnapshotError: If it is not there.
    """
    return (
        described(store.manifests.read(digest), whole=not store.pruned(store.manifests.read(digest)))
        if digest
        else SnapshotMessage()
    )


def described(snapshot: Snapshot, *, whole: bool) -> SnapshotMessage:
    """What a manifest says.

    Args:
        whole: Whether its tensors are kept.
    """
    return SnapshotMessage(
        digest=snapshot.digest,
        parents=list(snapshot.parents),
        base_digest=snapshot.base_digest,
        spec_digest=snapshot.spec_digest,
        created=time_message(_nanoseconds(snapshot.created)),
        steps=int(snapshot.steps),
        sequence=int(snapshot.sequence),
        size=int(snapshot.size),
        whole=bool(whole),
        note=snapshot.note,
        metrics=metrics(snapshot.metrics, "1"),
    )


def metrics(values: Mapping[str, float], unit: str) -> list[Metric]:
    """Numbers by name, all of one unit (UCUM)."""
    return [Metric(name=name, unit=unit, value=float(value)) for name, value in values.items()]


def floats(values: np.ndarray) -> array:
    """Numbers in the order in which they lie, `float32`: an array.array is taken as it is."""
    return array("f", np.ascontiguousarray(values, np.float32).tobytes())


def _nanoseconds(created: str) -> int:
    """The wall clock of a manifest; 0 where it says none."""
    try:
        moment = datetime.strptime(created, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        return 0
    return int(moment.timestamp()) * NANO
