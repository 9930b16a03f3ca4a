"""Battery run: all checks of a battery on one target, and the report of what was found."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wm_robot.errors import WmRobotError
from wm_robot.evaluation.validation.battery import EPISODE_MEASURES, Battery, Check
from wm_robot.evaluation.validation.episode import EpisodeResult
from wm_robot.evaluation.validation.figures import CheckFigures, compute_figures, compute_score
from wm_robot.evaluation.validation.scenario import Case, Scenario
from wm_robot.evaluation.validation.verdict import CheckOutcome, Verdict
from wm_robot.io.durable import compute_digest
from wm_robot.progress import Progress, ignore_progress
from wm_robot.spec import encode_canonical_json
from wm_robot.validation_record.installation import (
    compute_whole_spec_digest,
    describe_machine,
    read_battery_digest,
    read_installation,
)
from wm_robot_cli.validation.bundle_checks import check_bundle, check_model, measure_resume
from wm_robot_cli.validation.runner import ValidationTarget, measure_timing, run_scenarios
from wm_robot_cli.validation.worlds import ScenarioSource

CASE_FOLDER, EPISODE_FOLDER = "cases", "episodes"


@dataclass(frozen=True, kw_only=True)
class ValidationReport:
    """Report of a validation: the verdict, and what it was reached with."""

    verdict: Verdict
    target: ValidationTarget
    digests: Mapping[str, str]
    """Of battery, base, snapshot, spec and model, and the installed version; empty where there is none."""
    seed: int
    is_quick: bool
    score: float
    """Geometric mean of the settled error after a change, in tolerances of the task; lower is better."""
    seconds: float
    scenarios: tuple[Scenario, ...] = ()
    results: tuple[EpisodeResult, ...] = ()
    """Of each scenario."""
    cases: tuple[Case, ...] = ()
    """Scenarios that failed, the worst of each check first."""
    machine: Mapping[str, str | int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "passed": self.verdict.is_passed,
            "verdict": self.verdict.to_sentence(),
            "score": self.score if self.score == self.score else None,
            "robot": self.target.robot,
            "base": self.target.base,
            "state": self.target.state,
            "task": self.target.task,
            "digests": dict(self.digests),
            "seed": self.seed,
            "quick": self.is_quick,
            "machine": dict(self.machine),
            "checks": [each.to_dict() for each in self.verdict.outcomes],
            "cases": [case.scenario.label for case in self.cases],
            "seconds": round(self.seconds, 1),
        }


class BatteryRun:
    """Run of a battery on one target."""

    def __init__(
        self,
        battery: Battery,
        target: ValidationTarget,
        work: Path,
        *,
        quick: bool = False,
        standin: str = "",
        processes: int = 2,
        skipped: Sequence[str] = (),
        stop_early: bool = False,
    ):
        """Args:
        work: Folder for results; a run that was killed continues from those with equal digests.
        standin: Stand-in that all plants are; empty: the nominal model.
        skipped: Names of checks that are not run.
        stop_early: Stop at the first check that refuses the target: the verdict is known then.
        """
        self._battery, self._target, self._quick, self._standin = battery, target, quick, standin
        self._processes, self._skipped, self._stop_early = processes, skipped, stop_early
        self._began = time.monotonic()
        self.digests = read_digests(target)
        identity = {
            **self.digests,
            "seed": str(target.seed),
            "task": target.task,
            "standin": standin,
            "options": {name: str(value) for name, value in target.options.items()},
        }
        self.folder = work / compute_digest(encode_canonical_json(identity))[:16]

    def run(self, progress: Progress = ignore_progress) -> ValidationReport:
        """Run all checks."""
        outcomes: dict[str, CheckOutcome] = {}
        # Alone on the machine, before other processes are started.
        for measure in ("model", "bundle", "timing", "resume"):
            for check in self._list_checks(measure):
                if self._find_damage(outcomes):
                    continue
                outcomes[check.name] = self._run_single(check)
        scenarios: list[Scenario] = []
        results: list[EpisodeResult] = []
        cases: list[Case] = []
        if not (damage := self._find_damage(outcomes)):
            source = ScenarioSource(
                self._target.load_spec(), self._target.task, seed=self._target.seed, standin=self._standin
            )
            checks = [check for measure in EPISODE_MEASURES for check in self._list_checks(measure)]
            # One check after another only where the next may not be needed: together, they use all processes.
            for group in [[check] for check in checks] if self._stop_early else [checks]:
                if self._stop_early and Verdict(outcomes=tuple(outcomes.values())).refusals:
                    break
                drawn = {check: source.draw(check, self._choose_settings(check)) for check in group}
                listed = [scenario for each in drawn.values() for scenario in each]
                found = run_scenarios(
                    self._target,
                    listed,
                    self.folder / EPISODE_FOLDER,
                    processes=self._processes,
                    progress=progress,
                )
                for check in group:
                    own = [each for each in found if each.label.split("/")[0] == check.name]
                    outcomes[check.name], failed = self._judge(check, listed, own)
                    cases += failed
                scenarios += listed
                results += found
        for check in self._battery.checks:
            if check.name not in outcomes:
                outcomes[check.name] = CheckOutcome(
                    check=check, status="not run", reasons=(self._explain_skip(check, damage),)
                )
        controlled = {check.name for check in self._battery.checks if check.measure == "control"}
        return ValidationReport(
            verdict=Verdict(outcomes=tuple(outcomes[check.name] for check in self._battery.checks)),
            target=self._target,
            digests=self.digests,
            seed=self._target.seed,
            is_quick=self._quick,
            score=compute_score([each for each in results if each.label.split("/")[0] in controlled]),
            seconds=time.monotonic() - self._began,
            scenarios=tuple(scenarios),
            results=tuple(results),
            cases=tuple(cases),
            machine=describe_machine(),
        )

    def _list_checks(self, measure: str) -> list[Check]:
        return [
            check
            for check in self._battery.checks
            if check.measure == measure
            and (check.quick is not None or not self._quick)
            and (check.mandatory or check.name not in self._skipped)
        ]

    def _choose_settings(self, check: Check) -> dict[str, Any]:
        return {**check.settings, **(check.quick or {})} if self._quick else dict(check.settings)

    def _explain_skip(self, check: Check, damage: str) -> str:
        if damage:
            return f"{damage} failed, so that nothing else can be measured"
        if self._stop_early:
            return "another check refused the bundle before"
        return (
            "it is not part of --quick" if self._quick and check.quick is None else "it was skipped by --skip"
        )

    @staticmethod
    def _find_damage(outcomes: Mapping[str, CheckOutcome]) -> str:
        """Return the check that found the bundle or the model unusable; empty if there is none."""
        unusable = [
            each.check.name
            for each in outcomes.values()
            if each.check.measure in ("model", "bundle") and each.status == "failed"
        ]
        return unusable[0] if unusable else ""

    def _run_single(self, check: Check) -> CheckOutcome:
        began, settings = time.monotonic(), self._choose_settings(check)
        reasons: list[str] = []
        figures: dict[str, float] = {}
        measures: dict[str, Callable[[], dict[str, float]]] = {
            "timing": lambda: measure_timing(self._target, steps=settings["steps"]),
            "resume": lambda: measure_resume(self._target, check, settings["seconds"]),
        }
        try:
            if check.measure in measures:
                figures = measures[check.measure]()
            else:
                reasons = (check_model if check.measure == "model" else check_bundle)(self._target)
                figures = {"failures": float(len(reasons))}
        except WmRobotError as error:
            reasons = [str(error)]
        return CheckOutcome.judge(check, figures, reasons=reasons, seconds=time.monotonic() - began)

    def _judge(
        self, check: Check, scenarios: Sequence[Scenario], results: Sequence[EpisodeResult]
    ) -> tuple[CheckOutcome, list[Case]]:
        """Judge a check of episodes, and return its failed scenarios too."""
        found: CheckFigures = compute_figures(check, results)
        outcome = CheckOutcome.judge(check, found.figures, reasons=found.reasons, cases=found.cases)
        known = {each.label: each for each in scenarios}
        by_label = {each.label: each for each in results}
        cases = [
            Case(
                scenario=known[label],
                figures=describe_episode(by_label[label]),
                reasons=outcome.reasons or describe_failure(by_label[label]),
                origin=self.digests,
            )
            for label in found.cases
        ]
        return outcome, cases


def describe_episode(result: EpisodeResult) -> dict[str, float]:
    """Return the figures of an episode by name, without those that are no numbers."""
    figures = {f"settled {number}": value for number, value in enumerate(result.settled)}
    figures |= {f"prediction {number}": value for number, value in enumerate(result.prediction)}
    for kind in ("limit", "contact", "stopped"):
        figures[kind] = float(result.count_dangers(kind))
    return {name: round(float(value), 6) for name, value in figures.items() if value == value}


def describe_failure(result: EpisodeResult) -> tuple[str, ...]:
    """Describe what went wrong in an episode, in sentences."""
    words = {"limit": "hits its limit at speed", "contact": "touch", "stopped": "ended the agent"}
    said = [f"{each.what} {words[each.kind]} at step {each.step}" for each in result.dangers]
    worst = max((value for value in result.settled if value == value), default=float("nan"))
    return (*said[:5], f"the largest settled error is {worst:.3g} tolerances")


def read_digests(target: ValidationTarget) -> dict[str, str]:
    """Read the digests of what is validated; empty where it cannot be read."""
    from wm_robot.model.base import load_base
    from wm_robot.robots import find_spec_path
    from wm_robot.store.store import parse_reference

    installed = read_installation()
    found = dict.fromkeys(("base", "snapshot", "spec", "model", "battery"), "")
    found |= {"version": installed.version, "source": installed.source}
    try:
        spec = target.load_spec()
        found |= {"spec": compute_whole_spec_digest(spec), "model": spec.model_digest}
        found["battery"] = read_battery_digest(spec.name, find_spec_path(target.robot).parent)
        found["base"] = load_base(target.base).digest
        if target.state:
            store, reference = parse_reference(target.state)
            found["snapshot"] = store.resolve(reference)
    except WmRobotError:
        pass
    return found
