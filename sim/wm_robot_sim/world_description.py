"""World description: says in words from which worlds a robot's trajectories come, for the card of a base."""

from collections.abc import Iterator, Sequence

from wm_robot.spec import RobotSpec
from wm_robot_sim.effects.effect import list_kinds
from wm_robot_sim.effects.training_worlds import PLAIN_SHARE
from wm_robot_sim.randomization import DeclaredRange
from wm_robot_sim.randomized_parameters import RandomizedParameter
from wm_robot_sim.world_ranges import WorldRanges
from wm_robot_sim.worlds import DomainRandomization

NOMINAL_WORLD = "the nominal robot, without variation"
SHORT_FACTORS = {
    "mass": "mass of each joint's link",
    "gain": "gain of each actuator",
    "torque": "force limit of each actuator",
    "friction": "dry friction of each joint",
    "damping": "damping of each joint",
}
QUANTITY_WORDS = {
    "body/mass": "mass of",
    "joint/damping": "damping of joint",
    "joint/armature": "armature of joint",
    "joint/frictionloss": "dry friction of joint",
    "joint/stiffness": "stiffness of joint",
    "joint/range/shift": "shift of the range of joint",
    "joint/range/shrink": "loss at each end of the range of joint",
    "actuator/gain": "gain of actuator",
    "actuator/force_limit": "force limit of actuator",
    "actuator/delay": "delay of actuator",
    "actuator/scale": "scale of the command of actuator",
    "actuator/offset": "offset of the command of actuator",
    "geom/friction": "contact friction of geom",
    "option/gravity/factor": "gravity",
    "option/gravity/x": "gravity added along x",
    "option/gravity/y": "gravity added along y",
    "option/gravity/z": "gravity added along z",
    "option/density": "density of the medium",
    "payload/mass": "payload at",
    "sensor/position_bias": "bias of the position sensor of joint",
    "sensor/delay": "delay of the sensors",
}
FAULT_WORDS = {"weak": "gain ", "limited": "force limit ", "sticky": "dry friction "}
"""Fault with a factor → what it scales. The others are described by their name."""
UNIT_WORDS = {"factor": " times", "seconds": " s", "kg": " kg"}


def describe_worlds(spec: RobotSpec) -> list[str]:
    """Describe the ranges of `world:` and `randomize:`, one sentence for each quantity.

    A spec without ranges gives one sentence too.
    """
    distribution = DomainRandomization(spec)
    sentences = [*_describe_short_names(distribution.ranges), *_describe_faults(distribution.ranges)]
    groups: dict[tuple[str, str], list[RandomizedParameter]] = {}
    for each in distribution.randomized.parameters:
        groups.setdefault((each.declared.key, each.quantity), []).append(each)
    sentences += [_describe_parameters(spec, group) for group in groups.values()]
    for fault in {each.declared.key: each.declared for each in distribution.randomized.faults}.values():
        motors = [each.motor for each in distribution.randomized.faults if each.declared == fault]
        names = _join_names([spec.action_names[motor] for motor in motors])
        noun, every = ("actuators", "each ") if len(motors) > 1 else ("actuator", "")
        factor = _describe_fault(fault.fault, fault.bounds[0]) + "log-uniform, " * fault.is_log
        share = f"{100 * fault.chance:g} % of the worlds"
        sentences.append(f"fault {fault.fault} of {noun} {names}: {factor}{every}in {share}")
    return sentences or [NOMINAL_WORLD]


def describe_effects(spec: RobotSpec) -> str:
    """Describe the undeclared effects of training worlds, in one sentence."""
    kinds = ", ".join(kind.replace("_", " ") for kind in list_kinds(spec, "training"))
    share = f"{100 * (1 - PLAIN_SHARE):.0f} %"
    return f"undeclared effects, one or two in {share} of the trajectories that are for them: {kinds}"


def _describe_short_names(ranges: WorldRanges) -> Iterator[str]:
    if ranges.payload[1] and ranges.payload_chance:
        loaded = _describe_chance(ranges.payload_chance)
        yield f"payload at {ranges.payload_body}: {_join_range(ranges.payload)} kg{loaded}"
    for name, words in SHORT_FACTORS.items():
        factor = getattr(ranges, name)
        if tuple(factor) != (1.0, 1.0):
            yield f"{words}: {_join_range(factor)} times, log-uniform"
    if ranges.delay[1]:
        yield f"delay of the commands: {_join_range(ranges.delay)} physics steps"
    for value, words in (
        (ranges.bias, "bias of each position sensor: standard deviation {:g} rad (m)"),
        (ranges.tilt, "slope of the ground: up to {:g} rad along x and along y"),
        (ranges.position_noise, "noise of the position sensors: standard deviation {:g} rad (m)"),
        (ranges.velocity_noise, "noise of the velocity sensors: standard deviation {:g} rad/s (m/s)"),
        (ranges.effort_noise, "noise of the effort sensors: standard deviation {:g} of the largest effort"),
        (ranges.sensor_delay, "delay of the sensors: {:g} physics steps"),
    ):
        if value:
            yield words.format(value)


def _describe_faults(ranges: WorldRanges) -> Iterator[str]:
    if not ranges.faults:
        return
    counts = [f"{100 * chance:g} % with {count}" for count, chance in enumerate(ranges.fault_counts)]
    yield f"number of faulty actuators: {', '.join(counts)}"
    total = sum(fault["chance"] for fault in ranges.faults.values())
    for kind, fault in ranges.faults.items():
        factor = _describe_fault(kind, fault["range"])
        yield f"fault {kind}: {factor}{100 * fault['chance'] / total:.3g} % of the faults"


def _describe_fault(kind: str, bounds: Sequence[float]) -> str:
    """Return the factor of a fault, with a comma; empty where its name says it."""
    if kind == "reversed" and tuple(bounds) == (1, 1) or kind == "dead" and tuple(bounds) == (0, 0):
        return ""
    return f"{FAULT_WORDS.get(kind, 'gain ')}{_join_range(bounds)} times, "


def _describe_parameters(spec: RobotSpec, group: Sequence[RandomizedParameter]) -> str:
    first, names = group[0], _join_names([each.element for each in group if each.element])
    words, is_plural = QUANTITY_WORDS[first.quantity], len(group) > 1
    if is_plural and words.endswith(("joint", "actuator", "geom")):
        words += "s"
    unit = _find_unit(spec, first.quantity, [each.element for each in group])
    drawn = _describe_range(first.declared, (first.low, first.high), unit=unit)
    return f"{words} {names}".rstrip() + f": {'each ' * is_plural}{drawn}"


def _find_unit(spec: RobotSpec, quantity: str, elements: Sequence[str]) -> str:
    """Return the unit of a shift; empty where the unit of the declared range says it."""
    if quantity.startswith("option/gravity/") and quantity[-1] in "xyz":
        return " m/s²"
    if quantity == "actuator/offset":
        units = dict(zip(spec.action_names, spec.action_units, strict=True))
        found = {units[name] for name in elements}
    elif quantity.startswith(("joint/range", "sensor/position_bias")):
        kinds = {joint.name: joint.kind for joint in spec.joints}
        found = {"m" if kinds.get(name) == "slide" else "rad" for name in elements}
    else:
        return ""
    return f" {found.pop()}" if len(found) == 1 else " rad (m)"


def _describe_range(declared: DeclaredRange, bounds: tuple[float, float], *, unit: str = "") -> str:
    unit = unit or UNIT_WORDS.get(declared.unit, "")
    drawn = ", log-uniform" if declared.is_log else ""
    return f"{_join_range(bounds)}{unit}{drawn}{_describe_chance(declared.chance)}"


def _describe_chance(chance: float) -> str:
    return "" if chance == 1 else f", in {100 * chance:g} % of the worlds"


def _join_range(bounds: Sequence[float]) -> str:
    low, high = bounds
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _join_names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
