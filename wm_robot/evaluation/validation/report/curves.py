"""Curves of an episode: its error over time, and the motion of its joints with what was predicted."""

from wm_robot.errors import MissingExtraError
from wm_robot.evaluation.report.html_parts import WIDE_INCHES
from wm_robot.evaluation.report.svg import (
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
from wm_robot.evaluation.validation.report.contents import EpisodeTrack

try:
    import matplotlib
except ImportError as error:
    raise MissingExtraError("the report", "report") from error

MAX_JOINTS = 6
"""Joints that are drawn, those that moved most."""
CHANGE_STYLE = (0, (2, 2))


def draw_episode_error(track: EpisodeTrack, name: str, width: float = WIDE_INCHES) -> str:
    """Draw the error of an episode over time; a thin line at one tolerance, a dashed one at each change."""
    with matplotlib.rc_context(MATPLOTLIB_STYLE):
        figure, axes = create_frame(2.2, width)
        axes.plot(track.time, track.error, color=SERIES_COLORS[1], linewidth=1.6)
        axes.axhline(1.0, color=MUTED_COLOR, linewidth=1)
        axes.set_ylim(0, None)
        for time, what in track.changes:
            axes.axvline(time, color=MUTED_COLOR, linewidth=1.2, linestyle=CHANGE_STYLE)
            axes.annotate(
                what, (time, 1), xycoords=("data", "axes fraction"), xytext=(5, -2),
                textcoords="offset points", va="top", color=INK_COLOR,
            )  # fmt: skip
        axes.set_ylabel("error, tolerances")
        axes.set_xlabel("seconds")
        return encode_svg(figure, make_svg_id(name, width), "Error of the task over time")


def draw_joint_motion(track: EpisodeTrack, name: str, width: float = WIDE_INCHES) -> str:
    """Draw the motion of the joints, broad, and what was predicted of it one horizon earlier, thin."""
    moved = (track.positions.max(0) - track.positions.min(0)).argsort()[::-1]
    shown = sorted(moved[:MAX_JOINTS].tolist())
    with matplotlib.rc_context(MATPLOTLIB_STYLE):
        figure, grid = create_grid(len(shown), columns=3, row=1.6, width=width)
        for joint, axes in zip(shown, grid, strict=True):
            axes.plot(track.time, track.positions[:, joint], color=MUTED_COLOR, linewidth=3.4, alpha=0.45)
            if len(track.predicted_time):
                axes.plot(
                    track.predicted_time,
                    track.predicted[:, joint],
                    color=SERIES_COLORS[1],
                    linewidth=1.3,
                    linestyle=LINE_STYLES[1],
                )
            for time, _ in track.changes:
                axes.axvline(time, color=MUTED_COLOR, linewidth=1, linestyle=CHANGE_STYLE)
            axes.set_title(track.joints[joint])
        figure.supylabel("position, rad or m", color=MUTED_COLOR, fontsize=10.5)
        return encode_svg(figure, make_svg_id(name, width), "Motion of the joints and its prediction")
