"""A sensor that is killed, frozen, delayed or noisy in mid-run, with an agent that was trained for it."""

from pathlib import Path

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.learn]
pytest.importorskip("torch")

from tests.ros.sensing_hinge import SENSORS, train_small_base, write_hinge
from tests.ros.sensing_run import FaultOutcome, SensingRun

CAUSES = {
    "killed": "older than",
    "frozen": "repeats the same bits while the model predicts a change",
    "delayed": "it is too old",
    "noisy": "",
}
"""Fault → what the diagnostics say; noise is no cause."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """A hinge with a sensor of every kind, and its base."""
    folder = tmp_path_factory.mktemp("hinge")
    robot = write_hinge(folder, *SENSORS)
    return robot, train_small_base(robot, updates=500, has_graphs=True)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> tuple[Path, Path]:
    """A hinge with a slow IMU, and a base that took seconds."""
    folder = tmp_path_factory.mktemp("hinge")
    robot = write_hinge(folder, "imu", imu={"rate": 50, "max_age": 0.3})
    return robot, train_small_base(robot, updates=60, trajectories=64)


def describe(kind: str, fault: str, found: FaultOutcome) -> str:
    """Row of a table."""
    masked = "never" if found.masked_after is None else f"after {found.masked_after} steps"
    return (
        f"| {kind} | {fault} | {'/'.join(sorted(found.modes))} | {found.error_ratio:.2f} | {masked} | "
        f"{found.num_unmasked} | {len(found.diagnostics)} | {found.num_learned} | {found.has_recovered} |"
    )


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SENSORS)
def test_each_kind_may_fail_in_each_way(trained, peer, start, name):
    run = SensingRun(peer, start, *trained)
    run.wait_for_motion()
    run.watch(6.0)
    kind = SENSORS[name]["kind"]
    found = {fault: run.measure_fault(fault, name) for fault in CAUSES}
    for fault, outcome in found.items():
        print(describe(kind, fault, outcome))
        print(outcome.diagnostics)
