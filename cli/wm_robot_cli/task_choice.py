"""Task choice of a command: a task of the spec, or one that a reward of the user makes for this command alone."""

import importlib.abc
import importlib.util
import inspect
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wm_robot.errors import ConfigError, SpecError

if TYPE_CHECKING:
    from wm_robot.spec import RobotSpec


def choose_task(
    spec: "RobotSpec", task: str | None, reward: str | None, goal_size: int | None
) -> tuple["RobotSpec", str]:
    """Return the spec with the task of a command, and the name of that task. The spec's file stays as it is.

    Args:
        task: Name of the task; the robot's first by default, or the name of the reward's function.
        reward: Reward of the task in place of that in the spec: `FILE.py:FUNCTION`, `PACKAGE:NAME` or a built-in one.
        goal_size: Number of goal values of a task with such a reward; that of the spec's task by default, or 0.

    Raises:
        ConfigError: If the options do not fit together, or the robot has no task.
        SpecError: If there is no such task, or the file or its function cannot be used.
    """
    from wm_robot.spec import Task, check_task_name
    from wm_robot.tasks import make_reward

    if reward is None:
        if goal_size is not None:
            raise ConfigError(
                f"--goal-size is {goal_size} and there is no --reward. Set goal in the spec's task"
            )
        if task is None and not spec.tasks:
            raise ConfigError(f"robot '{spec.name}' has no task. Add one to its spec, or use --reward")
        name = next(iter(spec.tasks)) if task is None else task
        make_reward(spec, spec.find_task(name))
        return spec, name
    name, source = (task or reward.rpartition(":")[2]), ""
    if reward.rpartition(":")[0].endswith(".py"):
        reward, source = _load_reward_file(reward)
    known = spec.tasks.get(name)
    size = goal_size if goal_size is not None else known.goal if known else 0
    chosen = Task(
        reward=reward,
        goal=size,
        goal_type=known.goal_type if known and known.goal == size else "",
        source=source,
    )
    check_task_name(name)
    make_reward(spec, chosen)
    return replace(spec, tasks={**spec.tasks, name: chosen}), name


def print_notice(spec: "RobotSpec", task: str) -> None:
    """Print a line about a task that may not be solved."""
    from wm_robot.tasks import describe_experimental_task

    if notice := describe_experimental_task(spec.find_task(task), task):
        print(notice)


def _load_reward_file(reward: str) -> tuple[str, str]:
    """Load `FILE.py:FUNCTION` for this process; return the name of the reward and the SHA-256 of the file.

    Raises:
        SpecError: If the file cannot be read or run, or has no such function.
    """
    from wm_robot.io.durable import compute_digest
    from wm_robot.tasks import REWARDS

    file, _, name = reward.rpartition(":")
    path = Path(file)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SpecError(f"--reward {reward}: {path} cannot be read: {error.strerror}") from error
    found = _run_file(path, content, name)
    if not callable(found):
        raise SpecError(f"--reward {reward}: {name} is {type(found).__name__}; it must be a function")
    named = f"{path.name}:{name}"
    REWARDS[named] = found
    return named, compute_digest(content)


def _run_file(path: Path, content: bytes, name: str) -> Any:
    """Run a file, and return what it calls by a name."""
    module_name = f"reward_file_{path.stem}"
    spec = importlib.util.spec_from_loader(module_name, _FileLoader(path, content), origin=str(path))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise SpecError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    functions = sorted(key for key, value in vars(module).items() if inspect.isfunction(value))
    if not hasattr(module, name):
        raise SpecError(f"{path} has no function '{name}'; it has {functions}")
    return getattr(module, name)


class _FileLoader(importlib.abc.SourceLoader):
    """Loader of the bytes that the digest is of; it neither reads nor writes compiled files."""

    def __init__(self, path: Path, content: bytes):
        self._path, self._content = path, content

    def get_filename(self, fullname: str) -> str:
        return str(self._path)

    def get_data(self, path: str | bytes) -> bytes:
        return self._content
