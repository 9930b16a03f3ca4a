"""What calls nodes back."""

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim]

SPINS = """
import os
import rclpy
from wm_robot_ros.middleware.node_runtime import make_executor

rclpy.init()
node = rclpy.create_node("spins")
called = []
node.create_timer(0.02, lambda: called.append(1))
executor = make_executor(node, use_events=True)
there = set(os.listdir("/proc/self/task"))
for _ in range(50):
    executor.spin_once(timeout_sec=0.02)
print(len(called) > 5, len(set(os.listdir("/proc/self/task")) - there))
"""


def test_every_thread_of_an_executor_is_there_before_a_loop_asks_for_priority(environment):
    done = subprocess.run(
        [sys.executable, "-c", SPINS], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["True", "0"], done.stderr
