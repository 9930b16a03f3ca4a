"""Fault kinds: what can be wrong with a robot, in which unit, in which words, and what to check first."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from wm_robot.errors import ConfigError
from wm_robot.types import Fault

Place = Literal["joint", "pair", "robot"]


@dataclass(frozen=True, kw_only=True)
class FaultKind:
    """Kind of fault."""

    place: Place
    """What a fault of the kind is of: one joint, the cables of two joints, or the whole robot."""
    family: str
    """What a user calls it. Kinds of one family may have the same effect on a recording."""
    sentence: str
    """Sentence with `{joint}`, `{other}` and `{size}`, without its end."""
    check: str
    """What to check first."""
    parameter: str = ""
    """Parameter of the simulator that is its size, without the joint; empty for a fault without a size."""
    unit: str = ""
    is_factor: bool = False
    """Whether the size is a factor, of which 1 is no fault, and the parameter its logarithm."""
    starts: tuple[float, ...] = ()
    """Sizes from which the search starts, besides a small one."""
    example: float = 0.0
    """Ordinary size, for examples and for a fault that is named without one."""


FAULT_KINDS: Mapping[str, FaultKind] = {
    "encoder_zero": FaultKind(
        place="joint",
        family="encoder zero of the reading",
        sentence="the encoder of {joint} reads {size} at zero; its servo is not shifted",
        check="the zero that is stored for the encoder, and the magnet or disk on its shaft; then calibrate again",
        parameter="zero",
        unit="rad",
        starts=(-0.3, 0.3),
        example=0.3,
    ),
    "servo_zero": FaultKind(
        place="joint",
        family="encoder zero of servo and reading",
        sentence="the zero of servo and reading of {joint} is shifted together, by {size}",
        check="whether the horn is on another tooth of the servo's shaft, and the zero in the servo",
        parameter="servo_zero",
        unit="rad",
        starts=(-0.5, -0.25, 0.25, 0.5),
        example=0.25,
    ),
    "encoder_scale": FaultKind(
        place="joint",
        family="reading scale",
        sentence="the encoder of {joint} reads {size} times the angle from the middle of its range",
        check="the counts per turn and the gear ratio in the driver's settings",
        parameter="scale",
        is_factor=True,
        starts=(0.8, 1.25),
        example=1.2,
    ),
    "reversed_command": FaultKind(
        place="joint",
        family="reversed direction",
        sentence="the motor of {joint} turns the wrong way",
        check="the direction bit of the servo, or the polarity of the motor's wires",
    ),
    "reversed_reading": FaultKind(
        place="joint",
        family="reversed direction",
        sentence="the encoder of {joint} counts the wrong way",
        check="the sign of the encoder in the driver's settings, and its A and B wires",
    ),
    "exchanged_motors": FaultKind(
        place="pair",
        family="exchanged cables",
        sentence="the cables of the motors of {joint} and {other} are exchanged",
        check="the two motor cables, and the numbers of the two servos",
    ),
    "exchanged_encoders": FaultKind(
        place="pair",
        family="exchanged cables",
        sentence="the cables of the encoders of {joint} and {other} are exchanged",
        check="the two encoder cables, and the order of joints in the driver",
    ),
    "delay": FaultKind(
        place="robot",
        family="delay",
        sentence="commands or readings are {size} late; a recording cannot tell which of both",
        check="the rate and buffers of the bus, the latency timer of the USB adapter, and the load of the computer",
        parameter="delay",
        unit="s",
        starts=(0.06, 0.12),
        example=0.08,
    ),
    "weak": FaultKind(
        place="joint",
        family="weak motor",
        sentence="the motor of {joint} has {size} times its stiffness",
        check="the gain that is set in the servo, its supply voltage, and its temperature",
        parameter="gain",
        is_factor=True,
        starts=(0.3, 0.1),
        example=0.3,
    ),
    "limited": FaultKind(
        place="joint",
        family="weak motor",
        sentence="the motor of {joint} has {size} times its largest torque",
        check="the torque limit in the servo, its supply voltage and current limit",
        parameter="torque",
        is_factor=True,
        starts=(0.3,),
        example=0.3,
    ),
    "sticky": FaultKind(
        place="joint",
        family="sticky joint",
        sentence="{joint} has {size} times its dry friction",
        check="the bearing and gears of the joint: dirt, a tight screw, a rubbing cable",
        parameter="friction",
        is_factor=True,
        starts=(5.0, 15.0),
        example=12.0,
    ),
    "backlash": FaultKind(
        place="joint",
        family="backlash",
        sentence="{joint} has a play of {size} between motor and link",
        check="the screws of the horn, and the gears for a broken or worn tooth",
        parameter="backlash",
        unit="rad",
        starts=(0.06, 0.15),
        example=0.12,
    ),
    "payload": FaultKind(
        place="robot",
        family="payload",
        sentence="the hand carries {size} that the model does not have",
        check="what is in the gripper, or mounted on the last link",
        parameter="payload",
        unit="kg",
        starts=(0.3,),
        example=0.3,
    ),
    "mounting": FaultKind(
        place="robot",
        family="mounting",
        sentence="the base is tilted by {size}",
        check="the table and the screws of the base, with a level",
        parameter="tilt",
        unit="rad",
        starts=(0.2,),
        example=0.2,
    ),
    "stuck": FaultKind(
        place="joint",
        family="stuck sensor",
        sentence="the encoder of {joint} repeats one reading while its joint moves",
        check="the cable and the supply of the encoder, and whether the driver repeats old data after an error",
    ),
    "noisy": FaultKind(
        place="joint",
        family="noisy sensor",
        sentence="the reading of {joint} has a noise of {size}",
        check="the shield and the connector of the encoder's cable, and the magnet's distance",
        unit="rad",
        example=0.02,
    ),
}
"""Every kind of fault, by name."""


def parse_fault(text: str, joints: Sequence[str]) -> Fault:
    """Parse a fault from words that a colon separates: `encoder_zero:elbow:0.3`, `payload:0.3`, `stuck:elbow`.

    Args:
        joints: Joints of the robot.

    Raises:
        ConfigError: If the kind or a joint is unknown, or the size is no number that a fault can have.
    """
    kind, *rest = text.split(":")
    if kind not in FAULT_KINDS:
        close = get_close_matches(kind, FAULT_KINDS, n=1)
        guess = f"did you mean '{close[0]}'? Kinds" if close else "kinds"
        raise ConfigError(f"fault '{text}' has the kind '{kind}'; {guess} are {', '.join(FAULT_KINDS)}")
    wanted = FAULT_KINDS[kind]
    count = {"joint": 1, "pair": 2, "robot": 0}[wanted.place]
    names, numbers = rest[:count], rest[count:]
    has_size = bool(wanted.parameter or wanted.unit)
    most = 0 if not has_size else 2 if kind == "mounting" else 1
    if len(names) < count or len(numbers) > most:
        raise ConfigError(f"fault '{text}' has another form than {format_example(kind, joints)}; write it so")
    for name in names:
        if name not in joints:
            close = get_close_matches(name, joints, n=1)
            guess = f"did you mean '{close[0]}'? Joints" if close else "joints"
            raise ConfigError(f"fault '{text}' names joint '{name}'; {guess} are {', '.join(joints)}")
    if len(set(names)) < len(names):
        raise ConfigError(f"fault '{text}' names one joint twice; name two joints")
    try:
        sizes = [float(number) for number in numbers]
    except ValueError as error:
        raise ConfigError(
            f"fault '{text}' has a size that is no number; write it as {format_example(kind, joints)}"
        ) from error
    sizes = sizes or ([wanted.example] if has_size else [])
    neutral = 1.0 if wanted.is_factor else 0.0
    must_be_positive = wanted.is_factor or kind in ("delay", "backlash", "payload", "mounting", "noisy")
    if sizes and (
        not all(map(math.isfinite, sizes)) or sizes[0] == neutral or (must_be_positive and sizes[0] <= 0)
    ):
        above = " above 0" if must_be_positive else ""
        without = f"not {neutral:g}, which is no fault"
        raise ConfigError(f"fault '{text}' has size {sizes[0]:g}; it must be a number{above}, and {without}")
    joint, other = (*names, "", "")[:2]
    size, heading = (*sizes, 0.0, 0.0)[:2]
    return Fault(kind=kind, joint=joint, other=other, size=size, heading=heading)


def format_example(kind: str, joints: Sequence[str]) -> str:
    """Format an example of a kind, as `parse_fault` reads it."""
    wanted = FAULT_KINDS[kind]
    count = {"joint": 1, "pair": 2, "robot": 0}[wanted.place]
    size = [f"{wanted.example:g}"] if wanted.parameter or wanted.unit else []
    return ":".join([kind, *joints[:count], *size])


def format_size(kind: str, size: float) -> str:
    """Format a size with its unit; of an angle in degrees too."""
    unit = FAULT_KINDS[kind].unit
    if unit == "rad":
        return (
            f"{size:+.3g} rad ({math.degrees(size):+.1f}°)"
            if kind.endswith("_zero")
            else (f"{size:.3g} rad ({math.degrees(size):.1f}°)")
        )
    if unit == "s":
        return f"{1000 * size:.0f} ms"
    return f"{size:.3g} {unit}".rstrip()


def describe_fault(fault: Fault) -> str:
    """Describe a fault in a clause, such as `the motor of elbow turns the wrong way`."""
    return FAULT_KINDS[fault.kind].sentence.format(
        joint=fault.joint, other=fault.other, size=format_size(fault.kind, fault.size)
    )
