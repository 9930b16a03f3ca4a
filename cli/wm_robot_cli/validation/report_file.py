"""Report file of a validation: the page from what a battery run found, with films of the worst episodes."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from wm_robot.errors import WmRobotError
from wm_robot.evaluation.validation.episode import EpisodeResult
from wm_robot.evaluation.validation.report.contents import ValidationContents, WorstCase
from wm_robot.evaluation.validation.report.page import write_validation_report
from wm_robot.evaluation.validation.report.worst_cases import select_worst_cases
from wm_robot.evaluation.validation.scenario import Scenario
from wm_robot.io.base_file import find_base
from wm_robot.progress import Progress, ignore_progress
from wm_robot_cli.validation.battery_run import ValidationReport, describe_failure
from wm_robot_cli.validation.films import FilmMaker
from wm_robot_cli.validation.runner import ValidationTarget

WORST_CASES, QUICK_FILMS = 3, 1
"""Worst episodes on the page, and films of them in a quick validation."""
MAX_SECONDS = 20.0
"""Longest episode that is filmed, in simulated seconds."""
FILM_WORDS = (
    "Run again for this page. Green: the target. Orange: where the model expects its plan to take the tip. Blue: "
    "where the tip then went. A ball in the gripper is its payload."
)
FILM_WORDS_WITHOUT_TIP = "Run again for this page. The robot has no tip whose path could be drawn."


def write_report_file(
    path: Path,
    found: ValidationReport,
    case_paths: Mapping[str, Path],
    *,
    with_films: bool = True,
    progress: Progress = ignore_progress,
) -> Path:
    """Write the HTML report of a validation, and return its path.

    Args:
        case_paths: Label of each case → its file.
        with_films: Run the worst episodes again for films and curves. A kill during them leaves the report without.
    """
    chosen = _choose_worst_cases(found)
    contents = _make_contents(found)
    cases = [_make_case(found, *each, case_paths) for each in chosen]
    write_validation_report(path, replace(contents, worst_cases=tuple(cases)))
    num_filmed = min(QUICK_FILMS if found.is_quick else WORST_CASES, len(chosen))
    if not with_films or not num_filmed:
        return path
    maker = FilmMaker(found.target)
    try:
        for number in range(num_filmed):
            progress(number, num_filmed)
            episode = maker.film_episode(chosen[number][0])
            cases[number] = replace(cases[number], video=episode.video, track=episode.track)
    finally:
        maker.close()
    words = FILM_WORDS if maker.has_tip else FILM_WORDS_WITHOUT_TIP
    contents = replace(
        contents,
        worst_cases=tuple(cases),
        target_words=words if any(each.video for each in cases) else "",
        notes=tuple(maker.notes),
    )
    write_validation_report(path, contents)
    return path


def _make_contents(found: ValidationReport) -> ValidationContents:
    target = found.target
    tolerance, channels = _read_task(target)
    full = _make_command(target)
    return ValidationContents(
        verdict=found.verdict,
        base=Path(target.base).name,
        state=target.state,
        robot=target.robot,
        task=target.task,
        seed=found.seed,
        is_quick=found.is_quick,
        score=found.score,
        seconds=found.seconds,
        written=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        results=found.results,
        channels=channels,
        tolerance=tolerance,
        digests=found.digests,
        machine={name: str(value) for name, value in found.machine.items()},
        command=f"{full} --quick" if found.is_quick else full,
        full_command=full,
        train_command=shlex.join(["wm-robot", "train", target.robot, "--task", target.task]),
    )


def _read_task(target: ValidationTarget) -> tuple[str, tuple[str, ...]]:
    """Read the tolerance of the task with its unit, and the names of the channels; empty if the spec is damaged."""
    from wm_robot.tasks import TaskError

    try:
        spec = target.load_spec()
        error = TaskError(spec, spec.find_task(target.task))
    except WmRobotError:
        return "", ()
    return error.scale.format(error.tolerance), tuple(spec.observation_names)


def _choose_worst_cases(found: ValidationReport) -> list[tuple[Scenario, EpisodeResult]]:
    if not found.results:
        return []
    return select_worst_cases(
        found.verdict,
        found.scenarios,
        found.results,
        count=WORST_CASES,
        max_steps=round(MAX_SECONDS * found.target.load_spec().rate),
    )


def _make_case(
    found: ValidationReport, scenario: Scenario, result: EpisodeResult, case_paths: Mapping[str, Path]
) -> WorstCase:
    command = ""
    if (path := case_paths.get(scenario.label)) is not None:
        command = f"{_make_command(found.target)} --only {shlex.quote(str(path))}"
    return WorstCase(label=scenario.label, reasons=describe_failure(result), command=command)


def _make_command(target: ValidationTarget) -> str:
    """Make the command of a full validation of a target."""
    command = [
        "wm-robot",
        "validate",
        _shorten_base(target.base),
        "--robot",
        target.robot,
        "--task",
        target.task,
    ]
    command += ["--state", target.state] if target.state else []
    return shlex.join([*command, *(["--seed", str(target.seed)] if target.seed else [])])


def _shorten_base(base: str) -> str:
    """Return the name of a base that ships, otherwise its folder."""
    name = Path(base).name
    try:
        return name if find_base(name) == Path(base) else base
    except WmRobotError:
        return base
