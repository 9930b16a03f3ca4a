"""Entry point. Each verb imports what it needs when it runs, so that help answers at once."""

import sys
from collections.abc import Callable
from typing import Any

import tyro

from wm_robot.cli import (
    calibrate,
    completion,
    demo,
    episodes,
    export,
    graduate,
    guard,
    keys,
    recover,
    state,
    train,
    up,
)
from wm_robot.cli.bench import verbs
from wm_robot.errors import WmRobotError

BENCHES: dict[str, Callable[..., Any]] = {
    "adaptation": verbs.adaptation,
    "assimilation": verbs.assimilation,
    "calibration": verbs.calibration,
    "consolidate": verbs.consolidate,
    "control": verbs.control,
    "durability": verbs.durability,
    "life": verbs.life,
    "memory": verbs.memory,
    "onboard": verbs.onboard,
    "pigeon": verbs.pigeon,
    "recall": verbs.recall,
    "resume": verbs.resume,
    "ros": verbs.ros,
    "safety": verbs.safety,
    "sim": verbs.sim,
    "loop": verbs.loop,
    "store": verbs.store,
    "tamper": verbs.tamper,
}
VERBS: dict[str, Callable[..., Any]] = {
    "train": train.train,
    "export": export.export,
    "calibrate": calibrate.calibrate,
    "graduate": graduate.graduate,
    "bench": verbs.bench,
    "state": state.state,
    "recover": recover.recover,
    "episodes": episodes.episodes,
    "keys": keys.keys,
    "guard": guard.guard,
    "demo": demo.demo,
    "up": up.up,
    "completion": completion.completion,
}

ABOUT = "A robot whose weights hold the ability to learn, and whose state holds what it learned."
GROUPS: dict[str, tuple[dict[str, Callable[..., Any]], str]] = {
    "bench": (BENCHES, "Measure, and print a table or JSON."),
    "state": (state.VERBS, state.__doc__ or ""),
    "keys": (keys.VERBS, keys.__doc__ or ""),
}
"""Verbs that have verbs of their own."""


def main(args: list[str] | None = None) -> None:
    """Run one verb; exit code 2 for what the user can mend, 130 after Ctrl-C."""
    args = sys.argv[1:] if args is None else args
    try:
        verbs_of, about = GROUPS.get(args[0] if args else "", (None, ABOUT))
        if verbs_of is None:
            tyro.extras.subcommand_cli_from_dict(VERBS, args=args, prog="wm-robot", description=about)
        else:
            prog = f"wm-robot {args[0]}"
            tyro.extras.subcommand_cli_from_dict(verbs_of, args=args[1:], prog=prog, description=about)
    except WmRobotError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Stopped. A training goes on with the same command.", file=sys.stderr)
        sys.exit(130)
