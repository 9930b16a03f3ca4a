"""Validation rules: whether a record still counts for what a robot runs now. Pure functions.

A record judges a base, a snapshot and its adaptation. Descendants by the robot's own lifetime keep it for a number of
hours of lifetime, while the error on their last session stays within the judged bounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from wm_robot.validation_record.record import ValidationRecord, Verdict
from wm_robot.validation_record.session_error import MIN_SESSION_TIME
from wm_robot.validation_record.subject import INITIAL_STATE, LineageEvent, ValidationSubject

FULL, QUICK = "Run: wm-robot validate BASE", "Run: wm-robot validate BASE --quick"


class RecordStatus(str, Enum):
    """Whether a record counts."""

    VALID = "valid"
    MISSING = "missing"
    """There is none for this state or an ancestor."""
    STALE = "stale"
    """What it judged has changed since, or it is too old."""
    FOREIGN = "foreign"
    """It judged another robot, base or state, or its key is not trusted."""
    FAILED = "failed"
    """It counts, and its verdict is `failed`."""
    DAMAGED = "damaged"
    """It is not what its key signed, or cannot be read."""


class StaleCause(str, Enum):
    """Why a record is stale."""

    BASE = "base"
    SPEC = "spec"
    MODEL = "model"
    BATTERY = "battery"
    VERSION = "version"
    IMPORT = "import"
    POOL = "pool"
    ASSIMILATION = "assimilation"
    MIGRATION = "migration"
    PRETRAINING = "pretraining"
    HOURS = "hours"
    ERROR = "error"
    """The error on the last session is above a judged bound."""
    NO_ERROR = "no_error"
    """The state has lived since, and no error of its session is known."""
    STEPS = "steps"
    """The state has fewer steps than its judged ancestor."""


RENEWABLE_CAUSES = frozenset({StaleCause.HOURS, StaleCause.ERROR, StaleCause.NO_ERROR})
"""Causes after which the quick battery renews a record."""
EVENT_WORDS = {
    LineageEvent.IMPORT: "it was imported since from another store",
    LineageEvent.POOL: "it was pooled since with another state",
    LineageEvent.ASSIMILATION: "it assimilated experience of another robot since",
    LineageEvent.MIGRATION: "it was migrated since to another base",
    LineageEvent.PRETRAINING: "it was pretrained since in a simulator",
}


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Whether a record counts, with the reason and the next step in one sentence."""

    status: RecordStatus
    sentence: str
    cause: StaleCause | None = None
    hours_left: float = 0.0
    """Hours of lifetime that a valid record still counts."""

    @property
    def is_valid(self) -> bool:
        return self.status is RecordStatus.VALID

    @property
    def may_be_renewed(self) -> bool:
        """Whether the quick battery renews the record."""
        return self.is_valid or self.cause in RENEWABLE_CAUSES


def missing_record(what: str = "this state") -> Judgement:
    """Return the judgement for a state without a record.

    Args:
        what: Name of the state in the sentence.
    """
    return Judgement(
        status=RecordStatus.MISSING, sentence=f"{what} has no validation record, nor has an ancestor. {FULL}"
    )


def damaged_record(why: str) -> Judgement:
    """Return the judgement for a record that cannot be read or is not what was signed."""
    return Judgement(status=RecordStatus.DAMAGED, sentence=f"the validation record is refused: {why}. {FULL}")


def foreign_record(why: str) -> Judgement:
    """Return the judgement for a record of something else, or of a key that is not trusted."""
    return Judgement(status=RecordStatus.FOREIGN, sentence=f"the validation record is foreign: {why}. {FULL}")


def judge_record(record: ValidationRecord, subject: ValidationSubject) -> Judgement:
    """Judge whether a record with a verified signature counts for what a robot runs now.

    Foreign comes before stale, a change of what was judged before the verdict, and the verdict before age and error.
    """
    return (
        _judge_identity(record, subject)
        or _judge_changes(record, subject)
        or _judge_verdict(record)
        or _judge_descendant(record, subject)
    )


def _judge_identity(record: ValidationRecord, subject: ValidationSubject) -> Judgement | None:
    if record.robot != subject.robot:
        return foreign_record(f"it judged robot '{record.robot}', and this is '{subject.robot}'")
    if record.snapshot != subject.ancestor:
        other = (
            "" if record.base == subject.base else f" of base {record.base[:12]}, not {subject.base[:12]},"
        )
        return foreign_record(
            f"it judged {_name_state(record.snapshot)}{other} from which {_name_state(subject.snapshot)} does not "
            "descend"
        )
    return None


def _judge_changes(record: ValidationRecord, subject: ValidationSubject) -> Judgement | None:
    # The model before the spec, whose digest covers it: the more precise reason.
    for cause, what, judged, found in (
        (StaleCause.BASE, "base", record.base, subject.base),
        (StaleCause.MODEL, "stored model description", record.model, subject.model),
        (StaleCause.SPEC, "spec", record.spec, subject.spec),
        (StaleCause.BATTERY, "battery", record.battery, subject.battery or record.battery),
    ):
        if judged != found:
            change = f"{judged[:12] or 'none'} then, {found[:12] or 'none'} now"
            return _stale(cause, f"the {what} has changed ({change})")
    if (record.version, record.source) != (subject.version, subject.source):
        then, now = f"{record.version} {record.source[:12]}", f"{subject.version} {subject.source[:12]}"
        return _stale(StaleCause.VERSION, f"the installed wm_robot has changed ({then} then, {now} now)")
    if subject.events:
        event = subject.events[-1]
        return _stale(StaleCause(event.value), EVENT_WORDS[event])
    return None


def _judge_verdict(record: ValidationRecord) -> Judgement | None:
    if record.verdict is Verdict.PASSED:
        return None
    return Judgement(
        status=RecordStatus.FAILED,
        sentence=f"the validation failed: {_name_checks(record)}. {_remedy(record)}",
    )


def _judge_descendant(record: ValidationRecord, subject: ValidationSubject) -> Judgement:
    hours = (subject.steps - record.steps) / record.rate / 3600
    if hours < 0:
        return _stale(
            StaleCause.STEPS,
            f"the state has {subject.steps} steps, fewer than the {record.steps} of its judged ancestor",
        )
    if hours > record.validation_hours:
        return _stale(
            StaleCause.HOURS,
            f"{hours:.2f} hours of lifetime have passed since, and it counts for {record.validation_hours:g}",
        )
    for name, bound in record.bounds.items():
        value = subject.session.get(name)
        if value is None:
            if hours * 3600 < MIN_SESSION_TIME:
                continue
            return _stale(StaleCause.NO_ERROR, f"the {name} of the last session is not known")
        # Not "above": a NaN is above nothing.
        if not value <= bound:
            return _stale(
                StaleCause.ERROR,
                f"the {name} of the last session is {value:.2f}, above the judged {bound:.2f}",
            )
    left = record.validation_hours - hours
    return Judgement(
        status=RecordStatus.VALID,
        hours_left=left,
        sentence=f"the validation record of {_name_state(record.snapshot)} counts for {left:.2f} more hours",
    )


def choose_judgement(judgements: Sequence[tuple[int, str, Judgement]]) -> int | None:
    """Return the index of the record that decides, of several; None for none.

    Of records that count, that of the nearest ancestor decides, and of several there the newest: an older one that
    passed does not undo a failed validation. Without such a record, a stale one gives the reason, then a foreign one.

    Args:
        judgements: Distance of the judged snapshot, time of the record, and its judgement.
    """
    order = [RecordStatus.STALE, RecordStatus.FOREIGN, RecordStatus.DAMAGED, RecordStatus.MISSING]
    counts = {RecordStatus.VALID, RecordStatus.FAILED}
    best: int | None = None
    for index, (distance, created, judgement) in enumerate(judgements):
        if best is None:
            best = index
            continue
        other_distance, other_created, other = judgements[best]
        rank, other_rank = (
            -1 if each.status in counts else order.index(each.status) for each in (judgement, other)
        )
        if (rank, distance) < (other_rank, other_distance) or (
            (rank, distance) == (other_rank, other_distance) and created > other_created
        ):
            best = index
    return best


def _stale(cause: StaleCause, why: str) -> Judgement:
    remedy = QUICK if cause in RENEWABLE_CAUSES else FULL
    return Judgement(
        status=RecordStatus.STALE, cause=cause, sentence=f"the validation record is stale: {why}. {remedy}"
    )


def _name_state(digest: str) -> str:
    return "the initial state" if digest == INITIAL_STATE else f"state {digest[:12]}"


def _name_checks(record: ValidationRecord) -> str:
    names = [f"'{check.name}' {check.status.value}" for check in record.blocking_checks]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _remedy(record: ValidationRecord) -> str:
    remedy = next((check.remedy for check in record.blocking_checks if check.remedy), "")
    return remedy or FULL
