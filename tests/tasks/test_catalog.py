"""Rewards that users write: plain functions, and those of installed packages."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.tasks.robots import ACTION, NO_GOAL, obs, robot
from wm_robot.agent.onnx_planner import digest_objective
from wm_robot.errors import SpecError
from wm_robot.spec import RobotSpec, Task
from wm_robot.tasks import REWARDS, Reward, find_reward_origin, make_reward
from wm_robot.tasks.channels import find_channels

MODULE = """
def make_lift(spec, *, gain=1.0):
    index = spec.observation_names.index("lift/position")

    def reward(obs, action, next_obs, goal):
        return gain * (next_obs[..., index] - obs[..., index])

    return reward


def progress(obs, action, next_obs, goal):
    return next_obs[..., 0] - obs[..., 0] - 0.1 * (action**2).sum(-1)

broken = 3
"""


@pytest.fixture
def user_reward(monkeypatch):
    """Puts a function of a user in the table of rewards, and makes its task."""

    def add(factory, **task):
        monkeypatch.setitem(REWARDS, "users", factory)
        return Task(reward="users", **task)

    return add


def install(folder, version="1.2", name="My_Rewards"):
    """Install a package with rewards below a folder."""
    (folder / "my_rewards.py").write_text(MODULE)
    about = folder / f"my_rewards-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (about / "entry_points.txt").write_text(
        "[wm_robot.rewards]\nlift = my_rewards:make_lift\nprogress = my_rewards:progress\n"
        "broken = my_rewards:broken\nmissing = my_rewards:missing\n"
    )


@pytest.fixture
def installed(tmp_path, monkeypatch):
    install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_plain_function_is_enough(user_reward):
    def make(spec, *, gain=1.0):
        turn = find_channels(spec, ["turn/position"])

        def reward(obs, action, next_obs, goal):
            change = (next_obs - obs)[..., turn].sum(-1)
            return gain * change - (action**2).sum(-1) + goal[..., 0]

        return reward

    task = user_reward(make, goal=1, parameters={"gain": 2.0})
    reward = make_reward(robot(), task)
    step = obs(turn=0.1), np.array([0.1, 0.2]), obs(turn=0.4), np.array([5.0])
    assert reward(*step) == pytest.approx(2 * 0.3 - 0.05 + 5.0)
    assert reward.features(step[0]) is step[0]


def test_a_function_of_a_step_needs_no_factory(user_reward):
    def progress(obs, action, next_obs, goal):
        return next_obs[..., 0] - obs[..., 0]

    assert make_reward(robot(), user_reward(progress))(
        obs(lift=1.0), ACTION, obs(lift=3.0), NO_GOAL
    ) == pytest.approx(2)
    with pytest.raises(SpecError, match=r"'users' is a function of .* and has no parameters.*\['gain'\]"):
        make_reward(robot(), user_reward(progress, parameters={"gain": 1}))


def test_the_fast_form_computes_a_progress_of_features(user_reward):
    def make(spec):
        return Reward(lambda before, action, after, goal: after[..., 0] - before[..., 0], lambda o: 2 * o)

    reward = make_reward(robot(), user_reward(make))
    assert reward(obs(lift=1.0), ACTION, obs(lift=3.0), NO_GOAL) == pytest.approx(4)


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        (lambda spec: 3, "returned int; it must return a function of"),
        (lambda spec: spec.nose, "'users' fails with the parameters {} of its task: AttributeError"),
        (
            lambda spec, gain: None,
            r"does not accept the parameters \[\] .*missing.*'gain'.* It has \['gain'\]",
        ),
        (lambda spec: lambda o, a, n, g: n[..., 7], "fails on arrays of numpy: IndexError"),
        (lambda spec: lambda o, a, n, g: n, r"returns ndarray of shape \(2, 3, 4\).*must return .* \(2, 3\)"),
        (lambda spec: lambda o, a, n, g: n.sum(), "fails on arrays|returns float32 of shape"),
        (lambda spec: lambda o, a, n, g: 1.0, "fails on arrays of numpy: AttributeError"),
        (lambda spec: lambda o, a, n, g: n[..., 0] + np.nan, "is not finite for an observation of zeros"),
    ],
)
def test_what_is_no_reward_is_refused_with_the_reason(user_reward, factory, words):
    with pytest.raises(SpecError, match=words):
        make_reward(robot(), user_reward(factory))


@pytest.mark.learn
def test_a_function_of_numpy_alone_is_refused_where_the_planner_needs_tensors(user_reward):
    from wm_robot.agent.rollout_objective import make_torch_reward

    task = user_reward(lambda spec: lambda o, a, n, g: n.astype(np.float32)[..., 0])
    make_reward(robot(), task)
    with pytest.raises(
        SpecError, match="'users' fails on arrays of torch: AttributeError.*and torch tensors"
    ):
        make_torch_reward(replace(robot(), tasks={"mine": task}), "mine")


def test_the_reward_of_an_installed_package_is_named_by_package_and_entry_point(installed):
    for package in ("my-rewards", "My_Rewards", "my.rewards"):
        task = Task(reward=f"{package}:lift", parameters={"gain": 2.0})
        assert make_reward(robot(), task)(obs(lift=1.0), ACTION, obs(lift=1.5), NO_GOAL) == 1
    plain = make_reward(robot(), Task(reward="my-rewards:progress"))
    assert plain(obs(lift=1.0), ACTION, obs(lift=1.5), NO_GOAL) == 0.5
    spec = RobotSpec.from_dict({**robot().to_dict(), "tasks": {"lift": {"reward": "my-rewards:lift"}}})
    assert spec.tasks["lift"].reward == "my-rewards:lift"


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        ("my-rewards:fly", r"'my-rewards:fly' is not installed here; installed are \[.*'my-rewards:lift'"),
        ("other:lift", "Install package 'other', which must have 'lift' in its entry points of group"),
        ("my-rewards:broken", "'my-rewards:broken' is int; it must be a function"),
        ("my-rewards:missing", "cannot be loaded from my_rewards:missing: AttributeError"),
        ("lift.py:make_lift", "is of a file that is not loaded here. Give it on the command line"),
    ],
)
def test_a_reward_that_cannot_be_had_says_why(installed, reward, words):
    with pytest.raises(SpecError, match=words):
        make_reward(robot(), Task(reward=reward))


@pytest.mark.parametrize(
    "task",
    [
        {"reward": "lift.py:make_lift"},
        {"reward": "/home/someone/lift.py:make"},
        {"reward": "folder/lift:make"},
        {"reward": "lift.py"},
        {"reward": "reach", "goal": 3, "source": "ab"},
    ],
)
def test_a_spec_that_names_a_file_is_refused(task):
    with pytest.raises(SpecError, match="A spec is data: .* must not run files.*--reward FILE.py:FUNCTION"):
        RobotSpec.from_dict({**robot().to_dict(), "tasks": {"lift": task}})


def test_a_task_of_a_file_does_not_travel():
    """It exists in the process of a command; the spec that it makes is refused where it arrives."""
    local = replace(robot(), tasks={"lift": Task(reward="lift.py:make", source="ab")})
    with pytest.raises(SpecError, match="must not run files"):
        RobotSpec.from_dict(local.to_dict())


def digest(task: Task, name: str = "it") -> str:
    return digest_objective(replace(robot(), tasks={name: task}), name)


def test_the_digest_of_a_task_changes_with_all_that_decides_the_reward():
    base = Task(reward="hold", goal=2)
    changed = [
        replace(base, reward="track_joints"),
        replace(base, parameters={"speed_cost": 0.5}),
        replace(base, goal=0),
        replace(base, source="ab"),
        replace(base, source="cd"),
    ]
    assert len({digest(task) for task in (base, *changed)}) == 6
    assert digest(base, "other") != digest(base)
    # How goals arrive is no matter of the plan.
    assert digest(replace(base, goal_type="JointState")) == digest(base)


def test_the_digest_of_a_task_changes_with_the_version_of_its_package(
    installed, tmp_path_factory, monkeypatch
):
    task = Task(reward="my-rewards:lift")
    assert find_reward_origin("my-rewards:lift") == {"package": "my-rewards", "version": "1.2"}
    before = digest(task)
    assert digest(task) == before
    newer = tmp_path_factory.mktemp("newer")
    install(newer, version="1.3")
    monkeypatch.setattr("sys.path", [str(newer), *(path for path in sys.path if path != str(installed))])
    assert find_reward_origin("my-rewards:lift")["version"] == "1.3"
    assert digest(task) != before


def test_a_package_that_is_not_installed_leaves_no_digest():
    with pytest.raises(SpecError, match="is not installed here"):
        digest(Task(reward="my-rewards:lift"))
    assert find_reward_origin("reach") == {}
