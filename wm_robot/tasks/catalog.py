"""Catalog of rewards: those of this library by name, and those of installed packages."""

import inspect
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from wm_robot.errors import SpecError, WmRobotError
from wm_robot.spec import RobotSpec, Task, names_reward_file
from wm_robot.tasks.joint_positions import make_hold_reward, make_track_joints_reward
from wm_robot.tasks.reach import make_reach_reward
from wm_robot.tasks.reward import ARGUMENTS, Reward, RewardFactory
from wm_robot.tasks.upright import make_balance_reward, make_swingup_reward, make_upright_reward
from wm_robot.tasks.velocity import make_track_velocity_reward

REWARDS: dict[str, RewardFactory] = {
    "reach": make_reach_reward,
    "track_joints": make_track_joints_reward,
    "hold": make_hold_reward,
    "balance": make_balance_reward,
    "swingup": make_swingup_reward,
    "upright": make_upright_reward,
    "track_velocity": make_track_velocity_reward,
}
"""Rewards by name. A spec may name those of this table, and others by the entry point of their package."""
BUILT_IN = frozenset(REWARDS)
EXPERIMENTAL_REWARDS = ("swingup", "upright", "track_velocity")
"""Rewards that a plan of a few steps without a value function may not reach."""
ENTRY_POINT_GROUP = "wm_robot.rewards"
LEADING_SHAPE = (2, 3)
"""Leading shape of the zeros on which a user's function is tried."""


def make_reward(spec: RobotSpec, task: Task) -> Reward:
    """Build the reward of a task for a robot.

    Raises:
        SpecError: If the reward is unknown or not installed, does not accept the parameters or the size of the goal,
            or the robot lacks what it needs. Of a user's function also if it fails or returns another shape.
    """
    factory = _find_factory(task.reward)
    if _is_reward_function(factory):
        if task.parameters:
            raise SpecError(
                f"reward '{task.reward}' is a function of {ARGUMENTS} and has no parameters; its task gives "
                f"{sorted(task.parameters)}. Name a function make(spec, **parameters) that returns it"
            )
        reward = Reward(factory)
    else:
        _check_parameter_names(factory, spec, task)
        try:
            made = factory(spec, **task.parameters)
        except WmRobotError:
            raise
        except Exception as error:
            raise SpecError(
                f"reward '{task.reward}' fails with the parameters {dict(task.parameters)} of its task: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(made, Reward) and not callable(made):
            raise SpecError(
                f"reward '{task.reward}' returned {type(made).__name__}; it must return a function of {ARGUMENTS}"
            )
        reward = made if isinstance(made, Reward) else Reward(made)
    if reward.goal_sizes and task.goal not in reward.goal_sizes:
        sizes = " or ".join(map(str, reward.goal_sizes))
        raise SpecError(
            f"reward '{task.reward}' has a goal of {sizes} values for robot '{spec.name}'; its task says goal: "
            f"{task.goal}. Correct it in the spec"
        )
    if task.reward not in BUILT_IN:
        check_reward(spec, task, reward)
    return reward


def check_reward(spec: RobotSpec, task: Task, reward: Reward, make_array: Any = np.asarray) -> None:
    """Call a user's reward on zeros, and check what it returns.

    Args:
        make_array: Converts a NumPy array to the library on which the reward is tried, such as `torch.from_numpy`.

    Raises:
        SpecError: If the function fails, or does not return a finite number for each step.
    """
    sizes = (spec.obs_dim, spec.action_dim, spec.obs_dim, task.goal)
    arrays = [make_array(np.zeros((*LEADING_SHAPE, size), np.float32)) for size in sizes]
    library = type(arrays[0]).__module__
    try:
        found = reward(*arrays)
        shape = tuple(found.shape)
    except Exception as error:
        raise SpecError(
            f"reward '{task.reward}' fails on arrays of {library}: {type(error).__name__}: {error}. It must accept "
            "NumPy arrays and torch tensors; see docs/add_a_task.md"
        ) from error
    if type(found).__module__ != library or shape != LEADING_SHAPE:
        raise SpecError(
            f"reward '{task.reward}' returns {type(found).__name__} of shape {shape} for observations of shape "
            f"{tuple(arrays[0].shape)}; it must return an array of shape {LEADING_SHAPE} of the same library: index "
            "and reduce the last axis alone"
        )
    if not bool((found - found == 0).all()):
        raise SpecError(f"reward '{task.reward}' is not finite for an observation of zeros")


def find_reward_origin(reward: str) -> dict[str, str]:
    """Return package and version of a reward that an installed package supplies; empty for other rewards.

    Raises:
        SpecError: If the package is not installed, or supplies no such reward.
    """
    if reward in REWARDS or ":" not in reward or names_reward_file(reward):
        return {}
    package, _ = _find_entry_point(reward)
    return package


def is_reward_available(task: Task) -> bool:
    """Whether the reward of a task can be computed here: that of a file only where a command loaded it."""
    return task.reward in REWARDS or not names_reward_file(task.reward)


def describe_experimental_task(task: Task, name: str) -> str:
    """Return a sentence about a task that a short plan may not solve; empty for other tasks."""
    if task.reward not in EXPERIMENTAL_REWARDS:
        return ""
    return (
        f"task '{name}' is experimental: a plan of a few steps without a value function may not solve "
        f"'{task.reward}'. See docs/add_a_task.md"
    )


def _find_factory(reward: str) -> RewardFactory:
    if reward in REWARDS:
        return REWARDS[reward]
    if names_reward_file(reward):
        raise SpecError(
            f"reward '{reward}' is of a file that is not loaded here. Give it on the command line: --reward "
            "FILE.py:FUNCTION"
        )
    if ":" not in reward:
        raise SpecError(
            f"reward '{reward}' is unknown; known are {sorted(REWARDS)}, and PACKAGE:NAME for a reward of an "
            "installed package"
        )
    _, entry_point = _find_entry_point(reward)
    try:
        factory = entry_point.load()
    except Exception as error:
        raise SpecError(
            f"reward '{reward}' cannot be loaded from {entry_point.value}: {type(error).__name__}: {error}"
        ) from error
    if not callable(factory):
        raise SpecError(f"reward '{reward}' is {type(factory).__name__}; it must be a function make(spec, …)")
    return factory


def _find_entry_point(reward: str) -> tuple[dict[str, str], Any]:
    """Find the entry point `PACKAGE:NAME`; return package and version too."""
    # Imported here, because most robots need it not and it takes 10 ms.
    from importlib import metadata

    package, _, name = reward.partition(":")
    points = metadata.entry_points(group=ENTRY_POINT_GROUP)
    known = {f"{_normalize(point.dist.name)}:{point.name}": point for point in points if point.dist}
    point = known.get(f"{_normalize(package)}:{name}")
    if point is None or point.dist is None:
        raise SpecError(
            f"reward '{reward}' is not installed here; installed are {sorted(known)}. Install package '{package}', "
            f"which must have '{name}' in its entry points of group '{ENTRY_POINT_GROUP}'"
        )
    return {"package": _normalize(point.dist.name), "version": point.dist.version}, point


def _normalize(package: str) -> str:
    """Normalise the name of a package, as pip compares names."""
    return re.sub(r"[-_.]+", "-", package).lower()


def _is_reward_function(function: RewardFactory) -> bool:
    """Whether a function is itself the reward of a step, and no factory."""
    try:
        return tuple(inspect.signature(function).parameters) == ARGUMENTS
    except (TypeError, ValueError):
        return False


def _check_parameter_names(factory: RewardFactory, spec: RobotSpec, task: Task) -> None:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        return
    given: Mapping[str, Any] = task.parameters
    try:
        signature.bind(spec, **given)
    except TypeError as error:
        known = list(signature.parameters)[1:]
        raise SpecError(
            f"reward '{task.reward}' does not accept the parameters {sorted(given)} of its task: {error}. It has "
            f"{known}"
        ) from error
