"""A plant behind ros2_control: what an agent asks for reaches a controller, and only through the gate."""

import math

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim]

from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, String

from tests.ros.hardware_bench import KINDS, SPEC, STATES, Bench, angles_of
from wm_robot.robots.urdf import write_urdf
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.environment import make_node_command


@pytest.mark.parametrize("kind", KINDS)
def test_a_command_reaches_the_controller_once_it_is_armed(start, peer, tmp_path, kind):
    bench = Bench(start, peer, tmp_path, kind=kind, description=write_urdf(SPEC))
    bench.move(lambda: len(bench.sensed) > 10, "nothing is sensed", command=np.full(6, 0.3))
    assert not bench.told, "it sent before anybody armed it"
    assert list(bench.sensed[-1].name) == list(SPEC.joint_names)
    np.testing.assert_allclose(bench.sensed[-1].position, 0.1, atol=1e-6)

    assert bench.arm().success
    bench.move(lambda: bench.mode() == "learned" and np.abs(bench.place - 0.3).max() < 1e-3, "it does not follow",
               command=np.full(6, 0.3))  # fmt: skip
    # It went home first, then to where it was told, and never in a jump.
    path = np.array([np.full(6, 0.1), *map(angles_of, bench.told)])
    assert np.abs(np.diff(path, axis=0)).max() <= SPEC.action_step.max() + 1e-6
    home = [SPEC.safety.home.get(name, 0.0) for name in SPEC.joint_names]
    assert np.abs(path - home).max(1).min() < 0.05
    bench.move(
        lambda: np.abs(np.array(bench.applied[-1].position) - 0.3).max() < 1e-3,
        "what was applied is not told",
        command=np.full(6, 0.3),
    )
    if kind == "joint_trajectory":
        newest = bench.told[-1]
        assert (
            list(newest.joint_names) == list(SPEC.joint_names)
            and newest.points[0].time_from_start.nanosec == 20_000_000
        )


def test_what_is_not_finite_never_reaches_the_controller(start, peer, tmp_path):
    bench = Bench(start, peer, tmp_path, description=write_urdf(SPEC))
    bench.move(lambda: bench.sensed, "nothing is sensed")
    assert bench.arm().success
    bench.move(lambda: bench.mode() == "learned", "it does not begin", command=np.full(6, 0.2))
    told = len(bench.told)
    bench.move(lambda: len(bench.told) > told + 20, "it fell silent", command=[math.nan, *[0.2] * 5])
    assert np.isfinite([angles_of(message) for message in bench.told]).all()
    bench.move(lambda: bench.mode() == "hold", "it goes on with a controller that is broken")
    assert "a command was rejected" in bench.says()["reason"]


def test_it_heeds_what_the_agent_says_as_the_simulated_plant_does(start, peer, tmp_path):
    bench = Bench(start, peer, tmp_path, description=write_urdf(SPEC))
    interventions, surprises = (
        peer.hear(String, "/arm/plant/intervention"),
        peer.speak(Float64, "/arm/agent/surprise"),
    )
    bench.move(lambda: bench.sensed, "nothing is sensed")
    assert bench.arm().success
    bench.move(lambda: bench.mode() == "learned", "it does not begin", command=np.full(6, 0.2))
    interventions.clear()

    def surprised():
        surprises.publish(Float64(data=1e6))
        return bench.mode() == "hold"

    bench.move(surprised, "surprise does not end its turn", command=np.full(6, 0.2))
    assert "surprise above" in bench.says()["reason"]
    bench.move(lambda: interventions, "no intervention is published", command=np.full(6, 0.2))
    assert bench.arm().success


def test_commands_of_another_node_do_not_reach_the_controller_and_are_told(start, peer, tmp_path):
    bench = Bench(start, peer, tmp_path, description=write_urdf(SPEC))
    bench.move(lambda: bench.sensed, "nothing is sensed")
    assert bench.arm().success
    bench.move(lambda: bench.mode() == "learned", "it does not begin", command=np.full(6, 0.2))
    other = peer.node.create_publisher(JointState, "/arm/joint_command", 10)

    def refused():
        # Newer than ours, and ours have ended.
        other.publish(convert.make_action_message(np.full(6, -0.5), SPEC, peer.now()))
        return bench.says()["commands"]["rejected"]["source"] > 20

    bench.move(refused, "nothing is refused")
    assert min(np.min(angles_of(message)) for message in bench.told) > -0.1
    assert any("two nodes publish 'joint_command'" in fault for fault in bench.says()["active_faults"])


def test_what_another_node_says_of_the_robot_is_not_used_and_is_told(start, peer, tmp_path):
    bench = Bench(start, peer, tmp_path, description=write_urdf(SPEC))
    bench.move(lambda: bench.sensed and bench.status, "nothing is sensed")
    other = peer.node.create_publisher(JointState, STATES, 10)
    false = convert.make_observation_message(np.full(12, 0.7), SPEC, 1)

    def refused():
        for _ in range(20):
            other.publish(false)
        return bench.says()["states_rejected"]["source"] > 500 and len(bench.sensed) > 50

    bench.move(refused, "nothing is refused")
    np.testing.assert_allclose([message.position for message in bench.sensed], 0.1, atol=1e-6)
    assert any(f"two nodes publish '{STATES}'" in fault for fault in bench.says()["active_faults"])
    peer.node.destroy_publisher(bench.states)
    peer.until(
        lambda: other.publish(false) or np.allclose(bench.sensed[-1].position, 0.7),
        "it does not go on with the other",
    )


@pytest.mark.parametrize(
    ("description", "why"),
    [
        (None, "no robot description: /robot_description has 1 publisher (/peer), and no usable message"),
        (write_urdf(SPEC).replace('upper="1.5"', 'upper="1.2"'), "goes up to 1.5"),
    ],
)
def test_it_is_not_armed_without_a_description_that_fits(start, peer, tmp_path, description, why):
    bench = Bench(start, peer, tmp_path, description=description)
    bench.move(lambda: bench.sensed and bench.status, "nothing is sensed")
    peer.spin(1.0)
    answer = bench.arm(ready=False)
    assert not answer.success and why in answer.message
    bench.move(
        lambda: bench.says()["periods"] > 50,
        "it does not run",
        command=np.full(6, 0.3),
    )
    assert not bench.told and bench.mode() == "limp"


def test_it_does_not_publish_on_the_topic_that_it_listens_to(start, tmp_path):
    process = start(make_node_command("control_node", {"states.topic": "joint_states"}))
    assert process.wait_for_exit(30) == 2
    (log,) = tmp_path.glob("node*.log")
    assert "which this node publishes" in log.read_text()
