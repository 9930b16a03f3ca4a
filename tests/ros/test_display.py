"""The predicted path as markers and poses, and the description that goes with it."""

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim]

from tests.ros.built import need_messages

need_messages()

from geometry_msgs.msg import PoseStamped
from std_msgs.msg import Header, String
from visualization_msgs.msg import Marker, MarkerArray
from wm_robot_msgs.msg import Prediction

from wm_robot.math.kinematics import compute_quaternion, compute_tip_position
from wm_robot.robots import load_spec
from wm_robot.robots.urdf import find_differences, write_urdf
from wm_robot_ros.middleware.environment import make_node_command
from wm_robot_ros.nodes.plan_markers import compute_ellipsoid, compute_gripper_path
from wm_robot_ros.state_api.messages import flatten_floats

SPEC = load_spec("arm")
CHAIN = (SPEC.chain, SPEC.tip)


def moved(seed, horizon=4):
    """Angles of a plan, and deviations of each channel."""
    rng = np.random.default_rng(seed)
    mean, deviation = (
        rng.uniform(-1, 1, (horizon, SPEC.obs_dim)),
        rng.uniform(0.001, 0.01, (horizon, SPEC.obs_dim)),
    )
    return mean, deviation


def turned(q):
    w, x, y, z = q
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def test_the_ellipsoid_of_a_step_is_that_of_samples_drawn_from_it():
    mean, deviation = moved(0)
    path = compute_gripper_path(SPEC, mean, deviation)
    rng = np.random.default_rng(1)
    angles = mean[2, :6] + deviation[2, :6] * rng.standard_normal((200_000, 6))
    drawn = compute_tip_position(angles, *CHAIN)
    np.testing.assert_allclose(path.tip[2], drawn.mean(0), atol=2e-4)
    np.testing.assert_allclose(path.covariance[2], np.cov(drawn.T), atol=0.02 * np.trace(path.covariance[2]))
    size, axes = compute_ellipsoid(path.covariance[2])
    np.testing.assert_allclose(axes @ np.diag(size**2) @ axes.T, path.covariance[2], atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(5))
def test_a_quaternion_turns_as_its_rotation_does(seed):
    path = compute_gripper_path(SPEC, *moved(seed))
    for rotation in path.rotation:
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
        np.testing.assert_allclose(turned(compute_quaternion(rotation)), rotation, atol=1e-9)


def plan(stamp, mean, deviation, names=SPEC.observation_names):
    message = Prediction(
        header=Header(stamp=stamp, frame_id="base_link"), horizon=len(mean), names=list(names)
    )
    message.mean, message.stddev = flatten_floats(mean), flatten_floats(deviation)
    return message


def test_a_plan_becomes_a_path_with_its_uncertainty(start, peer):
    start(make_node_command("display_node", {"frame_prefix": "left/"}))
    pictures, grippers = (
        peer.hear(MarkerArray, "display/predicted_path"),
        peer.hear(PoseStamped, "display/predicted_gripper"),
    )
    descriptions = peer.hear(String, "robot_description", latched=True)
    speaks = peer.speak(Prediction, "agent/plan")
    mean, deviation = moved(3)
    wanted = compute_gripper_path(SPEC, mean.astype(np.float32), deviation.astype(np.float32))
    for bad in (
        plan(peer.now_message(), mean, deviation, names=["x"] * 12),
        plan(peer.now_message(), mean * np.nan, deviation),
    ):
        speaks.publish(bad)
    peer.until(lambda: descriptions, "no description")
    assert not pictures, "a plan that cannot be was drawn"

    speaks.publish(plan(peer.now_message(), mean, deviation))
    peer.until(lambda: pictures and grippers, "no picture")
    line, *balls = pictures[0].markers
    assert line.type == Marker.LINE_STRIP and line.header.frame_id == "left/base_link"
    np.testing.assert_allclose([[p.x, p.y, p.z] for p in line.points], wanted.tip, atol=1e-6)
    assert len(balls) == len(mean) and len({(ball.ns, ball.id) for ball in balls}) == len(mean)
    for ball, covariance in zip(balls, wanted.covariance, strict=True):
        o = ball.pose.orientation
        axes, size = turned((o.w, o.x, o.y, o.z)), np.array([ball.scale.x, ball.scale.y, ball.scale.z]) / 4
        np.testing.assert_allclose(axes @ np.diag(size**2) @ axes.T, covariance, atol=1e-6)
    pose = grippers[0].pose
    np.testing.assert_allclose([pose.position.x, pose.position.y, pose.position.z], wanted.tip[-1], atol=1e-6)
    assert find_differences(SPEC, descriptions[0].data) == []


def test_a_robot_without_a_gripper_has_a_display_that_goes_on(start, peer, tmp_path):
    display = start(make_node_command("display_node", {"robot": "cartpole"}))
    (log,) = tmp_path.glob("node*.log")
    peer.until(lambda: "robot 'cartpole' has no chain to a gripper" in log.read_text(), "it says nothing")
    spec, publisher = load_spec("cartpole"), peer.node.create_publisher(Prediction, "agent/plan", 10)
    mean = np.zeros((4, spec.obs_dim))
    for _ in range(5):
        publisher.publish(plan(peer.now_message(), mean, mean + 0.1, names=spec.observation_names))
        peer.spin(0.1)
    assert display.is_running and "Traceback" not in log.read_text()


@pytest.mark.alone
def test_a_description_that_allows_less_than_the_spec_is_told_of(start, peer, tmp_path):
    from wm_robot_ros.middleware.qos import LATCHED_QOS

    publisher = peer.node.create_publisher(String, "robot_description", LATCHED_QOS)
    publisher.publish(String(data=write_urdf(SPEC).replace('upper="1.5"', 'upper="1.2"')))
    start(make_node_command("display_node", {}))
    (log,) = tmp_path.glob("node*.log")
    peer.until(
        lambda: "'wrist_pitch' goes up to 1.5 in the spec, to 1.2" in log.read_text(), "it says nothing"
    )
    # And with one there already, it does not say a second.
    heard = peer.hear(String, "robot_description", latched=True)
    peer.spin(4.0)
    assert len(heard) == 1
