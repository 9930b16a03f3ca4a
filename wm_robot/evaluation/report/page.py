"""The page around the figures: plain sentences first, then numbers, then how to go on."""

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template

from wm_robot.errors import ConfigError
from wm_robot.evaluation.recovery import CLOSE, SETTLED, SHARE, TOLERANCE, WINDOW, Recovery, level
from wm_robot.evaluation.report import figures
from wm_robot.evaluation.report.contents import EARLY, FOLLOWING, LATER, Report, Run, Video, Visit
from wm_robot.io.durable import write_file

LARGEST = 5_000_000
"""Bytes of the whole page."""
TOO_MUCH = "The change was too much for the arm that learns, in this visit."
TEMPLATE = Path(__file__).with_name("page.html")
NOTHING = "–"


def write_report(path: Path, report: Report) -> None:
    """Write the page, whole or not at all; it needs no other file and no network.

    Raises:
        ConfigError: If it would be larger than 5 MB.
    """
    body = "\n".join(_sections(report))
    title = f"wm_robot: the {report.robot} that goes on learning"
    page = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(title=_text(title), body=body)
    content = page.encode()
    if len(content) > LARGEST:
        raise ConfigError(
            f"the report is {len(content)} bytes; it must be at most {LARGEST}. Shorten the visit"
        )
    write_file(path, content)


def headline(report: Report) -> str:
    """What happened, in one line; never more than `story` tells."""
    learning, other = _pair(report.first)
    if learning is None or (len(report.first.runs) > 1 and other is None):
        return "The visit ended before it could tell what a change does."
    if not learning.before < FOLLOWING:
        return "The arm that learns did not follow its target, even before the change."
    if other is None:
        return "The arm learned its new world." if learning.seconds is not None else TOO_MUCH
    if learning.seconds is None:
        return TOO_MUCH if other.seconds is None else "The frozen arm came back; the one that learns did not."
    if other.seconds is None:
        if other.before < FOLLOWING and other.after > learning.after:
            return "One arm learned its new world. Its twin with frozen weights did not."
        return "The arm that learns came back to its old precision; its twin did not."
    if learning.seconds == other.seconds == 0:
        return "The change disturbed neither arm."
    if other.after > 1.5 * learning.after:
        return "Both arms came back; the one that learns came closer."
    return "Both arms came back after the change."


def story(report: Report) -> list[str]:
    """What happened, in plain sentences, whatever happened."""
    visit = report.first
    recoveries = [visit.recovery(run) for run in visit.runs]
    if visit.change is None or all(run.time[-1] < visit.change for run in visit.runs):
        return ["The visit ended before the world changed."]
    if any(recovery is None for recovery in recoveries):
        return [
            f"{visit.change:.1f} s after the start the world changed: {report.changed}. "
            "The visit ended too soon after it to say what that did."
        ]
    told = [
        f"{visit.change:.1f} s after the start the world changed: {report.changed}. "
        "Neither robot was told; both had the same target and the same seed."
    ]
    for run, recovery in zip(visit.runs, recoveries, strict=True):
        assert recovery is not None
        error = f"{1e3 * recovery.after:.0f} mm off its moving target"
        if recovery.seconds is None:
            told.append(f"The {run.name} arm did not get back to its old precision: it stayed {error}.")
        elif recovery.seconds == 0:
            told.append(f"The {run.name} arm never lost it, and then was {error}.")
        else:
            told.append(
                f"The {run.name} arm was back after {recovery.seconds:.1f} s, and then {error} "
                f"({1e3 * recovery.before:.0f} mm before the change)."
            )
    return told


def _sections(report: Report) -> Iterable[str]:
    first = report.first
    yield f'<header><p class="kicker">wm_robot demo, robot “{_text(report.robot)}”</p>'
    yield f"<h1>{_text(headline(report))}</h1>"
    yield f'<p class="lede">{_text(" ".join(story(report)))}</p></header>'
    yield from (f'<p class="note">{_text(note)}</p>' for note in report.notes)
    yield _tiles(report)
    if report.video:
        yield _section("What it looked like", "Green is the target; both arms were told the same.")
        yield f"<figure>{_video(report.video)}</figure>"
    yield _section(
        "How far each gripper was from its target",
        f"Thin: every control step. Bold: mean of the last {WINDOW} s. Lower is better.",
    )
    yield _figure(figures.target_error(first, "first-visit"))
    yield _section(
        "How surprised each robot was",
        "Surprise is how unlikely the model held what its sensors said next. A robot that learns its new body "
        "comes to expect it, and calms down.",
    )
    yield _figure(figures.surprise(first))
    if report.foresight and first.change is not None:
        yield _section(
            "What each model expected of the joints",
            f"Both models watch the same arm and say, {1e3 * report.foresight.ahead:.0f} ms ahead, where "
            "each joint will be. The broad line is what the encoders then measured.",
        )
        yield f'<p class="muted">{_legend(tuple(report.foresight.expected))}</p>'
        yield _figure(figures.foresight(report.foresight, first.change))
    if report.belief and first.change is not None:
        yield _section(
            "What the arm that learns believed of its own body",
            "Nobody told it: it asks its model which body would have moved as its own did. The broad line is the "
            "truth, which only the simulator knows.",
        )
        yield _figure(figures.belief(report.belief, first.change))
    yield _section("The figures", "")
    yield _recovery_table(first)
    if report.second and report.second.seen:
        yield from _second_visit(report, report.second)
    if any(run.latency for run in first.runs):
        yield _section(
            "How long a decision took",
            "From the moment the joints were read to the moment the command left, for every step. Everything "
            "right of the dotted line would have come too late.",
        )
        yield _figure(figures.latency(first.runs, report.period))
    yield from _going_on(report)


def _second_visit(report: Report, visit: Visit) -> Iterable[str]:
    woken = visit.runs[0]
    yield _section(
        "The second visit: waking up with what was learned",
        "The robot was stopped, its state was saved, and it woke in the world that had changed "
        f"({report.changed}). The one beside it has the same weights and no past.",
    )
    yield _figure(figures.target_error(visit, "second-visit"))
    rows = [
        (f"{run.name}", _mm(run.early(visit.start)), _mm(run.later()), _nats(run, EARLY), f"{run.lived}")
        for run in visit.runs
    ]
    learning = report.first.runs[0]
    if report.first.change is not None:
        shifted = _since(learning, report.first.change)
        rows.append(
            (
                "first visit, after the change",
                _mm(shifted.early()),
                _mm(shifted.later()),
                _nats(shifted, EARLY),
                f"{learning.lived}",
            )
        )
    yield _table(
        (
            "",
            f"error, s {visit.start:g}–{EARLY[1]:.0f}",
            f"error, s {LATER[0]:.0f}–{LATER[1]:.0f}",
            f"surprise, s {EARLY[0]:.0f}–{EARLY[1]:.0f}",
            "steps lived",
        ),
        rows,
    )
    yield f'<p class="muted">{_text(_second_story(woken, visit.runs[1:], visit.start))}</p>'


def _second_story(woken: Run, others: Sequence[Run], start: float) -> str:
    if not others:
        return ""
    newborn = others[0]
    ratio = woken.early(start) / newborn.early(start)
    if ratio != ratio:
        return "The visit ended before it could tell them apart."
    when = f"In its first {EARLY[1]:.0f} seconds the {woken.name} arm"
    if ratio < 0.95:
        return f"{when} made {100 * (1 - ratio):.0f} % less error than the {newborn.name} one."
    return f"{when} was no better than the {newborn.name} one: {ratio:.2f} × its error."


def _going_on(report: Report) -> Iterable[str]:
    if report.go_on:
        yield _section("How to go on", "")
        for what, command in report.go_on:
            yield f"<p>{_text(what)}</p><pre><code>{_text(command)}</code></pre>"
    yield _section("What it was made with", "")
    facts = {"command": report.command, **report.facts} if report.command else report.facts
    rows = "".join(
        f"<tr><td>{_text(name)}</td><td><code>{_text(value)}</code></td></tr>"
        for name, value in facts.items()
    )
    yield f'<table class="facts">{rows}</table>'
    yield "<footer>One file, no network: keep it, mail it, or open it in ten years.</footer>"


def _tiles(report: Report) -> str:
    learning, other = _pair(report.first)
    runs = report.first.runs
    tiles = []
    if learning:
        tiles.append((_back(learning), f"until the {runs[0].name} arm was back on its target"))
        tiles.append((f"{1e3 * learning.after:.0f} mm", f"settled error of the {runs[0].name} arm"))
    if learning and other:
        tiles.append((f"{1e3 * other.after:.0f} mm", f"settled error of the {runs[1].name} arm"))
        tiles.append((f"{learning.after / other.after:.2f} ×", f"{runs[0].name} ÷ {runs[1].name}"))
    elif runs[0].latency:
        tiles.append((f"{runs[0].latency.p50_ms:.1f} ms", "median from sensor to command"))
    boxes = "".join(f'<div class="tile"><b>{_text(b)}</b><span>{_text(w)}</span></div>' for b, w in tiles)
    return f'<div class="tiles">{boxes}</div>' if tiles else ""


def _recovery_table(visit: Visit) -> str:
    rows = []
    for run, recovery in zip(visit.runs, map(visit.recovery, visit.runs), strict=True):
        late = run.latency
        times = [
            f"{late.p50_ms:.1f} / {late.p99_ms:.1f} / {late.max_ms:.1f}" if late else NOTHING,
            f"{run.lived}",
        ]
        if recovery is None:
            until = run.time[-1] if visit.change is None else visit.change
            before = level(run.time, run.error, (visit.start, until))
            rows.append((run.name, _mm(before), NOTHING, NOTHING, NOTHING, *times))
            continue
        ratio = f"{recovery.after / recovery.before:.1f} ×"
        rows.append((run.name, _mm(recovery.before), _mm(recovery.after), ratio, _back(recovery), *times))
    heads = (
        "",
        "error before",
        "settled after",
        "after ÷ before",
        "time to recover",
        "latency p50/p99/max, ms",
        "steps lived",
    )
    watched = SETTLED[1]
    if visit.change is not None:
        watched = min(watched, min(float(run.time[-1]) for run in visit.runs) - visit.change)
    caption = (
        f"Settled: mean over seconds {SETTLED[0]:.0f} to {watched:.0f} after the change. Recovered: the mean "
        f"of {WINDOW} s is below {TOLERANCE} × the level before the change, or {1e3 * CLOSE:.0f} mm, and is so "
        f"for {100 * SHARE:.0f} % of the time from then to {watched:.0f} s after the change."
    )
    return f'{_table(heads, rows)}<p class="muted"><small>{_text(caption)}</small></p>'


def _back(recovery: Recovery) -> str:
    if recovery.seconds is None:
        return "not yet"
    return f"{recovery.seconds:.1f} s" if recovery.seconds else "0 s"


def _pair(visit: Visit) -> tuple[Recovery | None, Recovery | None]:
    """What the change did to the first two robots."""
    found = [visit.recovery(run) for run in visit.runs]
    return found[0], found[1] if len(found) > 1 else None


def _since(run: Run, moment: float) -> Run:
    """The same run with its clock started at a later moment."""
    return Run(
        name=run.name,
        time=run.time - moment,
        error=run.error,
        surprise_time=run.surprise_time - moment,
        surprise=run.surprise,
    )


def _nats(run: Run, span: tuple[float, float]) -> str:
    inside = (run.surprise_time >= span[0]) & (run.surprise_time < span[1])
    return f"{run.surprise[inside].mean():.2f} nats".replace("-", "−") if inside.any() else NOTHING


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


def _figure(svg: str) -> str:
    return f'<figure class="scroll">{svg}</figure>'


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{_text(h)}</th>" for h in heads)
    body = "".join("<tr>" + "".join(f"<td>{_text(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _text(words: str) -> str:
    return html.escape(str(words))
