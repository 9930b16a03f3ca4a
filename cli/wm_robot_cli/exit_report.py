"""Exit report: the last line and the exit code of a failed verb."""

import errno
import re
import sys
import traceback
from collections.abc import Sequence

from wm_robot.errors import WmRobotError

EXIT_USER_ERROR = 2
"""Exit code of an error that the user can correct."""
EXIT_INTERNAL_ERROR = 70
"""Exit code of a fault in wm_robot; `EX_SOFTWARE` of sysexits.h."""
EXIT_STOPPED = 130
"""Exit code after Ctrl-C, as in a shell."""

_COMMAND_PATTERN = re.compile(r"\bwm-robot((?: [a-z-]+)+)((?:(?!\. )[^,;\n])*)")
"""Command in a message: its words, and the text after them."""
_PLACEHOLDER_PATTERN = re.compile(r"\b[A-Z]{2,}\b|…")
"""Part of a command that the reader has to fill in."""
_NEXT_STEPS = {
    errno.ENOSPC: "Free disk space there, or select a folder on another disk",
    errno.EDQUOT: "Free disk space there, or select a folder on another disk",
    errno.EROFS: "Select a folder with write permission",
    errno.EACCES: "Select a path with permission for this user, or contact its owner",
    errno.EPERM: "Select a path with permission for this user, or contact its owner",
    errno.ENOENT: "Check its spelling, and the working directory",
    errno.ENOTDIR: "Give a folder, not a file",
    errno.EISDIR: "Give a file, not a folder",
    errno.EEXIST: "Select another, or remove it",
    errno.ENAMETOOLONG: "Choose a shorter name",
}
_STOPPED_HINTS = {
    "train": "The same command continues the training.",
    "bench": "A stopped bench has no figures; run it again.",
}


def report_error(error: BaseException, words: Sequence[str], *, debug: bool) -> int:
    """Print the error to stderr, and return the exit code.

    Args:
        words: Words of the failed verb, such as `state` and `gc`.
        debug: Whether to print the traceback as well.
    """
    if debug:
        traceback.print_exception(error)
    sentence, code = describe_error(error, words)
    print(sentence, file=sys.stderr)
    return code


def describe_error(error: BaseException, words: Sequence[str]) -> tuple[str, int]:
    """Return the sentence for an error, and the exit code."""
    kind, help_of = type(error).__name__, _format_help_hint(words)
    if isinstance(error, KeyboardInterrupt):
        return f"Stopped. {_STOPPED_HINTS.get(words[0] if words else '', '')}".strip(), EXIT_STOPPED
    if isinstance(error, WmRobotError):
        return _append_command(f"{kind}: {error}", words), EXIT_USER_ERROR
    if isinstance(error, OSError):
        return f"{kind}: {_describe_os_error(error)}. {help_of}", EXIT_USER_ERROR
    if isinstance(error, MemoryError):
        return (
            f"{kind}: there is not enough memory for this; select smaller values. {help_of}",
            EXIT_USER_ERROR,
        )
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        name, encoding = error.object.encode(errors="backslashreplace").decode(), sys.getfilesystemencoding()
        return (
            f"{kind}: '{name}' is not valid text in this locale, {encoding}. Run: export PYTHONUTF8=1",
            EXIT_USER_ERROR,
        )
    if isinstance(error, ValueError):
        text = _end_sentence(f"{kind}: {_join_lines(error)}")
        return (
            f"{text} Check the given values; --debug shows the place of the error. {help_of}",
            EXIT_USER_ERROR,
        )
    return (
        f"{kind}: {_join_lines(error)}. This is a fault of wm_robot. Run the same command with --debug, "
        "and report its output",
        EXIT_INTERNAL_ERROR,
    )


def _append_command(text: str, words: Sequence[str]) -> str:
    """Append a command that can be run unchanged."""
    commands = _COMMAND_PATTERN.findall(text)
    if any(not _PLACEHOLDER_PATTERN.search(rest) for _, rest in commands):
        return text
    return f"{_end_sentence(text)} {_format_help_hint(commands[0][0].split() if commands else words)}"


def _format_help_hint(words: Sequence[str]) -> str:
    return f"See: {' '.join(['wm-robot', *words])} --help"


def _describe_os_error(error: OSError) -> str:
    """Describe the operating system's error: the file, the reason and the next step."""
    files = " and ".join(repr(str(name)) for name in (error.filename, error.filename2) if name is not None)
    reason = error.strerror or _join_lines(error)
    what = f"{files}: {reason}" if files else reason
    move = _NEXT_STEPS.get(error.errno or 0)
    return f"{what}. {move}" if move else what


def _end_sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _join_lines(error: BaseException) -> str:
    return " ".join(str(error).split())[:400] or "no reason was given"
