import json
import os
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.ros

from wm_robot.errors import ConfigError
from wm_robot_cli.save import request_snapshot
from wm_robot_ros.middleware import environment as module
from wm_robot_ros.middleware.environment import (
    NodeProcess,
    has_ros_wheels,
    make_node_command,
    make_private_environment,
    make_ros_environment,
    read_ros_domain,
)


@pytest.mark.skipif(not has_ros_wheels(), reason="ROS 2 is not installed as wheels")
def test_the_wheels_environment_lets_a_bare_child_import_rclpy():
    environment = {**make_ros_environment(domain=42), "PYTHONPATH": ""}
    code = "import rclpy, os; print(os.environ['ROS_DOMAIN_ID'], os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["42", "LOCALHOST"], done.stderr


@pytest.mark.skipif(not has_ros_wheels(), reason="ROS 2 is not installed as wheels")
def test_asking_twice_gives_the_same(monkeypatch):
    first = make_ros_environment(domain=42)
    for name, value in first.items():
        monkeypatch.setenv(name, value)
    assert make_ros_environment() == first


def test_a_sourced_system_ros_is_left_alone(monkeypatch):
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/opt/ros/jazzy")
    assert make_ros_environment() == dict(os.environ)
    assert make_ros_environment(domain=3) == {**os.environ, "ROS_DOMAIN_ID": "3"}


def test_a_domain_that_the_user_chose_is_kept(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "17")
    assert make_ros_environment()["ROS_DOMAIN_ID"] == "17"
    monkeypatch.delenv("ROS_DOMAIN_ID")
    assert int(make_ros_environment()["ROS_DOMAIN_ID"]) in module.FREE_DOMAINS


@pytest.mark.skipif(not has_ros_wheels(), reason="ROS 2 is not installed as wheels")
def test_an_empty_domain_is_that_of_ros_zero(monkeypatch):
    # As a compose file gives a variable that nobody set.
    monkeypatch.setenv("ROS_DOMAIN_ID", "")
    assert read_ros_domain() == 0 and make_ros_environment()["ROS_DOMAIN_ID"] == "0"
    assert read_ros_domain(7) == 7


@pytest.mark.parametrize("text", ["lab", "5000", "233", "-1", "1.5", "٣"])
def test_a_domain_that_is_none_is_refused_with_those_that_are(monkeypatch, text):
    monkeypatch.setenv("ROS_DOMAIN_ID", text)
    with pytest.raises(
        ConfigError, match=f"ROS_DOMAIN_ID is '{text}'; it must be a whole number from 0 to 232"
    ):
        make_ros_environment()
    assert int(make_private_environment()["ROS_DOMAIN_ID"]) in module.FREE_DOMAINS


def test_a_save_over_ros_reads_the_domain_that_everything_reads(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "lab")
    with pytest.raises(ConfigError, match="Run: export ROS_DOMAIN_ID=0"):
        request_snapshot()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["-p", "seed:=many"],
            "parameter seed of /plant is 'many'; it must be a whole number. Write -p seed:=0",
        ),
        (
            ["-p", "status_rate:=10"],
            "is 10; it must be a number with a point from 2 to 50. Write -p status_rate:=10.0",
        ),
        (["-p", "status_rate:=99.0"], "is 99.0; it must be a number with a point from 2 to 50"),
        (
            ["-p", "armed:=1"],
            "parameter armed of /plant is 1; it must be true or false. Write -p armed:=true",
        ),
        (["--params-file", "nothing.yaml"], "--params-file nothing.yaml: there is no such file"),
        (["--params-file", "broken.yaml"], "Couldn't parse params file: '--params-file broken.yaml'"),
        (["-p", "seed"], "Couldn't parse parameter override rule: '-p seed'"),
    ],
)
def test_parameters_that_cannot_be_end_a_node_with_one_sentence(environment, tmp_path, arguments, words):
    (tmp_path / "broken.yaml").write_text("/**/plant:\n  robot: arm\n")
    command = [sys.executable, "-m", "wm_robot_ros.nodes.plant_node", "--ros-args", *arguments]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    # ROS itself may have a line before ours.
    *others, ours = done.stderr.splitlines()
    assert ours.startswith("ConfigError: ") and words in ours and len(others) <= 1


@pytest.mark.parametrize(
    "node",
    ["agent_node", "control_node", "recorder_node", "display_node", "replay_node", "action_client_node"],
)
def test_every_node_ends_with_one_sentence_where_ros_has_no_such_domain(environment, node):
    environment = {**environment, "ROS_DOMAIN_ID": "lab"}
    command = [sys.executable, "-m", f"wm_robot_ros.nodes.{node}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("ConfigError: ROS_DOMAIN_ID is 'lab'")


def test_an_agent_with_a_parameter_of_the_wrong_type_ends_with_one_sentence(environment):
    command = [
        sys.executable,
        "-m",
        "wm_robot_ros.nodes.agent_node",
        "--ros-args",
        "-p",
        "planner.horizon:=-3",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "parameter planner.horizon of /agent is -3; it must be a whole number from 0 to 256" in done.stderr


def test_a_misspelt_parameter_is_told_with_the_one_that_is_meant(start, tmp_path):
    start(make_node_command("plant_node", {"sede": 3}))
    (log,) = tmp_path.glob("node*.log")
    deadline = time.monotonic() + 30
    while "Did you mean 'seed' for 'sede'?" not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    assert "parameters ['sede'] are unknown and have no effect" in log.read_text()


def test_parameters_keep_their_type_on_the_command_line():
    world = {"payload": 0.4}
    command = make_node_command("plant_node", {"rate": 50.0, "world": json.dumps(world)}, namespace="left")
    assert command[1:4] == ["-m", "wm_robot_ros.nodes.plant_node", "--ros-args"]
    assert "__ns:=/left" in command and "rate:=50.0" in command
    text = next(part for part in command if part.startswith("world:="))
    assert json.loads(json.loads(text.removeprefix("world:="))) == world


KEEPING = """
import signal, sys, time
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(0))
print('ready', flush=True)
while len(asked) < 2:
    time.sleep(0.01)
sys.exit(7)
"""


def test_a_process_that_holds_something_is_kept_until_it_is_given_up(tmp_path):
    log = tmp_path / "log"
    process = NodeProcess([sys.executable, "-c", KEEPING], dict(os.environ), log=log)
    while "ready" not in log.read_text():
        time.sleep(0.01)
    answers = [True, False, False, False]
    # Asked a second time, it ends by itself, and is not killed.
    assert process.stop_process(kill_timeout=0.5, is_discarded=answers.pop) == 7
    assert not answers


def test_a_process_that_does_not_listen_is_ended_all_the_same(tmp_path):
    deaf = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    )
    log = tmp_path / "log"
    process = NodeProcess([sys.executable, "-c", deaf], dict(os.environ), log=log)
    while "ready" not in log.read_text():
        time.sleep(0.01)
    began = time.monotonic()
    assert process.stop_process(kill_timeout=0.2) == -9
    assert time.monotonic() - began < 2
