"""Terminal output: prints any text in any locale, and ends quietly when the reader of a pipe is gone."""

import codecs
import os
import select
import sys

_ASCII_REPLACEMENTS = {
    "…": "...", "–": "-", "—": "-", "−": "-", "·": "-", "•": "*", "×": "x", "±": "+/-", "→": "->", "≤": "<=",
    "≥": ">=", "²": "2", "³": "3", "°": " deg", "µ": "u", "μ": "u", "θ": "theta", "γ": "gamma", "λ": "lambda",
    "π": "pi", "σ": "sigma", "’": "'", "‘": "'", "“": '"', "”": '"', "✓": "ok", "✗": "x",
}  # fmt: skip
ERROR_HANDLER = "wm_robot.plain"
EXIT_PIPE_CLOSED = 141
"""Exit code after a write into a closed pipe, as in a shell."""


def accept_any_text() -> None:
    """Configure stdout and stderr to accept any text, in every locale and for every pipe."""
    codecs.register_error(ERROR_HANDLER, _replace_unencodable)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=ERROR_HANDLER)


def _replace_unencodable(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    if all("\udc80" <= letter <= "\udcff" for letter in lacking):
        # Bytes of a file name that is not valid text: they are written unchanged.
        return bytes(ord(letter) - 0xDC00 for letter in lacking), error.end
    # Other letters belong to names: they are escaped.
    plain = (
        _ASCII_REPLACEMENTS.get(letter) or letter.encode("ascii", "backslashreplace").decode()
        for letter in lacking
    )
    return "".join(plain), error.end


def flush_output() -> None:
    """Flush stdout, so that an error occurs here and not at interpreter exit.

    Raises:
        SystemExit: With `EXIT_PIPE_CLOSED`, and without a message, if the reader has ended, such as `| head`.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        _discard_output()
        if isinstance(error, BrokenPipeError):
            sys.exit(EXIT_PIPE_CLOSED)
        raise


def exit_if_closed() -> None:
    """Handle a broken pipe: exit as `flush_output` does if it was stdout, and return if it was another."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    if any(events & select.POLLERR for _, events in poll.poll(0)):
        _discard_output()
        sys.exit(EXIT_PIPE_CLOSED)


def _discard_output() -> None:
    """Redirect stdout to null, because the buffer would fail again at interpreter exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
