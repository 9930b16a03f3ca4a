"""Report page: HTML with a summary first, then figures, tables and next steps."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from wm_robot.evaluation.recovery import (
    OFF_TARGET_FACTOR,
    RECOVERED_SECONDS,
    SETTLE_SECONDS,
    WINDOW_SECONDS,
    Recovery,
    compute_span_mean,
)
from wm_robot.evaluation.report import figures
from wm_robot.evaluation.report.contents import (
    EARLY_SECONDS,
    LATER_SECONDS,
    Report,
    ReportedSession,
    RobotRun,
)
from wm_robot.evaluation.report.html_parts import (
    NO_VALUE,
    escape_text,
    write_command,
    write_facts,
    write_figure,
    write_page,
    write_section,
    write_table,
    write_video,
)
from wm_robot.tasks import ErrorScale

SECOND_SESSION_SECONDS = 3.0
"""Drawn seconds of the second session: after those a robot from the initial state has learned the same."""
MAX_REPORTED_RATIO = 1_000_000
"""Largest reported ratio to the usual surprise."""


def write_report(path: Path, report: Report) -> None:
    """Write the page, whole or not at all. It needs no other file and no network.

    Raises:
        ConfigError: If it would be larger than 5 MB.
    """
    write_page(
        path,
        f"wm_robot: the {report.robot} that goes on learning",
        "\n".join(_write_sections(report)),
        remedy="Shorten the visit",
    )


def _write_sections(report: Report) -> Iterable[str]:
    first, scale, noun = report.first, report.scale, report.scale.robot_noun
    yield f'<header><p class="kicker">wm_robot demo, robot “{escape_text(report.robot)}”</p>'
    yield f"<h1>{escape_text(report.outcome.headline)}</h1>"
    yield f'<p class="lede">{escape_text(" ".join(report.outcome.sentences))}</p></header>'
    yield from (f'<p class="note">{escape_text(note)}</p>' for note in report.notes)
    yield _write_tiles(report)
    if report.video:
        yield write_section(
            "What it looked like", f"{report.target_words} {report.outcome.difference_sentence}".rstrip()
        )
        yield f"<figure>{write_video(report.video, f'Both {noun}s side by side')}</figure>"
    yield write_section(
        scale.question,
        f"Thin: every control step. Bold: mean of the last {WINDOW_SECONDS} s. Lower is better.",
    )
    difference = report.outcome.largest_difference
    yield write_figure(
        lambda width: figures.draw_target_error(first, "first-visit", width, difference, scale)
    )
    yield write_section(
        "How surprised each robot was",
        f"How many times less likely an observation was, per sensor, than for the {noun} that learns before the "
        "change; "
        "1 is as usual. A robot that learns its new body predicts it again.",
    )
    yield write_figure(lambda width: figures.draw_surprise(first, report.usual_surprise, width))
    change, foresight, belief = first.change_time, report.foresight, report.belief
    if foresight and change is not None:
        quantity = foresight.unit.partition(",")[0]
        yield write_section(
            f"Joint {quantity}s that each model predicted",
            f"Both models receive data of the same {noun} and predict each joint "
            f"{1e3 * foresight.horizon_seconds:.0f} ms ahead. The broad line is the {quantity} that the encoders "
            "then measured.",
        )
        yield f'<p class="muted">{_write_legend(tuple(foresight.predicted))}</p>'
        yield write_figure(lambda width: figures.draw_joint_predictions(foresight, change, width))
    if belief and change is not None:
        yield write_section(
            f"Physics that the {noun} that learns estimated",
            "The estimate comes from its model: the physics that best explain its own motion. The broad line is the "
            "truth, which only the simulator contains.",
        )
        yield write_figure(lambda width: figures.draw_physics_estimate(belief, change, width))
    yield write_section("The figures", "")
    yield _write_recovery_table(report)
    if report.second and report.second.is_recorded:
        yield from _write_second_session(report, report.second)
    if any(run.latency for run in first.runs):
        yield write_section(
            "How long a decision took",
            "Time from the joint reading to the command, for every step. Steps right of the dotted line "
            "would be too late.",
        )
        yield write_figure(lambda width: figures.draw_latency(first.runs, report.period, width))
    yield from _write_next_steps(report)


def _write_second_session(report: Report, visit: ReportedSession) -> Iterable[str]:
    woken = visit.runs[0]
    yield write_section(
        "The second visit: a start from the saved state",
        "The robot was stopped, its state was saved, and it started in the changed world "
        f"({report.changed}). The other robot has the same weights and the initial state.",
    )
    yield write_figure(
        lambda width: figures.draw_first_seconds(
            visit, "second-visit", SECOND_SESSION_SECONDS, width, report.scale
        )
    )
    usual = report.usual_surprise
    rows = [
        (
            run.name,
            _format_error(run.compute_early_error(), report.scale),
            _format_error(run.compute_later_error(), report.scale),
            _format_surprise(run, usual),
            f"{run.lifetime_steps}",
        )
        for run in visit.runs
    ]
    yield write_table(
        (
            "",
            f"error, s {EARLY_SECONDS[0]:.0f}–{EARLY_SECONDS[1]:.0f}",
            f"error, s {LATER_SECONDS[0]:.0f}–{LATER_SECONDS[1]:.0f}",
            f"surprise, s {EARLY_SECONDS[0]:.0f}–{EARLY_SECONDS[1]:.0f}, usual = 1",
            "steps lived",
        ),
        rows,
    )
    words = _describe_second_session(woken, visit.runs[1:], report.scale)
    yield f'<p class="muted">{escape_text(words)}</p>'


def _describe_second_session(woken: RobotRun, others: Sequence[RobotRun], scale: ErrorScale) -> str:
    """Describe the effect of the saved state in this session."""
    if not others:
        return ""
    newborn = others[0]
    ratio = woken.compute_early_error() / newborn.compute_early_error()
    if ratio != ratio:
        return "The start of the visit was not recorded, so its first second is not reported."
    return (
        f"In its first second the {woken.name} {scale.robot_noun} was "
        f"{_format_error(woken.compute_early_error(), scale)} off its target on average, the {newborn.name} one "
        f"{_format_error(newborn.compute_early_error(), scale)}: {ratio:.2f} ×. Both start away from the target, so "
        "most of that is the way to it."
    )


def _write_next_steps(report: Report) -> Iterable[str]:
    if report.go_on:
        yield write_section("Next steps", "")
        for what, command in report.go_on:
            yield write_command(what, command)
    yield write_section("Settings and versions", "")
    facts = {"command": report.command, **report.facts} if report.command else report.facts
    yield write_facts(facts.items())
    yield "<footer>One self-contained file: it needs no network.</footer>"


def _write_tiles(report: Report) -> str:
    outcome = report.outcome
    found = [
        (name, recovery)
        for name, recovery in zip(outcome.names, outcome.recoveries, strict=True)
        if recovery is not None
    ]
    tiles = [
        (_format_off_time(recovery), f"was the {name} {report.scale.robot_noun} off its target")
        for name, recovery in found
    ]
    tiles += [
        (report.scale.format(recovery.worst_error), f"at worst, {name}, mean of {WINDOW_SECONDS} s")
        for name, recovery in found
    ]
    boxes = "".join(
        f'<div class="tile"><b>{escape_text(b)}</b><span>{escape_text(w)}</span></div>' for b, w in tiles
    )
    return f'<div class="tiles">{boxes}</div>' if tiles else ""


def _write_recovery_table(report: Report) -> str:
    visit, rows = report.first, []
    for run, recovery in zip(visit.runs, report.outcome.recoveries, strict=True):
        late = run.latency
        times = [
            f"{late.p50_ms:.1f} / {late.p99_ms:.1f} / {late.max_ms:.1f}" if late else NO_VALUE,
            f"{run.lifetime_steps}",
        ]
        if recovery is None:
            until = float("inf") if visit.change_time is None else visit.change_time
            before = compute_span_mean(run.time, run.error, (visit.start, until))
            rows.append((run.name, _format_error(before, report.scale), *[NO_VALUE] * 4, *times))
            continue
        worst = f"{_format_error(recovery.worst_error, report.scale)} at {recovery.worst_time:.1f} s"
        rows.append(
            (
                run.name,
                _format_error(recovery.error_before, report.scale),
                _format_error(recovery.error_after, report.scale),
                worst,
                _format_off_time(recovery),
                _format_return_time(recovery),
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
    limit = report.scale.format(report.scale.min_off_target)
    caption = (
        "All from the change to the end of the visit, in seconds after the change; error after from "
        f"{SETTLE_SECONDS:.0f} s on. Off its target: the mean error of the last {WINDOW_SECONDS} s is above "
        f"{OFF_TARGET_FACTOR} × the mean before the change, and above {limit}. "
        f"Back to stay: on its target from then to the end of the visit, for {RECOVERED_SECONDS:.0f} s at least."
    )
    return f'{write_table(heads, rows)}<p class="muted"><small>{escape_text(caption)}</small></p>'


def _format_off_time(recovery: Recovery) -> str:
    return f"{recovery.off_target_time:.1f} s" if recovery.was_disturbed else "never"


def _format_return_time(recovery: Recovery) -> str:
    if not recovery.was_disturbed:
        return "never left"
    return f"{recovery.last_off_target:.1f} s" if recovery.has_recovered else "not in this visit"


def _format_surprise(run: RobotRun, usual: float) -> str:
    """Format the mean surprise of the first second, as a ratio to the usual one."""
    inside = (run.surprise_time >= EARLY_SECONDS[0]) & (run.surprise_time < EARLY_SECONDS[1])
    if not inside.any():
        return NO_VALUE
    times = float(figures.compute_likelihood_ratio(run.surprise[inside].mean() - usual))
    if times > MAX_REPORTED_RATIO:
        return f"over {MAX_REPORTED_RATIO} ×"
    return f"{times:.1f} ×" if times < 10 else f"{times:.0f} ×"


def _format_error(error: float, scale: ErrorScale) -> str:
    return NO_VALUE if error != error else scale.format(error, more_decimals=1)


def _write_legend(names: Sequence[str]) -> str:
    models = "".join(
        f' · <span class="s{i}">{escape_text(name)} model</span>' for i, name in enumerate(names)
    )
    return f"<b>measured</b>{models}"
