"""Stand-in: a simulated robot in place of a real one, which no training saw, by its kind and seed."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_robot.errors import SpecError
from wm_robot_sim.standins.servo_motor import MX106, STS3215, ServoMotor

PREFIX = "standin/"
"""Beginning of the name of a stand-in where a plant is named."""
Range = tuple[float, float]
NONE: Range = (0.0, 0.0)
TWELVE_BITS = 4096, 4096


@dataclass(frozen=True, kw_only=True)
class StandInKind:
    """Kind of stand-in: in what it differs from the nominal model, and the ranges that a seed draws from."""

    summary: str
    integrators: tuple[str, str]
    """The first is used that is not the nominal one."""
    substeps: float
    """Physics steps in one of the nominal model, rounded up to whole ones in a control period."""
    counts: tuple[int, int] = TWELVE_BITS
    """Steps of encoders and commands in a turn, both ends included."""
    delay: Range = NONE
    """Time from a command to the motor, in s."""
    motor: ServoMotor | None = None
    supply: Range = NONE
    """Voltage of the motors' supply, in V."""
    gain: Range = NONE
    """Position gain of the motors, in that of the published motor."""
    deflection: Range = NONE
    """Deflection of each transmission at the largest torque of its joint, in rad."""
    bending: Range = NONE
    """Torque of a cable that is bent by half of the range of its joint, in the joint's largest torque."""
    drag: Range = NONE
    """Drag of a cable that is not bent, in the joint's largest torque."""
    ripple: Range = NONE
    """Amplitude of the torque ripple, in the joint's largest torque."""
    tool: Range = NONE
    """Mass of a tool, in all that moves of a robot with a chain, else in twice the last link."""


STANDINS: Mapping[str, StandInKind] = {
    "sts3215": StandInKind(
        summary="Feetech STS3215 servos, as identified: DC motors of 7.4 V with back-EMF and load-dependent friction",
        integrators=("Euler", "implicitfast"),
        substeps=1.4,
        delay=(0.004, 0.006),
        motor=STS3215,
        supply=(6.6, 8.4),
        gain=(0.5, 1.0),
    ),
    "mx106": StandInKind(
        summary="Dynamixel MX-106 servos, as identified: DC motors of 12 V with back-EMF, Stribeck and load friction",
        integrators=("Euler", "implicitfast"),
        substeps=1.6,
        motor=MX106,
        supply=(11.1, 14.8),
        gain=(0.75, 1.0),
    ),
    "flexible": StandInKind(
        summary="elastic transmissions between motors and links, and a light tool",
        integrators=("Euler", "implicitfast"),
        substeps=1.2,
        deflection=(np.deg2rad(1.0), np.deg2rad(3.0)),
        tool=(0.03, 0.06),
    ),
    "cable-drag": StandInKind(
        summary="a cable loom along the joints, which bends with them and rubs in its clips",
        integrators=("Euler", "implicitfast"),
        substeps=1.4,
        delay=(0.002, 0.006),
        bending=(0.05, 0.12),
        drag=(0.02, 0.04),
    ),
    "coarse": StandInKind(
        summary="coarse encoders and commands of 600 to 1228 steps in a turn, and torque ripple",
        integrators=("Euler", "implicitfast"),
        substeps=1.6,
        counts=(600, 1228),
        ripple=(0.03, 0.06),
    ),
    "unmodelled-tool": StandInKind(
        summary="a tool off the centre of the last link, and slower electronics",
        integrators=("implicit", "implicitfast"),
        substeps=1.6,
        delay=(0.004, 0.012),
        tool=(0.1, 0.2),
    ),
}
"""Every kind of stand-in, by name."""


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """Stand-in for a real robot. Equal names and seeds give equal robots."""

    name: str
    """One of `STANDINS`."""
    seed: int = 0
    """Of the sizes of its differences from the nominal model."""

    def __post_init__(self) -> None:
        if self.name not in STANDINS:
            raise SpecError(f"there is no stand-in {self.name!r}; there are {', '.join(STANDINS)}")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or not 0 <= self.seed < 2**63:
            raise SpecError(f"standin.seed is {self.seed!r}; it must be a whole number from 0 to 2^63 - 1")

    def __str__(self) -> str:
        """Name where a plant is named, such as `standin/coarse:3`."""
        return f"{PREFIX}{self.name}:{self.seed}"

    @property
    def kind(self) -> StandInKind:
        return STANDINS[self.name]

    @property
    def description(self) -> str:
        """In what it differs from the nominal model, in words."""
        return self.kind.summary

    def make_generator(self, part: str) -> np.random.Generator:
        """Return the generator of the random numbers of a part; those of other parts do not depend on it."""
        key = np.array([self.seed, zlib.crc32(f"{self.name}/{part}".encode())], np.uint64)
        return np.random.Generator(np.random.Philox(key=key))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"name": self.name, "seed": self.seed}
