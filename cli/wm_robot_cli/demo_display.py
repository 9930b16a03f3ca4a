"""Demo display: a panel on a terminal, or single lines without one."""

from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from wm_robot_demo import Scene
    from wm_robot_demo.status_reader import RobotView

STYLES = ("bold bright_blue", "bold dark_orange")
"""Blue and orange: distinguishable for colour-blind readers."""
BLOCKS = " ▁▂▃▄▅▆▇█"
SPARK = 18
"""Width of the error history in columns."""
BAR = 14
ROOMY = 100
"""Columns of a terminal with space for the bar."""
FULL_MM = 100.0
"""Error of a full bar and a full history, in mm."""
LINE_EVERY = 2.5
"""Seconds between two lines without a terminal."""
RIGHT = ("off target", "lived", "p50 / p99")
NOTHING = "–"


class TerminalScreen:
    """Terminal display: one panel that is drawn over itself."""

    def __init__(self, console: Console):
        self._console = console
        self._live: Live | None = None

    def say(self, words: str) -> None:
        self._console.print(words, markup=False, highlight=False, soft_wrap=True)

    def show(self, scene: "Scene") -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=False)
            self._live.start()
        self._live.update(_panel(scene, roomy=self._console.width >= ROOMY), refresh=True)

    def clear(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None


class PlainScreen:
    """Text display: lines for logs and pipes."""

    def __init__(self, console: Console):
        self._console = console
        self._due = 0.0
        self._story = ""

    def say(self, words: str) -> None:
        self._console.print(words, markup=False, highlight=False, soft_wrap=True)
        self._console.file.flush()

    def show(self, scene: "Scene") -> None:
        if scene.time < self._due and scene.story == self._story:
            return
        self._due, self._story = scene.time + LINE_EVERY, scene.story
        errors = ", ".join(f"{view.name} {_mm(view)}" for view in scene.robots)
        late = max(view.p99_ms for view in scene.robots)
        self.say(f"{scene.time:5.1f} s  {errors}, latency p99 {late:.1f} ms. {scene.story}")

    def clear(self) -> None:
        self._due, self._story = 0.0, ""


def screen_for(console: Console) -> TerminalScreen | PlainScreen:
    """Select the display for the output stream."""
    return TerminalScreen(console) if console.is_terminal else PlainScreen(console)


def _panel(scene: "Scene", *, roomy: bool) -> RenderableType:
    grid = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    for head in ("", "off target", *(("",) if roomy else ()), "last 6 s", "lived", "p50 / p99"):
        grid.add_column(head, justify="right" if head in RIGHT else "left", no_wrap=True)
    for view, style in zip(scene.robots, STYLES, strict=False):
        grid.add_row(
            Text(view.name, style),
            _mm(view),
            *((_bar(view, style),) if roomy else ()),
            Text(_spark(view), style),
            str(view.lived),
            f"{view.p50_ms:.1f} / {view.p99_ms:.1f} ms",
        )
        grid.add_row()
    return Panel(
        Group(Text(scene.story, "bold"), Text(), grid, _clock(scene)),
        title=f"wm_robot demo · {scene.title}",
        title_align="left",
        subtitle="Ctrl-C stops and saves everything",
        subtitle_align="right",
        border_style="dim",
        padding=(1, 2),
    )


def _clock(scene: "Scene") -> RenderableType:
    row = Table.grid(padding=(0, 1))
    since = next((view.since_change for view in scene.robots if view.since_change is not None), None)
    changed = "" if since is None else f"changed {since:.1f} s, {since / scene.period:.0f} steps ago"
    row.add_row(
        ProgressBar(
            total=scene.length,
            completed=min(scene.time, scene.length),
            width=28,
            complete_style="white",
            finished_style="white",
        ),
        f"{scene.time:.1f} of {scene.length:.0f} s",
        Text(changed, "bold magenta"),
    )
    return row


def _bar(view: "RobotView", style: str) -> Text:
    filled = round(BAR * min((view.error or 0.0) * 1e3 / FULL_MM, 1.0))
    return Text.assemble(("█" * filled, style), ("·" * (BAR - filled), "dim"))


def _spark(view: "RobotView") -> str:
    """Draw the error of the last seconds, newest right."""
    errors = [error for _, error in view.errors]
    each = max(len(errors) / SPARK, 1.0)
    pieces = [errors[int(i * each) : max(int((i + 1) * each), int(i * each) + 1)] for i in range(SPARK)]
    levels = [min(sum(piece) / len(piece) * 1e3 / FULL_MM, 1.0) for piece in pieces if piece]
    return "".join(BLOCKS[round(level * (len(BLOCKS) - 1))] for level in levels).rjust(SPARK)


def _mm(view: "RobotView") -> str:
    return NOTHING if view.error is None else f"{1e3 * view.error:.0f} mm"
