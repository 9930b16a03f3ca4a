"""Two distributions of ROS 2 from wheels: their pins, that of an environment, and the one that is built against."""

import importlib.util
import re
import subprocess
from importlib.metadata import PackageNotFoundError

import pytest
from packaging.requirements import Requirement

from tests.checkout import CONSTRAINTS, ROOT, clean_environment

DISTRIBUTIONS = {"jazzy": "7", "kilted": "9"}
"""Distribution → major version of its rclpy."""


def read_pins(distribution):
    lines = (ROOT / f"constraints-ros-{distribution}.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def ask_make(folder, *variables):
    """What `make setup` would do to an environment."""
    return subprocess.run(
        ["make", "--dry-run", "setup", f"VENV={folder}", *variables],
        cwd=ROOT,
        env={name: value for name, value in clean_environment().items() if name not in ("ROS", "MAKEFLAGS")},
        capture_output=True,
        text=True,
    )


def pinned_by(done):
    return re.findall(r'PIP_CONSTRAINT="constraints\.txt constraints-ros-(\w+)\.txt"', done.stdout)


@pytest.fixture
def build():
    """ros_ws/build.py as a module."""
    spec = importlib.util.spec_from_file_location("build", ROOT / "ros_ws" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_the_extra_admits_every_distribution_that_is_pinned(distribution):
    pins = read_pins(distribution)
    assert pins["ros-rclpy"].partition(".")[0] == DISTRIBUTIONS[distribution]
    assert all(name.startswith("ros-") for name in pins)
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wheels = [Requirement(line) for line in re.findall(r'^  "(ros-.*)",$', text, re.MULTILINE)]
    assert len(wheels) == 10
    assert all(wheel.specifier.contains(pins[wheel.name]) for wheel in wheels)
    (rclpy,) = (wheel for wheel in wheels if wheel.name == "ros-rclpy")
    assert not any(rclpy.specifier.contains(other) for other in ("3.3.16", "8.0.0", "10.0.0"))


def test_a_new_environment_is_of_jazzy_and_an_old_one_stays_what_it_is(tmp_path):
    assert CONSTRAINTS[-1] == "constraints-ros-jazzy.txt"
    assert pinned_by(ask_make(tmp_path)) == ["jazzy"]
    assert pinned_by(ask_make(tmp_path, "ROS=kilted")) == ["kilted"]
    (tmp_path / ".wm_robot-kilted").touch()
    assert pinned_by(ask_make(tmp_path)) == [], "it is set up already"
    (tmp_path / ".wm_robot-kilted").unlink()
    done = ask_make(tmp_path, "ROS=humble")
    assert done.returncode != 0 and "ROS is 'humble'; it must be jazzy or kilted" in done.stderr


@pytest.mark.parametrize("stamp", [".wm_robot-kilted", ".wm_robot"])
def test_another_distribution_replaces_the_first_and_what_was_built_against_it(tmp_path, stamp):
    (tmp_path / stamp).touch()
    done = ask_make(tmp_path, "ROS=jazzy")
    assert pinned_by(done) == ["jazzy"]
    before, _, after = done.stdout.partition("PIP_CONSTRAINT")
    assert "rm -rf ros_ws/build ros_ws/install" in before and "uninstall --yes" in before
    assert f"rm -f {tmp_path / stamp}" in before and f"touch {tmp_path}/.wm_robot-jazzy" in after


@pytest.mark.parametrize(("installed", "distribution"), [("7.1.9", "jazzy"), ("9.2.0", "kilted")])
def test_the_messages_are_built_for_the_distribution_that_is_installed(
    build, monkeypatch, installed, distribution
):
    monkeypatch.setattr(build, "version", lambda name: installed)
    assert build.find_distribution() == distribution


def test_wheels_that_nothing_pins_are_not_built_against(build, monkeypatch):
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    monkeypatch.setattr(build, "version", lambda name: "3.3.16")
    assert "ros-rclpy is 3.3.16, which no constraints-ros-*.txt pins" in build.why_not()

    def find_none(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(build, "version", find_none)
    assert "there is no ROS 2" in build.why_not()


def test_a_sourced_ros_is_built_against_whatever_wheels_there_are(build, monkeypatch):
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/opt/ros/jazzy")
    monkeypatch.setattr(build.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(build, "version", lambda name: "3.3.16")
    assert build.system_ros() and build.why_not() == ""
