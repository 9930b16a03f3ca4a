"""How commands end, and what each ending is worth to somebody who made a mistake."""

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

import pytest

from wm_robot_cli import main as cli

COMMAND = re.compile(r"wm-robot (?:(?!\. |, |; |: |\) )[^\n])+")
"""A command in a message, to the end of its sentence or clause."""
PLACEHOLDER = re.compile(r"\b[A-Z]{3,}\b|…")
"""What the reader has to fill in."""
FRAME = re.compile(r"[─│╭╰╮╯]+")
LENGTHY = ("train", "export", "calibrate", "pretrain-state", "demo", "guard", "bench")
"""Verbs whose work takes long: of a remedy with one, all but the work is done."""
LINES = 15
"""A message of more lines is not read."""


@dataclass(frozen=True)
class End:
    """How a command ended."""

    code: int
    said: str
    """On stdout and stderr."""


def called(*args: object) -> End:
    """`wm-robot` with these arguments, in this process."""
    out = StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        try:
            cli.main([str(arg) for arg in args])
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except BaseException as error:
            out.write(f"Traceback of {type(error).__name__}: {error}")
            code = 1
    return End(code, out.getvalue())


def started(command: Sequence[object], *, timeout: float = 60, **options: Any) -> End:
    """A command in a process of its own; options as of `subprocess.run`."""
    done = subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
        **options,
    )
    return End(done.returncode, done.stdout.decode(errors="replace"))


def wm_robot(*args: object) -> list[object]:
    """The command line of a verb in a process of its own."""
    return [sys.executable, "-m", "wm_robot_cli", *args]


def as_anybody(command: Sequence[object]) -> list[object]:
    """The same command as a user who may read all and write nothing that is not theirs."""
    if os.geteuid():
        return list(command)
    if not shutil.which("setpriv"):
        pytest.skip("there is no setpriv, by which root becomes somebody else")
    reads = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *reads, *command]


def one_line(said: str) -> str:
    """A message without line breaks and frames."""
    return " ".join(FRAME.sub(" ", said).split())


def remedies(said: str) -> list[list[str]]:
    """The arguments of each command that a message gives and that can be run as it is."""
    found = [match.strip(" .?)'`") for match in COMMAND.findall(f"{one_line(said)} ")]
    return [shlex.split(command)[1:] for command in found if not PLACEHOLDER.search(command)]


def corrections(said: str, words: Sequence[str], wrong: str) -> list[list[str]]:
    """The same arguments with what a message suggests in place of what was wrong: another word, or `name:=value`."""
    text = one_line(said)
    better = [
        [word.replace(wrong, guess) for word in words] for guess in re.findall(r"Did you mean '(.+?)'", text)
    ]
    for name, value in re.findall(r"Write ([a-z_]+):=([^ ,]*[^ ,.])", text):
        given = re.compile(rf"{name}:?=.*")
        others = [f"{name}:={value}" if given.fullmatch(word) else word for word in words]
        better.append(others if others != list(words) else [*words, f"{name}:={value}"])
    return [each for each in better if each != list(words)]


def grade(end: End, words: Sequence[str], names: Sequence[str]) -> int:
    """What the ending of a command is worth.

    3: exit code 2, at most 15 lines, argument and value are named, and the commands and corrections that it gives
    succeed. 2: it gives none that does. 1: wrong cause, or the value is not named. 0: traceback, silence, or exit
    code 0.

    Args:
        words: Of the command, after `wm-robot`.
        names: What the message must have, the wrong word first.
    """
    if end.code == 0 or not end.said.strip() or "Traceback" in end.said:
        return 0
    told = one_line(end.said)
    if end.code != 2 or len(end.said.strip().splitlines()) > LINES or not all(name in told for name in names):
        return 1
    commands = [*remedies(end.said), *corrections(end.said, words, names[0].strip("'"))]
    return 3 if commands and all(helps(command) for command in commands) else 2


def helps(command: Sequence[str]) -> bool:
    """Whether a command that a message gives succeeds."""
    with pytest.MonkeyPatch.context() as patch:
        for name in LENGTHY:
            if name in cli.GROUPS:
                verbs, about = cli.GROUPS[name]
                idle = {each: without_work(verb) for each, verb in verbs.items()}
                patch.setitem(cli.GROUPS, name, (idle, about))
            else:
                patch.setitem(cli.VERBS, name, without_work(cli.VERBS[name]))
        patch.setattr(os, "execve", start_nothing)
        return called(*command).code == 0


def without_work(verb: Callable[..., Any]) -> Callable[..., Any]:
    """A verb or bench that checks its arguments, and does no more."""
    if isinstance(verb, type):
        return type(verb.__name__, (verb,), {"measure": lambda self: None, "__doc__": verb.__doc__})
    return functools.wraps(verb)(lambda *args, **kwargs: None)


def start_nothing(*_: object) -> None:
    """In place of the nodes that `up` starts."""
    raise SystemExit(0)
