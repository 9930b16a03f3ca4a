"""Output that never fails for its characters, nor says much when nobody reads it any more."""

import codecs
import os
import select
import sys

_PLAIN = {
    "…": "...", "–": "-", "—": "-", "−": "-", "·": "-", "•": "*", "×": "x", "±": "+/-", "→": "->", "≤": "<=",
    "≥": ">=", "²": "2", "³": "3", "°": " deg", "µ": "u", "μ": "u", "θ": "theta", "γ": "gamma", "λ": "lambda",
    "π": "pi", "σ": "sigma", "’": "'", "‘": "'", "“": '"', "”": '"', "✓": "ok", "✗": "x",
}  # fmt: skip
HANDLER = "wm_robot.plain"
CLOSED = 141
"""Exit code, as a shell has it for what wrote into a closed pipe."""


def write_any_text() -> None:
    """Let stdout and stderr take every text, whatever the locale or the pipe is."""
    codecs.register_error(HANDLER, _in_plain_letters)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=HANDLER)


def _in_plain_letters(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    if all("\udc80" <= letter <= "\udcff" for letter in lacking):
        # Bytes of a file name that is no text here: they go out as they came in.
        return bytes(ord(letter) - 0xDC00 for letter in lacking), error.end
    # Other letters are those of names: escaped, not guessed.
    plain = (_PLAIN.get(letter) or letter.encode("ascii", "backslashreplace").decode() for letter in lacking)
    return "".join(plain), error.end


def flush() -> None:
    """Write what was printed, so that it fails here if it does, and not as the interpreter ends.

    Raises:
        SystemExit: With `CLOSED`, and without a word, if its reader is gone, as `| head` is when it has enough.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        _write_nowhere()
        if isinstance(error, BrokenPipeError):
            sys.exit(CLOSED)
        raise


def end_if_closed() -> None:
    """After a pipe broke: end as `flush` does if it was stdout, and return if it was another."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    if any(events & select.POLLERR for _, events in poll.poll(0)):
        _write_nowhere()
        sys.exit(CLOSED)


def _write_nowhere() -> None:
    """What is buffered would fail again as the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
