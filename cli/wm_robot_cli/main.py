"""Entry point of `wm-robot`. Each verb imports its dependencies when it runs, so that help is fast."""

import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import tyro

from wm_robot import __version__
from wm_robot.errors import ConfigError
from wm_robot_cli import (
    calibrate,
    check,
    demo,
    diagnose,
    episodes,
    export,
    guard,
    keys,
    new,
    pretrain_state,
    recover,
    state,
    train,
    up,
    validate,
)
from wm_robot_cli.completion import make_completion_verb
from wm_robot_cli.exit_report import report_error
from wm_robot_cli.provenance import read_commit
from wm_robot_cli.terminal_output import accept_any_text, exit_if_closed, flush_output
from wm_robot_cli.values import check_before_call, check_ranges

BENCHMARK_PACKAGE = "wm_robot_benchmarks"
"""Package of the benchmarks. It is part of a checkout, not of a wheel, so it is found by name."""


def find_benches() -> Mapping[str, Callable[..., Any]]:
    """Return the benches by name, imported on access; empty where the benchmarks are not installed."""
    benches: Mapping[str, Callable[..., Any]] = (
        import_module(f"{BENCHMARK_PACKAGE}.harness.bench_table").BENCHES
        if find_spec(BENCHMARK_PACKAGE)
        else {}
    )
    return benches


def explain_missing_benches() -> None:
    """Run a benchmark, and print a table or JSON. It needs a checkout of the repository.

    Raises:
        ConfigError: If the benchmarks are not installed; otherwise each bench has its own verb.
    """
    raise ConfigError(f"wm-robot bench: {BENCHMARK_PACKAGE} is not installed; run make setup in a checkout")


BENCHES = find_benches()
VERBS: dict[str, Callable[..., Any]] = {
    "new": new.create_robot,
    "check": check.check_robot,
    "upgrade-spec": check.upgrade_spec,
    "train": train.train_base,
    "export": export.export_base,
    "calibrate": calibrate.calibrate_base,
    "pretrain-state": pretrain_state.pretrain_state,
    "validate": validate.validate_bundle,
    "bench": explain_missing_benches,
    "state": state.list_state_verbs,
    "diagnose": diagnose.diagnose_robot,
    "recover": recover.recover_recordings,
    "episodes": episodes.split_episodes,
    "keys": keys.list_key_verbs,
    "guard": guard.run_guard_verb,
    "demo": demo.run_demo_verb,
    "up": up.start_graph,
}

PROGRAM_DESCRIPTION = (
    "World models of robots that learn while they act: the weights of a base contain the ability to learn, and the "
    "lifetime state contains what one robot has learned."
)
GLOBAL_OPTIONS = (
    "For all verbs: --debug shows the traceback of an error; wm-robot --version shows the version."
)
GROUPS: dict[str, tuple[Mapping[str, Callable[..., Any]], str]] = {
    "state": (state.STATE_VERBS, state.__doc__ or ""),
    "keys": (keys.KEY_VERBS, keys.__doc__ or ""),
} | ({"bench": (BENCHES, "Run a benchmark, and print a table or JSON.")} if BENCHES else {})
"""Verbs that have verbs of their own."""
VERBS["completion"] = make_completion_verb(VERBS, {name: verbs for name, (verbs, _) in GROUPS.items()})
TYRO_SETTINGS = (tyro.conf.DisallowNone, tyro.conf.PositionalMetavarFromFieldName)


def main(args: list[str] | None = None) -> None:
    """Run one verb. Exit codes: 2 for a user error, 70 for a fault of wm_robot, 130 after Ctrl-C."""
    accept_any_text()
    args = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in args or os.environ.get("WM_ROBOT_DEBUG", "") not in ("", "0")
    args = [each for each in args if each != "--debug"]
    words = _find_verb_words(args)
    try:
        try:
            _call_verb(words, args[len(words) :])
        finally:
            flush_output()
    except BrokenPipeError as error:
        exit_if_closed()
        sys.exit(report_error(error, words, debug=debug))
    except (Exception, KeyboardInterrupt) as error:
        sys.exit(report_error(error, words, debug=debug))


def run_guard() -> None:
    """Run `wm-robot-guard PAGE`: `wm-robot guard` as a separate command."""
    main(["guard", *sys.argv[1:]])


def _find_verb_words(args: Sequence[str]) -> list[str]:
    """Return the words that name a verb: `train`, or `state` and `gc`; empty for an unknown verb."""
    group = GROUPS[args[0]][0] if args and args[0] in GROUPS else {}
    return [word for word, known in zip(args, (VERBS, group), strict=False) if word in known]


def _call_verb(words: Sequence[str], rest: list[str]) -> None:
    """Run the verb of these words, or print the available verbs."""
    prog = " ".join(["wm-robot", *words])
    verbs_of, about = (
        GROUPS.get(words[0], ({}, "")) if words else (VERBS, f"{PROGRAM_DESCRIPTION}\n\n{GLOBAL_OPTIONS}")
    )
    if not words and rest[:1] == ["--version"]:
        print(f"wm-robot {__version__} (commit {read_commit()})")
    elif len(words) == 2 or not verbs_of:
        _run_verb((verbs_of or VERBS)[words[-1]], rest, prog)
    elif rest and not rest[0].startswith("-"):
        raise ConfigError(_describe_unknown_verb(rest[0], verbs_of, words))
    else:
        tyro.extras.subcommand_cli_from_dict(dict(verbs_of), args=rest, prog=prog, description=about)


def _run_verb(verb: Callable[..., Any], rest: list[str], prog: str) -> None:
    """Call a verb, or run a bench, whose verb is the class of its options."""
    if isinstance(verb, type):
        bench: Any = tyro.cli(verb, args=rest, prog=prog, config=TYRO_SETTINGS)
        check_ranges(verb, vars(bench))
        bench.measure()
    else:
        tyro.cli(check_before_call(verb), args=rest, prog=prog, config=TYRO_SETTINGS)


def _describe_unknown_verb(name: str, known: Collection[str], words: Sequence[str]) -> str:
    what = " ".join([*words, "verb"]) if words != ["bench"] else "bench"
    close = get_close_matches(name, known, n=1)
    guess = f"Did you mean '{close[0]}'? " if close else ""
    prog = " ".join(["wm-robot", *words])
    return f"{what} '{name}' is unknown. {guess}There are {', '.join(known)}. See: {prog} --help"
