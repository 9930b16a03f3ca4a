"""Effect: one undeclared change of a simulated robot, with a seed and a strength, and the kinds that exist."""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from wm_robot.errors import SpecError
from wm_robot.spec import RobotSpec

Use = Literal["training", "test", "unpredictable"]


@dataclass(frozen=True, kw_only=True)
class EffectKind:
    """Kind of effect."""

    summary: str
    use: Use
    """`training`: training may switch it on. `test`: it is measured only, never trained or tuned on.
    `unpredictable`: it is reported apart, since nobody can learn it."""
    strengths: tuple[float, float] = (2.0**-4, 2.0**5)
    """Least and largest sensible strength."""


EFFECT_KINDS: Mapping[str, EffectKind] = {
    "command_offset": EffectKind(summary="a constant is added to each command", use="training"),
    "command_scale": EffectKind(summary="each command is scaled about its middle", use="training"),
    "command_mixing": EffectKind(summary="commands are mixed by a random matrix", use="training"),
    "joint_spring": EffectKind(summary="a spring on two joints", use="training"),
    "tether": EffectKind(summary="an elastic cord from the gripper to a point in space", use="training"),
    "reflected_inertia": EffectKind(summary="a larger inertia of each rotor", use="training"),
    "mounting": EffectKind(
        summary="the base is mounted at an angle", use="training", strengths=(2.0**-4, 2.0)
    ),
    "medium": EffectKind(summary="a viscous medium instead of air", use="training"),
    "tool": EffectKind(summary="a tool off the center of the last link", use="training"),
    "bent_link": EffectKind(summary="one link is bent", use="training", strengths=(2.0**-4, 2.0)),
    "force_field": EffectKind(
        summary="a smooth random force of position, velocity and command on each joint", use="training"
    ),
    "passive_element": EffectKind(
        summary="a spring behind a damper on each joint, which forgets where it was stretched", use="training"
    ),
    "exchanged_cables": EffectKind(
        summary="the cables of two motors are exchanged", use="test", strengths=(1.0, 1.0)
    ),
    "end_stops": EffectKind(summary="two joints stop early", use="test"),
    "backlash": EffectKind(summary="play between each motor and its joint", use="test"),
    "stick_slip": EffectKind(summary="friction that falls with speed", use="test"),
    "thermal_derating": EffectKind(summary="motors that weaken as they get warm", use="test"),
    "pendulum": EffectKind(summary="a pendulum that hangs from the last link", use="test"),
    "joint_cable": EffectKind(summary="a cable that pulls two joints where it is tight", use="test"),
    "sensor_lag": EffectKind(summary="readings of joints and base that are some steps old", use="test"),
    "gusts": EffectKind(summary="gusts at random times", use="unpredictable"),
}
"""Every kind of effect, by name."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Undeclared effect on one simulated robot."""

    kind: str
    """One of `EFFECT_KINDS`."""
    seed: int = 0
    """Of its random numbers: equal kinds and seeds differ by their strength alone."""
    strength: float = 1.0
    """0: no effect."""

    def __post_init__(self) -> None:
        if self.kind not in EFFECT_KINDS:
            raise SpecError(f"effect.kind is {self.kind!r}; it must be one of {sorted(EFFECT_KINDS)}")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or not 0 <= self.seed < 2**63:
            raise SpecError(f"effect.seed is {self.seed!r}; it must be a whole number from 0 to 2^63 - 1")
        if not isinstance(self.strength, (int, float)) or not 0 <= self.strength < np.inf:
            raise SpecError(f"effect.strength is {self.strength!r}; it must be a finite number of at least 0")

    def make_generator(self) -> np.random.Generator:
        """Return the generator of its random numbers; they do not depend on the strength."""
        key = np.array([self.seed, zlib.crc32(self.kind.encode())], np.uint64)
        return np.random.Generator(np.random.Philox(key=key))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> "Effect":
        """Build an effect from the result of `to_dict`.

        Raises:
            SpecError: If a key is unknown or a value is invalid.
        """
        known = {"kind", "seed", "strength"}
        if not isinstance(values, Mapping) or "kind" not in values or not known.issuperset(values):
            raise SpecError(f"an effect is {values!r}; it must have kind, and may have seed and strength")
        return cls(**values)


def list_kinds(spec: RobotSpec, use: Use) -> tuple[str, ...]:
    """List the kinds of a use that a robot can show, in the order of the table."""
    return tuple(name for name, kind in EFFECT_KINDS.items() if kind.use == use and not find_lack(spec, name))


def find_lack(spec: RobotSpec, kind: str) -> str:
    """Return what a robot lacks for effects of a kind; empty if it can show them."""
    if kind == "tether" and not spec.chain:
        return "no gripper"
    moved = {actuator.joint for actuator in spec.actuators}
    if kind in ("exchanged_cables", "joint_cable") and len(moved) < 2:
        return "one joint with a motor"
    return ""


def check_kinds(spec: RobotSpec, kinds: Iterable[str]) -> None:
    """Check that a robot can show effects of some kinds.

    Raises:
        SpecError: If it lacks what one of them acts on.
    """
    for kind in kinds:
        if lack := find_lack(spec, kind):
            raise SpecError(
                f"robot '{spec.name}' has {lack}, and the effect '{kind}' needs more; choose another kind"
            )
