"""Report page of a validation: verdict, reasons, heat maps, films, next steps and digests in one HTML file."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from wm_robot.evaluation.report.html_parts import (
    MAX_PAGE_BYTES,
    NO_VALUE,
    escape_text,
    render_page,
    write_command,
    write_facts,
    write_figure,
    write_section,
    write_table,
    write_video,
)
from wm_robot.evaluation.validation.report import curves
from wm_robot.evaluation.validation.report.contents import ValidationContents, WorstCase
from wm_robot.evaluation.validation.report.heat_map_html import write_heat_map, write_legend
from wm_robot.evaluation.validation.report.heat_maps import build_heat_maps, build_prediction_map
from wm_robot.evaluation.validation.report.next_steps import list_next_steps, sort_failures
from wm_robot.evaluation.validation.verdict import CheckOutcome
from wm_robot.io.durable import write_file

MOST_REASONS = 4
"""Reasons of one check that are listed; the others are counted."""
MOST_CHANNELS = 6
"""Channels that are listed, those with the largest open-loop error."""
VARIANTS = ("learning", "frozen as given", "frozen initial")
"""Variants of the check `learning`, as its figures name them."""
NO_EFFECT = 1.1
"""Ratio of two errors below which they count as equal."""


def write_validation_report(path: Path, contents: ValidationContents) -> None:
    """Write the page, whole or not at all, with at most 5 MB. Where it is larger, films are left out."""
    title = f"wm_robot: validation of {contents.base} for {contents.robot}"
    while len(page := render_page(title, "\n".join(_write_sections(contents)))) > MAX_PAGE_BYTES:
        if (smaller := _drop_last_film(contents)) is None:
            break
        contents = smaller
    write_file(path, page)


def make_headline(contents: ValidationContents) -> str:
    """Return the verdict as a headline."""
    state = f"its state {contents.state}" if contents.state else "its initial state"
    what = f"{contents.base} with {state}"
    if contents.verdict.is_passed:
        battery = "the quick battery" if contents.is_quick else "the battery"
        return f"Passed: {what} may drive {contents.robot}, by {battery} in simulation"
    return f"Failed: {what} may not drive {contents.robot}"


def describe_learning(outcome: CheckOutcome) -> list[str]:
    """Describe what adaptation gives and costs, and what the given state knows, in sentences."""
    figures = outcome.figures
    changed, nominal = (
        {name: figures.get(f"{world}/{name}", float("nan")) for name in VARIANTS}
        for world in ("changed", "nominal")
    )
    learning, given, initial = VARIANTS
    return [
        f"In changed worlds, adaptation {_compare(changed[learning], changed[given])}.",
        f"On the nominal robot, adaptation {_compare(nominal[learning], nominal[given])}.",
        f"The knowledge in the given state, without learning, {_compare(nominal[given], nominal[initial])} on the "
        "nominal robot, compared with the initial state.",
    ]


def _compare(with_it: float, without: float) -> str:
    """Say what something does to an error: `lowers the error from 2 to 1 tolerances (2 times)`."""
    if not np.isfinite(with_it) or not np.isfinite(without) or min(with_it, without) <= 0:
        return "was not measured"
    numbers = f"from {without:.2g} to {with_it:.2g} tolerances"
    if max(with_it / without, without / with_it) < NO_EFFECT:
        return f"leaves the error as it is ({with_it:.2g} tolerances)"
    if with_it < without:
        return f"lowers the error {numbers} ({without / with_it:.1f} times less)"
    return f"raises the error {numbers} ({with_it / without:.1f} times more)"


def _write_sections(contents: ValidationContents) -> Iterator[str]:
    yield from _write_header(contents)
    yield from _write_reasons(contents)
    yield from _write_all_checks(contents)
    yield from _write_heat_maps(contents)
    yield from _write_worst_cases(contents)
    yield from _write_learning(contents)
    yield from _write_next_steps(contents)
    yield from _write_world_model(contents)
    yield from _write_digests(contents)
    yield "<footer>One self-contained file: it needs no network.</footer>"


def _write_header(contents: ValidationContents) -> Iterator[str]:
    verdict = contents.verdict
    yield '<header><p class="kicker">wm_robot validate</p>'
    yield f'<h1 class="{"passed" if verdict.is_passed else "failed"}">{escape_text(make_headline(contents))}</h1>'
    yield f'<p class="lede">{escape_text(verdict.to_sentence())}</p></header>'
    yield from (f'<p class="note">{escape_text(note)}</p>' for note in contents.notes)
    yield _write_tiles(contents)
    judged = [
        ("base", contents.base),
        ("state", contents.state or "initial state of the base"),
        ("robot and task", f"{contents.robot}, {contents.task}"),
        ("battery", f"{'quick' if contents.is_quick else 'full'}, seed {contents.seed}"),
        ("written", f"{contents.written}, after {_format_seconds(contents.seconds)}".strip(", ")),
        ("machine", ", ".join(filter(None, (contents.machine.get(n) for n in ("processor", "system"))))),
    ]
    yield write_facts((name, value) for name, value in judged if value)


def _write_tiles(contents: ValidationContents) -> str:
    figures = {each.check.name: each.figures for each in contents.verdict.outcomes}
    nominal, prediction, timing = (
        figures.get(name, {}) for name in ("control-nominal", "prediction-nominal", "timing")
    )
    tiles = [
        (contents.score, "", "tolerances off after a change, typical of all worlds (score)"),
        (nominal.get("settled"), "", "tolerances off on the nominal robot"),
        (prediction.get("coverage"), " %", "of outcomes within the predicted deviation; 68 % is exact"),
        (timing.get("p99"), " %", "of the control period is enough for 99 % of decisions"),
    ]
    boxes = [
        (f"{100 * value:.0f}{unit}" if unit else f"{value:.2g}", words)
        for value, unit, words in tiles
        if value is not None and np.isfinite(value)
    ]
    if not boxes:
        return ""
    inner = "".join(f'<div class="tile"><b>{b}</b><span>{escape_text(w)}</span></div>' for b, w in boxes)
    unit = f'<p class="muted"><small>1 tolerance is {escape_text(contents.tolerance)}: the largest mean error of a '
    unit += "robot that solves the task.</small></p>"
    return f'<div class="tiles">{inner}</div>' + (unit if contents.tolerance else "")


def _write_reasons(contents: ValidationContents) -> Iterator[str]:
    failures = sort_failures(contents)
    if not failures:
        yield write_section("Why", "No check failed, and every mandatory check was run.")
        return
    yield write_section("Why", "What refuses the bundle comes first. Minor failures do not refuse it.")
    for outcome in failures:
        more = len(outcome.reasons) - MOST_REASONS
        reasons = [*outcome.reasons[:MOST_REASONS], *([f"and {more} more"] if more > 0 else [])]
        if outcome.cases:
            more = len(outcome.cases) - MOST_REASONS
            named = ", ".join(outcome.cases[:MOST_REASONS])
            reasons.append(f"failed episodes: {named}" + (f" and {more} more" if more > 0 else ""))
        items = "".join(f"<li>{escape_text(reason)}</li>" for reason in reasons)
        yield (
            f'<section class="reason {outcome.check.severity}"><h3>{escape_text(outcome.check.name)} '
            f'<span class="badge">{outcome.check.severity}, {outcome.status}</span></h3><ul>{items}</ul>'
            f"<p><b>What to do:</b> {escape_text(outcome.check.remedy)}</p></section>"
        )


def _write_all_checks(contents: ValidationContents) -> Iterator[str]:
    outcomes = contents.verdict.outcomes
    counts = {
        status: sum(each.status == status for each in outcomes) for status in ("passed", "failed", "not run")
    }
    yield write_section(
        "All checks", ", ".join(f"{count} {status}" for status, count in counts.items()) + "."
    )
    rows = []
    for each in outcomes:
        mark = {"passed": "✓ passed", "failed": "✗ failed", "not run": "– not run"}[each.status]
        measured = _describe_measured(each) if each.status != "not run" else "; ".join(each.reasons[:1])
        mandatory = ", mandatory" if each.check.mandatory else ""
        cells = (
            ("check", each.check.name, "name"),
            ("result", mark, each.status.replace(" ", "-")),
            ("severity", f"{each.check.severity}{mandatory}", ""),
            ("measured", measured or NO_VALUE, ""),
            ("pass line", each.check.describe_limits() or NO_VALUE, ""),
        )
        rows.append(
            "".join(
                f'<td data-label="{label}" class="{kind}">{escape_text(value)}</td>'
                for label, value, kind in cells
            )
        )
    head = "".join(f"<th>{each}</th>" for each in ("check", "result", "severity", "measured", "pass line"))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    yield f'<table class="stack"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _describe_measured(outcome: CheckOutcome) -> str:
    return "; ".join(
        f"{name} {_format_number(outcome.figures[name])}"
        for name in outcome.check.limits
        if name in outcome.figures
    )


def _write_heat_maps(contents: ValidationContents) -> Iterator[str]:
    maps = build_heat_maps(contents)
    if not maps:
        yield write_section(
            "Where it is weak", "Nothing was driven, so that there is no map of the dynamics."
        )
        return
    yield write_section(
        "Where it is weak",
        "Settled error in tolerances of the task: lower is better. Bold with a frame: above the pass line of the "
        "check, which holds for the mean.",
    )
    yield write_legend()
    yield from (write_heat_map(each) for each in maps)


def _write_worst_cases(contents: ValidationContents) -> Iterator[str]:
    if not contents.worst_cases:
        return
    yield write_section("The worst episodes", contents.target_words)
    for number, case in enumerate(contents.worst_cases, 1):
        yield from _write_worst_case(case, number)


def _write_worst_case(case: WorstCase, number: int) -> Iterator[str]:
    yield f"<h3>{number}. {escape_text(case.label)}</h3><p>{escape_text('; '.join(case.reasons))}.</p>"
    if case.video is not None:
        video = write_video(case.video, f"The robot in {case.label}, with target and predicted path")
        yield f'<figure class="film">{video}</figure>'
    if (track := case.track) is not None:
        yield write_figure(lambda width: curves.draw_episode_error(track, f"error-{number}", width))
        if case.video is None and track.positions.size:
            words = "Broad: where the joints were."
            if len(track.predicted_time):
                words += (
                    f" Dashed: where the model expected them {1e3 * track.horizon_seconds:.0f} ms earlier."
                )
            yield f'<p class="muted">{words}</p>'
            yield write_figure(lambda width: curves.draw_joint_motion(track, f"joints-{number}", width))
    if case.command:
        yield write_command("Run it again:", case.command)


def _write_learning(contents: ValidationContents) -> Iterator[str]:
    for outcome in contents.find_outcomes("learning"):
        yield write_section("Knowledge or learning?", "")
        if outcome.status == "not run":
            yield f"<p>Not measured: {escape_text('; '.join(outcome.reasons))}.</p>"
            continue
        worlds = ("nominal", "changed")
        rows = [
            (
                variant,
                *(
                    _format_number(outcome.figures.get(f"{world}/{variant}", float("nan")))
                    for world in worlds
                ),
            )
            for variant in VARIANTS
        ]
        yield f"<p>{escape_text(' '.join(describe_learning(outcome)))}</p>"
        yield write_table(("settled error, tolerances", "nominal robot", "changed worlds"), rows)
        yield (
            '<p class="muted"><small>Learning: starts from the given state and goes on. Frozen as given: the same '
            "state, read and never updated. Frozen initial: the state of a base that has lived nothing.</small></p>"
        )


def _write_next_steps(contents: ValidationContents) -> Iterator[str]:
    yield write_section("What to do next", "")
    shown: set[str] = set()
    for step in list_next_steps(contents):
        # One training answers several failures.
        if step.command and step.command not in shown:
            shown.add(step.command)
            yield write_command(step.words, step.command)
        else:
            yield f"<p>{escape_text(step.words)}</p>"


def _write_world_model(contents: ValidationContents) -> Iterator[str]:
    outcomes = [
        each for each in contents.find_outcomes("prediction") if contents.find_results(each.check.name)
    ]
    if not outcomes:
        return
    yield write_section(
        "The world model",
        "Open loop: the mean square error of predictions eight steps ahead of random motion, in squares of the usual "
        "change from step to step. Coverage: the share of outcomes within one predicted deviation; 68 % is exact.",
    )
    rows = []
    for each in outcomes:
        coverage = each.figures.get("coverage", float("nan"))
        rows.append(
            (
                each.check.name,
                _format_number(each.figures.get("error", float("nan"))),
                NO_VALUE if coverage != coverage else f"{100 * coverage:.0f} %",
                ", ".join(_list_worst_channels(contents, each)) or NO_VALUE,
            )
        )
    yield write_table(("", "open-loop error", "coverage", "channels with the largest error"), rows)
    for each in outcomes:
        if (results := contents.find_results(each.check.name)) and len(results) > 1:
            yield write_heat_map(build_prediction_map(each, results))


def _list_worst_channels(contents: ValidationContents, outcome: CheckOutcome) -> list[str]:
    known = [each.channel_errors for each in contents.find_results(outcome.check.name) if each.channel_errors]
    if not known or len(known[0]) != len(contents.channels):
        return []
    mean = np.mean(known, axis=0)
    order = np.argsort(-mean)[: MOST_CHANNELS // 2]
    return [f"{contents.channels[channel]} ({mean[channel]:.2g})" for channel in order]


def _write_digests(contents: ValidationContents) -> Iterator[str]:
    yield write_section("Digests, seeds and versions", "")
    facts: list[tuple[str, str]] = [("seed", str(contents.seed))]
    facts += [(name, value or "none") for name, value in contents.digests.items()]
    facts += [(name, value) for name, value in contents.machine.items() if value]
    yield write_facts(_merge_command(facts, contents.command))


def _merge_command(facts: Sequence[tuple[str, str]], command: str) -> Iterable[tuple[str, str]]:
    return [("command", command), *facts] if command else facts


def _drop_last_film(contents: ValidationContents) -> ValidationContents | None:
    """Leave out the film of the last case that has one; None if there is none."""
    cases = list(contents.worst_cases)
    for number in reversed(range(len(cases))):
        if cases[number].video is not None:
            cases[number] = replace(cases[number], video=None)
            return replace(contents, worst_cases=tuple(cases))
    return None


def _format_number(value: float) -> str:
    return NO_VALUE if value != value else f"{value:.3g}"


def _format_seconds(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
