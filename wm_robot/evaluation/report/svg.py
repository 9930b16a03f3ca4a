"""SVG figures of a report: their style, frames and encoding, with colours and fonts of the page in both modes."""

import io
import re
from typing import Any

from wm_robot.errors import MissingExtraError
from wm_robot.evaluation.report.html_parts import WIDE_INCHES

try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
except ImportError as error:
    raise MissingExtraError("the report", "report") from error

INK_COLOR, MUTED_COLOR, GRID_COLOR = "#000001", "#000002", "#000003"
SERIES_COLORS = ("#000011", "#000012", "#000013")
"""Colours of the learning robot, the second and a third."""
CSS_VARIABLES = {INK_COLOR: "ink", MUTED_COLOR: "muted", GRID_COLOR: "grid"} | {
    c: f"series-{i}" for i, c in enumerate(SERIES_COLORS)
}
"""Placeholder colours for the CSS variables of the page, so that one figure serves light and dark mode."""
LINE_STYLES = ("-", (0, (5, 1.6)), (0, (1, 1)))
"""Line styles: a second code in addition to colour, for colour-blind readers and printers."""
MATPLOTLIB_STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 10.5,
    "text.color": INK_COLOR,
    "axes.edgecolor": GRID_COLOR,
    "axes.labelcolor": MUTED_COLOR,
    "axes.titlecolor": INK_COLOR,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID_COLOR,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED_COLOR,
    "ytick.color": MUTED_COLOR,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "figure.facecolor": "none",
    "lines.solid_capstyle": "round",
    "path.simplify_threshold": 0.3,
}


def make_svg_id(name: str, width: float) -> str:
    """Return the SVG identifier of a figure, different for each width."""
    return name if width == WIDE_INCHES else f"{name}-narrow"


def create_frame(height: float, width: float) -> tuple[Figure, Axes]:
    """Create a frame over seconds, `height` and `width` in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.margins(x=0)
    axes.xaxis.set_major_locator(MaxNLocator(round(1.3 * width), steps=[1, 2, 5, 10], integer=True))
    return figure, axes


def create_grid(count: int, *, columns: int, row: float, width: float) -> tuple[Figure, list[Axes]]:
    """Create small frames over the same seconds, each `row` inches high; fewer columns if narrow."""
    columns = min(columns, round(width / 2.3))
    rows = -(-count // columns)
    figure = Figure(figsize=(width, row * rows + 0.3), layout="constrained")
    grid = list(figure.subplots(rows, columns, sharex=True, squeeze=False).flat)
    for axes in grid:
        axes.margins(x=0)
    for axes in grid[count:]:
        axes.set_axis_off()
    figure.supxlabel("seconds", color=MUTED_COLOR, fontsize=10.5)
    return figure, grid[:count]


def encode_svg(figure: Figure, name: str, title: str) -> str:
    """Encode the figure as SVG for a page: no XML header, no address, colours by variable."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.id": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'(<svg[^>]*?)\swidth="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?)\sheight="[^"]*"', r"\1", svg, count=1)
    # One page contains several figures, and each has an identifier `axes_1`.
    svg = re.sub(r'(\sid="|href="#|url\(#)', rf"\1{name}-", svg)
    svg = re.sub(r"font: (.*?[\d.]+px) [^;\"]*", r"font: \1 var(--font)", svg)
    for color, variable in CSS_VARIABLES.items():
        svg = svg.replace(color, f"var(--{variable})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
