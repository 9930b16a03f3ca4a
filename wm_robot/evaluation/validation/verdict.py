"""Verdict: results of all checks, and whether they permit a bundle to drive a robot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from wm_robot.evaluation.validation.battery import Check

Status = Literal["passed", "failed", "not run"]
REFUSING = ("critical", "major")


@dataclass(frozen=True, kw_only=True)
class CheckOutcome:
    """Outcome of a check."""

    check: Check
    status: Status
    figures: Mapping[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    """Why it failed, or was not run; each a sentence."""
    seconds: float = 0.0
    cases: tuple[str, ...] = ()
    """Labels of the scenarios that failed."""

    @classmethod
    def judge(
        cls,
        check: Check,
        figures: Mapping[str, float],
        *,
        reasons: Sequence[str] = (),
        seconds: float = 0.0,
        cases: Sequence[str] = (),
    ) -> "CheckOutcome":
        """Judge figures by the limits of a check.

        Args:
            reasons: Why it failed, apart from the limits.
        """
        found = (*reasons, *check.find_violations(figures))
        return cls(
            check=check,
            status="failed" if found else "passed",
            figures=dict(figures),
            reasons=tuple(found),
            seconds=seconds,
            cases=tuple(cases),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; a figure that is no number becomes None."""
        return {
            "name": self.check.name,
            "group": self.check.group,
            "severity": self.check.severity,
            "mandatory": self.check.mandatory,
            "status": self.status,
            "figures": {
                name: float(value) if value == value else None for name, value in self.figures.items()
            },
            "limits": self.check.describe_limits(),
            "reasons": list(self.reasons),
            "remedy": self.check.remedy,
            "cases": list(self.cases),
            "seconds": round(self.seconds, 1),
        }


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Verdict on a bundle."""

    outcomes: tuple[CheckOutcome, ...]

    @property
    def is_passed(self) -> bool:
        """Whether every mandatory check was run, and none failed that refuses a bundle."""
        return not self.refusals

    @property
    def refusals(self) -> tuple[CheckOutcome, ...]:
        """Outcomes that refuse the bundle, the most severe first."""
        found = [
            each
            for each in self.outcomes
            if (each.status == "failed" and each.check.severity in REFUSING)
            or (each.status == "not run" and each.check.mandatory)
        ]
        return tuple(
            sorted(
                found,
                key=lambda each: (
                    REFUSING.index(each.check.severity) if each.check.severity in REFUSING else 9
                ),
            )
        )

    def to_sentence(self) -> str:
        """Format the verdict as a sentence."""
        counts = {
            status: sum(each.status == status for each in self.outcomes)
            for status in ("passed", "failed", "not run")
        }
        counted = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        if self.is_passed:
            return f"passed: {counted}"
        first = self.refusals[0]
        why = first.reasons[0] if first.reasons else "a mandatory check was not run"
        return f"failed: {counted}. First of {len(self.refusals)}: {first.check.name}: {why}. {first.check.remedy}"
