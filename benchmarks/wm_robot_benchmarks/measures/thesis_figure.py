"""Thesis figure: the error of each variant relative to frozen weights, by steps lived, in four kinds of worlds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from wm_robot.errors import MissingExtraError
from wm_robot_benchmarks.measures.relative_error import RelativeError
from wm_robot_benchmarks.measures.thesis_variants import (
    DEFAULT,
    FROZEN,
    GRADIENT,
    LAST_LAYER,
    LEAST_SQUARES,
    NOMINAL_WEIGHTS,
    ORACLE,
    PHYSICS,
)
from wm_robot_benchmarks.undeclared import FLOOR

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BEFORE_FIRST_STEP = 0.5
"""Where the logarithmic axis has step 0."""
ERROR_RANGE = 0.02, 20.0
"""Relative errors that are shown; those beyond end at the edge."""


class _Style(NamedTuple):
    label: str
    color: str
    line: str = "-"
    width: float = 1.3
    has_band: bool = True


STYLES = {
    FLOOR: _Style("the true physics (simulator)", "0.6", ":", has_band=False),
    ORACLE: _Style("told the declared physics (oracle)", "0.35", "--", has_band=False),
    NOMINAL_WEIGHTS: _Style("weights: the nominal world", "#8da0cb"),
    FROZEN: _Style("weights: all training worlds (robust)", "#2b4c9b", width=1.8, has_band=False),
    GRADIENT: _Style("… and gradient steps on the robot", "#e6842a", width=1.8),
    LAST_LAYER: _Style("… and least squares in the last layer", "#f2b880"),
    LEAST_SQUARES: _Style("weights: nothing (least squares)", "#a6761d", "--", has_band=False),
    PHYSICS: _Style("weights: how physics act; state: which physics (ekf)", "#7fbf7b"),
    DEFAULT: _Style("… and what physics leave over (semiparametric)", "#c2185b", width=2.6),
}
"""Style of each variant, in the order of the legend."""
OTHERS = ("#1b7837", "#762a83", "#01665e", "#666666")
"""Colours of learned memories."""


class Panel(NamedTuple):
    """One panel of the figure."""

    title: str
    x_label: str
    points: Sequence[int]
    errors: Mapping[str, RelativeError]
    """By variant; relative to `robust`."""
    first: RelativeError | None = None
    """Of the default memory at the first time in a world that returns."""


def draw_thesis_figure(panels: Sequence[Panel], path: Path) -> None:
    """Draw the panels into an SVG file; equal errors give an equal file.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("--figure", "report") from error
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "wm_robot", "font.size": 9}):
        picture = Figure(figsize=(9.6, 7.6), layout="constrained")
        grid = picture.subplots(2, 2, sharey=True)
        for number, (axes, panel) in enumerate(zip(grid.flat, panels, strict=False)):
            _draw_panel(axes, panel)
            if number % 2 == 0:
                axes.set_ylabel("prediction error ÷ that of fixed weights\n(below 1: better)")
        handles: dict[str, Any] = {}
        for axes in grid.flat:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)
        order = {style.label: number for number, style in enumerate(STYLES.values())}
        labels = sorted(handles, key=lambda label: order.get(label, len(order)))
        picture.legend(
            [handles[label] for label in labels],
            labels,
            loc="outside lower center",
            ncols=2,
            frameon=False,
        )
        picture.suptitle("What should weights contain at the start of a rollout?", fontsize=12)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.savefig(path, format="svg", metadata={"Date": None})


def _draw_panel(axes: "Axes", panel: Panel) -> None:
    at = [point or BEFORE_FIRST_STEP for point in panel.points]
    low, high = ERROR_RANGE
    unnamed = [name for name in panel.errors if name not in STYLES]
    for name, error in panel.errors.items():
        style = STYLES.get(name)
        if style is None:
            style = _Style(f"learned memory ({name})", OTHERS[unnamed.index(name) % len(OTHERS)])
        axes.plot(
            at,
            np.clip(error.ratio, low, high),
            label=style.label,
            color=style.color,
            linestyle=style.line,
            linewidth=style.width,
            zorder=3 if name == DEFAULT else 2,
        )
        if style.has_band:
            edges = (np.clip(edge, low, high) for edge in (error.low, error.high))
            axes.fill_between(at, *edges, color=style.color, alpha=0.15, linewidth=0)
    if panel.first is not None:
        axes.plot(
            at,
            np.clip(panel.first.ratio, low, high),
            label="semiparametric, the first time in that world",
            color=STYLES[DEFAULT].color,
            linestyle=":",
            linewidth=1.5,
        )
    axes.set(xscale="log", yscale="log", ylim=ERROR_RANGE, xlabel=panel.x_label)
    axes.set_title(panel.title, fontsize=10, loc="left")
    shown = [point for point in panel.points if point not in (2, 16, 64)]
    axes.set_xticks([point or BEFORE_FIRST_STEP for point in shown], [str(point) for point in shown])
    axes.set_yticks(
        [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10], ["0.02", "0.05", "0.1", "0.2", "0.5", "1", "2", "5", "10"]
    )
    axes.minorticks_off()
    axes.grid(axis="y", color="0.92", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
