"""Validation subject: what a robot runs now, as its agent reports it, for comparison with a validation record."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Any

from wm_robot.errors import SnapshotError
from wm_robot.validation_record.installation import Installation

INITIAL_STATE = ""
"""Digest in place of a snapshot for the initial state of a base."""
MAX_SESSION_ERRORS, MAX_EVENTS = 16, 64
_DIGEST = re.compile("[0-9a-f]{64}|")


class LineageEvent(str, Enum):
    """What put experience other than the robot's own into a line of snapshots."""

    IMPORT = "import"
    """The state came from another store in a bundle or a folder."""
    POOL = "pool"
    """Several states were merged."""
    ASSIMILATION = "assimilation"
    """The state was updated with recordings of another robot."""
    MIGRATION = "migration"
    """Recordings were replayed with another base."""
    PRETRAINING = "pretraining"
    """The state was updated in a simulator before the robot's own lifetime."""


@dataclass(frozen=True, kw_only=True)
class ValidationSubject:
    """What a robot runs now."""

    robot: str
    base: str
    """Digest of the base."""
    spec: str
    """Digest of the whole spec."""
    model: str
    """Digest of the stored model description; empty without one."""
    battery: str
    """Digest of the robot's battery here; empty if there is none, and then it is not compared."""
    version: str
    source: str
    """Digest of the installed package's modules."""
    snapshot: str
    """Digest of the snapshot that the current state continues; empty for the initial state."""
    steps: int
    """Lifetime steps of the current state."""
    ancestor: str | None
    """Judged snapshot of the record, if the current state is or descends from it; None if it does not."""
    events: tuple[LineageEvent, ...] = ()
    """Other experience than the robot's own in the line since `ancestor`, the newest first."""
    session: Mapping[str, float] = field(default_factory=dict)
    """Errors of the last session since `ancestor` that was long enough; empty without one."""

    def __post_init__(self) -> None:
        """Raises:
        SnapshotError: If a field has a wrong type or value.
        """
        ancestor = "" if self.ancestor is None else self.ancestor
        digests = (self.base, self.spec, self.model, self.battery, self.source, self.snapshot, ancestor)
        texts = (self.robot, self.version)
        if not (
            all(isinstance(each, str) and _DIGEST.fullmatch(each) for each in digests)
            and all(isinstance(each, str) and len(each) <= 100 and each.isprintable() for each in texts)
            and all(isinstance(each, LineageEvent) for each in self.events)
            and type(self.steps) is int
            and self.steps >= 0
            and len(self.session) <= MAX_SESSION_ERRORS
            and all(
                isinstance(name, str) and type(value) in (int, float) and not math.isinf(value)
                for name, value in self.session.items()
            )
        ):
            raise SnapshotError("the report of what the robot runs has an invalid field")

    @property
    def installation(self) -> Installation:
        return Installation(version=self.version, source=self.source)

    def with_line(
        self,
        ancestor: str | None,
        events: tuple[LineageEvent, ...] = (),
        session: Mapping[str, float] | None = None,
    ) -> "ValidationSubject":
        """Return a copy with another relation to a record's snapshot."""
        return replace(self, ancestor=ancestor, events=events, session=dict(session or {}))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for `from_dict`."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return values | {"events": [event.value for event in self.events], "session": dict(self.session)}

    @classmethod
    def from_dict(cls, values: Any) -> "ValidationSubject":
        """Build a subject from parsed JSON of unknown content.

        Raises:
            SnapshotError: If a field is missing, unknown or invalid.
        """
        try:
            if values.keys() != {each.name for each in fields(cls)}:
                raise ValueError("it must have exactly the known fields")
            listed, session = values["events"], values["session"]
            if type(listed) is not list or len(listed) > MAX_EVENTS or type(session) is not dict:
                raise ValueError("events must be a list, and session a mapping")
            events = tuple(map(LineageEvent, listed))
            return cls(**{**values, "events": events, "session": dict(session)})
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise SnapshotError(f"the report of what the robot runs is not valid: {error!s:.100}") from error
