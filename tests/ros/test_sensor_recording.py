"""A robot with an IMU and slow odometry is recorded, split into episodes and replayed with all its readings."""

import json
import time

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.episodes]

from nav_msgs.msg import Odometry
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Float64

from tests.recording.sensing_robot import (
    PERIOD,
    expect_row,
    make_period,
    make_stamp,
    write_robot,
    write_session,
)
from tests.ros.sensing_hinge import SENSORS as SENSORS_OF_HINGE
from tests.ros.sensing_hinge import write_hinge
from wm_robot.recording.episode_file import read_episode
from wm_robot.recording.episode_folder import list_episodes
from wm_robot.recording.recorded_experience import load_experience, split_session
from wm_robot.recording.session_file import read_session
from wm_robot.robots import load_spec
from wm_robot.streams.joint_message import decode_observation, read_stamp
from wm_robot.streams.observation_assembler import ObservationAssembler
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.environment import make_node_command
from wm_robot_ros.nodes.replay_node import ReplayedMessage, schedule_messages

KINDS = {
    "imu/data": Imu,
    "odom": Odometry,
    "applied_command": JointState,
    "joint_states": JointState,
    "joint_command": JointState,
}
SENSORS = {"imu/data": "imu", "odom": "slow"}
"""Topic → sensor."""


def test_readings_are_recorded_raw_and_in_episodes(tmp_path, start, peer):
    path, spec = write_robot(tmp_path)
    session, folder = tmp_path / "s.mcap", tmp_path / "episodes"
    # Another robot, of another spec, is recorded too.
    robots = {"robots": "one,two", "robot": f"{path},arm"}
    parameters = {"path": str(session), **robots, "episodes": str(folder)}
    parameters["summary"] = str(tmp_path / "summary")
    recorder = start(make_node_command("recorder_node", parameters))
    # Drivers of sensors publish with best effort.
    publishers = {
        name: peer.node.create_publisher(
            kind, f"one/{name}", qos_profile_sensor_data if name in SENSORS else 10
        )
        for name, kind in KINDS.items()
    }
    peer.until(lambda: all(each.get_subscription_count() for each in publishers.values()), "no recorder")
    first = peer.now()
    for step in range(100):
        stamp = first + PERIOD * step
        peer.spin(max(0.0, (stamp - peer.now()) / 1e9))
        for name, message, _ in make_period(step, stamp):
            publishers[name].publish(message)
    peer.spin(0.5)
    arm = load_spec("arm")
    other = peer.node.create_publisher(JointState, "two/joint_states", 10)
    peer.until(other.get_subscription_count, "the other robot is not recorded")
    other.publish(convert.make_observation_message(np.zeros(arm.obs_dim), arm, peer.now()))
    peer.spin(0.5)
    assert recorder.stop_process() == 0
    topics = read_session(session).topics
    assert len(topics["/two/joint_states"]) <= 1 and {path.name for path in folder.iterdir()} == {
        "one",
        "two",
    }
    # The first messages are published while publisher and recorder still find each other.
    assert len(topics["/one/imu/data"]) > 160 and len(topics["/one/odom"]) >= 8
    assert topics["/one/odom"][-1][1].pose.pose.position.z == 90 / 32
    (episode,) = load_experience(session, spec)
    (file,) = list_episodes(folder / "one")
    found = read_episode(file, spec)
    for name in episode.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(found, name), getattr(episode, name), err_msg=name)
    steps = (episode.stamp - first) // PERIOD
    assert len(steps) > 80 and episode.is_new[:, 5].sum() >= 8 and not episode.is_new[:, 6].any()
    expected = np.array([expect_row(step) for step in steps])
    first_odometry = int(np.argmax(np.isfinite(episode.obs[:, 5])))
    assert first_odometry < 20
    found, expected = episode.obs[first_odometry:], expected[first_odometry:]
    np.testing.assert_array_equal(found[:, :2], expected[:, :2])
    # Topics keep no order among one another, so a reading may be recorded after the joint state of its period.
    late = (expected[:, 2] - found[:, 2]) * 64
    assert late.min() >= 0 and late.max() <= 1 and (late == 0).mean() > 0.5
    assert ((expected[:, 5] == found[:, 5]) | (expected[:, 5] == found[:, 5] + 10 / 32)).all()
    told = [json.loads(line)["robots"]["one"] for line in (tmp_path / "summary").read_text().splitlines()]
    assert any("error" in each for each in told)


def test_a_number_of_specs_that_fits_no_robots_is_refused(tmp_path, start):
    parameters = {"path": str(tmp_path / "s.mcap"), "robots": "a,b,c", "robot": "arm,cartpole"}
    recorder = start(make_node_command("recorder_node", parameters))
    assert recorder.wait_for_exit(30) == 2
    words = "robot has 2 specs for 3 robots; give one, or one for each"
    assert words in (tmp_path / "node0.log").read_text()


def test_a_replay_gives_the_observations_of_the_recording(tmp_path, start, peer):
    path, spec = write_robot(tmp_path)
    first, late = 10**18, 2_000_000
    sent = [each for step in range(50) for each in make_period(step, first + PERIOD * step)]
    write_session(tmp_path / "s.mcap", [(name, message, received + late) for name, message, received in sent])
    (recorded,) = load_experience(tmp_path / "s.mcap", spec)
    heard, arrivals = [], []
    for name in ("imu/data", "odom", "joint_states"):

        def receive(message, name=name):
            heard.append((read_stamp(message), name == "joint_states", name, message))
            arrivals.append(time.monotonic())

        peer.node.create_subscription(KINDS[name], name, receive, 50)
    parameters = {"recording": str(tmp_path / "s.mcap"), "from_robot": "one", "robot": str(path)}
    process = start(make_node_command("replay_node", parameters))
    peer.until(lambda: len(heard) == 50 + 100 + 5, "not all was replayed")
    assert process.wait_for_exit(10) == 0
    assert arrivals[-1] - arrivals[0] == pytest.approx(49.5 * PERIOD / 1e9, abs=0.3)
    # As they are received where nothing is delayed: readings before the joint states of their period.
    assembler, seen = ObservationAssembler(spec), []
    for stamp, is_observation, name, message in sorted(heard, key=lambda each: each[:2]):
        if is_observation:
            seen.append(assembler.assemble(stamp, stamp, decode_observation(message, spec)))
        else:
            assembler.buffers[SENSORS[name]].receive_message(message, stamp)
    np.testing.assert_array_equal([each.values for each in seen], np.float32(recorded.obs))
    np.testing.assert_array_equal([each.is_new for each in seen], recorded.is_new)
    assert len({each.stamp - first - PERIOD * step for step, each in enumerate(seen)}) == 1


def test_a_reading_is_due_as_it_was_received_whatever_its_clock():
    def joints(stamp, received):
        message = JointState()
        message.header.stamp = make_stamp(stamp)
        return ReplayedMessage("/one/joint_states", message, received, False)

    def reading(received):
        return ReplayedMessage("/one/foot", Float64(), received, True)

    messages = [reading(100), reading(104), joints(1000, 110), reading(113), joints(1020, 130), reading(131)]
    found = list(schedule_messages(messages))
    assert [due for due, _ in found] == [990, 994, 1000, 1003, 1020, 1021]
    assert [each for _, each in found] == messages
    assert list(schedule_messages([reading(100)])) == []


@pytest.mark.alone
def test_every_kind_of_sensor_of_a_plant_is_in_the_episode(tmp_path, start, peer):
    path = write_hinge(tmp_path, *SENSORS_OF_HINGE)
    spec, session = load_spec(path), tmp_path / "s.mcap"
    recorder = start(
        make_node_command("recorder_node", {"path": str(session), "robots": "left", "robot": str(path)})
    )
    peer.until(session.exists, "no recorder")
    parameters = {"robot": str(path), "hold_if_late": False, "min_subscribers": 1}
    plant = start(make_node_command("plant_node", parameters, namespace="left"))
    states = peer.hear(JointState, "left/joint_states")
    peer.until(lambda: len(states) > 120, "the plant does not run")
    assert plant.stop_process() == 0 and recorder.stop_process() == 0
    found = split_session(session, spec)
    assert found.namespace == "left" and found.unread_sensors == {}
    episode = found.episodes[-1]
    read = np.isfinite(episode.obs).mean(0)
    assert (read > 0.8).all(), dict(zip(spec.observation_names, read.round(2), strict=True))
    # Five readings of the odometry in a second, and one of the wrench in each period.
    share = episode.is_new.mean(0)
    assert share[spec.layout.find_sensor("odom")] == pytest.approx(0.1, abs=0.05)
    assert (share[spec.layout.find_sensor("wrist")] > 0.9).all()
