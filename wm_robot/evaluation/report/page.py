"""Report page: HTML with a summary first, then figures, tables and next steps."""

import base64
import html
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from string import Template

from wm_robot.errors import ConfigError
from wm_robot.evaluation.recovery import CLOSE, SETTLED, STAY, TOLERANCE, WINDOW, Recovery, level
from wm_robot.evaluation.report import figures
from wm_robot.evaluation.report.contents import EARLY, LATER, Report, Run, Video, Visit
from wm_robot.io.durable import write_file

LARGEST = 5_000_000
"""Largest page in bytes."""
TEMPLATE = Path(__file__).with_name("page.html")
NOTHING = "–"
SHOWN_OF_SECOND = 3.0
"""Drawn seconds of the second session: after those a robot from the initial state has learned the same."""
MOST_TIMES = 1_000_000
"""Largest reported ratio to the usual surprise."""


def write_report(path: Path, report: Report) -> None:
    """Write the page, whole or not at all. It needs no other file and no network.

    Raises:
        ConfigError: If it would be larger than 5 MB.
    """
    body = "\n".join(_sections(report))
    title = f"wm_robot: the {report.robot} that goes on learning"
    page = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(title=_text(title), body=body)
    content = page.encode()
    if len(content) > LARGEST:
        raise ConfigError(
            f"the report has {len(content)} bytes; it must have at most {LARGEST}. Shorten the visit"
        )
    write_file(path, content)


def _sections(report: Report) -> Iterable[str]:
    first = report.first
    yield f'<header><p class="kicker">wm_robot demo, robot “{_text(report.robot)}”</p>'
    yield f"<h1>{_text(report.outcome.headline)}</h1>"
    yield f'<p class="lede">{_text(" ".join(report.outcome.story))}</p></header>'
    yield from (f'<p class="note">{_text(note)}</p>' for note in report.notes)
    yield _tiles(report)
    if report.video:
        words = "Green is the target; both arms received the same target."
        yield _section("What it looked like", f"{words} {report.outcome.difference}".rstrip())
        yield f"<figure>{_video(report.video)}</figure>"
    yield _section(
        "How far each gripper was from its target",
        f"Thin: every control step. Bold: mean of the last {WINDOW} s. Lower is better.",
    )
    difference = report.outcome.largest
    yield _figure(lambda width: figures.target_error(first, "first-visit", width, difference))
    yield _section(
        "How surprised each robot was",
        "How many times less likely an observation was, per sensor, than for the arm that learns before the change; "
        "1 is as usual. A robot that learns its new body predicts it again.",
    )
    yield _figure(lambda width: figures.surprise(first, report.usual_surprise, width))
    change, foresight, belief = first.change, report.foresight, report.belief
    if foresight and change is not None:
        yield _section(
            "Joint angles that each model predicted",
            f"Both models receive data of the same arm and predict each joint {1e3 * foresight.ahead:.0f} ms ahead. "
            "The broad line is the angle that the encoders then measured.",
        )
        yield f'<p class="muted">{_legend(tuple(foresight.expected))}</p>'
        yield _figure(lambda width: figures.foresight(foresight, change, width))
    if belief and change is not None:
        yield _section(
            "Physics that the arm that learns estimated",
            "The estimate comes from its model: the physics that best explain its own motion. The broad line is the "
            "truth, which only the simulator contains.",
        )
        yield _figure(lambda width: figures.belief(belief, change, width))
    yield _section("The figures", "")
    yield _recovery_table(report)
    if report.second and report.second.seen:
        yield from _second_visit(report, report.second)
    if any(run.latency for run in first.runs):
        yield _section(
            "How long a decision took",
            "Time from the joint reading to the command, for every step. Steps right of the dotted line "
            "would be too late.",
        )
        yield _figure(lambda width: figures.latency(first.runs, report.period, width))
    yield from _going_on(report)


def _second_visit(report: Report, visit: Visit) -> Iterable[str]:
    woken = visit.runs[0]
    yield _section(
        "The second visit: a start from the saved state",
        "The robot was stopped, its state was saved, and it started in the changed world "
        f"({report.changed}). The other robot has the same weights and the initial state.",
    )
    yield _figure(lambda width: figures.first_seconds(visit, "second-visit", SHOWN_OF_SECOND, width))
    usual = report.usual_surprise
    rows = [
        (run.name, _mm(run.early()), _mm(run.later()), _surprise(run, usual), f"{run.lived}")
        for run in visit.runs
    ]
    yield _table(
        (
            "",
            f"error, s {EARLY[0]:.0f}–{EARLY[1]:.0f}",
            f"error, s {LATER[0]:.0f}–{LATER[1]:.0f}",
            f"surprise, s {EARLY[0]:.0f}–{EARLY[1]:.0f}, usual = 1",
            "steps lived",
        ),
        rows,
    )
    words = f"{_second_story(woken, visit.runs[1:])} {report.second_visits}".strip()
    yield f'<p class="muted">{_text(words)}</p>'


def _second_story(woken: Run, others: Sequence[Run]) -> str:
    """Describe the effect of the saved state in this session."""
    if not others:
        return ""
    newborn = others[0]
    ratio = woken.early() / newborn.early()
    if ratio != ratio:
        return "The start of the visit was not recorded, so its first second is not reported."
    return (
        f"In its first second the {woken.name} arm was {_mm(woken.early())} off its target on average, the "
        f"{newborn.name} one {_mm(newborn.early())}: {ratio:.2f} ×. Both start away from the target, so most of that "
        "is the way to it."
    )


def _going_on(report: Report) -> Iterable[str]:
    if report.go_on:
        yield _section("Next steps", "")
        for what, command in report.go_on:
            yield f"<p>{_text(what)}</p><pre><code>{_text(command)}</code></pre>"
    yield _section("Settings and versions", "")
    facts = {"command": report.command, **report.facts} if report.command else report.facts
    rows = "".join(
        f"<tr><td>{_text(name)}</td><td><code>{_text(value)}</code></td></tr>"
        for name, value in facts.items()
    )
    yield f'<table class="facts">{rows}</table>'
    yield "<footer>One self-contained file: it needs no network.</footer>"


def _tiles(report: Report) -> str:
    outcome = report.outcome
    found = [
        (name, recovery)
        for name, recovery in zip(outcome.names, outcome.recoveries, strict=True)
        if recovery is not None
    ]
    tiles = [(_off(recovery), f"was the {name} arm off its target") for name, recovery in found]
    tiles += [
        (f"{1e3 * recovery.worst:.0f} mm", f"at worst, {name}, mean of {WINDOW} s")
        for name, recovery in found
    ]
    boxes = "".join(f'<div class="tile"><b>{_text(b)}</b><span>{_text(w)}</span></div>' for b, w in tiles)
    return f'<div class="tiles">{boxes}</div>' if tiles else ""


def _recovery_table(report: Report) -> str:
    visit, rows = report.first, []
    for run, recovery in zip(visit.runs, report.outcome.recoveries, strict=True):
        late = run.latency
        times = [
            f"{late.p50_ms:.1f} / {late.p99_ms:.1f} / {late.max_ms:.1f}" if late else NOTHING,
            f"{run.lived}",
        ]
        if recovery is None:
            until = float("inf") if visit.change is None else visit.change
            before = level(run.time, run.error, (visit.start, until))
            rows.append((run.name, _mm(before), *[NOTHING] * 4, *times))
            continue
        worst = f"{_mm(recovery.worst)} at {recovery.worst_after:.1f} s"
        rows.append(
            (
                run.name,
                _mm(recovery.before),
                _mm(recovery.after),
                worst,
                _off(recovery),
                _back(recovery),
                *times,
            )
        )
    heads = (
        "",
        "error before",
        "error after",
        "worst after",
        "off target",
        "back to stay",
        "latency p50/p99/max, ms",
        "steps lived",
    )
    caption = (
        f"All from the change to the end of the visit, in seconds after the change; error after from {SETTLED:.0f} "
        f"s on. Off its target: the mean error of the last {WINDOW} s is above {TOLERANCE} × the mean before the "
        f"change, and above {1e3 * CLOSE:.0f} mm. Back to stay: on its target from then to the end of the visit, for "
        f"{STAY:.0f} s at least."
    )
    return f'{_table(heads, rows)}<p class="muted"><small>{_text(caption)}</small></p>'


def _off(recovery: Recovery) -> str:
    return f"{recovery.off:.1f} s" if recovery.disturbed else "never"


def _back(recovery: Recovery) -> str:
    if not recovery.disturbed:
        return "never left"
    return f"{recovery.last_off:.1f} s" if recovery.recovered else "not in this visit"


def _surprise(run: Run, usual: float) -> str:
    """Format the mean surprise of the first second, as a ratio to the usual one."""
    inside = (run.surprise_time >= EARLY[0]) & (run.surprise_time < EARLY[1])
    if not inside.any():
        return NOTHING
    times = float(figures.times_usual(run.surprise[inside].mean() - usual))
    if times > MOST_TIMES:
        return f"over {MOST_TIMES} ×"
    return f"{times:.1f} ×" if times < 10 else f"{times:.0f} ×"


def _mm(meters: float) -> str:
    return NOTHING if meters != meters else f"{1e3 * meters:.1f} mm"


def _video(video: Video) -> str:
    data = f"data:{video.kind};base64,{base64.b64encode(video.content).decode()}"
    if video.kind.startswith("image/"):
        return f'<img alt="Both arms side by side" src="{data}">'
    return f'<video src="{data}" controls autoplay muted loop playsinline></video>'


def _legend(names: Sequence[str]) -> str:
    models = "".join(f' · <span class="s{i}">{_text(name)} model</span>' for i, name in enumerate(names))
    return f"<b>measured</b>{models}"


def _section(title: str, words: str) -> str:
    return f"<h2>{_text(title)}</h2>" + (f"<p>{_text(words)}</p>" if words else "")


def _figure(draw: Callable[[float], str]) -> str:
    """Write a figure in both widths; the page shows the one that fits."""
    wide, narrow = draw(figures.WIDE), draw(figures.NARROW)
    return f'<figure><div class="wide">{wide}</div><div class="narrow">{narrow}</div></figure>'


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{_text(h)}</th>" for h in heads)
    body = "".join("<tr>" + "".join(f"<td>{_text(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _text(words: str) -> str:
    return html.escape(str(words))
