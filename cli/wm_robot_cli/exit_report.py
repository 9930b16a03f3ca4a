"""How a verb that could not do its work ends: one sentence with the next move, and an exit code."""

import errno
import re
import sys
import traceback
from collections.abc import Sequence

from wm_robot.errors import WmRobotError

MISTAKE = 2
"""The user can mend it."""
FAULT = 70
"""It is ours to mend; `EX_SOFTWARE` of sysexits.h."""
STOPPED = 130
"""As a shell has it for what Ctrl-C ended."""

_COMMAND = re.compile(r"\bwm-robot((?: [a-z-]+)+)((?:(?!\. )[^,;\n])*)")
"""A command in a message: its words, and what follows them."""
_PLACEHOLDER = re.compile(r"\b[A-Z]{2,}\b|…")
"""What the reader has to fill in."""
_NEXT_MOVE = {
    errno.ENOSPC: "Make room there, or name a folder on another disk",
    errno.EDQUOT: "Make room there, or name a folder on another disk",
    errno.EROFS: "Name a folder that you may write to",
    errno.EACCES: "Name a place that you may use, or ask its owner",
    errno.EPERM: "Name a place that you may use, or ask its owner",
    errno.ENOENT: "Check how it is spelt, and the folder that you are in",
    errno.ENOTDIR: "Name a folder, not a file",
    errno.EISDIR: "Name a file, not a folder",
    errno.EEXIST: "Name another, or remove it",
    errno.ENAMETOOLONG: "Choose a shorter name",
}
_STOPPED = {
    "train": "A training goes on with the same command.",
    "bench": "A bench that was stopped has no figures; run it again.",
}


def end_of(error: BaseException, words: Sequence[str], *, debug: bool) -> int:
    """Say on stderr what went wrong, and return the exit code.

    Args:
        words: Of the verb that failed, such as `state` and `gc`.
        debug: Whether the traceback is wanted, too.
    """
    if debug:
        traceback.print_exception(error)
    sentence, code = told(error, words)
    print(sentence, file=sys.stderr)
    return code


def told(error: BaseException, words: Sequence[str]) -> tuple[str, int]:
    """The sentence for an error, and the exit code."""
    kind, help_of = type(error).__name__, _help_of(words)
    if isinstance(error, KeyboardInterrupt):
        return f"Stopped. {_STOPPED.get(words[0] if words else '', '')}".strip(), STOPPED
    if isinstance(error, WmRobotError):
        return _with_command(f"{kind}: {error}", words), MISTAKE
    if isinstance(error, OSError):
        return f"{kind}: {_system(error)}. {help_of}", MISTAKE
    if isinstance(error, MemoryError):
        return f"{kind}: there is not enough memory for this; ask for less. {help_of}", MISTAKE
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        name, encoding = error.object.encode(errors="backslashreplace").decode(), sys.getfilesystemencoding()
        return f"{kind}: '{name}' is no text in this locale, {encoding}. Run: export PYTHONUTF8=1", MISTAKE
    if isinstance(error, ValueError):
        text = _ended(f"{kind}: {_one_line(error)}")
        return f"{text} Check the values that you gave; --debug shows where it failed. {help_of}", MISTAKE
    return (
        f"{kind}: {_one_line(error)}. This is a fault of wm_robot, not yours. Run the same command with --debug, "
        "and report what it prints",
        FAULT,
    )


def _with_command(text: str, words: Sequence[str]) -> str:
    """The message, with a command that can be run as it is."""
    commands = _COMMAND.findall(text)
    if any(not _PLACEHOLDER.search(rest) for _, rest in commands):
        return text
    return f"{_ended(text)} {_help_of(commands[0][0].split() if commands else words)}"


def _help_of(words: Sequence[str]) -> str:
    return f"See: {' '.join(['wm-robot', *words])} --help"


def _system(error: OSError) -> str:
    """What the system refused, of which file, and what to do."""
    files = " and ".join(repr(str(name)) for name in (error.filename, error.filename2) if name is not None)
    reason = error.strerror or _one_line(error)
    what = f"{files}: {reason}" if files else reason
    move = _NEXT_MOVE.get(error.errno or 0)
    return f"{what}. {move}" if move else what


def _ended(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:400] or "no reason was given"
