"""Sessions of a robot with sensors: what is read of them, what may be missing, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.episodes]

from sensor_msgs.msg import JointState

from tests.recording.sensing_robot import PERIOD, expect_row, make_period, write_robot, write_session
from tests.recording.test_episode_file import check_equal
from wm_robot.errors import SpecError
from wm_robot.recording.episode_folder import list_episodes
from wm_robot.recording.recorded_experience import load_experience, split_session
from wm_robot.recording.session_file import read_topics
from wm_robot_cli.main import main

START = 10**18
SENT = [each for step in range(100) for each in make_period(step, START + PERIOD * step)]


@pytest.fixture
def robot(tmp_path):
    return write_robot(tmp_path)


def test_readings_of_all_rates_are_in_the_episode(tmp_path, robot):
    _, spec = robot
    write_session(tmp_path / "s.mcap", SENT)
    assert read_topics(tmp_path / "s.mcap")["/one/odom"] == "nav_msgs/msg/Odometry"
    found = split_session(tmp_path / "s.mcap", spec)
    (episode,) = found.episodes
    np.testing.assert_array_equal(episode.obs, [expect_row(step) for step in range(100)])
    assert episode.valid.all() and list(found.unread_sensors) == ["battery"]
    assert np.flatnonzero(episode.is_new[:, 5]).tolist() == list(range(0, 100, 10))
    assert episode.is_new[:, :5].all() and not episode.is_new[:, 6].any()


def test_the_episodes_of_a_session_are_written_and_read_with_their_gaps(tmp_path, robot, capsys):
    path, spec = robot
    write_session(tmp_path / "s.mcap", SENT)
    main(["episodes", str(tmp_path / "s.mcap"), str(tmp_path / "out"), "--robot", str(path)])
    assert (
        "robot 'one' has no reading of sensor 'battery', whose channels are empty: '/battery' has no message"
        in capsys.readouterr().err
    )
    (file,) = list_episodes(tmp_path / "out" / "one")
    for (found,) in (load_experience(file, spec), load_experience(file.parent, spec)):
        check_equal(found, load_experience(tmp_path / "s.mcap", spec)[0])


def test_a_required_sensor_that_was_not_recorded_is_named(tmp_path, robot):
    write_session(tmp_path / "s.mcap", [each for each in SENT if each[0] != "imu/data"])
    with pytest.raises(
        SpecError, match="robot 'one': it has no topic /one/imu/data of sensor 'imu', which is req"
    ):
        load_experience(tmp_path / "s.mcap", robot[1])


def test_a_topic_of_another_type_is_refused(tmp_path, robot):
    other = [("/battery", JointState(), START)]
    write_session(tmp_path / "s.mcap", SENT + other)
    words = "it has /battery of type 'sensor_msgs/msg/JointState', and sensor 'battery' is a 'sensor_msgs/msg/Batt"
    with pytest.raises(SpecError, match=words):
        load_experience(tmp_path / "s.mcap", robot[1])


def test_a_required_sensor_without_readings_is_the_reason_why_nothing_is_left(tmp_path, robot):
    def turn(name, message):
        if name == "imu/data":
            message.header.frame_id = "hand"

    sent = [each for step in range(100) for each in make_period(step, START + PERIOD * step)]
    for name, message, _ in sent:
        turn(name, message)
    write_session(tmp_path / "s.mcap", sent)
    with pytest.raises(
        SpecError, match=r"required sensors \['imu'\] have no valid reading .* frame_id is 'hand'"
    ):
        load_experience(tmp_path / "s.mcap", robot[1])


def test_a_session_of_joints_alone_is_read_as_before(tmp_path, robot):
    _, spec = robot
    write_session(tmp_path / "s.mcap", SENT)
    (episode,) = load_experience(tmp_path / "s.mcap", replace(spec, sensors=()))
    np.testing.assert_array_equal(episode.obs, [expect_row(step)[:2] for step in range(100)])
    assert (episode.is_new, episode.is_required) == (None, None)
