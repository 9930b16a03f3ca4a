"""The node of the example of image features, as a process of its own."""

import sys

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim]


def test_the_node_of_the_example_publishes_where_the_ball_is(start, peer, environment):
    from sensor_msgs.msg import JointState
    from std_msgs.msg import Float64MultiArray

    environment["MUJOCO_GL"] = "egl"
    heard = peer.hear(Float64MultiArray, "image_features")
    process = start([sys.executable, "-m", "image_features.node"])
    joints = peer.speak(JointState, "joint_states")

    def is_told() -> bool:
        # In another order than the spec.
        joints.publish(JointState(name=["elbow", "shoulder"], position=[-0.5, 0.8]))
        return len(heard) > 3

    peer.until(is_told, "no features of an image arrived")
    # What the model projects; tests/sim/test_image_features.py has its own.
    np.testing.assert_allclose(heard[-1].data, [0.7126, 0.3022], atol=0.015)
    assert process.stop_process() == 0
