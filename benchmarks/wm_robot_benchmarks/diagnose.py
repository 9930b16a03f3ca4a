"""`wm-robot bench diagnose`: how often a diagnosis finds the right fault at the right joint, and its size."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_robot.evaluation.gap import Comparison
from wm_robot.progress import Progress
from wm_robot.types import Episode, Fault
from wm_robot_benchmarks.harness.bench import Bench
from wm_robot_benchmarks.harness.result import Result, Setting, require
from wm_robot_cli.values import Count, Seed
from wm_robot_cli.worker_processes import in_processes

if TYPE_CHECKING:
    from wm_robot.evaluation.diagnosis.diagnosis import Diagnosis
    from wm_robot.spec import RobotSpec
    from wm_robot_sim.batch import BatchSim
    from wm_robot_sim.worlds import World

DECLARED = "declared"
"""Reality of a healthy robot within the ranges of its spec; the others are stand-ins."""
STANDINS_WITH_LOAD = ("unmodelled-tool",)
"""Stand-ins that carry what the model does not have: a payload is the right answer for them."""
HEALTHY, DRIFT, DRIFT_SIZE = "healthy", "drift", math.radians(17)
BLIND, STOPS, LOADED = "no contact", "stops", "known payload"
"""Motion of a trial: without a contact with a stop, with one, or without one and with a known payload."""
KNOWN_PAYLOAD = (0.6, 0.9)
"""Range of a known payload, in the largest of the spec."""
CONTROL_EVERY = 7
"""One of so many trials with a fault is diagnosed a second time, with the actions of another time."""

SIZES: dict[str, tuple[float, float]] = {
    "encoder_zero": (0.1, 0.4),
    "servo_zero": (0.25, 0.5),
    "encoder_scale": (0.75, 0.88),
    "delay": (0.06, 0.12),
    "weak": (0.12, 0.35),
    "limited": (0.15, 0.4),
    "sticky": (8.0, 20.0),
    "backlash": (0.08, 0.2),
    "payload": (0.5, 0.95),
    "mounting": (0.15, 0.35),
    "noisy": (0.006, 0.03),
}
"""Kind → range of sizes; of a payload in the largest of the spec. The sign of a zero is drawn, and a scale may be the
inverse."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Trial: one robot, with a fault or without."""

    robot: str
    label: str
    seed: int
    reality: str
    motion: str
    fault: Fault | None
    is_control: bool = False


@dataclass(frozen=True, kw_only=True)
class TrialOutcome:
    """Outcome of a trial."""

    findings: tuple[Fault, ...]
    untold: tuple[str, ...]
    has_rivals: bool
    true_size: float
    seconds: float
    control: tuple[Fault, ...] = field(default=())


@dataclass(frozen=True, kw_only=True)
class DiagnoseBench(Bench):
    """Share of simulated robots whose fault is found at the right joint, error of its size, and false alarms."""

    robots: tuple[str, ...] = ("arm", "so101")
    """Names of the robots."""
    trials: Count = 136
    """Trials, shared by the robots; about one of six is healthy."""
    realities: tuple[str, ...] = ()
    """Realities in turn: `declared`, or names of stand-ins; by default declared and all stand-ins without a load."""
    seeds: tuple[Seed, ...] = (0,)
    """Seeds of robots, faults and motion; the first is used."""
    quick: bool = False
    """Forty trials."""

    def make_setting(self) -> Setting:
        return replace(super().make_setting(), robot=" ".join(self.robots), asked=self.seeds[:1])

    def run(self, progress: Progress) -> Result:
        setting = self.make_setting()
        require(self.trials >= 10, f"trials is {self.trials}; it must be at least 10")
        realities = self.realities or list_realities()
        total = min(40, self.trials) if self.quick else self.trials
        trials = draw_trials(self.robots, total, realities, setting.seeds[0])
        outcomes = in_processes(run_trial, [(each,) for each in trials], progress)
        pairs = list(zip(trials, outcomes, strict=True))
        return Result(
            setting=setting,
            figures=compute_figures(pairs),
            table=make_table(pairs),
            notes=(
                f"{total} trials of {', '.join(self.robots)}; realities: {', '.join(realities)}",
                "right: the family of the fault and its joints, and no other finding",
                "a zero of servo and reading that nothing shows counts apart: its answer must be 'cannot be told'",
                "control: the same recording with the actions of another time",
            ),
        )


def list_realities() -> tuple[str, ...]:
    """List the realities: declared robots, and stand-ins."""
    from wm_robot_sim.standins.standin import STANDINS

    return (DECLARED, *(name for name in STANDINS if name not in STANDINS_WITH_LOAD))


def find_simulation(name: str, spec: "RobotSpec", seed: int) -> "Callable[..., BatchSim]":
    """Find what simulates a reality, with the arguments of `BatchSim`.

    Raises:
        SpecError: If there is no such stand-in.
    """
    from wm_robot_sim.batch import BatchSim

    if name == DECLARED:
        return BatchSim
    from wm_robot_sim.standins.catalog import find_standin

    return functools.partial(BatchSim, standin=find_standin(name, spec, seed=seed))


def draw_trials(robots: Sequence[str], total: int, realities: Sequence[str], seed: int) -> list[Trial]:
    """Draw trials: kinds, robots and realities in turn, and joints at random."""
    from wm_robot.evaluation.diagnosis.fault_kinds import FAULT_KINDS

    labels = [DRIFT, *FAULT_KINDS, HEALTHY, "servo_zero", "servo_zero", HEALTHY, HEALTHY]
    trials = []
    visits = dict.fromkeys(robots, 0)
    for number in range(total):
        turn, robot = number // len(robots), robots[number % len(robots)]
        label = labels[turn % len(labels)]
        rng = np.random.default_rng([seed, number])
        motion = STOPS
        if label == "servo_zero":
            motion = (STOPS, BLIND, LOADED)[visits[robot] % 3]
            visits[robot] += 1
        fault = None if label == HEALTHY else draw_fault(label, robot, rng)
        trials.append(
            Trial(
                robot=robot,
                label=label,
                seed=int(rng.integers(2**31)),
                # In the next round each kind meets another reality.
                reality=realities[(turn + turn // len(labels)) % len(realities)],
                motion=motion,
                fault=fault,
                is_control=fault is not None and number % CONTROL_EVERY == 0,
            )
        )
    return trials


def draw_fault(label: str, robot: str, rng: np.random.Generator) -> Fault:
    """Draw a fault of a kind: its joints and its size."""
    from wm_robot.evaluation.diagnosis.fault_kinds import FAULT_KINDS
    from wm_robot.robots import load_spec

    spec = load_spec(robot)
    joints = [each.joint for each in spec.actuators]
    kind = "encoder_zero" if label == DRIFT else label
    place = FAULT_KINDS[kind].place
    chosen = rng.choice(joints, {"joint": 1, "pair": 2, "robot": 0}[place], replace=False).tolist()
    joint, other = (*chosen, "", "")[:2]
    size = float(rng.uniform(*SIZES[kind])) if kind in SIZES else 0.0
    sign = int(rng.choice([-1, 1]))
    if label == DRIFT:
        size = DRIFT_SIZE
    if kind == "payload":
        size *= spec.world["payload"][1]
    if kind.endswith("_zero"):
        size *= sign
    elif kind == "encoder_scale" and sign > 0:
        size = 1 / size
    heading = float(rng.uniform(-np.pi, np.pi)) if kind == "mounting" else 0.0
    return Fault(kind=kind, joint=joint, other=other, size=size, heading=heading)


def run_trial(trial: Trial, *, progress: Progress) -> TrialOutcome:
    """Simulate a robot, diagnose it, and where asked once more with false actions."""
    import time

    from wm_robot.robots import load_spec
    from wm_robot_sim.diagnosis_motion import draw_healthy_world, simulate_recording

    spec = load_spec(trial.robot)
    world = draw_healthy_world(spec, np.random.default_rng([trial.seed, 1]))
    payload = None
    if trial.motion == LOADED:
        share = np.random.default_rng([trial.seed, 2]).uniform(*KNOWN_PAYLOAD)
        payload = float(share * spec.world["payload"][1])
        world = replace(world, payload=payload)
    episode = simulate_recording(
        spec,
        [] if trial.fault is None else [trial.fault],
        seed=trial.seed,
        stops=trial.motion == STOPS,
        world=world,
        make_sim=find_simulation(trial.reality, spec, trial.seed),
    )
    parts = 2 if trial.is_control else 1
    began = time.process_time()
    found = _diagnose(spec, episode, payload, lambda done, total: progress(done, parts * total))
    seconds = time.process_time() - began
    control: tuple[Fault, ...] = ()
    if trial.is_control:
        false = replace(episode, action=np.roll(episode.action, len(episode) // 2, axis=0))
        other = _diagnose(spec, false, payload, lambda done, total: progress(total + done, parts * total))
        control = tuple(each.fault for each in other.findings)
    return TrialOutcome(
        findings=tuple(each.fault for each in found.findings),
        untold=tuple(each.joint for each in found.untold),
        has_rivals=any(each.rivals for each in found.findings),
        true_size=math.nan if trial.fault is None else compute_true_size(spec, world, trial.fault),
        seconds=seconds,
        control=control,
    )


def _diagnose(spec: "RobotSpec", episode: Episode, payload: float | None, progress: Progress) -> "Diagnosis":
    from wm_robot.evaluation.diagnosis.readings import Recording
    from wm_robot.evaluation.diagnosis.search import diagnose_recording
    from wm_robot_sim.fault_simulator import FaultSimulator

    simulator = FaultSimulator(spec, [episode], payload=payload)
    return diagnose_recording(simulator, Recording(spec, [episode]), progress=progress)


def compute_true_size(spec: "RobotSpec", world: "World", fault: Fault) -> float:
    """Compute the size of a fault relative to the nominal robot: a healthy robot deviates from it too."""
    from wm_robot_sim.model_compiler import compile_model

    joint = spec.joint_names.index(fault.joint) if fault.joint else 0
    motor = next((a for a, each in enumerate(spec.actuators) if each.joint == fault.joint), 0)
    match fault.kind:
        case "encoder_zero":
            return fault.size + float(world.bias[joint])
        case "weak":
            return fault.size * float(world.gain[motor])
        case "limited":
            return fault.size * float(world.torque[motor])
        case "sticky":
            return fault.size * float(world.friction[joint])
        case "delay":
            return fault.size + world.delay * compile_model(spec).opt.timestep
        case "mounting":
            slope = math.tan(fault.size) * np.array([math.cos(fault.heading), math.sin(fault.heading)])
            return math.atan(float(np.hypot(*(slope + world.tilt))))
    return fault.size


def is_same_place(found: Fault, wanted: Fault) -> bool:
    """Whether a finding has the family and the joints of a fault."""
    from wm_robot.evaluation.diagnosis.fault_kinds import FAULT_KINDS

    places = [{each.joint, each.other} for each in (found, wanted)]
    families = [FAULT_KINDS[each.kind].family for each in (found, wanted)]
    return places[0] == places[1] and families[0] == families[1]


def is_right(trial: Trial, outcome: TrialOutcome) -> bool:
    """Whether the findings are the fault of a trial, and nothing else."""
    if trial.fault is None:
        return not outcome.findings
    return len(outcome.findings) == 1 and is_same_place(outcome.findings[0], trial.fault)


def is_told_or_admitted(trial: Trial, outcome: TrialOutcome) -> bool:
    """Whether a zero of servo and reading is found, or said to be one that cannot be told."""
    assert trial.fault is not None
    return is_right(trial, outcome) or (not outcome.findings and trial.fault.joint in outcome.untold)


def compute_size_error(trial: Trial, outcome: TrialOutcome) -> float | None:
    """Compute the relative error of the size; None where the kind has none, or another fault was found."""
    if trial.fault is None or not trial.fault.size:
        return None
    found = [each for each in outcome.findings if is_same_place(each, trial.fault)]
    if not found or found[0].kind != trial.fault.kind:
        return None
    return abs(found[0].size - outcome.true_size) / abs(outcome.true_size)


Pairs = Sequence[tuple[Trial, TrialOutcome]]


def compute_figures(pairs: Pairs) -> dict[str, float | Comparison]:
    """Compute the figures of all trials."""
    faulty = [each for each in pairs if each[0].fault is not None]
    told = [each for each in faulty if each[0].label != "servo_zero"]
    shown = [each for each in faulty if each[0].label == "servo_zero" and each[0].motion != BLIND]
    blind = [each for each in faulty if each[0].label == "servo_zero" and each[0].motion == BLIND]
    controls = [(trial, outcome) for trial, outcome in faulty if trial.is_control]
    sizes = [error for each in faulty if (error := compute_size_error(*each)) is not None]
    exact = [
        trial.fault is not None and outcome.findings[0].kind == trial.fault.kind
        for trial, outcome in told
        if is_right(trial, outcome)
    ]
    control_right = [
        any(is_same_place(each, trial.fault) for each in outcome.control)
        for trial, outcome in controls
        if trial.fault is not None
    ]
    return {
        "right": _share([is_right(*each) for each in told], "no trial with a fault"),
        "side_right": _share(exact, "no fault was found"),
        "servo_zero_shown": _share([is_right(*each) for each in shown], "no such trial"),
        "servo_zero_not_shown": _share([is_told_or_admitted(*each) for each in blind], "no such trial"),
        "size_error": Comparison(float(np.median(sizes))) if sizes else Comparison(None, "no size was found"),
        "false_alarms": _share(
            [not is_right(*each) for each in pairs if each[0].fault is None], "none healthy"
        ),
        "drift_found": _share([is_right(*each) for each in pairs if each[0].label == DRIFT], "no drift"),
        "control_right": _share(control_right, "no control"),
        "core_seconds": float(np.median([outcome.seconds for _, outcome in pairs])),
    }


def _share(values: Sequence[bool], reason: str) -> Comparison:
    return Comparison(float(np.mean(values))) if len(values) else Comparison(None, reason)


def make_table(pairs: Pairs) -> list[dict[str, Any]]:
    """Make the rows: one of each kind of trial, then one of each reality."""
    rows = []
    keys = list(dict.fromkeys((trial.label, trial.motion) for trial, _ in pairs))
    for label, motion in keys:
        own = [each for each in pairs if (each[0].label, each[0].motion) == (label, motion)]
        right = [
            is_told_or_admitted(*each) if (label, motion) == ("servo_zero", BLIND) else is_right(*each)
            for each in own
        ]
        sizes = [error for each in own if (error := compute_size_error(*each)) is not None]
        wrong = [
            f"{trial.robot}, {trial.reality}: {_name(trial.fault)} → "
            + (" ".join(map(_name, outcome.findings)) or "nothing")
            for (trial, outcome), good in zip(own, right, strict=True)
            if not good
        ]
        rows.append(
            {
                "trial": label if motion == STOPS else f"{label}, {motion}",
                "right": f"{sum(right)} of {len(own)}",
                "size error": f"{100 * float(np.median(sizes)):.2g} %" if sizes else "",
                "wrong": "; ".join(wrong),
            }
        )
    for reality in dict.fromkeys(trial.reality for trial, _ in pairs):
        own = [each for each in pairs if each[0].reality == reality]
        healthy = [each for each in own if each[0].fault is None]
        faulty = [each for each in own if each[0].fault is not None and each[0].motion != BLIND]
        rows.append(
            {
                "reality": reality,
                "faults right": f"{sum(is_right(*each) for each in faulty)} of {len(faulty)}",
                "false alarms": f"{sum(not is_right(*each) for each in healthy)} of {len(healthy)}",
            }
        )
    return rows


def _name(fault: Fault | None) -> str:
    if fault is None:
        return HEALTHY
    joints = "+".join(filter(None, (fault.joint, fault.other)))
    return f"{fault.kind}({joints}{' ' * bool(joints and fault.size)}{f'{fault.size:.3g}' if fault.size else ''})"
