"""Text tables: every digit is shown on a narrow terminal, and nothing is shortened in a file or pipe."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

UNLIMITED_WIDTH = 10_000
"""Columns without a terminal: a file or a pipe has no width."""
COLUMN_PADDING, EDGE_PADDING = 2, 1
"""Columns that a table adds to each of its columns, and before the first."""


def make_console() -> "Console":
    """Create a console with the width of its terminal, or unlimited width without one."""
    from rich.console import Console

    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else UNLIMITED_WIDTH)


def print_table(console: "Console", rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows as a table. A table that is too wide is split into several, each with the leading text columns."""
    for columns in split_columns(rows, console.width):
        console.print(make_table(columns, rows))


def split_columns(rows: Sequence[Mapping[str, Any]], width: int) -> Iterator[list[str]]:
    """Yield the columns of each table, so that none is wider than `width`. A wide column is folded, not shortened."""
    columns = list(rows[0])
    names = [name for name in columns if isinstance(rows[0][name], str)]
    leading = columns[: next((at for at, name in enumerate(columns) if name not in names), len(columns))]
    wide = {name: COLUMN_PADDING + _compute_width(name, rows) for name in columns}
    if EDGE_PADDING + sum(wide.values()) <= width or not leading:
        # Without a leading name, a part of a row has no meaning.
        yield columns
        return
    now = list(leading)
    for name in columns[len(leading) :]:
        if len(now) > len(leading) and EDGE_PADDING + sum(wide[each] for each in [*now, name]) > width:
            yield now
            now = list(leading)
        now.append(name)
    yield now


def make_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> "Table":
    """Create a table of rows; text to the left, numbers to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in columns:
        if isinstance(rows[0][name], str):
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name, justify="right", min_width=_compute_width(name, rows))
    for row in rows:
        # As text: a name in square brackets would be parsed as markup, and be left out.
        table.add_row(*(Text(_format_cell(row[name])) for name in columns))
    return table


def print_rows(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """Print rows as a table, or as JSON."""
    if as_json:
        print(json.dumps(list(rows)))
    elif rows:
        print_table(make_console(), rows)
    else:
        print("nothing")


def format_number(value: float, digits: int = 3) -> str:
    """Format a number with a number of significant digits, and all digits before the point."""
    return f"{value:.0f}" if 10**digits <= abs(value) < 1e12 else f"{value:.{digits}g}"


def _format_cell(value: Any) -> str:
    if value is None:
        return "none"
    return format_number(value) if isinstance(value, float) else str(value)


def _compute_width(name: str, rows: Sequence[Mapping[str, Any]]) -> int:
    return max(len(name), *(len(_format_cell(row[name])) for row in rows))
