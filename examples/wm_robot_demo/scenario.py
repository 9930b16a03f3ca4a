"""Demo scenario: two sessions, and one hidden change that the seed selects."""

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from wm_robot.errors import ConfigError
from wm_robot.spec import RobotSpec
from wm_robot.tasks import TaskError

if TYPE_CHECKING:
    from wm_robot_sim.worlds import DomainRandomization

ROBOTS = ADAPTIVE, FROZEN, RESTORED, NEWBORN = "adaptive", "frozen", "restored", "newborn"
"""Robots of both sessions, by name."""
CHANGE_STREAM = 20
"""Random stream of the change, separate from other draws with the same seed."""
CHANGE_TIME_RANGE = (7.0, 9.0)
QUICK_CHANGE_TIME_RANGE = (3.0, 4.0)
SHOWN_FAULTS = ("weak", "limited", "sticky", "reversed", "dead")
"""Faults, the first of which that a spec declares is the change: one that a robot can compensate comes first."""
LOAD_QUANTILES = (0.65, 1.0)
"""Part of the declared range from which a payload is drawn: a light one changes little."""
MIXING_STRENGTH = 1.0
"""Of the commands of the robot `arm`; six times that of the benches, so that frozen weights fail visibly."""
FACTOR_WORDS = {"mass": "masses", "gain": "gains", "torque": "force limits", "friction": "dry friction"}


@dataclass(frozen=True, kw_only=True)
class DemoChange:
    """Hidden change of a demo."""

    time: float
    """In s after the first command."""
    description: str
    world_text: str
    """World after the change, in the format of the plant node."""
    joints: tuple[str, ...] = ()
    """Joints whose motor changed."""
    word: str = "changed"
    """What happened to these motors."""

    @classmethod
    def make_mixed(cls, *, time: float, seed: int) -> "DemoChange":
        """Return the change of a damaged cable harness, which no parameter of the physics describes."""
        effect = {"kind": "command_mixing", "seed": seed, "strength": MIXING_STRENGTH}
        return cls(
            time=time,
            description="a damaged cable harness mixes the commands of all motors",
            world_text=json.dumps({"effects": [effect]}),
        )

    @classmethod
    def draw(cls, seed: int, spec: RobotSpec, task: str, *, quick: bool = False) -> "DemoChange":
        """Draw the change of a seed: mixed commands of `arm`, or what the spec of another robot declares.

        Raises:
            ConfigError: If it declares nothing that varies.
        """
        rng = np.random.default_rng([seed, CHANGE_STREAM])
        times = QUICK_CHANGE_TIME_RANGE if quick else CHANGE_TIME_RANGE
        time = round(float(rng.uniform(*times)), 2)
        if spec.name == "arm":
            return cls.make_mixed(time=time, seed=int(rng.integers(2**32)))
        return replace(_draw_declared_change(spec, task, rng), time=time)


def _draw_declared_change(spec: RobotSpec, task: str, rng: np.random.Generator) -> DemoChange:
    """Draw a load and a fault where they are declared, or else one physical parameter at an end of its range."""
    # Imported here: the change of `arm` needs no physics, and its robots have to start at once.
    from wm_robot_sim.worlds import DomainRandomization

    distribution = DomainRandomization(spec)
    ranges, words, joints, word = distribution.ranges, list[str](), list[str](), "changed"
    payload, parameters, factors = 0.0, dict[str, float](), dict[str, float]()
    if ranges.payload[1]:
        payload = round(_draw_between(rng, ranges.payload, LOAD_QUANTILES), 3)
        words.append(f"{payload:.3g} kg at {ranges.payload_body or spec.tip_name}")
    for load in [each for each in distribution.randomized.parameters if each.quantity == "payload/mass"][:1]:
        parameters[load.name] = round(_draw_between(rng, (load.low, load.high), LOAD_QUANTILES), 3)
        words.append(f"{parameters[load.name]:.3g} kg at {load.element}")
    faults = _draw_fault(distribution, task, rng)
    for motor, kind, factor in faults:
        actuator = spec.actuators[motor]
        joints.append(actuator.joint)
        word = "weakened" if kind == "weak" else "changed"
        words.append(_describe_fault(actuator.name, kind, factor))
    if not words:
        parameters, factors, words = _draw_parameter(distribution, rng)
    if not words:
        raise ConfigError(
            f"robot '{spec.name}' declares no change: its spec has no load, fault or range in world: or randomize:, "
            "so there is nothing to adapt to. Declare one, such as world: {gain: [0.5, 1.5]}, and train with it; see "
            "docs/dynamics.md"
        )
    world = distribution.make_changed_world(
        payload=payload, faults=faults, factors=factors, parameters=parameters
    )
    return DemoChange(
        time=0.0,
        description=", ".join(words),
        world_text=json.dumps(world.to_dict()),
        joints=tuple(joints),
        word=word,
    )


def _draw_fault(
    distribution: "DomainRandomization", task: str, rng: np.random.Generator
) -> list[tuple[int, str, float]]:
    """Draw the fault of one motor that the task needs, as a list; empty where none is declared."""
    spec = distribution.spec
    declared: dict[str, list[tuple[int, tuple[float, float]]]] = {}
    for kind, fault in distribution.ranges.faults.items():
        low, high = fault["range"]
        declared[kind] = [(motor, (low, high)) for motor in range(spec.action_dim)]
    for each in distribution.randomized.faults:
        declared.setdefault(each.declared.fault, []).append((each.motor, each.declared.bounds[0]))
    kind = next((kind for kind in SHOWN_FAULTS if kind in declared), "")
    if not kind:
        return []
    choices = declared[kind]
    if TaskError(spec, spec.find_task(task)).uses_gripper:
        chain = [link.joint for link in spec.chain]
        choices = [each for each in choices if spec.actuators[each[0]].joint in chain] or choices
    motor, bounds = choices[int(rng.integers(len(choices)))]
    return [(motor, kind, round(float(rng.uniform(*bounds)), 3))]


def _draw_parameter(
    distribution: "DomainRandomization", rng: np.random.Generator
) -> tuple[dict[str, float], dict[str, float], list[str]]:
    """Draw the widest declared range, and one of its ends; return parameters, factors and words of the change."""
    from wm_robot_sim.world_description import QUANTITY_WORDS
    from wm_robot_sim.world_ranges import LOG_UNIFORM_RANGES

    factors = {name: getattr(distribution.ranges, name) for name in LOG_UNIFORM_RANGES}
    wide = {name: np.log(high / low) for name, (low, high) in factors.items() if high > low}
    if wide:
        name = max(wide, key=lambda each: wide[each])
        factor = float(factors[name][int(rng.integers(2))])
        return {}, {name: factor}, [f"{FACTOR_WORDS.get(name, name)} {factor:.3g} times as large"]
    if not distribution.randomized.parameters:
        return {}, {}, []
    parameter = max(distribution.randomized.parameters, key=lambda each: each.spread)
    value = max(parameter.low, parameter.high, key=lambda end: abs(end - parameter.nominal))
    unit = " times" if parameter.nominal == 1 else ""
    said = f"{QUANTITY_WORDS[parameter.quantity]} {parameter.element}".rstrip()
    return {parameter.name: value}, {}, [f"{said}: {value:.3g}{unit}"]


def _describe_fault(motor: str, kind: str, factor: float) -> str:
    if kind == "weak":
        return f"{motor} at {100 * factor:.0f} % strength"
    if kind == "limited":
        return f"{motor} at {100 * factor:.0f} % of its force limit"
    if kind == "sticky":
        return f"{motor} with {factor:.3g} times its dry friction"
    return f"{motor} {kind}"


def _draw_between(
    rng: np.random.Generator, bounds: tuple[float, float], quantiles: tuple[float, float]
) -> float:
    low, high = bounds
    return float(low + (high - low) * rng.uniform(*quantiles))


@dataclass(frozen=True, kw_only=True)
class DemoPlan:
    """Durations of the sessions, in s, and the change."""

    first_duration: float
    second_duration: float
    change: DemoChange

    @classmethod
    def from_seed(cls, seed: int, spec: RobotSpec, task: str, *, quick: bool = False) -> "DemoPlan":
        """Return the plan of a seed for a task of a robot.

        Raises:
            ConfigError: If the robot declares no change.
        """
        change = DemoChange.draw(seed, spec, task, quick=quick)
        return (
            DemoPlan(first_duration=10.0, second_duration=4.0, change=change)
            if quick
            else DemoPlan(first_duration=22.0, second_duration=10.0, change=change)
        )
