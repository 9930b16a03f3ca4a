"""Sensors beyond the joints over ROS: what agents are given, what they say when one fails, what plants publish."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

pytestmark = [pytest.mark.ros, pytest.mark.sim]

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger

from tests.ros.sensing_hinge import SENSORS, write_hinge
from tests.sim.sensing_robots import make_crawler, make_sensor
from wm_robot.errors import SpecError
from wm_robot.robots import load_spec
from wm_robot.spec import JOINTS, make_home_obs
from wm_robot.streams.sensor_message import decode_reading, fill_message, list_message_sensors
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.environment import make_node_command
from wm_robot_ros.middleware.sensor_messages import check_sensor_topics, find_message_class

FAKE = str(Path(__file__).with_name("fake_agent.py"))
PATIENT = {"max_age": 0.4}
"""Of a sensor on a busy machine."""
LATE = 0.6
"""Time after which such a sensor is stale, in s."""


class SensingRobot:
    """Plays a robot with sensors to an agent, in real time."""

    def __init__(self, peer, spec, namespace=""):
        self.peer, self.spec, self.prefix = peer, spec, f"/{namespace}/" if namespace else "/"
        self.sensors = list_message_sensors(spec)
        home = make_home_obs(spec)
        self.values = home - np.float32(0.001) * np.arange(len(home), dtype=np.float32)
        for start in spec.layout.rotations:
            self.values[start : start + 6] = home[start : start + 6]
        for name, sensor in self.sensors.items():
            own = spec.layout.find_sensor(name)
            if sensor.kind in ("range", "scan"):
                self.values[own] = np.minimum(self.values[own], 0.9 * spec.layout.limits[own])
        self.publishers = {
            name: peer.speak(find_message_class(sensor), self.prefix + sensor.topic)
            for name, sensor in self.sensors.items()
        }
        self.states, self.applied = (
            peer.speak(JointState, self.prefix + topic) for topic in ("joint_states", "applied_command")
        )
        self.targets = peer.speak(JointState, self.prefix + "target") if spec.tasks["follow"].goal else None
        self.heard = peer.hear(JointState, self.prefix + "joint_command")
        self.status = peer.hear(String, self.prefix + "agent/status")

    def publish_sensor(self, name, stamp, values=None):
        own = self.values[self.spec.layout.find_sensor(name)] if values is None else values
        kind, sensor = find_message_class(self.sensors[name]), self.sensors[name]
        self.publishers[name].publish(fill_message(kind(), sensor, own, stamp=stamp))

    def publish_joints(self, stamp):
        if self.targets is not None:
            target = JointState(name=list(self.spec.joint_names), position=[0.1])
            target.header.stamp, target.header.frame_id = convert.make_time_message(stamp), "base_link"
            self.targets.publish(target)
        self.applied.publish(convert.make_action_message(self.spec.home_action, self.spec, stamp))
        # Topics keep no order among one another.
        self.peer.spin(0.005)
        self.states.publish(convert.make_observation_message(self.values, self.spec, stamp))

    def step(self, *, without=()):
        """One period; readings change, so that none is frozen."""
        stamp = self.peer.now()
        for name in self.sensors:
            if name not in without:
                self.publish_sensor(name, stamp)
        self.publish_joints(stamp)
        self.peer.spin(0.012)

    def run(self, seconds, **options):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.step(**options)

    def run_until(self, holds, why, **options):
        end = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < end, why
            self.step(**options)

    def said(self):
        return convert.decode_json_message(self.status[-1]) if self.status else {}


@pytest.fixture
def agent(start, environment, tmp_path):
    """Starts agents whose life is a notebook; returns what they were told."""

    def begin(robot, namespace="", **parameters):
        notebook = tmp_path / f"notebook{namespace}"
        environment.update(NOTEBOOK=str(notebook))
        patient = {"observation.max_age": 10.0, "status_rate": 20.0, "autostart": True}
        command = make_node_command(
            "agent_node", {"robot": str(robot), **patient, **parameters}, namespace=namespace
        )
        start([sys.executable, FAKE, *command[3:]])
        return lambda kind: [
            note
            for note in map(json.loads, notebook.read_text().splitlines())
            if kind in note and len(note) > 1
        ]

    return begin


def name_failures(diagnostics):
    """Sensor → level and message of its newest diagnostic status, where it is not ok."""
    newest = {each.name: each for array in diagnostics for each in array.status if ": sensor " in each.name}
    return {
        name.rpartition(" ")[2]: (each.level, each.message)
        for name, each in newest.items()
        if each.level != DiagnosticStatus.OK
    }


def test_every_kind_arrives_in_the_observation(agent, peer, tmp_path):
    path = write_hinge(tmp_path, *SENSORS, **dict.fromkeys(SENSORS, PATIENT))
    notes = agent(path)
    robot = SensingRobot(peer, load_spec(path))
    robot.run_until(lambda: len(robot.heard) > 5, "it does not act")
    seen = np.array(notes("act")[-1]["act"], np.float32)
    np.testing.assert_allclose(seen, robot.values, atol=1e-5)
    learned = notes("learn")[-1]
    assert learned["is_new"] == [True] * robot.spec.obs_dim and learned["valid"]


def test_a_floating_base_arrives_as_odometry_and_is_required(agent, peer, tmp_path):
    spec = make_crawler(
        tmp_path,
        make_sensor("imu", **PATIENT),
        tasks={"follow": {"reward": "upright"}},
    )
    path = tmp_path / "crawler.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(spec.to_dict(), default=dict))))
    notes = agent(path)
    robot = SensingRobot(peer, load_spec(path))
    robot.run(0.5, without=("base",))
    assert not robot.heard
    robot.run_until(lambda: len(robot.heard) > 5, "it does not act")
    np.testing.assert_allclose(np.array(notes("act")[-1]["act"]), robot.values, atol=1e-5)


def test_without_an_optional_sensor_it_goes_on_and_says_so_once(agent, peer, tmp_path):
    path = write_hinge(tmp_path, "imu", "ahead", imu=PATIENT, ahead=PATIENT)
    notes = agent(path)
    robot = SensingRobot(peer, load_spec(path))
    diagnostics = peer.hear(DiagnosticArray, "/diagnostics")
    own = robot.spec.layout.find_sensor("imu")
    robot.run_until(lambda: len(robot.heard) > 20, "it does not act")
    robot.run(1.2)
    assert name_failures(diagnostics) == {}
    before = robot.said()["lifetime"]["num_valid"]
    robot.run(LATE, without=("imu",))
    diagnostics.clear()
    robot.run_until(lambda: name_failures(diagnostics), "no diagnostic", without=("imu",))
    robot.run(1.2, without=("imu",))
    ((name, (level, message)),) = name_failures(diagnostics).items()
    assert (name, level) == ("imu", DiagnosticStatus.WARN)
    assert "older than 0.4 s. Did its driver stop?" in message and "the model predicts it instead" in message
    robot.run_until(lambda: robot.said()["sensor_faults"] == {"imu": "stale"}, "no status", without=("imu",))
    seen = np.array(notes("act")[-1]["act"])
    assert np.isnan(seen[own]).all() and np.isfinite(np.delete(seen, own)).all()
    assert robot.said()["lifetime"]["num_valid"] > before + 20 and robot.said()["missing"] == []
    diagnostics.clear()
    robot.run_until(lambda: diagnostics and not name_failures(diagnostics), "it does not recover")
    assert robot.said()["sensor_faults"] == {} and np.isfinite(notes("act")[-1]["act"]).all()
    (log,) = tmp_path.glob("node*.log")
    lines = [line for line in log.read_text().splitlines() if "sensor 'imu'" in line]
    assert ["[WARN]" in line for line in lines] == [True, False] and "valid readings again" in lines[1]


def test_without_a_required_sensor_it_does_not_act_and_says_which(agent, peer, tmp_path):
    path = write_hinge(tmp_path, "imu", "ahead", imu={**PATIENT, "required": True}, ahead=PATIENT)
    agent(path)
    robot = SensingRobot(peer, load_spec(path))
    diagnostics = peer.hear(DiagnosticArray, "/diagnostics")
    robot.run_until(lambda: len(robot.heard) > 20, "it does not act")
    robot.run(LATE, without=("imu",))
    robot.heard.clear()
    robot.run_until(lambda: robot.said()["missing"], "it does not say what is missing", without=("imu",))
    assert not robot.heard, "it acts without a required sensor"
    (missing,) = robot.said()["missing"]
    assert missing.startswith("sensor 'imu' has no valid reading, and the robot is not driven without it")
    diagnostics.clear()
    robot.run_until(lambda: name_failures(diagnostics), "no diagnostic", without=("imu",))
    assert name_failures(diagnostics)["imu"][0] == DiagnosticStatus.ERROR
    (inference,) = [each for each in diagnostics[-1].status if each.name == "agent: inference"]
    assert inference.message == missing.rstrip(".")
    robot.run_until(lambda: len(robot.heard) > 5, "it does not act again")


def test_two_robots_of_different_specs_have_their_own_sensors(agent, peer, tmp_path):
    """The same names of topics in two namespaces, for other sensors."""
    robots = []
    for namespace, sensor, topic in (("left", "imu", "sensors/first"), ("right", "ahead", "sensors/first")):
        folder = tmp_path / namespace
        folder.mkdir()
        path = write_hinge(folder, sensor, name=namespace, **{sensor: {**PATIENT, "topic": topic}})
        notes = agent(path, namespace)
        robots.append((SensingRobot(peer, load_spec(path), namespace), notes))

    def advance():
        for robot, _ in robots:
            robot.step()
        return all(len(robot.heard) > 5 for robot, _ in robots)

    peer.until(advance, "one of them does not act")
    for robot, notes in robots:
        np.testing.assert_allclose(np.array(notes("act")[-1]["act"]), robot.values, atol=1e-5)


@pytest.mark.parametrize("offset", [0.03, -0.03])
def test_mixed_rates_a_clock_that_is_off_and_lost_messages_refuse_nothing(agent, peer, tmp_path, offset):
    """Each reading is the time of its measurement, and each position that of the joints."""
    rng, period = np.random.default_rng(0), 0.02
    path = write_hinge(
        tmp_path,
        "imu",
        "odom",
        imu={"fields": ["angular_velocity"], "noise": 0.0, "max_age": 0.1, "rate": 500},
        odom={"fields": ["height"], "noise": 0.0, "limits": {"height": 60.0}, "max_age": 0.65},
    )
    notes = agent(path)
    robot = SensingRobot(peer, load_spec(path))
    diagnostics = peer.hear(DiagnosticArray, "/diagnostics")
    start, sent_odom = peer.now(), []
    due, number, end = time.monotonic(), 0, time.monotonic() + 6
    while time.monotonic() < end:
        # Readings of the last ten fractions of a period, as one that waits for its bus gives them.
        now = peer.now()
        for part in range(10):
            measured = now - round(1e9 * period * (9 - part) / 10)
            if rng.random() >= 0.05:
                reading = np.float32([(measured - start) / 1e9, 0.1, 0.2])
                robot.publish_sensor("imu", measured + round(1e9 * offset), reading)
        if number % 10 == 0 and rng.random() >= 0.05:
            robot.publish_sensor("odom", now + round(1e9 * offset), np.float32([(now - start) / 1e9]))
            sent_odom.append((now - start) / 1e9)
        robot.values[0] = (now - start) / 1e10
        robot.publish_joints(now)
        number, due = number + 1, due + period
        peer.spin(max(0.001, due - time.monotonic()))
    seen = np.array([note["act"] for note in notes("act")])
    joints, imu, odom = 10 * seen[:, 0], seen[:, 2], seen[:, 5]
    running = joints > 1.0
    assert running.sum() > 100
    assert np.isfinite(seen[running]).all(), "a healthy sensor was refused"
    assert (np.abs(joints - imu)[running] <= period).mean() > 0.99
    newest = np.array([max(t for t in sent_odom if t <= joint + 1e-4) for joint in joints[running]])
    # It may arrive after the joints of the same time.
    assert ((newest - odom[running]) * (joints[running] - newest > period) < 1e-3).mean() > 0.99
    print(
        f"imu: {1e3 * np.abs(joints - imu)[running].max():.1f} ms; odom: {(joints - odom)[running].max():.3f} s"
    )
    assert name_failures(diagnostics) == {}
    assert robot.said()["sensor_faults"] == {}


def test_a_plant_publishes_each_sensor_at_its_rate_before_the_joints(start, peer, tmp_path):
    path = write_hinge(tmp_path, "imu", "lidar", "mark", "angle", imu={"rate": 500})
    spec = load_spec(path)
    start(make_node_command("plant_node", {"robot": str(path), "realtime.priority": 50}, namespace="left"))
    sensors = list_message_sensors(spec)
    heard = {
        name: peer.hear(find_message_class(sensor), f"/left/{sensor.topic}")
        for name, sensor in sensors.items()
    }
    joints = peer.hear(JointState, "/left/joint_states")
    peer.until(lambda: joints and all(heard.values()), "the plant says nothing")
    for each in (joints, *heard.values()):
        each.clear()
    peer.until(lambda: len(joints) > 100, "the plant falls silent")
    counts = {name: len(messages) / len(joints) for name, messages in heard.items()}
    assert counts == pytest.approx({"imu": 10, "lidar": 0.5, "mark": 1, "angle": 1}, rel=0.1)
    assert np.isfinite(convert.decode_joint_message(joints[-1], spec)).all()
    stamps = {name: np.array([convert.read_stamp(each) for each in heard[name]]) for name in ("imu", "mark")}
    own = np.array([convert.read_stamp(each) for each in joints])
    assert (np.diff(stamps["imu"]) > 0).all() and np.median(np.diff(stamps["imu"])) == pytest.approx(
        2e6, rel=0.2
    )
    # A reading is one physics step old, and published just before the joints.
    ages = [(each - stamps["mark"][stamps["mark"] < each]).min() for each in own[5:]]
    assert 2e6 <= np.median(ages) < 8e6
    for name, sensor in sensors.items():
        assert not decode_reading(heard[name][-1], sensor).faults


def test_a_plant_publishes_its_floating_base(start, peer, tmp_path):
    spec = make_crawler(tmp_path, tasks={"stay": {"reward": "upright"}})
    path = tmp_path / "crawler.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(spec.to_dict(), default=dict))))
    start(make_node_command("plant_node", {"robot": str(path)}))
    sensor = list_message_sensors(spec)["base"]
    heard, joints = peer.hear(find_message_class(sensor), "odom"), peer.hear(JointState, "joint_states")
    peer.until(lambda: len(heard) > 5 and len(joints) > 5, "the plant says nothing")
    reading = decode_reading(heard[-1], sensor)
    assert not reading.faults and 0.1 < reading.values[0] < 0.3
    measured = np.array([convert.read_stamp(each) for each in heard])
    ages = [(own - measured[measured <= own]).min() for own in map(convert.read_stamp, joints[2:])]
    assert 0 <= np.median(ages) < 8e6


def test_before_ros2_control_nothing_is_armed_without_a_required_sensor(start, peer, tmp_path):
    path = write_hinge(tmp_path, "imu", "ahead", imu={**PATIENT, "required": True})
    spec = load_spec(path)
    parameters = {
        "robot": str(path),
        "command.kind": "float64_multi_array",
        "command.topic": "/controller/commands",
        "states.topic": "/broadcast/joint_states",
        "description.topic": "",
    }
    start(make_node_command("control_node", parameters, namespace="arm"))
    status, sensed = peer.hear(String, "/arm/plant/status"), peer.hear(JointState, "/arm/joint_states")
    told = peer.hear(Float64MultiArray, "/controller/commands")
    states = peer.speak(JointState, "/broadcast/joint_states")
    imu = peer.speak(find_message_class(spec.sensors[0]), "/arm/imu")
    reading = make_home_obs(spec)[spec.layout.find_sensor("imu")]
    arm = peer.node.create_client(Trigger, "/arm/plant/arm")

    def advance(holds, *, with_imu):
        def step():
            stamp = peer.now()
            if with_imu:
                imu.publish(
                    fill_message(find_message_class(spec.sensors[0])(), spec.sensors[0], reading, stamp=stamp)
                )
            states.publish(convert.make_observation_message(make_home_obs(spec), spec, stamp))
            return holds()

        peer.until(step, "it does not come to that", timeout=30)

    def obstacle():
        return convert.decode_json_message(status[-1])["arming_obstacle"] if status else ""

    advance(lambda: "sensor 'imu' has no valid reading" in obstacle(), with_imu=False)
    assert sensed and len(sensed[-1].position) == 1
    refused = arm.call_async(Trigger.Request())
    advance(refused.done, with_imu=False)
    assert not refused.result().success and "'imu'" in refused.result().message
    advance(lambda: not obstacle(), with_imu=True)
    granted = arm.call_async(Trigger.Request())
    advance(granted.done, with_imu=True)
    assert granted.result().success
    advance(lambda: told, with_imu=True)


def test_a_topic_of_the_nodes_own_is_refused_with_a_sentence(tmp_path):
    path = write_hinge(tmp_path, "angle", angle={"topic": "joint_command"})
    with pytest.raises(
        SpecError, match="sensor 'angle' on topic 'joint_command', which is one of its nodes' own"
    ):
        check_sensor_topics(load_spec(path))


def test_joint_messages_have_the_channels_of_joints_alone(tmp_path):
    spec = load_spec(write_hinge(tmp_path, *SENSORS))
    home = make_home_obs(spec)
    message = convert.make_observation_message(home, spec, 1)
    joints = home[spec.layout.find_sensor(JOINTS)]
    np.testing.assert_array_equal(convert.decode_joint_message(message, spec), joints)
