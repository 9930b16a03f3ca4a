"""Recorded messages of joints and sensors become the episodes that the robot lived, with gaps and held readings."""

from dataclasses import replace
from types import SimpleNamespace as Namespace

import numpy as np
import pytest

from tests.streams.message_fakes import header, make_message
from tests.streams.test_observation_assembler import BATTERY, IMU, MS, NOW, ODOMETRY, make_spec
from wm_robot.recording.episode_splitter import EpisodeBuilder, EpisodeSplitter, list_topic_types
from wm_robot.spec import FloatingBase, Sensor
from wm_robot.streams.sensor_message import fill_message, list_message_sensors

PERIOD = 20 * MS
BASE = FloatingBase(body="torso", height=0.5, linear_velocity=2.0, angular_velocity=6.0)
CONTACT = Sensor(name="foot", kind="contact", frame="foot", limits={"force": 50.0})


class Recording:
    """Messages of a robot to a splitter, in the order of receipt."""

    def __init__(self, *sensors, **parts):
        self.spec = make_spec(*sensors, **parts)
        self.ended = []
        builder = lambda: EpisodeBuilder(self.spec.layout.is_required if self.sensors else None)  # noqa: E731
        self.sensors = list_message_sensors(self.spec)
        self.splitter = EpisodeSplitter(self.spec, builder, self.ended.append, has_commands=False)
        self.now, self.step, self.offset = NOW, 0, 0

    def send(self, name, values, *, stamp=None, late=0, change=None):
        sensor = self.sensors[name]
        message = fill_message(
            make_message(sensor.kind),
            sensor,
            np.asarray(values, float),
            stamp=self.now if stamp is None else stamp,
        )
        if change:
            change(message)
        self.splitter.process_message(sensor.topic, message, self.now + self.offset + late)

    def end_period(self):
        """The joints and the applied command, at the end of a control period."""
        joints = Namespace(
            header=header(),
            name=["a"],
            position=[self.step / 700],
            velocity=[-self.step / 300],
            effort=[],
        )
        joints.header.stamp = Namespace(sec=self.now // 10**9, nanosec=self.now % 10**9)
        self.splitter.process_message("joint_states", joints, self.now + self.offset)
        action = Namespace(**{**vars(joints), "velocity": [], "position": [self.step / 1100]})
        self.splitter.process_message("applied_command", action, self.now + self.offset)
        self.step, self.now = self.step + 1, self.now + PERIOD

    def finish(self):
        self.splitter.end_episode()
        return [episode for each in self.ended if (episode := each.build()) is not None]


def rejected(recording):
    return {k: n for k, n in recording.splitter.pairing.rejections.to_dict().items() if n}


SIX = [1.0, 2, 3, 4, 5, 6]


def test_topics_of_a_robot_are_those_of_its_sensors_too():
    spec = make_spec(replace(IMU, topic="imu/data"), replace(BATTERY, topic="/battery"), base=BASE)
    found = list_topic_types(spec)
    assert found["imu/data"] == "sensor_msgs/msg/Imu" and found["/battery"] == "sensor_msgs/msg/BatteryState"
    assert found["odom"] == "nav_msgs/msg/Odometry" and found["joint_states"] == "sensor_msgs/msg/JointState"


def test_a_robot_without_sensors_has_the_numbers_that_it_had():
    recording = Recording()
    for _ in range(10):
        recording.end_period()
    (episode,) = recording.finish()
    assert (episode.is_new, episode.is_required) == (None, None)
    np.testing.assert_array_equal(episode.obs, [[step / 700, -step / 300] for step in range(10)])


def test_the_channels_of_base_and_sensors_follow_those_of_the_joints():
    recording = Recording(IMU, BATTERY, base=BASE)
    for step in range(5):
        recording.send("base", BASE.make_home_channels())
        recording.send("imu", np.array(SIX) * step)
        recording.send("battery", [24 - step])
        recording.end_period()
    (episode,) = recording.finish()
    rows = [
        [step / 700, -step / 300, *np.float32(BASE.make_home_channels()), *np.float32(SIX) * step, 24 - step]
        for step in range(5)
    ]
    np.testing.assert_allclose(episode.obs, rows, atol=1e-7)
    np.testing.assert_array_equal(episode.obs[:, :2], np.array(rows)[:, :2])
    assert episode.valid.all() and episode.is_new.all() and not rejected(recording)


def test_a_slow_sensor_is_held_until_its_age_limit_and_then_missing():
    recording = Recording(replace(ODOMETRY, max_age=0.3))
    for step in range(40):
        if step % 10 == 0 and step < 20:
            recording.send("odom", [step, 1, 2, 3])
        recording.end_period()
    (episode,) = recording.finish()
    expected = [0.0] * 10 + [10.0] * 16 + [np.nan] * 14
    np.testing.assert_array_equal(episode.obs[:, 2], expected)
    assert np.flatnonzero(episode.is_new[:, 2]).tolist() == [0, 10] and episode.is_new[:, :2].all()
    assert episode.valid.all()
    assert recording.splitter.observations.describe_unread() == {}


def test_without_a_required_sensor_an_observation_is_lost_as_one_that_was_not_recorded():
    recording = Recording(IMU, BATTERY)
    for step in range(100):
        if not 40 <= step < 50:
            recording.send("imu", SIX)
        recording.end_period()
    (episode,) = recording.finish()
    # Three periods of age, and then seven observations without one.
    assert rejected(recording) == {"sensor": 7, "gap": 1}
    assert len(episode) == 99 - 7 and np.flatnonzero(~episode.valid).tolist() == [42]
    assert np.isnan(episode.obs[:, -1]).all()
    assert recording.splitter.observations.describe_unread() == {"battery": "'battery' has no message"}
    assert recording.splitter.first_rejection == (
        "joint_states: required sensors ['imu'] have no valid reading (imu/angular_velocity is stale, "
        "imu/linear_acceleration is stale, battery/voltage is missing)"
    )


def test_a_long_time_without_a_required_sensor_ends_the_episode():
    recording = Recording(IMU)
    for step in range(200):
        if not 50 <= step < 120:
            recording.send("imu", SIX)
        recording.end_period()
    first, second = recording.finish()
    assert (len(first), len(second)) == (52, 79)


def test_why_an_optional_sensor_has_no_reading_is_told():
    recording = Recording(
        replace(IMU, required=False), BATTERY, replace(BATTERY, name="spare", topic="spare")
    )
    for _ in range(3):
        recording.send("imu", SIX, change=lambda message: setattr(message.header, "frame_id", "hand"))
        recording.send("battery", [np.nan])
        recording.end_period()
    (episode,) = recording.finish()
    assert episode.valid.all() and np.isnan(episode.obs[:, 2:]).all()
    told = recording.splitter.observations.describe_unread()
    assert told.pop("imu").startswith("frame_id is 'hand'")
    assert told == {
        "battery": "none of 3 messages has a valid one in time",
        "spare": "'spare' has no message",
    }


def test_a_message_in_another_frame_is_no_reading_and_its_words_are_kept():
    recording = Recording(IMU)
    for _ in range(3):
        recording.send("imu", SIX, change=lambda message: setattr(message.header, "frame_id", "hand"))
        recording.end_period()
    assert recording.finish() == [] and rejected(recording) == {"sensor": 3}
    assert "frame_id is 'hand'; sensor 'imu' has the frame 'torso'" in recording.splitter.first_rejection


@pytest.mark.parametrize("offset", [0, 10**18], ids=["one clock", "simulated time"])
def test_mixed_rates_a_clock_that_is_off_and_lost_messages_stay_aligned(offset):
    """An IMU at 500 Hz, odometry at 5 Hz, and a twentieth of the messages lost."""
    rng = np.random.default_rng(0)
    recording = Recording(IMU, replace(ODOMETRY, max_age=0.7), CONTACT)
    recording.offset = offset
    # Simulated stamps show nothing about the clock of a sensor.
    ahead = 0 if offset else 30 * MS

    def seconds():
        return (recording.now - NOW) / 1e9

    for step in range(500):
        end = recording.now
        for reading in range(10):
            recording.now = end - (9 - reading) * 2 * MS
            if rng.random() > 0.05:
                recording.send("imu", [seconds()] * 6, stamp=recording.now + ahead, late=MS // 2)
            if reading == 4 and step % 10 == 0 and rng.random() > 0.05:
                recording.send("odom", [seconds(), 0, 0, 0], late=MS)
        recording.now = end
        recording.send("foot", [step / 50])
        recording.end_period()
    (episode,) = recording.finish()
    times, first = (episode.stamp - NOW) / 1e9, 500 - len(episode.stamp)
    # Before the first joint state nothing shows that the receipt has another clock.
    assert episode.valid.all() and rejected(recording) == ({"sensor": 1} if offset else {}) and first <= 1
    assert np.abs(times - episode.obs[:, 2]).max() <= 0.02
    age = times - episode.obs[:, 8]
    assert np.nanmin(age) > -1e-6 and np.nanmax(age) < 0.7
    np.testing.assert_allclose(episode.obs[5:, -1], np.arange(5 + first, 500) / 50, atol=0.021)
