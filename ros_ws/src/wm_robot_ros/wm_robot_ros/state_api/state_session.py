"""State session: which lifetime state an agent is on, where it came from, and where and when it is saved.

The control loop updates the state in one thread, and one worker thread saves it. Two saves never overlap, and none
overlaps with the start of another state. So the result of a save, however late it comes, counts for the state that
was saved, and for no other.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import numpy as np

from wm_robot.errors import SnapshotError
from wm_robot.store.rescue_store import rescue
from wm_robot_ros.state_api.save_record import SaveRecord
from wm_robot_ros.state_api.snapshot_pruner import Thinning
from wm_robot_ros.state_api.state_place import check_place, select_source
from wm_robot_ros.state_api.worker_thread import WorkerThread

Result = TypeVar("Result")


class SavableAgent(Protocol):
    """An agent whose lifetime state can be saved in one thread while it acts in another."""

    def begin(self, hold: np.ndarray, restore: str | None = None) -> None:
        """Start from the initial state under an action, `A`, or from a saved one; see `Agent.begin`."""

    def save(self, place: str) -> str:
        """Save the state in its own store; returns the snapshot's digest."""

    def rescue(self, place: str) -> str:
        """Save a copy in another store; returns the snapshot's digest."""


class StateLog(Protocol):
    """Log of a node."""

    def info(self, message: str, /) -> object:
        """Log what went well."""

    def error(self, message: str, /) -> object:
        """Log what a person must repair."""


class StateSession:
    """Lifetime state of one agent, from process start to end, with one way to save it."""

    def __init__(self, *, place: str, restore: str, resume: bool, keep_last: int, name: str, log: StateLog):
        """Args:
        place: Where it is saved, STORE or STORE@BRANCH; empty: not at all.
        restore: What it goes on from; empty: the initial state.
        resume: What is saved in `place` already takes precedence over `restore`.
        keep_last: Snapshots whose tensors stay; see `Thinning`.
        name: Of the agent, for the folder of an emergency copy.
        """
        self.place, self._name, self._log = place, name, log
        self.worker = WorkerThread()
        self._record = SaveRecord(source=select_source(place, restore, resume=resume))
        self._lock = threading.Lock()
        self._agent: SavableAgent | None = None
        self._background_save: Future[str] | None = None
        self._pruner = Thinning(place, keep_last)

    @property
    def record(self) -> SaveRecord:
        """What is saved of it now, and what is not; a consistent view that does not change."""
        return self._record

    @property
    def must_be_kept(self) -> bool:
        """Whether it belongs into a store that does not hold all of it."""
        return bool(self.place) and self._record.unsaved

    @property
    def only_in_memory(self) -> bool:
        """Whether the end of this process would lose an update."""
        return self.must_be_kept and self._record.present_copy is None

    # Where it starts

    def check_place(self) -> None:
        """Check that it can be saved, and replaces no other state there; see `check_place`."""
        check_place(self.place, self._record.source)

    def attach(self, agent: SavableAgent, hold: np.ndarray) -> None:
        """Take an agent, and check now that the state fits it, rather than at its first step.

        Raises:
            SnapshotError: If the state is damaged, or another base's or robot's.
        """
        self.worker.wait_until_idle()
        agent.begin(hold, self._record.source)
        self._agent, self._record = agent, SaveRecord(source=self._record.source)

    def start(self, hold: np.ndarray) -> None:
        """Start the agent from the source, under the action in force, `A`."""
        assert self._agent is not None
        self._agent.begin(hold, self._record.source)
        self._change(started=True, updates=0, saved=0, copy=None)

    def record_update(self) -> None:
        """Count one update."""
        with self._lock:
            self._record = replace(self._record, updates=self._record.updates + 1)

    def mark_suspect(self, error: str) -> None:
        """Save it no more: an error may have broken it."""
        self._change(suspect=error)

    def drop_if_suspect(self) -> None:
        """Return to the source, if an error may have broken the state."""
        if self._record.suspect:
            self.worker.wait_until_idle()
            self._record = SaveRecord(source=self._record.source)

    def restart_from(self, source: str | None, prepare: Callable[[], Result]) -> "Future[Result]":
        """Have the agent start from another state at its next step; what is unsaved then is dropped.

        Args:
            source: As `SaveRecord.source`.
            prepare: Changes the store, in the worker. If it raises, the present state goes on.
        """

        def turn() -> Result:
            result = prepare()
            with self._lock:
                self._record = SaveRecord(source=source)
            return result

        return self.worker.submit(turn)

    # Where it is saved

    def save(self, *, explain: Callable[[str], str] = str) -> "Future[str]":
        """Save it in the worker; the future gives the snapshot's digest, or a `SnapshotError`.

        Args:
            explain: Adds to the error of an agent that has not started why it has not.

        Raises:
            SnapshotError: If there is nothing to save, or nowhere to.
        """
        self._check_savable(explain)
        return self.worker.submit(self._save)

    def save_in_background(self) -> None:
        """Save what is unsaved in the worker, unless the last such save still runs; see `record` for errors."""
        if self.must_be_kept and (self._background_save is None or self._background_save.done()):
            self._background_save = self.worker.submit(self._save)

    def save_and_wait(self) -> None:
        """Save what is unsaved, and wait. Where that fails it makes an emergency copy; `record` has the error."""
        if self.must_be_kept:
            self.worker.submit(self._save_or_copy).result()

    def _save(self) -> str:
        """Save it in its own store, in the worker; returns the snapshot's digest. Every save comes through here.

        Raises:
            SnapshotError: If there is nothing to save, or it failed; then it stays unsaved.
        """
        self._check_savable()
        assert self._agent is not None
        # An update that comes while this is written may be in it or not, so it counts as unsaved.
        updates = self._record.updates
        try:
            digest = str(self._agent.save(self.place))
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
            self._change(failure=f"state not saved: {words}")
            raise SnapshotError(words) from error
        self._change(saved=updates, source=self.place, failure="")
        self._pruner.saved()
        return digest

    def _save_or_copy(self) -> None:
        # A save that was in line before may have saved everything.
        if not self.must_be_kept:
            return
        before = self._record.error
        try:
            digest = self._save()
        except SnapshotError:
            self._copy()
            if self._record.error != before:
                self._log.error(self._record.error)
            return
        self._log.info(f"saved {digest[:12]} in {self.place}")

    def _copy(self) -> None:
        """Save an emergency copy in a second place, unless there is one that holds every update."""
        assert self._agent is not None
        if self._record.present_copy is not None:
            return
        updates = self._record.updates
        try:
            copy = rescue(self._agent.rescue, self.place, name=self._name)
        except Exception as error:
            self._change(failure=f"{self._record.failure}. And {error}")
            return
        self._change(copy=copy, copied=updates)

    def _check_savable(self, explain: Callable[[str], str] = str) -> None:
        if not self.place:
            raise SnapshotError("parameter 'state' is empty")
        if not self._record.started:
            raise SnapshotError(explain("nothing was lived yet"))
        if self._record.suspect:
            raise SnapshotError(
                f"the life is in doubt since it stopped: {self._record.suspect}. What is saved stays"
            )

    def _change(self, **values: Any) -> None:
        with self._lock:
            self._record = replace(self._record, **values)
