"""Candidates of the gate bench: bundles of different quality, sound and damaged, and what they do on stand-ins."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_robot.evaluation.validation.battery import Battery, Check
from wm_robot.evaluation.validation.episode import EpisodeResult
from wm_robot.evaluation.validation.figures import compute_score
from wm_robot.progress import Progress, ignore_progress
from wm_robot.robots import load_spec
from wm_robot_benchmarks.measures.damaged_bundles import Damage, damage_base, list_damages
from wm_robot_cli.validation.runner import ValidationTarget, run_scenario

if TYPE_CHECKING:
    from wm_robot.evaluation.validation.scenario import Scenario

DANGER_FACTOR = 3.0
"""Settled error, in the pass line of the nominal robot, from which it is a danger."""
SCORE_CHECKS = ("control-nominal", "control-declared", "undeclared", "faults", "sensors")
TRUTH = (
    Check(
        name="reality",
        group="",
        measure="control",
        severity="major",
        settings={"worlds": "nominal", "episodes": 2, "seconds": 5.0},
    ),
    Check(
        name="reality-changed",
        group="",
        measure="control",
        severity="major",
        settings={"worlds": "declared", "episodes": 2, "seconds": 5.0, "change": 1.5},
    ),
)
"""What a robot does on a stand-in: its task as it is, and with hidden changes of the declared kinds."""
SMALL_NOISE = ("0.02", "0.05", "0.1", "0.2")
SAMPLES, HORIZONS = (32, 16, 8), (7, 5, 3, 2)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Candidate: a bundle, sound or damaged."""

    name: str
    robot: str
    base: str
    """Folder of the base that it is made of."""
    damage: Damage | None = None
    is_sound: bool = True
    """False: it must be refused."""
    state: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `AgentConfig`."""
    seed: int = 0
    """Of its damage."""

    def make_target(self, folder: Path) -> ValidationTarget:
        """Make the target of a validation; a damaged base is written to a folder."""
        base, spec = Path(self.base), load_spec(self.robot)
        if self.damage is not None:
            folder = folder / f"{self.robot}-{abs(hash_name(self.name))}"
            if not (folder / "base.json").exists():
                damage_base(base, folder, spec, self.damage, seed=self.seed)
            base = folder
        return ValidationTarget(
            base=str(base),
            state=self.state,
            robot=self.robot,
            task=next(iter(spec.tasks)),
            options=self.options,
        )


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the gate said of a candidate, and what it did on stand-ins."""

    name: str
    robot: str
    is_sound: bool
    passed: bool
    reason: str
    """Of a refusal."""
    score: float
    """Of the battery; lower is better."""
    truth: float
    """The same on stand-ins."""
    halves: tuple[float, float]
    """The same on each half of the episodes."""
    successes: float
    """Share of the episodes on stand-ins with a settled error within the tolerance."""
    dangers: tuple[str, ...]


def list_candidates(robot: str, bases: Path) -> list[Candidate]:
    """List the sound candidates of a robot: memories, states, planners, and weights with some noise."""
    default = str(bases / f"{robot}-semiparametric")
    found = [Candidate(name="default", robot=robot, base=default)]

    def add(name: str, base: str = default, **values: Any) -> None:
        found.append(Candidate(name=name, robot=robot, base=base, **values))

    if (pretrained := Path(default) / "pretrained").is_dir():
        add("pretrained state", state=str(pretrained))
        add("pretrained state, frozen", state=str(pretrained), options={"learning": False})
    add("initial state, frozen", options={"learning": False})
    add("without context bank", options={"use_context_bank": False})
    for count in SAMPLES:
        add(f"{count} samples", options={"num_samples": count})
    for horizon in HORIZONS:
        add(f"plans of {horizon} steps", options={"horizon": horizon})
    add("plans of 3 steps, 16 samples", options={"horizon": 3, "num_samples": 16})
    for family in ("robust", "gru"):
        if (bases / f"{robot}-{family}").is_dir():
            add(family, str(bases / f"{robot}-{family}"))
            add(f"{family}, plans of 5 steps", str(bases / f"{robot}-{family}"), options={"horizon": 5})
    for size in SMALL_NOISE:
        for seed in range(2 if size != SMALL_NOISE[-1] else 1):
            add(f"noise {size}, seed {seed}", damage=Damage(kind="noise", what=size), seed=seed)
    return found


def list_planted(robot: str, bases: Path, *, noise_seeds: int) -> Iterator[Candidate]:
    """List the damaged candidates of a robot."""
    from wm_robot.model.base import load_base

    base = bases / f"{robot}-semiparametric"
    tensors = load_base(base).model.state_dict()
    for damage in list_damages(load_spec(robot), tensors):
        for seed in range(noise_seeds if damage.kind == "noise" else 1):
            yield Candidate(
                name=f"{damage.name}, seed {seed}" if damage.kind == "noise" else damage.name,
                robot=robot,
                base=str(base),
                damage=damage,
                is_sound=False,
                seed=seed,
            )


def judge_candidate(
    candidate: Candidate,
    standins: Sequence[str],
    folder: str,
    *,
    quick: bool,
    episodes: int,
    seed: int,
    progress: Progress = ignore_progress,
) -> Judgement:
    """Judge a candidate by the battery, and run it on stand-ins.

    Args:
        standins: Names of stand-ins that the battery does not use.
        folder: Folder for results; a killed bench continues from them.
        quick: Use the quick battery.
        episodes: Episodes of each kind on each stand-in.
    """
    from wm_robot_cli.validation.battery_run import BatteryRun

    target = candidate.make_target(Path(folder) / "bases")
    battery = Battery.load(candidate.robot)
    # How fast this machine is says nothing of a bundle.
    untimed = Battery(checks=tuple(check for check in battery.checks if check.measure != "timing"))
    report = BatteryRun(
        untimed, target, Path(folder) / "battery", quick=quick, processes=1, stop_early=not candidate.is_sound
    ).run(lambda done, total: progress(done, 2 * total))
    truth = run_on_standins(target, standins, episodes=episodes, seed=seed, progress=progress)
    limit = battery.find_check("control-nominal").limits["settled"][1] or 1.0
    refusals = report.verdict.refusals
    settled = np.array([each.settled[-1] for each in truth])
    return Judgement(
        name=candidate.name,
        robot=candidate.robot,
        is_sound=candidate.is_sound,
        passed=report.verdict.is_passed,
        reason=f"{refusals[0].check.name}: {refusals[0].reasons[0]}" if refusals else "",
        score=report.score,
        truth=compute_score(truth),
        halves=(compute_score(truth[::2]), compute_score(truth[1::2])),
        successes=float((settled <= 1.0).mean()) if len(settled) else 0.0,
        dangers=tuple(find_dangers(truth, DANGER_FACTOR * limit)),
    )


def run_on_standins(
    target: ValidationTarget,
    standins: Sequence[str],
    *,
    episodes: int,
    seed: int,
    progress: Progress = ignore_progress,
) -> list[EpisodeResult]:
    """Run a target on stand-ins; none where it cannot be loaded."""
    from wm_robot.errors import WmRobotError
    from wm_robot_cli.validation.worlds import ScenarioSource

    spec, scenarios = target.load_spec(), []
    for standin in standins:
        source = ScenarioSource(spec, target.task, seed=1000 + seed, standin=standin)
        for check in TRUTH:
            scenarios += source.draw(check, {**check.settings, "episodes": episodes})
    agents: dict[bool, Any] = {}
    found: list[EpisodeResult] = []
    try:
        change_std = target.read_change_std()
        for number, scenario in enumerate(scenarios):
            found.append(_run(agents, target, scenario, change_std))
            progress(len(scenarios) + number + 1, 2 * len(scenarios))
    except WmRobotError:
        return found
    return found


def _run(
    agents: dict[bool, Any], target: ValidationTarget, scenario: "Scenario", change_std: np.ndarray
) -> EpisodeResult:
    return run_scenario(agents, target, scenario, change_std)


def find_dangers(results: Sequence[EpisodeResult], most_settled: float) -> Iterator[str]:
    """Find what was dangerous in episodes, each a few words."""
    for result in results:
        for danger in result.dangers:
            if danger.kind in ("limit", "contact"):
                yield f"{danger.kind} {danger.what}"
        if not result.settled[-1] <= most_settled:
            yield f"error of {result.settled[-1]:.1f} tolerances"


def hash_name(name: str) -> int:
    """Return a number of a name that is equal in every process."""
    import zlib

    return zlib.crc32(name.encode())
