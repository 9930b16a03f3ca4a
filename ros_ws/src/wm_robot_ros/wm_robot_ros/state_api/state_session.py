"""State session: the current lifetime state of an agent, its source, and its saves.

The control loop updates the state in one thread, and one worker thread saves it. Two saves never overlap, and no save
overlaps with the start of another state. So the result of a late save counts only for the state that was saved.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import numpy as np

from wm_robot.errors import SnapshotError
from wm_robot.store.rescue_store import save_rescue_copy
from wm_robot_ros.state_api.save_record import SaveRecord
from wm_robot_ros.state_api.snapshot_pruner import SnapshotPruner
from wm_robot_ros.state_api.state_place import check_place, select_source
from wm_robot_ros.state_api.worker_thread import WorkerThread

Result = TypeVar("Result")


class SavableAgent(Protocol):
    """Agent whose lifetime state can be saved in one thread while the agent acts in another."""

    def begin(self, last_action: np.ndarray, restore: str | None = None) -> None:
        """Start from the initial state under an action, `A`, or from a saved state; see `Agent.begin`."""

    def save(self, place: str, *, note: str = "") -> str:
        """Save the state in its own store with a note, and return the digest of the snapshot."""

    def rescue(self, place: str) -> str:
        """Save a copy in another store, and return the digest of the snapshot."""


class StateLog(Protocol):
    """Log of a node."""

    def info(self, message: str, /) -> object:
        """Log a success."""

    def error(self, message: str, /) -> object:
        """Log an error that a user must fix."""


class StateSession:
    """Lifetime state of one agent from process start to end, with its saves."""

    def __init__(
        self, *, place: str, initial_state: str, resume: bool, keep_last: int, name: str, log: StateLog
    ):
        """Args:
        place: STORE or STORE@BRANCH where the state is saved; empty: not saved.
        initial_state: Reference of the state to start from; empty: the initial state of the base.
        resume: Whether a state that is saved in `place` takes precedence over `initial_state`.
        keep_last: Number of snapshots whose tensors stay; see `SnapshotPruner`.
        name: Name of the agent, for the folder of an emergency copy.
        log: Log of the node.
        """
        self.place, self._name, self._log = place, name, log
        self.worker = WorkerThread()
        self.note = ""
        """Note of the snapshots that are saved from now on."""
        self._record = SaveRecord(source=select_source(place, initial_state, resume=resume))
        self._lock = threading.Lock()
        self._agent: SavableAgent | None = None
        self._background_save: Future[str] | None = None
        self._pruner = SnapshotPruner(place, keep_last)

    @property
    def record(self) -> SaveRecord:
        """Current save status, as an immutable and consistent value."""
        return self._record

    @property
    def must_be_kept(self) -> bool:
        """Whether the state has a store that lacks some of its updates."""
        return bool(self.place) and self._record.is_unsaved

    @property
    def only_in_memory(self) -> bool:
        """Whether the end of this process would lose an update."""
        return self.must_be_kept and self._record.complete_copy is None

    def check_place(self) -> None:
        """Check that the state can be saved and replaces no unrelated state; see `check_place`."""
        check_place(self.place, self._record.source)

    def attach_agent(self, agent: SavableAgent, last_action: np.ndarray) -> None:
        """Set the agent, and check that the saved state fits it, before its first step.

        Raises:
            SnapshotError: If the state is damaged, or has another base or robot.
        """
        self.worker.wait_until_idle()
        agent.begin(last_action, self._record.source)
        self._agent, self._record = agent, SaveRecord(source=self._record.source)

    def start_agent(self, last_action: np.ndarray) -> None:
        """Start the agent from the source under the action in force, `A`."""
        assert self._agent is not None
        self._agent.begin(last_action, self._record.source)
        self._change_record(has_started=True, num_updates=0, num_saved=0, copy=None)

    def record_update(self) -> None:
        """Count one update."""
        with self._lock:
            self._record = replace(self._record, num_updates=self._record.num_updates + 1)

    def mark_damaged(self, error: str) -> None:
        """Stop saving the state, because an error may have damaged it."""
        self._change_record(damage=error)

    def discard_if_damaged(self) -> None:
        """Return to the source, if an error may have damaged the state."""
        if self._record.damage:
            self.worker.wait_until_idle()
            self._record = SaveRecord(source=self._record.source)

    def restart_from(self, source: str | None, prepare: Callable[[], Result]) -> "Future[Result]":
        """Start the agent from another state at its next step, and discard unsaved updates.

        Args:
            source: See `SaveRecord.source`.
            prepare: Changes the store, in the worker thread. If it raises, the agent keeps its state.
        """

        def change_source() -> Result:
            result = prepare()
            with self._lock:
                self._record = SaveRecord(source=source)
            return result

        return self.worker.submit_job(change_source)

    def save_in_worker(self, *, explain: Callable[[str], str] = str) -> "Future[str]":
        """Save the state in the worker thread.

        Args:
            explain: Adds the reason to the error of an agent that has not started.

        Returns:
            Future with the digest of the snapshot, or with a `SnapshotError`.

        Raises:
            SnapshotError: If there is no state or no store.
        """
        self._check_savable(explain)
        return self.worker.submit_job(self._save_state)

    def save_in_background(self) -> None:
        """Save unsaved updates in the worker thread, unless such a save still runs; `record` has the error."""
        if self.must_be_kept and (self._background_save is None or self._background_save.done()):
            self._background_save = self.worker.submit_job(self._save_state)

    def save_and_wait(self) -> None:
        """Save unsaved updates, and wait. On failure, save an emergency copy; `record` has the error."""
        if self.must_be_kept:
            self.worker.submit_job(self._save_or_copy).result()

    def _save_state(self) -> str:
        """Save the state in its own store, in the worker thread; every save uses this method.

        Returns:
            Digest of the snapshot.

        Raises:
            SnapshotError: If there is no state, or the save failed. Then the updates stay unsaved.
        """
        self._check_savable()
        assert self._agent is not None
        # An update during the save may be in the snapshot or not, so it counts as unsaved.
        updates = self._record.num_updates
        try:
            digest = str(self._agent.save(self.place, note=self.note))
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
            self._change_record(failure=f"state not saved: {words}")
            raise SnapshotError(words) from error
        self._change_record(num_saved=updates, source=self.place, failure="")
        self._pruner.count_save()
        return digest

    def _save_or_copy(self) -> None:
        # An earlier save in the queue may have saved everything.
        if not self.must_be_kept:
            return
        before = self._record.error
        try:
            digest = self._save_state()
        except SnapshotError:
            self._save_copy()
            if self._record.error != before:
                self._log.error(self._record.error)
            return
        self._log.info(f"saved {digest[:12]} in {self.place}")

    def _save_copy(self) -> None:
        """Save an emergency copy in a second folder, unless a copy holds every update."""
        assert self._agent is not None
        if self._record.complete_copy is not None:
            return
        updates = self._record.num_updates
        try:
            copy = save_rescue_copy(self._agent.rescue, self.place, agent_name=self._name)
        except Exception as error:
            self._change_record(failure=f"{self._record.failure}. And {error}")
            return
        self._change_record(copy=copy, num_copied=updates)

    def _check_savable(self, explain: Callable[[str], str] = str) -> None:
        if not self.place:
            raise SnapshotError("parameter 'save_to' is empty")
        if not self._record.has_started:
            raise SnapshotError(explain("the agent has not started yet"))
        if self._record.damage:
            raise SnapshotError(
                f"the state may be damaged by the error that stopped the agent: {self._record.damage}. "
                "The saved state is unchanged"
            )

    def _change_record(self, **values: Any) -> None:
        with self._lock:
            self._record = replace(self._record, **values)
