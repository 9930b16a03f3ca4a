"""Verb `wm-robot demo`: a robot adapts to a hidden change of its world."""

import shlex
import sys
from pathlib import Path

from wm_robot.errors import MissingExtraError
from wm_robot_cli.values import Seed

EXIT_ON_INTERRUPT = 130


def run_demo_verb(
    out: Path = Path("runs/demo"),
    seed: Seed = 4,
    fresh: bool = False,
    quick: bool = False,
    ros: bool = True,
    base: Path = Path("bases/arm-ekf"),
    frozen: Path = Path("bases/arm-robust"),
) -> None:
    """Run a learning arm and a frozen one through the same hidden change, over ROS 2 where it is installed.

    Args:
        out: Folder for report, recording, state and video.
        seed: Seed of the target's path, the noise and the hidden change. docs/lab/13-demo.md lists the results
            of 0 to 9.
        fresh: Start from the initial state, even if `out` contains a saved state.
        quick: Shorter sessions.
        ros: `--no-ros`: one process and simulated time, without a recording; the default without ROS 2.
        base: Base of the arm that learns in its lifetime state.
        frozen: Base of the arm without adaptation.
    """
    try:
        raise SystemExit(
            _run_demo(out=out, seed=seed, fresh=fresh, quick=quick, ros=ros, base=base, frozen=frozen)
        )
    except KeyboardInterrupt:
        # Before a process was started; afterwards the demo itself handles it.
        raise SystemExit(EXIT_ON_INTERRUPT) from None


def _run_demo(*, out: Path, seed: int, fresh: bool, quick: bool, ros: bool, base: Path, frozen: Path) -> int:
    try:
        from wm_robot_demo import DemoOptions, run_demo
    except ImportError as error:
        raise MissingExtraError("wm-robot demo", "learn,sim,report") from error
    from rich.console import Console

    from wm_robot_cli.demo_display import select_display
    from wm_robot_cli.provenance import read_commit, read_versions

    options = DemoOptions(
        output_folder=out,
        base=base,
        frozen=frozen,
        seed=seed,
        fresh=fresh,
        quick=quick,
        ros=ros,
        command=shlex.join(["wm-robot", *sys.argv[1:]]),
        read_facts=lambda: {"commit": read_commit(), **read_versions()},
    )
    return run_demo(options, select_display(Console()))
