"""Save record: how much of a lifetime state is in a snapshot, and why the rest is not."""

from dataclasses import dataclass

from wm_robot.store.rescue_store import Rescued


@dataclass(frozen=True, kw_only=True)
class SaveRecord:
    """State of the saving of one lifetime state at one moment. What is unsaved follows from counts of updates."""

    source: str | None
    """What the agent starts from next, STORE or STORE@REFERENCE; None: the initial state."""
    started: bool = False
    """Whether the agent updates it."""
    updates: int = 0
    """Updates since the start."""
    saved: int = 0
    """Updates that the newest snapshot holds."""
    suspect: str = ""
    """Error that may have broken it, so that it must not replace what is saved; empty if it is sound."""
    failure: str = ""
    """Why the last attempt to save it failed; empty if it did not."""
    copy: Rescued | None = None
    """The newest emergency copy."""
    copied: int = 0
    """Updates that this copy holds."""

    @property
    def unsaved(self) -> bool:
        """Whether it holds an update that no snapshot of its own store holds."""
        return self.started and not self.suspect and self.updates > self.saved

    @property
    def present_copy(self) -> Rescued | None:
        """The emergency copy, if it holds every update."""
        return self.copy if self.copied == self.updates else None

    @property
    def error(self) -> str:
        """Why it is not saved, and where its copy is; empty if the last attempt succeeded."""
        copy = self.present_copy
        if not (self.failure and self.unsaved and copy):
            return self.failure
        return f"{self.failure}. Nothing is lost: a copy is {copy.life}. Bring it back: {copy.command}"
