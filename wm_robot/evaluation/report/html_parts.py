"""HTML parts of a report: sections, tables, figures and videos of one self-contained page."""

import base64
import html
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from string import Template

from wm_robot.errors import ConfigError
from wm_robot.evaluation.report.contents import Video
from wm_robot.io.durable import write_file

MAX_PAGE_BYTES = 5_000_000
"""Largest page in bytes."""
TEMPLATE = Path(__file__).with_name("page.html")
NO_VALUE = "–"
WIDE_INCHES, NARROW_INCHES = 9.0, 4.6
"""Widths of a figure in inches: for a wide page, and for a telephone."""


def write_page(path: Path, title: str, body: str, *, remedy: str) -> None:
    """Write a page, whole or not at all. It needs no other file and no network.

    Args:
        remedy: How to make it smaller, a sentence without its full stop.

    Raises:
        ConfigError: If it would be larger than 5 MB.
    """
    content = render_page(title, body)
    if len(content) > MAX_PAGE_BYTES:
        raise ConfigError(
            f"the report has {len(content)} bytes; it must have at most {MAX_PAGE_BYTES}. {remedy}"
        )
    write_file(path, content)


def render_page(title: str, body: str) -> bytes:
    """Return the bytes of a page."""
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(title=escape_text(title), body=body).encode()


def write_video(video: Video, words: str) -> str:
    """Write an embedded video or animated image.

    Args:
        words: What it shows, for those who do not see it.
    """
    data = f"data:{video.kind};base64,{base64.b64encode(video.content).decode()}"
    if video.kind.startswith("image/"):
        return f'<img alt="{escape_text(words)}" src="{data}">'
    return f'<video src="{data}" aria-label="{escape_text(words)}" controls autoplay muted loop playsinline></video>'


def write_section(title: str, words: str) -> str:
    """Write a heading with its paragraph."""
    return f"<h2>{escape_text(title)}</h2>" + (f"<p>{escape_text(words)}</p>" if words else "")


def write_figure(draw: Callable[[float], str]) -> str:
    """Write a figure in both widths; the page shows the one that fits."""
    wide, narrow = draw(WIDE_INCHES), draw(NARROW_INCHES)
    return f'<figure><div class="wide">{wide}</div><div class="narrow">{narrow}</div></figure>'


def write_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table, which scrolls by itself where it is too wide."""
    head = "".join(f"<th>{escape_text(h)}</th>" for h in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape_text(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def write_facts(facts: Iterable[tuple[str, str]]) -> str:
    """Write a table of names and values, such as digests."""
    rows = "".join(
        f"<tr><td>{escape_text(name)}</td><td><code>{escape_text(value)}</code></td></tr>"
        for name, value in facts
    )
    return f'<table class="facts">{rows}</table>'


def write_command(words: str, command: str) -> str:
    """Write a description with its command."""
    return f"<p>{escape_text(words)}</p><pre><code>{escape_text(command)}</code></pre>"


def escape_text(words: str) -> str:
    """Escape a text for a page."""
    return html.escape(str(words))
