"""Snapshots and metrics as messages of `wm_robot_msgs`; import this module only if that package is built."""

from array import array
from collections.abc import Mapping
from datetime import datetime, timezone

import numpy as np
from wm_robot_msgs.msg import Metric
from wm_robot_msgs.msg import Snapshot as SnapshotMessage

from wm_robot.store.snapshot import Snapshot
from wm_robot.store.store import Store
from wm_robot.streams.joint_message import NS_PER_S
from wm_robot_ros.middleware.convert import make_time_message


def snapshot_message(store: Store, digest: str) -> SnapshotMessage:
    """Convert a snapshot of a store to a message; an empty digest gives an empty message.

    Raises:
        SnapshotError: If the store has no such snapshot.
    """
    return (
        manifest_message(
            store.manifests.read(digest), whole=not store.is_pruned(store.manifests.read(digest))
        )
        if digest
        else SnapshotMessage()
    )


def manifest_message(snapshot: Snapshot, *, whole: bool) -> SnapshotMessage:
    """Convert a manifest to a message.

    Args:
        snapshot: The manifest.
        whole: Whether the store still holds its tensors.
    """
    return SnapshotMessage(
        digest=snapshot.digest,
        parents=list(snapshot.parents),
        base_digest=snapshot.base_digest,
        spec_digest=snapshot.spec_digest,
        created=make_time_message(_parse_created(snapshot.created)),
        steps=int(snapshot.steps),
        sequence=int(snapshot.sequence),
        size=int(snapshot.size),
        whole=bool(whole),
        note=snapshot.note,
        metrics=metric_messages(snapshot.metrics, "1"),
    )


def metric_messages(values: Mapping[str, float], unit: str) -> list[Metric]:
    """Convert numbers with names to messages, all with one unit (UCUM)."""
    return [Metric(name=name, unit=unit, value=float(value)) for name, value in values.items()]


def flatten_floats(values: np.ndarray) -> array:
    """Flatten numbers to a `float32` array.array, which messages store without conversion."""
    return array("f", np.ascontiguousarray(values, np.float32).tobytes())


def _parse_created(created: str) -> int:
    """Convert the creation time of a manifest to ns; 0 if it has none."""
    try:
        moment = datetime.strptime(created, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        return 0
    return int(moment.timestamp()) * NS_PER_S
