"""Record claim: what an agent runs and its validation record, and the judgement of a plant about both."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from wm_robot.errors import ConfigError, SnapshotError, WmRobotError
from wm_robot.io.strict_json import parse_json
from wm_robot.sharing.keyring import Keyring
from wm_robot.sharing.signed_record import SignedRecord, judge_signed_record
from wm_robot.spec import RobotSpec
from wm_robot.validation_record.installation import Installation, compute_whole_spec_digest, read_installation
from wm_robot.validation_record.record import MAX_RECORD_BYTES
from wm_robot.validation_record.rules import Judgement, damaged_record, judge_record, missing_record
from wm_robot.validation_record.subject import ValidationSubject

MAX_CLAIM_CHARACTERS = 2 * MAX_RECORD_BYTES
MAX_REASON = 200
"""Characters of the reason for an accepted risk."""


@dataclass(frozen=True, kw_only=True)
class RecordClaim:
    """What an agent runs, and the text of its validation record."""

    subject: ValidationSubject
    record: str
    """Text of the signed record; empty without one."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for `parse`."""
        return {"subject": self.subject.to_dict(), "record": self.record}

    @classmethod
    def parse(cls, text: str) -> "RecordClaim":
        """Parse the JSON text of a claim.

        Raises:
            SnapshotError: If it is too long or no claim.
        """
        what = "the agent's report of what it runs"
        if len(text) > MAX_CLAIM_CHARACTERS:
            raise SnapshotError(f"{what} has {len(text)} characters; at most {MAX_CLAIM_CHARACTERS} are read")
        values = parse_json(text.encode(errors="replace"), what)
        if not isinstance(values, dict) or values.keys() != {"subject", "record"}:
            raise SnapshotError(f"{what} must have subject and record")
        if not isinstance(values["record"], str):
            raise SnapshotError(f"the record in {what} must be text")
        return cls(subject=ValidationSubject.from_dict(values["subject"]), record=values["record"])


class ClaimJudge:
    """Judges claims for one plant: by its own spec, battery and installed version too."""

    def __init__(
        self,
        spec: RobotSpec,
        open_keyring: Callable[[], Keyring],
        *,
        battery: str = "",
        installation: Installation | None = None,
    ):
        """Args:
        spec: Spec of the plant.
        open_keyring: Opens the keys that the plant trusts.
        battery: Digest of the battery here; empty if there is none.
        installation: Installed version of the plant; by default that of this process.
        """
        self._open_keyring = open_keyring
        installation = installation or read_installation()
        self._own: dict[str, Any] = {
            "robot": spec.name,
            "spec": compute_whole_spec_digest(spec),
            "model": spec.model_digest,
            "version": installation.version,
            "source": installation.source,
        } | ({"battery": battery} if battery else {})
        self._verified: tuple[str, SignedRecord | None, Judgement] | None = None
        """Text of the last record with the result of its verification: it takes several control periods."""

    def judge(self, claim: RecordClaim | None) -> tuple[Judgement, str]:
        """Judge a claim: the record must count for what the agent runs, and for what the plant is.

        Returns:
            The judgement, and the digest of the record; empty without a verified one.
        """
        if claim is None or not claim.record:
            return missing_record("the state that the agent runs"), ""
        subjects = (claim.subject, replace(claim.subject, **self._own))
        try:
            signed, judged = self._verify(claim.record, subjects[0])
        except WmRobotError as error:
            # Keys that cannot be read are no reason to stop the loop.
            return damaged_record(str(error)), ""
        if signed is None:
            return judged, ""
        for subject in subjects:
            judged = judge_record(signed.record, subject)
            if not judged.is_valid:
                break
        return judged, signed.digest

    def forget(self) -> None:
        """Verify the next record again, since the trusted keys may have changed."""
        self._verified = None

    def _verify(self, text: str, subject: ValidationSubject) -> tuple[SignedRecord | None, Judgement]:
        if self._verified is None or self._verified[0] != text:
            judged, signed = judge_signed_record(text.encode(errors="replace"), subject, self._open_keyring())
            self._verified = text, signed, judged
        return self._verified[1], self._verified[2]


def check_risk_reason(reason: str) -> str:
    """Return the reason for an accepted risk, after a check.

    Raises:
        ConfigError: If it is too long, or no plain text of one line.
    """
    if len(reason) > MAX_REASON or not reason.isprintable() or (reason and not reason.strip()):
        raise ConfigError(
            f"accept_risk must be a reason in one line of at most {MAX_REASON} characters, in plain text"
        )
    return reason.strip()
