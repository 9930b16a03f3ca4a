"""A sensor that is killed, frozen, delayed or noisy in mid-run, with an agent that was trained for it."""

from pathlib import Path

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.learn]
pytest.importorskip("torch")

from tests.ros.sensing_hinge import SENSORS, train_small_base, write_hinge
from tests.ros.sensing_run import FaultOutcome, SensingRun
from wm_robot.streams.sensor_message import HEADERLESS_KINDS

AGENT = Path(__file__).with_name("gyroscope_agent.py")
CAUSES = {
    "killed": "older than",
    "frozen": "repeats the same bits while the model predicts a change",
    "delayed": "it is too old",
    "noisy": "",
}
"""Fault → what the diagnostics say; the noise that the gyroscope gets is within its deviation."""
NOISE = "it jumps far more than the model predicts"
MAX_ERROR = 1.2
"""Largest error of the other channels, in that before the fault."""
KNOWN_LARGER = {("odometry", "frozen"): 2.0, ("odometry", "noisy"): 1.35, ("scan", "noisy"): 1.35}
"""Odometry changes too slowly for its freeze to be found, and is believed; see docs/lab/22-sensor-faults.md."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """A hinge with a sensor of every kind, and its base."""
    folder = tmp_path_factory.mktemp("hinge")
    robot = write_hinge(folder, *SENSORS)
    return robot, train_small_base(robot, updates=700, has_graphs=True)


def describe(kind: str, fault: str, found: FaultOutcome) -> str:
    """Row of a table."""
    masked = "never" if found.masked_after is None else f"after {found.masked_after} steps"
    return (
        f"| {kind} | {fault} | {'/'.join(sorted(found.modes))} | {found.error_ratio:.2f} | {masked} | "
        f"{found.num_unmasked} | {len(found.diagnostics)} | {found.num_learned} | {found.has_recovered} |"
    )


def check_diagnostics(found: FaultOutcome, name: str, cause: str) -> None:
    """One sensor has a status with the cause; none has one without a cause."""
    assert {sensor for sensor, _ in found.diagnostics} == ({name} if cause else set())
    assert not cause or any(cause in message for _, message in found.diagnostics)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SENSORS)
def test_each_kind_may_fail_in_each_way(trained, peer, start, name):
    robot, base = trained
    run = SensingRun(peer, start, robot, base)
    run.wait_for_motion()
    run.watch(6.0)
    kind = SENSORS[name]["kind"]
    found = {fault: run.measure_fault(fault, name) for fault in CAUSES}
    for fault, outcome in found.items():
        print(describe(kind, fault, outcome))
    if kind in HEADERLESS_KINDS:
        # A late message without a stamp is a new one.
        del found["delayed"]
    for fault, outcome in found.items():
        assert outcome.modes == {"learned"} and outcome.num_learned > 100 and outcome.has_recovered, fault
        assert outcome.error_ratio <= KNOWN_LARGER.get((kind, fault), MAX_ERROR), fault
        if fault in ("frozen", "noisy"):
            # Found where the model predicts a change, or less noise; of some fields, and from time to time.
            is_said = bool(outcome.diagnostics)
            check_diagnostics(outcome, name, (CAUSES[fault] or NOISE) if is_said else "")
            assert is_said or outcome.masked_after is None or fault == "noisy", fault
        else:
            check_diagnostics(outcome, name, CAUSES[fault])
            assert outcome.masked_after is not None and outcome.num_unmasked == 0, fault


@pytest.mark.alone
def test_an_optional_sensor_may_fail_in_each_way(peer, start, tmp_path):
    """With an agent that needs no training: errors of its other channels say nothing."""
    gyroscope = {"fields": ["angular_velocity"], "noise": 0.005, "rate": 0, "max_age": 0.2}
    run = SensingRun(peer, start, write_hinge(tmp_path, "imu", imu=gyroscope), script=AGENT)
    run.wait_for_motion()
    for fault, cause in CAUSES.items():
        found = run.measure_fault(fault, "imu", before=0.5, during=3.0, after=1.5)
        print(describe("imu", fault, found), found.diagnostics)
        assert found.modes == {"learned"} and found.num_learned > 50 and found.has_recovered, fault
        assert found.num_unmasked == 0, "it learned from a masked sensor"
        check_diagnostics(found, "imu", cause)
        assert (found.masked_after is None) == (not cause), fault
