"""A store that a node keeps small."""

import numpy as np
import pytest

pytestmark = pytest.mark.ros
pytest.importorskip("rclpy")

from wm_robot.store.store import Store
from wm_robot_ros.state_api.snapshot_pruner import SnapshotPruner


def saved(store, steps):
    values = {"step": np.array([steps], np.int64), "0.s": np.full((1, 4), steps, np.float32)}
    return store.save(values, base_digest="b" * 64, spec_digest="c" * 64)


@pytest.mark.parametrize("keep, whole", [(4, 8), (0, 24)])
def test_after_as_many_saves_as_are_kept_the_line_is_thinned_out(tmp_path, keep, whole):
    store, thinning = Store(tmp_path), SnapshotPruner(str(tmp_path), keep)
    for steps in range(24):
        saved(store, steps)
        thinning.count_save()
        thinning.wait_until_ended()
    line = list(store.iterate_lineage())
    assert [snapshot.steps for snapshot in line] == list(range(23, -1, -1))
    kept = [snapshot.steps for snapshot in line if not store.is_pruned(snapshot)]
    assert len(kept) <= whole and kept[: keep or 24] == list(range(23, 23 - (keep or 24), -1))
    assert store.load()["step"] == 23
