"""Entry point. Each verb imports what it needs when it runs, so that help answers at once."""

import sys
from collections.abc import Callable
from typing import Any

import tyro

from wm_robot.cli import calibrate, demo, export, graduate, state, train
from wm_robot.cli.bench import verbs
from wm_robot.errors import WmRobotError

BENCHES: dict[str, Callable[..., Any]] = {
    "adaptation": verbs.adaptation,
    "calibration": verbs.calibration,
    "control": verbs.control,
    "durability": verbs.durability,
    "life": verbs.life,
    "memory": verbs.memory,
    "recall": verbs.recall,
    "sim": verbs.sim,
    "loop": verbs.loop,
    "store": verbs.store,
}
VERBS: dict[str, Callable[..., Any]] = {
    "train": train.train,
    "export": export.export,
    "calibrate": calibrate.calibrate,
    "graduate": graduate.graduate,
    "bench": verbs.bench,
    "state": state.state,
    "demo": demo.demo,
}


def main(args: list[str] | None = None) -> None:
    """Run one verb; exit code 2 for what the user can mend, 130 after Ctrl-C."""
    args = sys.argv[1:] if args is None else args
    try:
        if args[:1] == ["bench"]:
            tyro.extras.subcommand_cli_from_dict(
                BENCHES,
                args=args[1:],
                prog="wm-robot bench",
                description="Measure, and print a table or JSON.",
            )
        elif args[:1] == ["state"]:
            tyro.extras.subcommand_cli_from_dict(
                state.VERBS, args=args[1:], prog="wm-robot state", description=state.__doc__ or ""
            )
        else:
            tyro.extras.subcommand_cli_from_dict(
                VERBS,
                args=args,
                prog="wm-robot",
                description="A robot whose weights hold the ability to learn, and whose state holds what it learned.",
            )
    except WmRobotError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Stopped. A training goes on with the same command.", file=sys.stderr)
        sys.exit(130)
