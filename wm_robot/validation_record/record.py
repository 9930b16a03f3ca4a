"""Validation record: one canonical JSON text with the result of a battery of checks of a base with a lifetime state.

It judges a base, a snapshot and its adaptation. `wm_robot.sharing.signed_record` signs and verifies it, and
`wm_robot.validation_record.rules` decides whether it still counts.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from typing import Any

from wm_robot.errors import SnapshotError
from wm_robot.io.strict_json import parse_canonical_json
from wm_robot.spec import encode_canonical_json

FORMAT, KIND = 1, "validation-record"
MAX_RECORD_BYTES = 1 << 18
"""Bytes of a signed record; a larger one is refused before it is read."""
MAX_CHECKS, MAX_SEEDS, MAX_BOUNDS, MAX_MACHINE_ENTRIES = 512, 64, 16, 32
MAX_FIGURES, MAX_REASONS = 32, 8
MAX_TEXT = 400
"""Characters of one text."""
MAX_STEPS = 1 << 53
MAX_HOURS = 24.0 * 366
_SHA256, _TIME = re.compile("[0-9a-f]{64}"), re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/+-]{0,99}")


class Verdict(str, Enum):
    """Result of a battery."""

    PASSED = "passed"
    FAILED = "failed"


class CheckStatus(str, Enum):
    """Result of one check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"


class Severity(str, Enum):
    """What a failed check means for the verdict."""

    CRITICAL = "critical"
    """The verdict is `failed`."""
    MAJOR = "major"
    """The verdict is `failed`."""
    MINOR = "minor"
    """The verdict stays, and the report names it."""


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """Result of one named check."""

    name: str
    group: str
    severity: Severity
    status: CheckStatus
    mandatory: bool = False
    """Whether the verdict is `failed` if the check was not run."""
    figures: Mapping[str, float | None] = field(default_factory=dict)
    """Measured values by name; None for one that is no number."""
    pass_line: str = ""
    """Condition of a passed check in words, such as `settled at most 2`."""
    reasons: tuple[str, ...] = ()
    """Why it failed or was not run, each a sentence."""
    remedy: str = ""
    """Next step after a failure."""

    @property
    def is_blocking(self) -> bool:
        """Whether this result alone makes the verdict `failed`."""
        if self.status is CheckStatus.NOT_RUN:
            return self.mandatory
        return self.status is CheckStatus.FAILED and self.severity is not Severity.MINOR

    @classmethod
    def from_outcome(cls, values: Mapping[str, Any]) -> "CheckResult":
        """Build a result from the plain values of an outcome of a battery, with texts cut to what a record holds.

        Args:
            values: With `name`, `group`, `severity`, `mandatory`, `status`, `figures`, `limits` (the pass line in
                words), `reasons` and `remedy`.

        Raises:
            SnapshotError: If one is missing or unknown.
        """
        try:
            return cls(
                name=str(values["name"]),
                group=str(values["group"]),
                severity=Severity(values["severity"]),
                mandatory=bool(values["mandatory"]),
                status=CheckStatus(values["status"]),
                figures={
                    str(name): float(value) if value is not None and math.isfinite(value) else None
                    for name, value in values["figures"].items()
                },
                pass_line=_cut_text(values["limits"]),
                reasons=tuple(_cut_text(each) for each in values["reasons"][:MAX_REASONS]),
                remedy=_cut_text(values["remedy"]),
            )
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise SnapshotError(f"an outcome of the battery cannot be recorded: {error!s:.200}") from error


def decide_verdict(checks: Sequence[CheckResult]) -> Verdict:
    """Return `failed` if a check failed that is not minor, or a mandatory one was not run; else `passed`."""
    return Verdict.FAILED if any(check.is_blocking for check in checks) else Verdict.PASSED


@dataclass(frozen=True, kw_only=True)
class ValidationRecord:
    """Result of a battery, with the digests of everything that it judged."""

    robot: str
    """Name in the robot's spec."""
    base: str
    """Digest of the base."""
    snapshot: str
    """Digest of the judged snapshot; empty for the initial state of the base."""
    steps: int
    """Lifetime steps of the judged snapshot."""
    spec: str
    """Digest of the whole spec with its limits; see `compute_whole_spec_digest`."""
    model: str
    """Digest of the stored model description; empty for a robot without one."""
    battery: str
    """Digest of the battery; see `read_battery_digest`."""
    version: str
    """Version of the installed package."""
    source: str
    """Digest of the installed package's modules."""
    seeds: tuple[int, ...]
    machine: Mapping[str, str | int]
    """CPU, cores, operating system, and versions of Python and packages; see `describe_machine`."""
    checks: tuple[CheckResult, ...]
    verdict: Verdict
    bounds: Mapping[str, float]
    """Name of a session error → largest value with which a descendant keeps the record; see `SessionError`."""
    rate: float
    """Control rate in Hz, which converts lifetime steps to hours."""
    validation_hours: float
    """Hours of lifetime for which descendants keep the record."""
    created: str
    """Wall clock, in UTC."""
    quick: bool = False
    """Whether it is the short battery, which renews an earlier record."""
    renews: str = ""
    """Digest of the renewed record; only of a quick one."""
    notes: tuple[str, ...] = field(default=())
    """Further sentences for the report."""

    def __post_init__(self) -> None:
        """Raises:
        SnapshotError: If a field has a wrong type or value, or fields contradict each other.
        """
        try:
            self._check_fields()
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            raise SnapshotError(f"the validation record is not valid: {error!s:.200}") from error

    def _check_fields(self) -> None:
        for name in ("base", "spec", "battery", "source"):
            _require(_is_digest(getattr(self, name)), f"{name} must be a SHA-256 in hex")
        for name in ("snapshot", "model", "renews"):
            _require(
                getattr(self, name) == "" or _is_digest(getattr(self, name)),
                f"{name} must be a SHA-256 in hex, or empty",
            )
        for name in ("robot", "version"):
            _require(_is_name(getattr(self, name)), f"{name} must be a name of at most 100 characters")
        _require(type(self.quick) is bool, "quick must be true or false")
        _require(self.quick == bool(self.renews), "a quick record, and no other, renews an earlier one")
        _require(_is_count(self.steps), "steps must be a whole number, at least 0")
        _require(bool(self.snapshot) or self.steps == 0, "the initial state has 0 steps")
        _require(
            len(self.seeds) <= MAX_SEEDS and all(_is_count(seed) for seed in self.seeds),
            f"seeds must be at most {MAX_SEEDS} whole numbers",
        )
        _require(_is_positive(self.rate, 1e6), "rate must be above 0")
        _require(
            _is_positive(self.validation_hours, MAX_HOURS),
            f"validation_hours must be above 0, at most {MAX_HOURS:g}",
        )
        _require(isinstance(self.created, str) and bool(_TIME.fullmatch(self.created)),
                 "created must be a time in UTC")  # fmt: skip
        _require(len(self.machine) <= MAX_MACHINE_ENTRIES, "machine has too many entries")
        for name, entry in self.machine.items():
            _require(_is_name(name) and (_is_count(entry) or _is_text(entry)), f"machine.{name!r:.40}")
        _require(len(self.bounds) <= MAX_BOUNDS, "there are too many bounds")
        for name, value in self.bounds.items():
            _require(_is_name(name) and _is_number(value), f"bound {name!r:.40} must be a finite number")
        _require(
            len(self.notes) <= MAX_CHECKS and all(map(_is_text, self.notes)), "notes must be short texts"
        )
        self._check_results()

    def _check_results(self) -> None:
        _require(0 < len(self.checks) <= MAX_CHECKS, f"there must be 1 to {MAX_CHECKS} checks")
        for check in self.checks:
            _require(type(check) is CheckResult, "checks must be results of checks")
            _require(_is_name(check.name) and _is_name(check.group), f"check {check.name!r:.60} has no name")
            _require(type(check.severity) is Severity, f"severity of check '{check.name}'")
            _require(type(check.status) is CheckStatus, f"status of check '{check.name}'")
            _require(type(check.mandatory) is bool, f"mandatory of check '{check.name}'")
            _require(
                len(check.figures) <= MAX_FIGURES
                and all(
                    _is_name(name) and (each is None or _is_number(each))
                    for name, each in check.figures.items()
                ),
                f"figures of check '{check.name}'",
            )
            _require(
                len(check.reasons) <= MAX_REASONS
                and all(map(_is_text, (check.pass_line, check.remedy, *check.reasons))),
                f"texts of check '{check.name}'",
            )
        names = [(check.group, check.name) for check in self.checks]
        _require(len(set(names)) == len(names), "two checks of a group have the same name")
        _require(type(self.verdict) is Verdict, "verdict must be passed or failed")
        decided = decide_verdict(self.checks)
        _require(
            self.verdict is decided,
            f"verdict is {self.verdict.value}, and its checks make it {decided.value}",
        )
        _require(
            self.verdict is Verdict.FAILED or bool(self.bounds),
            "a passed record must have a bound for the error of descendants",
        )

    @property
    def blocking_checks(self) -> list[CheckResult]:
        """Results that make the verdict `failed`."""
        return [check for check in self.checks if check.is_blocking]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for `from_dict`."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        values |= {
            "format": FORMAT,
            "kind": KIND,
            "seeds": list(self.seeds),
            "machine": dict(self.machine),
            "bounds": {name: float(value) for name, value in self.bounds.items()},
            "rate": float(self.rate),
            "validation_hours": float(self.validation_hours),
            "verdict": self.verdict.value,
            "notes": list(self.notes),
            "checks": [
                asdict(check)
                | {
                    "severity": check.severity.value,
                    "status": check.status.value,
                    "figures": {
                        name: None if each is None else float(each) for name, each in check.figures.items()
                    },
                    "reasons": list(check.reasons),
                }
                for check in self.checks
            ],
        }
        return values

    @classmethod
    def from_dict(cls, values: Any, where: str) -> "ValidationRecord":
        """Build a record from parsed JSON of unknown content.

        Args:
            where: Source of the record, for the error.

        Raises:
            SnapshotError: If a field is missing, unknown or invalid.
        """
        try:
            version, kind = values["format"], values["kind"]
            if (type(version), version, kind) != (int, FORMAT, KIND):
                raise SnapshotError(
                    f"{where} is a {kind!r:.40} of format {version!r:.40}; this version reads a '{KIND}' of format "
                    f"{FORMAT}. Validate again with this version"
                )
            known = {each.name for each in fields(cls)}
            _require(values.keys() == known | {"format", "kind"}, "it must have exactly the known fields")
            lists = {name: values[name] for name in ("seeds", "checks", "notes")}
            _require(
                all(type(each) is list for each in lists.values()), "seeds, checks and notes must be lists"
            )
            _require(
                type(values["machine"]) is dict and type(values["bounds"]) is dict,
                "machine and bounds must be mappings",
            )
            kept = {name: values[name] for name in known - {"seeds", "checks", "notes", "verdict"}}
            return cls(
                **kept,
                seeds=tuple(lists["seeds"]),
                notes=tuple(lists["notes"]),
                verdict=Verdict(values["verdict"]),
                checks=tuple(_build_check(each) for each in lists["checks"]),
            )
        except SnapshotError as error:
            raise SnapshotError(f"{where}: {error}" if where not in str(error) else str(error)) from error
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise SnapshotError(f"{where} is no validation record: {error!s:.200}") from error

    def encode(self) -> bytes:
        """Return the canonical JSON text; equal records have equal ones."""
        return encode_canonical_json(self.to_dict())

    @classmethod
    def parse(cls, content: bytes, where: str) -> "ValidationRecord":
        """Parse the canonical JSON text of a record without a signature.

        Raises:
            SnapshotError: If it is too large, not canonical, or invalid.
        """
        check_record_size(content, where)
        return cls.from_dict(parse_canonical_json(content, where), where)


def check_record_size(content: bytes, where: str) -> None:
    """Refuse a text that is larger than a record can be.

    Raises:
        SnapshotError: If it is larger.
    """
    if len(content) > MAX_RECORD_BYTES:
        raise SnapshotError(f"{where} has {len(content)} bytes; at most {MAX_RECORD_BYTES} are read")


def _build_check(values: Any) -> CheckResult:
    if type(values) is not dict:
        raise TypeError("a check must be a mapping")
    severity, status = Severity(values["severity"]), CheckStatus(values["status"])
    _require(
        values.keys() == {each.name for each in fields(CheckResult)}, "a check has unknown or missing fields"
    )
    _require(
        type(values["figures"]) is dict and type(values["reasons"]) is list, "figures or reasons of a check"
    )
    reasons = tuple(values["reasons"])
    return CheckResult(**{**values, "severity": severity, "status": status, "reasons": reasons})


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _is_text(value: Any) -> bool:
    # It is shown in terminals, which execute control characters.
    return isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable()


def _cut_text(value: Any) -> str:
    """Return a text of one line without control characters, as long as a record holds."""
    text = " ".join(str(value).split())
    return "".join(character for character in text if character.isprintable())[:MAX_TEXT]


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < MAX_STEPS


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_positive(value: Any, largest: float) -> bool:
    return _is_number(value) and 0 < value <= largest
