import json
import os
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.ros

from wm_robot_ros import environment as module
from wm_robot_ros.environment import NodeProcess, node_command, ros_environment, wheels


@pytest.mark.skipif(not wheels(), reason="ROS 2 is not installed as wheels")
def test_the_wheels_environment_lets_a_bare_child_import_rclpy():
    environment = {**ros_environment(domain=42), "PYTHONPATH": ""}
    code = "import rclpy, os; print(os.environ['ROS_DOMAIN_ID'], os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["42", "LOCALHOST"], done.stderr


@pytest.mark.skipif(not wheels(), reason="ROS 2 is not installed as wheels")
def test_asking_twice_gives_the_same(monkeypatch):
    first = ros_environment(domain=42)
    for name, value in first.items():
        monkeypatch.setenv(name, value)
    assert ros_environment() == first


def test_a_sourced_system_ros_is_left_alone(monkeypatch):
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/opt/ros/jazzy")
    assert ros_environment() == dict(os.environ)
    assert ros_environment(domain=3) == {**os.environ, "ROS_DOMAIN_ID": "3"}


def test_a_domain_that_the_user_chose_is_kept(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "17")
    assert ros_environment()["ROS_DOMAIN_ID"] == "17"
    monkeypatch.delenv("ROS_DOMAIN_ID")
    assert int(ros_environment()["ROS_DOMAIN_ID"]) in module.DOMAINS


def test_parameters_keep_their_type_on_the_command_line():
    world = {"payload": 0.4}
    command = node_command("plant_node", {"rate": 50.0, "world": json.dumps(world)}, namespace="left")
    assert command[1:4] == ["-m", "wm_robot_ros.plant_node", "--ros-args"]
    assert "__ns:=/left" in command and "rate:=50.0" in command
    text = next(part for part in command if part.startswith("world:="))
    assert json.loads(json.loads(text.removeprefix("world:="))) == world


def test_a_process_that_does_not_listen_is_ended_all_the_same(tmp_path):
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    log = tmp_path / "log"
    process = NodeProcess([sys.executable, "-c", deaf], dict(os.environ), log=log)
    while "ready" not in log.read_text():
        time.sleep(0.01)
    began = time.monotonic()
    assert process.stop(patience=0.2) == -9
    assert time.monotonic() - began < 2
