"""HTML of heat maps: tables and strips of shaded cells, with their numbers."""

import numpy as np

from wm_robot.evaluation.report.html_parts import NO_VALUE, escape_text
from wm_robot.evaluation.validation.report.heat_maps import HeatMap

STRONGEST_SHADE, SHADED_LINES = 0.72, 2.0
"""Opacity of the strongest shade, and the number of pass lines that has it."""
LEGEND_SHARES = (0.0, 0.5, 1.0, 2.0)


def write_legend() -> str:
    """Write the meaning of the shades."""
    shades = "".join(_write_shaded("span", share, f"{share:g}") for share in LEGEND_SHARES)
    return f'<p class="muted legend">Shade by pass lines: {shades}</p>'


def write_heat_map(found: HeatMap) -> str:
    """Write a heat map with its heading."""
    heading = f'<h3>{escape_text(found.title)}</h3><p class="muted">{escape_text(found.words)} '
    limits = {each for each in found.limits if each is not None}
    if len(limits) == 1:
        heading += f"Pass line: {limits.pop():g}."
    heading += "</p>"
    if found.is_strip:
        cells = (
            _write_cell("span", value, limit, name)
            for name, value, limit in zip(found.columns, found.values[0], found.limits, strict=True)
        )
        return f'<figure class="heat">{heading}<div class="strip">{"".join(cells)}</div></figure>'
    head = "".join(f"<th>{escape_text(column)}</th>" for column in found.columns)
    if limits:
        head = "".join(
            f"<th>{escape_text(column)}<br><small>at most {limit:g}</small></th>" if limit is not None
            else f"<th>{escape_text(column)}</th>"
            for column, limit in zip(found.columns, found.limits, strict=True)
        )  # fmt: skip
    body = "".join(
        f"<tr><th>{escape_text(row)}</th>"
        + "".join(
            _write_cell("td", value, limit, f"{row} {column}")
            for column, value, limit in zip(found.columns, values, found.limits, strict=True)
        )
        + "</tr>"
        for row, values in zip(found.rows, found.values, strict=True)
    )
    return (
        f'<figure class="heat">{heading}<div class="scroll"><table class="heat"><thead><tr><th></th>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table></div></figure>"
    )


def _write_cell(tag: str, value: float, limit: float | None, name: str) -> str:
    if not np.isfinite(value):
        return f"<{tag}>{NO_VALUE}</{tag}>"
    return _write_shaded(tag, value / limit if limit else value, f"{value:.2f}", name, has_limit=bool(limit))


def _write_shaded(tag: str, share: float, words: str, name: str = "", *, has_limit: bool = True) -> str:
    shade = STRONGEST_SHADE * min(share / SHADED_LINES, 1.0)
    over = ' class="over"' if share > 1 and has_limit else ""
    title = f' title="{escape_text(name)}"' if name else ""
    return f'<{tag}{over}{title} style="background:rgba(214,96,20,{shade:.2f})">{escape_text(words)}</{tag}>'
