"""Tables for people."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def table_of(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> "Table":
    """Rows as a table; words to the left, numbers to the right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(name, justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in columns))
    return table


def print_rows(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """Rows as a table, or as JSON."""
    if as_json:
        print(json.dumps(list(rows)))
        return
    from rich.console import Console

    if rows:
        Console(file=sys.stdout).print(table_of(list(rows[0]), rows))
    else:
        print("nothing")


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
