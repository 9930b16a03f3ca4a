"""Verb `wm-robot validate`: may this base with this state drive that robot?"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from wm_robot.errors import ConfigError, MissingExtraError
from wm_robot_cli.progress import ProgressMeter, format_duration
from wm_robot_cli.tables import make_console, print_table
from wm_robot_cli.values import Count, JsonFlag, Seed

if TYPE_CHECKING:
    from wm_robot.evaluation.validation.battery import Battery
    from wm_robot_cli.validation.battery_run import ValidationReport
    from wm_robot_cli.validation.runner import ValidationTarget
    from wm_robot_cli.validation_record import RecordTarget

EXIT_REFUSED = 3
"""Exit code if the verdict is `failed`."""
DEFAULT_WORK = Path("runs/validation")
SHOWN_REASONS = 2
SESSION_CHECKS = ("control-nominal", "control-declared", "corners", "faults")
"""Checks whose sessions are as a healthy robot may meet them: their errors bound those of its descendants."""
MODEL_SECONDS = 8.0
"""Length of the log of each simulated plant for `--model-only`."""


def validate_bundle(
    base: Annotated[str, tyro.conf.Positional],
    /,
    *,
    state: str = "",
    robot: str = "",
    task: str | None = None,
    quick: bool = False,
    only: str = "",
    skip: tuple[str, ...] = (),
    plant: str = "nominal",
    seed: Seed = 0,
    processes: Count = 2,
    work: Path = DEFAULT_WORK,
    sign: str = "",
    keys: Path | None = None,
    report: Path | None = None,
    junit: Path | None = None,
    films: bool = True,
    replay: Path | None = None,
    model_only: bool = False,
    logs: tuple[Path, ...] = (),
    recorded_robot: str = "",
    recorded_agent: str = "agent",
    end_state: str = "",
    as_json: JsonFlag = False,
) -> None:
    """Validate a base with a lifetime state in MuJoCo, by the battery of the robot: may it drive that robot?

    The checks and their limits are in `wm_robot/evaluation/validation/battery.yaml`; a file `ROBOT.battery.yaml`
    beside the robot's spec changes them. After a kill the same command continues. Exit code 3: the verdict is
    `failed`. Failed scenarios are written as cases; `--only CASE` runs one again.

    Args:
        base: Folder of the base, or the name of a base that ships.
        state: Lifetime state: `STORE`, `STORE@BRANCH` or `STORE@DIGEST`; the initial state of the base by default.
        robot: Name of the robot, or the path of its spec; the robot of the base by default.
        task: Task of the robot; its first by default.
        quick: Run the checks that are marked for it, with fewer episodes.
        only: One check by name, or a case file: run it alone. There is no verdict then.
        skip: Names of checks that are not run; mandatory ones are run all the same.
        plant: Simulated plant of all episodes: `nominal`, or a stand-in such as `standin/sts3215:1`.
        seed: Seed of worlds, goals, motion and noise.
        processes: Number of worker processes.
        work: Folder for results and cases.
        sign: Name of an own key (`wm-robot keys ls`): the verdict becomes a signed record, without which nothing
            learned drives a real robot. With `--quick` it renews a record of the whole battery.
        keys: Folder of the keys; by default that of this user.
        report: HTML file for the report; `report.html` beside the results by default.
        junit: XML file for the results in JUnit form.
        films: Run the worst episodes again for the report, three or with --quick one, and film them.
        replay: Session, bag or episodes: report what that log determines, and run nothing else. There is no verdict.
        model_only: Judge the world model as a model, on logs of plants other than the nominal one. There is no
            verdict.
        logs: Sessions for `--model-only`, in place of simulated plants.
        recorded_robot: Namespace of the robot in a session with several.
        recorded_agent: Name of the agent's node in the session of `--replay`; `shadow` for one in shadow mode.
        end_state: For `--replay`: saved state that the state at the end is compared with.
        as_json: Print JSON.
    """
    if replay is not None:
        from wm_robot_cli.validation.replay_report import report_replay

        report_replay(
            _make_target(base, state, robot, task, seed),
            replay,
            namespace=recorded_robot,
            agent_name=recorded_agent,
            end_state=end_state,
            as_json=as_json,
        )
        return
    try:
        from wm_robot_cli.validation.battery_run import BatteryRun
        from wm_robot_cli.validation.report_file import write_report_file
    except ImportError as error:
        raise MissingExtraError("wm-robot validate", "sim") from error
    target = _make_target(base, state, robot, task, seed)
    if model_only:
        from wm_robot_cli.validation.replay_report import report_model

        report_model(target, logs, namespace=recorded_robot, seconds=MODEL_SECONDS, as_json=as_json)
        return
    battery = _load_battery(target)
    if only:
        _run_only(target, battery, only, as_json=as_json)
        return
    if unknown := [name for name in skip if name not in {check.name for check in battery.checks}]:
        battery.find_check(unknown[0])
    standin = _find_standin(plant, target)
    signing = _prepare_signing(target, sign, keys, quick=quick, plant=plant) if sign else None
    run = BatteryRun(battery, target, work, quick=quick, standin=standin, processes=processes, skipped=skip)
    with ProgressMeter("validate") as progress:
        found = run.run(progress)
    cases = {case.scenario.label: case.save(run.folder / "cases") for case in found.cases}
    page = report or run.folder / "report.html"
    with ProgressMeter("report") as progress:
        write_report_file(page, found, cases, with_films=films, progress=progress)
    if junit is not None:
        from wm_robot.evaluation.validation.junit import write_junit

        write_junit(junit, found.verdict)
    record = _sign_report(found, signing, sign, keys) if signing else None
    values = found.to_dict() | {
        "folder": str(run.folder),
        "report": str(page),
        "record": str(record) if record else None,
    }
    if as_json:
        print(json.dumps(values))
    else:
        _print_report(found, run.folder, page)
        if record is not None:
            print(f"signed record: {record}")
    if not found.verdict.is_passed:
        raise SystemExit(EXIT_REFUSED)


def _make_target(base: str, state: str, robot: str, task: str | None, seed: int) -> "ValidationTarget":
    from wm_robot.io.base_file import find_base
    from wm_robot.io.strict_json import parse_json
    from wm_robot.robots import load_spec
    from wm_robot_cli.validation.runner import ValidationTarget

    folder = find_base(base)
    if not robot:
        robot = str(parse_json((folder / "base.json").read_bytes(), str(folder))["robot"])
    spec = load_spec(robot)
    if not spec.tasks:
        raise ConfigError(f"robot '{spec.name}' has no task. Add one to its spec")
    return ValidationTarget(
        base=str(folder), state=state, robot=robot, task=task or next(iter(spec.tasks)), seed=seed
    )


@dataclass(frozen=True)
class _Signing:
    """What a record will judge, and which one it renews."""

    target: "RecordTarget"
    renews: str


def _prepare_signing(
    target: "ValidationTarget", key: str, keys: Path | None, *, quick: bool, plant: str
) -> _Signing:
    """Check that a record can be signed, before hours are spent on it.

    Raises:
        ConfigError: If there is no such key, or nothing that a quick battery renews.
    """
    from wm_robot_cli.keys import open_keyring
    from wm_robot_cli.validation_record import find_renewable_record, read_record_target

    if plant != "nominal":
        raise ConfigError(
            f"--plant is {plant}; a record is of the robot's own model. Leave out --sign or --plant"
        )
    open_keyring(keys).load_private_key(key)
    judged = read_record_target(Path(target.base), target.robot, target.state or None)
    return _Signing(judged, find_renewable_record(judged, keys).digest if quick else "")


def _sign_report(found: "ValidationReport", signing: _Signing, key: str, keys: Path | None) -> Path:
    """Sign the record of a validation, and return its file."""
    from wm_robot.validation_record.record import CheckResult
    from wm_robot.validation_record.session_error import compute_bounds
    from wm_robot_cli.validation_record import make_record, store_record

    healthy = [
        result.session
        for scenario, result in zip(found.scenarios, found.results, strict=True)
        if scenario.check in SESSION_CHECKS and scenario.learning
    ]
    record = make_record(
        signing.target,
        checks=[CheckResult.from_outcome(each.to_dict()) for each in found.verdict.outcomes],
        bounds=compute_bounds(healthy),
        seeds=(found.seed,),
        renews=signing.renews,
    )
    return store_record(record, signing.target, key=key, keys=keys)[1]


def _find_standin(plant: str, target: "ValidationTarget") -> str:
    """Return the name of a stand-in with its seed; empty for the nominal plant."""
    from wm_robot_sim.standins.catalog import parse_plant

    found = parse_plant(plant, target.load_spec())
    return "" if found is None else str(found)


def _load_battery(target: "ValidationTarget") -> "Battery":
    from wm_robot.evaluation.validation.battery import Battery
    from wm_robot.robots import find_spec_path

    return Battery.load(target.load_spec().name, find_spec_path(target.robot).parent)


def _run_only(target: "ValidationTarget", battery: "Battery", only: str, *, as_json: bool) -> None:
    """Run the scenarios of one check, or a case, and print what was measured."""
    from wm_robot.evaluation.validation.battery import EPISODE_MEASURES
    from wm_robot.evaluation.validation.scenario import CASE_SUFFIX, Case
    from wm_robot_cli.validation.battery_run import describe_episode, describe_failure
    from wm_robot_cli.validation.runner import run_scenario
    from wm_robot_cli.validation.worlds import ScenarioSource

    before: dict[str, Any] = {}
    if only.endswith(CASE_SUFFIX) or Path(only).is_file():
        case = Case.load(Path(only))
        scenarios, before = [case.scenario], dict(case.figures)
    else:
        check = battery.find_check(only)
        if check.measure not in EPISODE_MEASURES:
            raise ConfigError(f"check '{only}' has no episodes; run the whole battery for it")
        source = ScenarioSource(target.load_spec(), target.task, seed=target.seed)
        scenarios = source.draw(check, check.settings)
    agents: dict[bool, Any] = {}
    change_std = target.read_change_std()
    found: list[dict[str, Any]] = []
    for scenario in scenarios:
        result = run_scenario(agents, target, scenario, change_std)
        found.append(
            {
                "scenario": scenario.label,
                **describe_episode(result),
                "reasons": list(describe_failure(result)),
            }
        )
    if as_json:
        print(json.dumps({"scenarios": found, "before": before}))
        return
    for each in found:
        print(f"{each['scenario']}: " + "; ".join(each["reasons"]))
    if before:
        print("when it was kept: " + ", ".join(f"{name} {value:.3g}" for name, value in before.items()))


def _print_report(found: "ValidationReport", folder: Path, page: Path) -> None:
    rows = [
        {
            "check": each.check.name,
            "result": each.status,
            "severity": each.check.severity,
            "measured": _shorten_figures(each.check.limits, each.figures),
            "pass line": each.check.describe_limits(),
        }
        for each in found.verdict.outcomes
    ]
    print_table(make_console(), rows)
    for each in found.verdict.outcomes:
        if each.status == "failed":
            print(f"{each.check.name} ({each.check.severity}): " + "; ".join(each.reasons[:SHOWN_REASONS]))
            print(f"  {each.check.remedy}")
    score = f"score {found.score:.3g} tolerances, " if found.score == found.score else ""
    print(f"{score}{format_duration(found.seconds)}; results in {folder}")
    print(f"report: {page}")
    print(found.verdict.to_sentence())


def _shorten_figures(limits: Any, figures: Any) -> str:
    return ", ".join(f"{name} {figures[name]:.3g}" for name in limits if name in figures)
