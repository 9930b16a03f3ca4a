import signal
import subprocess
import sys
import time

import pytest

from wm_robot.recording.session_file import Session, read_session
from wm_robot_ros.middleware.environment import make_node_command, make_ros_environment

pytestmark = [pytest.mark.ros, pytest.mark.sim]

RATE = 100
PUBLISHER = """
import sys, time
import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import String

rclpy.init()
node = rclpy.create_node("publisher", namespace="one")
latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
events = node.create_publisher(String, "ground_truth/event", latched)
events.publish(String(data="before anyone listened"))
states = node.create_publisher(JointState, "joint_states", 1)
print("up", flush=True)
for number in range(100000):
    message = JointState(name=["elbow"], position=[float(number)])
    message.header.stamp = node.get_clock().now().to_msg()
    states.publish(message)
    time.sleep(1 / 100)
"""


@pytest.fixture
def environment():
    return make_ros_environment()


@pytest.fixture
def publisher(environment):
    process = subprocess.Popen(
        [sys.executable, "-c", PUBLISHER], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "up\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def record(path, environment, seconds: float, end: signal.Signals, **more: str) -> tuple[int, Session]:
    command = make_node_command("recorder_node", {"path": str(path), "robots": "one", **more})
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while not (path.exists() and path.stat().st_size > 500):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(seconds)
        process.send_signal(end)
        code = process.wait(timeout=5)
    finally:
        process.kill()
        process.wait()
    return code, read_session(path)


def numbers(session: Session) -> list[int]:
    return [int(m.position[0]) for _, m in session.topics["/one/joint_states"]]


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_recorder_told_to_stop_leaves_a_whole_file_without_gaps(tmp_path, environment, publisher, end):
    code, session = record(tmp_path / "session.mcap", environment, 1.5, end)
    assert code == 0 and session.is_whole
    seen = numbers(session)
    assert seen == list(range(seen[0], seen[0] + len(seen))) and len(seen) > RATE


def test_what_was_latched_before_is_recorded_with_its_durability(tmp_path, environment, publisher):
    from rosbags.highlevel import AnyReader

    path = tmp_path / "session.mcap"
    _, session = record(path, environment, 1.0, signal.SIGINT)
    assert [m.data for _, m in session.topics["/one/ground_truth/event"]] == ["before anyone listened"]
    with AnyReader([path]) as reader:
        durability = {c.topic: c.ext.offered_qos_profiles[0].durability.name for c in reader.connections}
    assert durability == {"/one/ground_truth/event": "TRANSIENT_LOCAL", "/one/joint_states": "VOLATILE"}


def test_a_killed_recorder_loses_about_a_second(tmp_path, environment, publisher):
    code, session = record(tmp_path / "session.mcap", environment, 3.0, signal.SIGKILL)
    assert code == -signal.SIGKILL and not session.is_whole
    assert len(numbers(session)) > 1.5 * RATE


def test_a_digest_that_cannot_be_written_does_not_stop_the_recording(tmp_path, environment, publisher):
    # The publisher's event is no JSON either: anybody may say anything there.
    path = tmp_path / "session.mcap"
    code, session = record(path, environment, 1.0, signal.SIGINT, summary="/dev/full")
    assert code == 0 and session.is_whole and len(numbers(session)) > 0.5 * RATE


def test_a_session_on_disk_is_not_overwritten(tmp_path, environment):
    path = tmp_path / "session.mcap"
    path.write_bytes(b"yesterday's")
    command = make_node_command("recorder_node", {"path": str(path), "robots": "one"})
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and "exists already; move it" in done.stderr
    assert path.read_bytes() == b"yesterday's"
