"""Report figures: inline SVG with the colours and fonts of the page, for light and dark mode."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from wm_robot.errors import MissingExtraError
from wm_robot.evaluation.outcome import LargestDifference
from wm_robot.evaluation.recovery import WINDOW_SECONDS, compute_rolling_mean
from wm_robot.evaluation.report.contents import JointPredictions, PhysicsEstimate, ReportedSession, RobotRun
from wm_robot.evaluation.report.html_parts import WIDE_INCHES
from wm_robot.evaluation.report.svg import (
    GRID_COLOR,
    INK_COLOR,
    LINE_STYLES,
    MATPLOTLIB_STYLE,
    MUTED_COLOR,
    SERIES_COLORS,
    create_frame,
    create_grid,
    encode_svg,
    make_svg_id,
)
from wm_robot.tasks import ErrorScale
from wm_robot.tasks.task_error import GRIPPER_SCALE

try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
except ImportError as error:
    raise MissingExtraError("the report", "report") from error

MAX_DRAWN_SURPRISE = 50.0
"""Largest drawn surprise, in nats."""


def draw_target_error(
    visit: ReportedSession,
    name: str,
    width: float = WIDE_INCHES,
    difference: LargestDifference | None = None,
    scale: ErrorScale = GRIPPER_SCALE,
) -> str:
    """Draw the error of the task over time, all robots in one frame.

    Args:
        difference: Largest difference of two robots, which is marked.
        scale: Scale of the error.
    """
    with matplotlib.rc_context(MATPLOTLIB_STYLE):
        figure, axes = create_frame(3.5, width)
        for run in visit.runs:
            axes.plot(
                run.time, scale.convert(run.error), color=SERIES_COLORS[run.color], linewidth=0.7, alpha=0.35
            )
            smooth = scale.convert(compute_rolling_mean(run.time, run.error))
            axes.plot(
                run.time,
                smooth,
                color=SERIES_COLORS[run.color],
                linewidth=2.2,
                linestyle=LINE_STYLES[run.color],
            )
        axes.set_ylim(
            0, _compute_axis_limit([_select_settled_error(run, visit, scale) for run in visit.runs])
        )
        ends = [float(scale.convert(compute_rolling_mean(r.time, r.error)[-1])) for r in visit.runs]
        _label_curves(axes, visit.runs, ends)
        _mark_change(axes, visit.change_time, "the world changes")
        if difference is not None:
            _mark_difference(axes, difference, scale)
        axes.set_ylabel(scale.label)
        axes.set_xlabel("seconds")
        return encode_svg(figure, make_svg_id(name, width), f"{scale.title} over time")


def draw_first_seconds(
    visit: ReportedSession,
    name: str,
    until: float,
    width: float = WIDE_INCHES,
    scale: ErrorScale = GRIPPER_SCALE,
) -> str:
    """Draw the error of the task at every step of the first seconds, without averages."""
    with matplotlib.rc_context(MATPLOTLIB_STYLE):
        figure, axes = create_frame(3.0, width)
        for run in visit.runs:
            seen = run.time <= until
            color, dash = SERIES_COLORS[run.color], LINE_STYLES[run.color]
            axes.plot(
                run.time[seen],
                scale.convert(run.error[seen]),
                color=color,
                linewidth=2.0,
                linestyle=dash,
                label=run.name,
            )
        axes.set_ylim(0, None)
        axes.legend(frameon=False, loc="upper right", labelcolor=INK_COLOR)
        axes.set_ylabel(scale.label)
        axes.set_xlabel("seconds")
        return encode_svg(figure, make_svg_id(name, width), f"{scale.title} in the first seconds")


def draw_surprise(visit: ReportedSession, usual: float, width: float = WIDE_INCHES) -> str:
    """Draw how much less likely than usual the observations were under each robot's model, over time.

    Args:
        usual: Surprise that is drawn as 1, in nats per channel.
    """
    with matplotlib.rc_context(MATPLOTLIB_STYLE):
        figure, axes = create_frame(2.6, width)
        smooth = [compute_rolling_mean(run.surprise_time, run.surprise) - usual for run in visit.runs]
        for run, curve in zip(visit.runs, smooth, strict=True):
            color, dash = SERIES_COLORS[run.color], LINE_STYLES[run.color]
            axes.plot(
                run.surprise_time,
                compute_likelihood_ratio(run.surprise - usual),
                color=color,
                linewidth=0.7,
                alpha=0.4,
            )
            axes.plot(
                run.surprise_time, compute_likelihood_ratio(curve), color=color, linewidth=2.0, linestyle=dash
            )
        late = [s[r.surprise_time >= visit.start] for r, s in zip(visit.runs, smooth, strict=True)]
        late = [s for s in late if len(s)] or [np.zeros(1)]
        low, high = min(s.min() for s in late), max(s.max() for s in late)
        margin = 0.15 * max(high - low, 0.5)
        axes.set_yscale("log")
        axes.set_ylim(*compute_likelihood_ratio(np.array([low - margin, high + margin])))
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda times, _: f"{times:g} ×"))
        axes.yaxis.set_minor_locator(NullLocator())
        _label_curves(
            axes, visit.runs, [float(compute_likelihood_ratio(s[-1:])[0]) if len(s) else 1.0 for s in smooth]
        )
        _mark_change(axes, visit.change_time, "")
        axes.set_ylabel("surprise, usual = 1")
        axes.set_xlabel("seconds")
        return encode_svg(figure, make_svg_id("surprise", width), "Surprise over time")


def draw_joint_predictions(view: JointPredictions, change: float, width: float = WIDE_INCHES) -> str:
    """Draw the measured and the predicted position of every joint around the change."""
    with matplotlib.rc_context(MATPLOTLIB_STYLE):
        columns = 3 if len(view.joints) > 4 else 2
        figure, grid = create_grid(len(view.joints), columns=columns, row=1.85, width=width)
        for j, (joint, axes) in enumerate(zip(view.joints, grid, strict=True)):
            axes.plot(view.time, view.measured[:, j], color=MUTED_COLOR, linewidth=3.4, alpha=0.45)
            for i, expected in enumerate(view.predicted.values()):
                axes.plot(
                    view.time, expected[:, j], color=SERIES_COLORS[i], linewidth=1.3, linestyle=LINE_STYLES[i]
                )
            axes.axvline(change, color=MUTED_COLOR, linewidth=1, linestyle=(0, (2, 2)))
            changed = joint in view.changed_joints
            axes.set_title(f"{joint}\n({view.change_word})" if changed else joint)
            axes.title.set_fontweight("bold" if changed else "normal")
        figure.supylabel(view.unit, color=MUTED_COLOR, fontsize=10.5)
        return encode_svg(figure, make_svg_id("foresight", width), "Measured and expected joint angles")


def draw_physics_estimate(view: PhysicsEstimate, change: float, width: float = WIDE_INCHES) -> str:
    """Draw the estimated and the true physics around the change, one frame for each parameter."""
    with matplotlib.rc_context(MATPLOTLIB_STYLE):
        figure, grid = create_grid(len(view.names), columns=min(3, len(view.names)), row=2.0, width=width)
        for p, (name, axes) in enumerate(zip(view.names, grid, strict=True)):
            axes.plot(view.time, view.truth[:, p], color=MUTED_COLOR, linewidth=3.4, alpha=0.45)
            axes.plot(view.time, view.estimated[:, p], color=SERIES_COLORS[0], linewidth=1.3)
            axes.axvline(change, color=MUTED_COLOR, linewidth=1, linestyle=(0, (2, 2)))
            axes.set_title(name)
        return encode_svg(figure, make_svg_id("belief", width), "Believed and true physics")


def draw_latency(runs: Sequence[RobotRun], period: float, width: float = WIDE_INCHES) -> str:
    """Draw the histogram of latencies from sensor to command."""
    with matplotlib.rc_context(MATPLOTLIB_STYLE):
        figure, axes = create_frame(2.3, width)
        end = 1e3 * period
        for run in runs:
            if run.latency is None:
                continue
            color, dash = SERIES_COLORS[run.color], LINE_STYLES[run.color]
            edges = np.minimum(run.latency.edges_ms, max(end * 1.25, run.latency.max_ms))
            share = 100 * run.latency.counts / max(run.latency.counts.sum(), 1)
            axes.stairs(share, edges, color=color, fill=True, alpha=0.25)
            axes.stairs(share, edges, color=color, linewidth=1.6, linestyle=dash, label=run.name)
        axes.axvline(end, color=MUTED_COLOR, linewidth=1, linestyle=(0, (2, 2)))
        axes.set_xlim(0, None)
        # On the side with more room: most steps end well before the period does.
        left = end > 0.6 * axes.get_xlim()[1]
        axes.annotate(
            "end of the period", (end, 1), xycoords=("data", "axes fraction"), xytext=(-5 if left else 5, -2),
            textcoords="offset points", ha="right" if left else "left", va="top", color=MUTED_COLOR,
        )  # fmt: skip
        axes.set_xlabel("from sensor reading to command, ms")
        axes.set_ylabel("steps, %")
        axes.legend(frameon=False, loc="center right", labelcolor=INK_COLOR)
        return encode_svg(figure, make_svg_id("latency", width), "Histogram of control latency")


def compute_likelihood_ratio(nats: Any) -> Any:
    """Convert a surprise above the usual one, in nats, into a likelihood ratio."""
    return np.exp(np.clip(nats, -MAX_DRAWN_SURPRISE, MAX_DRAWN_SURPRISE))


def _select_settled_error(run: RobotRun, visit: ReportedSession, scale: ErrorScale) -> np.ndarray:
    """Return the smooth error after the target was reached, for the scale of the axis."""
    smooth = compute_rolling_mean(run.time, run.error)
    settled = run.time >= min(visit.start + WINDOW_SECONDS, run.time[-1])
    return np.asarray(scale.convert(smooth[settled]))


def _compute_axis_limit(curves: Sequence[np.ndarray]) -> float:
    return 1.25 * max(float(curve.max()) for curve in curves) + 1e-9


def _mark_change(axes: Axes, change: float | None, words: str) -> None:
    if change is None:
        return
    axes.axvline(change, color=MUTED_COLOR, linewidth=1.2, linestyle=(0, (2, 2)))
    axes.axvspan(change, axes.get_xlim()[1], color=GRID_COLOR, alpha=0.25, linewidth=0)
    axes.annotate(
        words, (change, 1), xycoords=("data", "axes fraction"), xytext=(6, -2), textcoords="offset points",
        va="top", color=INK_COLOR,
    )  # fmt: skip


def _mark_difference(axes: Axes, difference: LargestDifference, scale: ErrorScale) -> None:
    """Draw a bar between two curves at their largest difference, with its end values."""
    errors = sorted(difference.errors)
    low, high = (float(scale.convert(error)) for error in errors)
    axes.vlines(difference.time, low, high, color=INK_COLOR, linewidth=1.2)
    # Towards the middle of the frame, because the bar may be at its end.
    left = difference.time > float(np.mean(axes.get_xlim()))
    axes.annotate(
        f"{scale.format_number(errors[0])} and {scale.format(errors[1])}", (difference.time, high),
        xytext=(-5 if left else 5, 2), textcoords="offset points", ha="right" if left else "left", color=INK_COLOR,
    )  # fmt: skip


def _label_curves(axes: Axes, runs: Sequence[RobotRun], ends: Sequence[float]) -> None:
    """Write each name at the end of its curve, with a distance between names."""
    places = (axes.transScale + axes.transLimits).transform([(0.0, end) for end in ends])[:, 1]
    places = np.clip(places, 0.03, 0.97)
    order, apart = np.argsort(places), 0.1
    for before, after in zip(order[:-1], order[1:], strict=True):
        places[after] = max(places[after], places[before] + apart)
    # Names above the frame move back inside, and push the others down.
    over = max(0.0, float(places.max()) - 0.97)
    places -= over
    for i, run in enumerate(runs):
        axes.annotate(
            run.name, (1, places[i]), xycoords="axes fraction", xytext=(8, 0), textcoords="offset points",
            va="center", color=SERIES_COLORS[run.color], fontweight="bold", annotation_clip=False,
        )  # fmt: skip
