"""Diagnosis: findings about a robot in words and as plain values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wm_robot.evaluation.diagnosis.fault_kinds import FAULT_KINDS, describe_fault, format_size
from wm_robot.types import Fault

NOTHING_FOUND = "nothing found"
BAD_MISFIT = 4.0
"""Usual error of a simulation, in ordinary ones, from which its findings are doubtful."""
TELLING_MOTION = (
    "move the joint slowly to both of its stops, or record once more with a known payload and give its mass"
)
"""Motion that shows the zero of servo and reading."""


@dataclass(frozen=True)
class Rival:
    """Rival: another fault that explains a recording about as well."""

    fault: Fault
    probability: float
    """That it explains the recording better."""


@dataclass(frozen=True)
class Finding:
    """Finding: a fault, its size and how sure it is."""

    fault: Fault
    interval: tuple[float, float]
    """95 % interval of the size."""
    probability: float
    gain: float
    """Log likelihood of held-out motion that it gains, in nats."""
    rivals: tuple[Rival, ...]

    @property
    def is_side_told(self) -> bool:
        """Whether the recording tells the kind from others of its family, such as a reversed motor and encoder."""
        family = FAULT_KINDS[self.fault.kind].family
        return not any(FAULT_KINDS[each.fault.kind].family == family for each in self.rivals)

    def describe(self) -> str:
        """Describe the finding in sentences."""
        kind = FAULT_KINDS[self.fault.kind]
        sentence = describe_fault(self.fault)
        parts = [sentence[0].upper() + sentence[1:]]
        if self.fault.size:
            low, high = (format_size(self.fault.kind, each) for each in self.interval)
            parts[0] += f", 95 % between {low} and {high}"
        parts[0] += f" (probability {100 * self.probability:.0f} %)."
        if self.rivals:
            told = "; or ".join(f"{describe_fault(each.fault)}" for each in self.rivals)
            parts.append(f"It cannot be told for sure from this: {told}.")
        parts.append(f"Check first: {kind.check}.")
        return " ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        kind = FAULT_KINDS[self.fault.kind]
        return {
            **self.fault.to_dict(),
            "family": kind.family,
            "unit": kind.unit,
            "interval": list(self.interval) if self.fault.size else None,
            "probability": self.probability,
            "gain": self.gain,
            "words": self.describe(),
            "check": kind.check,
            "rivals": [{**each.fault.to_dict(), "probability": each.probability} for each in self.rivals],
        }


@dataclass(frozen=True)
class Untold:
    """What a recording cannot show: a kind of fault at a joint."""

    kind: str
    joint: str
    std: float
    """Deviation of its size that the recording leaves."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"kind": self.kind, "joint": self.joint, "std": self.std, "would_tell": TELLING_MOTION}


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Diagnosis of one robot."""

    robot: str
    seconds: float
    """Duration of the motion."""
    findings: tuple[Finding, ...]
    untold: tuple[Untold, ...]
    misfit: float
    """Median error of the simulation with the findings, in ordinary ones."""
    num_simulations: int = 0

    @property
    def verdict(self) -> str:
        """Verdict in a few words."""
        if not self.findings:
            return NOTHING_FOUND
        return f"{len(self.findings)} fault{'s' * (len(self.findings) > 1)} found"

    def describe(self) -> list[str]:
        """Describe the diagnosis, one line for each finding."""
        lines = [f"{self.robot}: {self.verdict} in {self.seconds:.0f} s of motion"]
        lines += [finding.describe() for finding in self.findings]
        if self.misfit > BAD_MISFIT:
            lines.append(
                f"The simulation explains this motion badly: its usual error is {self.misfit:.1f} times the ordinary "
                "one. Check that spec and model are those of this robot, and that the recorded actions are those "
                "that were applied."
            )
        if self.untold:
            joints = _join([each.joint for each in self.untold])
            lines.append(
                f"Cannot be told: whether the zero of servo and reading is shifted together at {joints}. To see it, "
                f"{TELLING_MOTION}."
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "robot": self.robot,
            "verdict": self.verdict,
            "seconds": self.seconds,
            "findings": [each.to_dict() for each in self.findings],
            "cannot_be_told": [each.to_dict() for each in self.untold],
            "misfit": self.misfit,
            "simulations": self.num_simulations,
            "words": self.describe(),
        }


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
