"""Joints and sensors of different rates and clocks become one observation, and what is missing has a cause."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from tests.streams.message_fakes import make_message
from wm_robot.spec import Actuator, FloatingBase, Joint, RobotSpec, Sensor
from wm_robot.streams.observation_assembler import ObservationAssembler
from wm_robot.streams.rejection import BadMessageError
from wm_robot.streams.sensor_message import ReadingFault, fill_message
from wm_robot.streams.transition_assembler import TransitionAssembler

MS = 10**6
NOW = 50 * 10**9
DT = 0.02
IMU = Sensor(
    name="imu",
    kind="imu",
    frame="torso",
    rate=500.0,
    fields=("angular_velocity", "linear_acceleration"),
    required=True,
)
ODOMETRY = Sensor(
    name="odom",
    kind="odometry",
    frame="torso",
    rate=5.0,
    fields=("height", "linear_velocity"),
    limits={"height": 50.0, "linear_velocity": 50.0},
)
BATTERY = Sensor(name="battery", kind="battery", nominal=24.0, rate=50.0)


def make_spec(*sensors, **parts):
    joint = Joint(name="a", position=(-2.0, 2.0), velocity=5.0, effort=4.0)
    motor = Actuator(name="a", joint="a", kind="position", range=(-2.0, 2.0), rate=10.0)
    return RobotSpec(
        name="one", rate=50.0, model="none.xml", joints=(joint,), actuators=(motor,), sensors=sensors, **parts
    )


class Robot:
    """Messages to an assembler, all on one clock."""

    def __init__(self, *sensors, **parts):
        self.spec = make_spec(*sensors, **parts)
        self.assembler = ObservationAssembler(self.spec)
        self.now = NOW

    def send(self, name, values, *, stamp=None, change=None):
        sensor = self.assembler.buffers[name].sensor
        message = fill_message(
            make_message(sensor.kind),
            sensor,
            np.asarray(values, float),
            stamp=self.now if stamp is None else stamp,
        )
        if change:
            change(message)
        self.assembler.buffers[name].receive_message(message, self.now)

    def step(self, **readings):
        """One control step: the sensors send, then the joints."""
        self.now += 20 * MS
        for name, values in readings.items():
            self.send(name, values)
        return self.assembler.assemble(self.now, self.now, np.array([0.1, 0.2]))

    def health(self, name):
        return next(each for each in self.assembler.list_health(self.now) if each.name == name)


SIX = [1.0, 2, 3, 4, 5, 6]


def test_channels_are_in_the_order_of_the_layout():
    base = FloatingBase(body="torso", height=0.5, linear_velocity=2.0, angular_velocity=6.0)
    robot = Robot(IMU, BATTERY, base=base)
    found = robot.step(battery=[24.5], imu=SIX, base=base.make_home_channels())
    home = base.make_home_channels()
    np.testing.assert_allclose(found.values, np.float32([0.1, 0.2, *home, *SIX, 24.5]), atol=1e-7)
    assert found.values.dtype == np.float32
    assert found.is_valid and found.is_new.all() and found.faults == {}


def test_a_missing_required_sensor_is_named_and_an_optional_one_leaves_a_gap():
    robot = Robot(IMU, BATTERY)
    found = robot.step(imu=SIX)
    assert found.is_valid and found.faults == {"battery/voltage": ReadingFault.MISSING}
    assert np.isnan(found.values).tolist() == [False] * 8 + [True]
    robot = Robot(IMU, BATTERY)
    found = robot.step(battery=[24.0])
    assert not found.is_valid and found.missing_required == ("imu",)
    assert set(found.faults) == {"imu/angular_velocity", "imu/linear_acceleration"}


def test_a_killed_sensor_is_stale_after_its_age_limit_and_recovers():
    robot = Robot(IMU, BATTERY)
    robot.step(imu=SIX, battery=[24.0])
    for _ in range(3):
        found = robot.step(imu=SIX)
        assert found.faults == {} and found.values[-1] == 24.0 and not found.is_new[-1]
        assert found.is_new[:-1].all()
    assert robot.health("battery").cause == ""
    found = robot.step(imu=SIX)
    assert found.faults == {"battery/voltage": ReadingFault.STALE} and np.isnan(found.values[-1])
    told = robot.health("battery")
    assert (told.cause, told.level, told.fields) == ("stale", "warn", ())
    assert told.sentence == (
        "sensor 'battery' has no valid reading, and the model predicts it instead: the last one on 'battery' is "
        "older than 0.06 s. Did its driver stop?"
    )
    found = robot.step(imu=SIX, battery=[23.0])
    assert found.faults == {} and found.is_new[-1] and robot.health("battery").level == "ok"


def test_a_field_that_is_not_finite_or_out_of_range_is_no_reading_after_the_age_limit():
    for value, cause in ((np.nan, ReadingFault.NOT_FINITE), (1e4, ReadingFault.RANGE)):
        robot = Robot(IMU)
        robot.step(imu=SIX)
        bad = [1.0, value, 3.0, 7.0, 8.0, 9.0]

        def set_bad(message, value=value):
            message.angular_velocity_covariance[0] = 0.0
            message.angular_velocity.y = value

        # IMU at 500 Hz: three control periods of age.
        for step in range(5):
            robot.now += 20 * MS
            robot.send("imu", bad, change=set_bad)
            found = robot.assembler.assemble(robot.now, robot.now, np.zeros(2))
            assert found.values[5] == 7.0
            assert found.is_valid == (step < 3)
        assert found.faults == {"imu/angular_velocity": cause}
        assert found.missing_required == ("imu",)
        assert robot.assembler.buffers["imu"].count_faults()["angular_velocity"] == 5
        told = robot.health("imu")
        assert (told.cause, told.level, told.fields) == (cause.value, "error", ("angular_velocity",))
        assert "of ['angular_velocity'], and the robot is not driven without it" in told.sentence


def test_a_field_that_messages_do_not_carry_is_missing():
    robot = Robot(replace(IMU, required=False))
    found = robot.step(imu=[np.nan] * 3 + [4.0, 5, 6])
    assert found.faults == {"imu/angular_velocity": ReadingFault.MISSING}
    np.testing.assert_array_equal(found.values[2:], np.float32([np.nan] * 3 + [4.0, 5, 6]))


def test_frozen_and_noisy_fields_are_reported_and_stay_in_the_observation():
    robot = Robot(IMU, BATTERY)
    robot.step(imu=SIX, battery=[24.0])

    def assemble(*names, cause="frozen"):
        faults = dict.fromkeys(names, cause)
        return robot.assembler.assemble(robot.now, robot.now, np.zeros(2), find_faults=lambda obs: faults)

    found = assemble("battery/voltage")
    assert found.is_valid and found.faults == {"battery/voltage": ReadingFault.FROZEN}
    assert found.values[-1] == 24.0 and robot.health("battery").cause == "frozen"
    assemble("battery/voltage", cause="noisy")
    assert robot.health("battery").cause == "noisy"
    for cause in ReadingFault:
        assemble("battery/voltage", cause=cause.value)
        assert "the model predicts it instead: " in robot.health("battery").sentence
    assert assemble("imu/angular_velocity").missing_required == ("imu",)
    assert assemble("a/position").missing_required == ("joints",)
    assert assemble().is_valid


def test_a_message_that_is_refused_is_in_the_health_of_its_sensor():
    robot = Robot(IMU)

    def move(message):
        message.header.frame_id = "head"

    with pytest.raises(BadMessageError):
        robot.send("imu", SIX, change=move)
    told = robot.health("imu")
    assert (told.cause, told.num_rejected, told.level) == ("missing", 1, "error")
    assert told.sentence.endswith(
        "the last message was rejected: frame_id is 'head'; sensor 'imu' has the frame 'torso' in the spec"
    )
    with pytest.raises(BadMessageError):
        robot.send("imu", SIX, stamp=NOW - 10**9)
    assert robot.health("imu").cause == "stale"


def test_a_clock_too_far_off_is_reported():
    robot = Robot(ODOMETRY)
    for _ in range(12):
        robot.now += 200 * MS
        robot.send("odom", [0.3, 0, 0, 0], stamp=robot.now + 300 * MS)
    told = robot.health("odom")
    assert told.clock_offset == pytest.approx(-0.3)
    assert "the clock of sensor 'odom' is ahead of that of this node" in told.sentence


def test_health_is_plain_values():
    robot = Robot(IMU, ODOMETRY)
    for _ in range(50):
        robot.step(imu=SIX)
    told = robot.health("imu").to_dict()
    assert told["rate"] == 50.0 and told["expected_rate"] == 500.0 and told["loss"] == 0.9
    assert (told["age"], told["cause"], told["required"]) == (0.0, "", True)
    assert robot.health("odom").to_dict()["age"] is None
    assert all(isinstance(value, str | float | int | bool | None) for value in told.values())


def test_a_message_without_header_belongs_to_the_step_that_it_arrived_before():
    contact = Sensor(name="toe", kind="contact", frame="toe", limits={"force": 100.0})
    robot = Robot(contact)
    for step in range(20):
        robot.now += 20 * MS
        robot.send("toe", [step])
        # The joints were measured before, and arrive after it.
        found = robot.assembler.assemble(robot.now - 3 * MS, robot.now + MS, np.zeros(2))
        assert found.values[-1] == step


def test_a_reset_discards_all_readings():
    robot = Robot(IMU)
    robot.step(imu=SIX)
    robot.assembler.reset()
    assert robot.assembler.assemble(robot.now, robot.now, np.zeros(2)).missing_required == ("imu",)


def test_flags_of_new_readings_are_kept_with_their_transition():
    pairs = TransitionAssembler(period=DT, max_age=0.1)
    flags = [np.array([True, step == 2]) for step in range(3)]
    for step in range(3):
        stamp = NOW + 20 * step * MS
        pairs.add_observation(stamp, stamp, np.zeros(2), flags[step])
        pairs.add_applied(stamp, np.zeros(1))
    assert [pairs.take_transition().is_new.tolist() for _ in range(2)] == [[True, False], [True, True]]


@dataclass
class Sender:
    """A sensor whose readings are the true time of their measurement, with clock, latency and loss."""

    name: str
    rate: float
    latency: float
    jitter: float
    behind: float = 0.0
    drift: float = 0.0
    loss: float = 0.05
    times: np.ndarray = field(init=False)
    arrivals: np.ndarray = field(init=False)

    def draw(self, rng, seconds):
        count = int(seconds * self.rate)
        times = (np.arange(count) + rng.uniform()) / self.rate
        arrivals = np.maximum.accumulate(times + self.latency + rng.exponential(self.jitter, count))
        kept = rng.uniform(size=count) >= self.loss
        self.times, self.arrivals = times[kept], arrivals[kept]

    def read_clock(self, time):
        return NOW + round((time - self.behind - self.drift * time) * 1e9)


def replay(assembler, senders, joints):
    """Give every message to an assembler as it arrives; yield each observation with what had arrived by then."""
    events = sorted(
        (arrival, time, sender.name)
        for sender in (*senders, joints)
        for arrival, time in zip(sender.arrivals, sender.times, strict=True)
    )
    by_name = {sender.name: sender for sender in (*senders, joints)}
    arrived = {sender.name: [] for sender in senders}
    for arrival, time, name in events:
        stamp, now = by_name[name].read_clock(time), NOW + round(arrival * 1e9)
        if name == joints.name:
            yield time, assembler.assemble(stamp, now, np.zeros(2)), arrived
            continue
        arrived[name].append(time)
        buffer = assembler.buffers[name]
        kind, size = buffer.sensor.kind, len(buffer.sensor.make_home_channels())
        buffer.receive_message(
            fill_message(make_message(kind), buffer.sensor, np.full(size, time), stamp=stamp), now
        )


def find_alignment_error(used, time, arrived):
    """By how much a reading is used too early, or passed over too late, in s."""
    passed_over = [each for each in arrived[-80:] if used + 1e-5 < each <= time]
    return max(0.0, used - time, time - passed_over[0] if passed_over else 0.0)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("behind", "drift"), [(0.0, 0.0), (0.03, 0.0), (-0.03, 0.0), (0.028, 4e-4), (-0.028, -4e-4)]
)
def test_sensors_of_other_rates_and_clocks_are_aligned_within_a_step(seed, behind, drift):
    rng, seconds = np.random.default_rng(seed), 5.0
    joints = Sender("joints", 50.0, 0.001, 0.001)
    imu = Sender("imu", 500.0, 0.001, 0.003, behind=behind, drift=drift)
    odometry = Sender("odom", 5.0, 0.002, 0.005, behind=-behind)
    for sender in (joints, imu, odometry):
        sender.draw(rng, seconds)
    assembler = ObservationAssembler(make_spec(IMU, ODOMETRY))
    num_compared = 0
    for time, found, arrived in replay(assembler, (imu, odometry), joints):
        for name, column in (("imu", 2), ("odom", 8)):
            used = float(found.values[column])
            if np.isnan(used):
                # Nothing has arrived yet, or several messages in a row were lost.
                recent = time - assembler.buffers[name].max_age + DT
                assert not [each for each in arrived[name] if recent < each <= time - DT]
                continue
            assert find_alignment_error(used, time, arrived[name]) <= DT
            num_compared += 1
    assert num_compared > 400
    for told in assembler.list_health(NOW + round(seconds * 1e9)):
        assert told.num_rejected == 0 and told.clock_offset is None and told.cause == ""
        assert told.loss == pytest.approx(0.05, abs=0.03 if told.name == "imu" else 0.2)
