"""Demo display: a panel on a terminal, or single lines without one."""

from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from wm_robot.tasks import ErrorScale
    from wm_robot_demo import SessionProgress
    from wm_robot_demo.status_reader import RobotStatus

ROBOT_STYLES = ("bold bright_blue", "bold dark_orange")
"""Blue and orange: distinguishable for colour-blind readers."""
BAR_CHARACTERS = " ▁▂▃▄▅▆▇█"
HISTORY_COLUMNS = 18
"""Width of the error history in columns."""
BAR_COLUMNS = 14
MIN_COLUMNS_FOR_BAR = 100
"""Columns of a terminal with space for the bar."""
SECONDS_PER_LINE = 2.5
"""Seconds between two lines without a terminal."""
RIGHT_ALIGNED = ("off target", "lived", "p50 / p99")
EMPTY_CELL = "–"


class TerminalDisplay:
    """Terminal display: one panel that is drawn over itself."""

    def __init__(self, console: Console):
        self._console = console
        self._live: Live | None = None

    def write_message(self, words: str) -> None:
        self._console.print(words, markup=False, highlight=False, soft_wrap=True)

    def show_progress(self, scene: "SessionProgress") -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=False)
            self._live.start()
        self._live.update(_make_panel(scene, roomy=self._console.width >= MIN_COLUMNS_FOR_BAR), refresh=True)

    def end_progress(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None


class TextDisplay:
    """Text display: lines for logs and pipes."""

    def __init__(self, console: Console):
        self._console = console
        self._due = 0.0
        self._story = ""

    def write_message(self, words: str) -> None:
        self._console.print(words, markup=False, highlight=False, soft_wrap=True)
        self._console.file.flush()

    def show_progress(self, scene: "SessionProgress") -> None:
        if scene.time < self._due and scene.sentence == self._story:
            return
        self._due, self._story = scene.time + SECONDS_PER_LINE, scene.sentence
        errors = ", ".join(f"{view.name} {_format_error(view, scene.scale)}" for view in scene.robots)
        late = max(view.p99_ms for view in scene.robots)
        self.write_message(f"{scene.time:5.1f} s  {errors}, latency p99 {late:.1f} ms. {scene.sentence}")

    def end_progress(self) -> None:
        self._due, self._story = 0.0, ""


def select_display(console: Console) -> TerminalDisplay | TextDisplay:
    """Select the display for the output stream."""
    return TerminalDisplay(console) if console.is_terminal else TextDisplay(console)


def _make_panel(scene: "SessionProgress", *, roomy: bool) -> RenderableType:
    grid = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    for head in ("", "off target", *(("",) if roomy else ()), "last 6 s", "lived", "p50 / p99"):
        grid.add_column(head, justify="right" if head in RIGHT_ALIGNED else "left", no_wrap=True)
    for view, style in zip(scene.robots, ROBOT_STYLES, strict=False):
        grid.add_row(
            Text(view.name, style),
            _format_error(view, scene.scale),
            *((_make_bar(view, style, scene.scale),) if roomy else ()),
            Text(_make_error_history(view, scene.scale), style),
            str(view.lifetime_steps),
            f"{view.p50_ms:.1f} / {view.p99_ms:.1f} ms",
        )
        grid.add_row()
    return Panel(
        Group(Text(scene.sentence, "bold"), Text(), grid, _make_clock_row(scene)),
        title=f"wm_robot demo · {scene.title}",
        title_align="left",
        subtitle="Ctrl-C stops and saves everything",
        subtitle_align="right",
        border_style="dim",
        padding=(1, 2),
    )


def _make_clock_row(scene: "SessionProgress") -> RenderableType:
    row = Table.grid(padding=(0, 1))
    since = next((view.since_change for view in scene.robots if view.since_change is not None), None)
    changed = "" if since is None else f"changed {since:.1f} s, {since / scene.period:.0f} steps ago"
    row.add_row(
        ProgressBar(
            total=scene.duration,
            completed=min(scene.time, scene.duration),
            width=28,
            complete_style="white",
            finished_style="white",
        ),
        f"{scene.time:.1f} of {scene.duration:.0f} s",
        Text(changed, "bold magenta"),
    )
    return row


def _make_bar(view: "RobotStatus", style: str, scale: "ErrorScale") -> Text:
    filled = round(BAR_COLUMNS * min((view.recent_error or 0.0) / scale.full, 1.0))
    return Text.assemble(("█" * filled, style), ("·" * (BAR_COLUMNS - filled), "dim"))


def _make_error_history(view: "RobotStatus", scale: "ErrorScale") -> str:
    """Draw the error of the last seconds, newest right."""
    errors = [error for _, error in view.errors]
    each = max(len(errors) / HISTORY_COLUMNS, 1.0)
    pieces = [
        errors[int(i * each) : max(int((i + 1) * each), int(i * each) + 1)] for i in range(HISTORY_COLUMNS)
    ]
    levels = [min(sum(piece) / len(piece) / scale.full, 1.0) for piece in pieces if piece]
    return "".join(BAR_CHARACTERS[round(level * (len(BAR_CHARACTERS) - 1))] for level in levels).rjust(
        HISTORY_COLUMNS
    )


def _format_error(view: "RobotStatus", scale: "ErrorScale") -> str:
    return EMPTY_CELL if view.recent_error is None else scale.format(view.recent_error)
