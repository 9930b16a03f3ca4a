"""`wm-robot demo`: a robot loses its footing when the world changes, and finds it again."""

import shlex
import sys
from pathlib import Path

from wm_robot.cli.values import Seed
from wm_robot.errors import MissingExtraError

INTERRUPTED = 130


def demo(
    out: Path = Path("runs/demo"),
    seed: Seed = 0,
    fresh: bool = False,
    quick: bool = False,
    base: Path = Path("bases/arm-ekf"),
    frozen: Path = Path("bases/arm-robust"),
) -> None:
    """Run a learning arm beside a frozen one through the same hidden change, over ROS 2.

    Args:
        out: Folder for report, recording, state and video.
        seed: Of the target's path, the noise and the hidden change.
        fresh: Begin at birth, even where `out` holds a state to go on from.
        quick: Shorter visits.
        base: Base of the arm that learns in its state.
        frozen: Base of the arm that knows only by weights.
    """
    try:
        raise SystemExit(_run(out=out, seed=seed, fresh=fresh, quick=quick, base=base, frozen=frozen))
    except KeyboardInterrupt:
        # Before anything was started; afterwards the demo itself sees to it.
        raise SystemExit(INTERRUPTED) from None


def _run(*, out: Path, seed: int, fresh: bool, quick: bool, base: Path, frozen: Path) -> int:
    try:
        from wm_robot_ros.demo import Options, run
    except ImportError as error:
        raise MissingExtraError("wm-robot demo", "learn,sim,ros,report") from error
    from rich.console import Console

    from wm_robot.cli.demo_screen import screen_for
    from wm_robot.cli.provenance import commit, versions

    options = Options(
        out=out,
        base=base,
        frozen=frozen,
        seed=seed,
        fresh=fresh,
        quick=quick,
        command=shlex.join(["wm-robot", *sys.argv[1:]]),
        facts=lambda: {"commit": commit(), **versions()},
    )
    return run(options, screen_for(Console()))
