"""Save record: which updates of a lifetime state are saved, and why others are not."""

from dataclasses import dataclass

from wm_robot.store.rescue_store import RescueCopy


@dataclass(frozen=True, kw_only=True)
class SaveRecord:
    """Save status of one lifetime state at one time, as counts of updates."""

    source: str | None
    """Reference of the state that the agent starts from next, STORE or STORE@REFERENCE; None: the initial state."""
    has_started: bool = False
    """Whether the agent updates the state."""
    num_updates: int = 0
    """Number of updates since the start."""
    num_saved: int = 0
    """Number of updates in the newest snapshot."""
    damage: str = ""
    """Error that may have damaged the state, which then must not replace the saved one; empty if there is none."""
    failure: str = ""
    """Reason why the last attempt to save failed; empty on success."""
    copy: RescueCopy | None = None
    """Newest emergency copy."""
    num_copied: int = 0
    """Number of updates in this copy."""

    @property
    def is_unsaved(self) -> bool:
        """Whether the state has an update that no snapshot of its own store holds."""
        return self.has_started and not self.damage and self.num_updates > self.num_saved

    @property
    def complete_copy(self) -> RescueCopy | None:
        """Emergency copy, if it holds every update."""
        return self.copy if self.num_copied == self.num_updates else None

    @property
    def error(self) -> str:
        """Reason why the state is not saved, and the place of its copy; empty if the last attempt succeeded."""
        copy = self.complete_copy
        if not (self.failure and self.is_unsaved and copy):
            return self.failure
        return f"{self.failure}. Nothing is lost: a copy is {copy.copy_reference}. Restore it: {copy.restore_command}"
