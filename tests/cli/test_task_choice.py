"""A command takes a task of the spec, or a reward of the user for itself alone."""

import sys
from pathlib import Path

import numpy as np
import pytest

from wm_robot.agent.onnx_planner import digest_objective
from wm_robot.errors import ConfigError, SpecError
from wm_robot.robots import load_spec
from wm_robot.spec import Task
from wm_robot.tasks import REWARDS, make_reward
from wm_robot_cli.task_choice import choose_task, print_notice

LIFT = """
from wm_robot.tasks import compute_gripper_position

CONSTANT = 3


def make_lift(spec):
    def reward(obs, action, next_obs, goal):
        return compute_gripper_position(spec, next_obs)[..., 2]

    return reward


def lift(obs, action, next_obs, goal):
    return next_obs[..., 1] - obs[..., 1]
"""
ARM = load_spec("arm")


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr("wm_robot.tasks.REWARDS", REWARDS)
    before = dict(REWARDS)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "lift.py"
    path.write_text(LIFT)
    yield path
    REWARDS.clear()
    REWARDS.update(before)


def test_the_first_task_of_the_spec_is_the_default():
    assert choose_task(ARM, None, None, None) == (ARM, "reach")
    assert choose_task(ARM, "reach", None, None) == (ARM, "reach")


def test_a_file_makes_a_task_for_a_command(file):
    spec, task = choose_task(ARM, None, "lift.py:make_lift", None)
    assert task == "make_lift" and "make_lift" not in ARM.tasks
    assert spec.compute_digest() == ARM.compute_digest()
    chosen = spec.find_task(task)
    assert (chosen.reward, chosen.goal, len(chosen.source)) == ("lift.py:make_lift", 0, 64)
    reward = make_reward(spec, chosen)
    assert reward(*(np.zeros((2, size)) for size in (12, 6, 12, 0))).shape == (2,)
    spec, task = choose_task(ARM, "up", str(file) + ":lift", 2)
    assert (task, spec.find_task("up").reward, spec.find_task("up").goal) == ("up", "lift.py:lift", 2)


def test_the_digest_of_a_task_changes_with_its_file(file):
    def digest():
        spec, task = choose_task(ARM, None, "lift.py:make_lift", None)
        return digest_objective(spec, task)

    before = digest()
    assert digest() == before
    file.write_text(LIFT.replace("[..., 2]", "[..., 1]"))
    assert digest() != before
    # What runs is what the digest is of: no compiled file is read or written.
    assert not list(file.parent.glob("__pycache__"))


def test_a_task_of_the_spec_gets_another_reward_and_keeps_its_goal(file):
    spec, task = choose_task(ARM, "reach", "lift.py:make_lift", None)
    assert spec.find_task(task) == Task(
        reward="lift.py:make_lift", goal=3, source=spec.find_task(task).source
    )
    spec, task = choose_task(ARM, None, "hold", None)
    assert task == "hold" and spec.find_task("hold") == Task(reward="hold")


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ((None, "nothing.py:make", None), SpecError, "nothing.py cannot be read: No such file"),
        ((None, "lift.py:fly", None), SpecError, r"lift.py has no function 'fly'; it has .*'make_lift'"),
        ((None, "lift.py:CONSTANT", None), SpecError, "CONSTANT is int; it must be a function"),
        ((None, "broken.py:make", None), SpecError, "broken.py cannot be run: SyntaxError"),
        ((None, "failing.py:make", None), SpecError, "failing.py cannot be run: ZeroDivisionError"),
        (("../up", "lift.py:lift", None), SpecError, "a task is named '../up'"),
        ((None, "nothing-installed:lift", None), SpecError, "is not installed here"),
        (("fly", None, None), SpecError, "has no task 'fly'; it has"),
        (("reach", None, 3), ConfigError, "--goal-size is 3 and there is no --reward"),
        ((None, "reach", 2), SpecError, "reward 'reach' has a goal of 3 or 7 values"),
    ],
)
def test_a_choice_that_cannot_be_made_says_why(file, words, error, message):
    (file.parent / "broken.py").write_text("def make(:\n")
    (file.parent / "failing.py").write_text("1 / 0\n")
    with pytest.raises(error, match=message):
        choose_task(ARM, *words)


def test_an_experimental_task_comes_with_a_notice(capsys):
    pole = load_spec("cartpole")
    print_notice(pole, "swingup")
    assert "task 'swingup' is experimental" in capsys.readouterr().out
    print_notice(ARM, "reach")
    assert capsys.readouterr().out == ""
    assert "reward_file_lift" not in sys.modules
