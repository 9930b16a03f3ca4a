"""Records and subjects for tests, with digests of recognisable digits."""

from dataclasses import replace
from typing import Any

from wm_robot.validation_record.record import CheckResult, CheckStatus, Severity, ValidationRecord, Verdict
from wm_robot.validation_record.subject import ValidationSubject

BASE, STATE, SPEC, MODEL, BATTERY, SOURCE = (digit * 64 for digit in "abcdef")
OTHER = "9" * 64
RATE = 50.0
HOUR = round(3600 * RATE)
PASSED_CHECK = CheckResult(
    name="tip error",
    group="nominal dynamics",
    severity=Severity.MAJOR,
    status=CheckStatus.PASSED,
    mandatory=True,
    figures={"tip_error": 0.01},
    pass_line="tip_error at most 0.05",
    remedy="Train longer",
)
FAILED_CHECK = replace(
    PASSED_CHECK,
    name="joint limits",
    status=CheckStatus.FAILED,
    figures={"hits": 2.0},
    reasons=("hits is 2",),
)


def record(**changes: Any) -> ValidationRecord:
    """Return a passed record of a snapshot with 1000 steps."""
    values: dict[str, Any] = {
        "robot": "arm",
        "base": BASE,
        "snapshot": STATE,
        "steps": 1000,
        "spec": SPEC,
        "model": MODEL,
        "battery": BATTERY,
        "version": "0.1.0",
        "source": SOURCE,
        "seeds": (0, 1),
        "machine": {"cpu": "a CPU", "cores": 2},
        "checks": (PASSED_CHECK,),
        "verdict": Verdict.PASSED,
        "bounds": {"surprise_p50": 1.0, "surprise_p95": 5.0},
        "rate": RATE,
        "validation_hours": 8.0,
        "created": "2026-12-01T00:00:00Z",
    }
    return ValidationRecord(**(values | changes))


def failed_record(**changes: Any) -> ValidationRecord:
    return record(checks=(PASSED_CHECK, FAILED_CHECK), verdict=Verdict.FAILED, **changes)


def subject(**changes: Any) -> ValidationSubject:
    """Return what a robot runs that starts from the judged snapshot."""
    values: dict[str, Any] = {
        "robot": "arm",
        "base": BASE,
        "spec": SPEC,
        "model": MODEL,
        "battery": BATTERY,
        "version": "0.1.0",
        "source": SOURCE,
        "snapshot": STATE,
        "steps": 1000,
        "ancestor": STATE,
        "session": {"surprise_p50": 0.5, "surprise_p95": 4.0},
    }
    return ValidationSubject(**(values | changes))
