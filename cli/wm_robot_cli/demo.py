"""Verb `wm-robot demo`: a robot adapts to a hidden change of its world."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import tyro

from wm_robot.errors import MissingExtraError, WmRobotError
from wm_robot.robots import load_spec
from wm_robot_cli.values import Seed

EXIT_ON_INTERRUPT = 130


def run_demo_verb(
    robot: Annotated[str, tyro.conf.Positional] = "arm",
    /,
    *,
    task: str = "",
    out: Path | None = None,
    seed: Seed = 4,
    fresh: bool = False,
    quick: bool = False,
    ros: bool = True,
    base: Path | None = None,
    frozen: Path | None = None,
) -> None:
    """Run a learning robot and a frozen one through the same hidden change, over ROS 2 where it is installed.

    The change of `arm` is one that no parameter of its physics describes: a damaged cable harness mixes the commands
    of all motors. That of another robot is one that its spec declares: a load and a fault of a motor, or else a range
    of `world:` or `randomize:`. The error is the distance of the gripper for `reach`, that of the joints for
    `track_joints` and `hold`, and what the reward is below its best for every other task.

    Args:
        robot: Name of a robot, or the path of its spec.
        task: Task of its spec; the first one by default.
        out: Folder for report, recording, state and video; `runs/demo`, or `runs/demo-ROBOT` for another robot.
        seed: Seed of the target's path, the noise and the hidden change. docs/lab/13-demo.md lists the results
            of 0 to 9 for `arm`.
        fresh: Start from the initial state, even if `out` contains a saved state.
        quick: Shorter sessions.
        ros: `--no-ros`: one process and simulated time, without a recording; the default without ROS 2.
        base: Base of the robot that learns in its lifetime state; `bases/ROBOT-semiparametric` by default.
        frozen: Base of the robot without adaptation; `ROBOT-robust` beside the other one or in `bases` by default.
            Without it, that robot has the base of the other one, and does not learn.
    """
    try:
        raise SystemExit(
            _run_demo(
                robot,
                task=task,
                out=out,
                seed=seed,
                fresh=fresh,
                quick=quick,
                ros=ros,
                base=base,
                frozen=frozen,
            )
        )
    except KeyboardInterrupt:
        # Before a process was started; afterwards the demo itself handles it.
        raise SystemExit(EXIT_ON_INTERRUPT) from None


def _run_demo(
    robot: str,
    *,
    task: str,
    out: Path | None,
    seed: int,
    fresh: bool,
    quick: bool,
    ros: bool,
    base: Path | None,
    frozen: Path | None,
) -> int:
    try:
        from wm_robot_demo import DemoOptions, run_demo
    except ImportError as error:
        raise MissingExtraError("wm-robot demo", "learn,sim,report") from error
    from rich.console import Console

    from wm_robot_cli.demo_display import select_display
    from wm_robot_cli.provenance import read_commit, read_versions

    name = Path(robot).stem
    options = DemoOptions(
        output_folder=out or Path("runs/demo" if name == "arm" else f"runs/demo-{name}"),
        robot=robot,
        task=task,
        base=base,
        frozen=frozen,
        seed=seed,
        fresh=fresh,
        quick=quick,
        ros=ros,
        command=shlex.join(["wm-robot", *sys.argv[1:]]),
        read_facts=lambda: {"commit": read_commit(), **read_versions()},
        describe_training_time=lambda: _describe_training_time(robot, task),
    )
    return run_demo(options, select_display(Console()))


def _describe_training_time(robot: str, task: str) -> str:
    """Return in words how long the training of the bases takes; empty for a robot that cannot be trained."""
    from wm_robot_cli.training_size import estimate_default_training

    try:
        estimate = estimate_default_training(load_spec(robot), task)
    except WmRobotError:
        # The training itself gives the reason.
        return ""
    return f"about {estimate.minutes:.0f} min on this machine"
