"""Lifetime services of an agent: save, restore, branch, reset and list lifetime states."""

from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from wm_robot_msgs.srv import BranchLifetime, ListLifetimes, ResetLifetime, RestoreLifetime, SaveLifetime

from wm_robot.errors import SnapshotError, WmRobotError
from wm_robot.store.store import Store
from wm_robot_ros.middleware.worker_result import result_of
from wm_robot_ros.state_api.messages import described, snapshot_message
from wm_robot_ros.state_api.state_place import open_place
from wm_robot_ros.state_api.state_session import StateSession

Answer = Callable[[Any, Any], Awaitable[None]]


class LifetimeServices:
    """Services that run in the worker thread: control continues, and changes of a store never overlap."""

    def __init__(self, node: Node, session: StateSession):
        self._node, self._session = node, session
        group = ReentrantCallbackGroup()
        self._services = [
            node.create_service(kind, f"~/{name}", _guarded(answer), callback_group=group)
            for name, (kind, answer) in self._answers().items()
        ]

    def _answers(self) -> dict[str, tuple[type, Answer]]:
        return {
            "save_lifetime": (SaveLifetime, self._save),
            "restore_lifetime": (RestoreLifetime, self._restore),
            "branch_lifetime": (BranchLifetime, self._branch),
            "reset_lifetime": (ResetLifetime, self._reset),
            "list_lifetimes": (ListLifetimes, self._list),
        }

    def destroy(self) -> None:
        for service in self._services:
            self._node.destroy_service(service)

    async def _save(self, request: SaveLifetime.Request, response: SaveLifetime.Response) -> None:
        digest = await self._save_state()
        store, _ = open_place(self._session.place)

        def kept() -> Any:
            if request.pin:
                store.pin(request.pin, digest)
            return snapshot_message(store, digest)

        response.snapshot = await self._run_in_worker(kept)

    async def _restore(self, request: RestoreLifetime.Request, response: RestoreLifetime.Response) -> None:
        response.before, digest = await restore(self._node, self._session, request.reference)
        response.snapshot = snapshot_message(open_place(self._session.place)[0], digest)

    async def _branch(self, request: BranchLifetime.Request, response: BranchLifetime.Response) -> None:
        reference = request.reference or await self._save_state()
        store, _ = open_place(self._session.place)
        response.snapshot = await self._run_in_worker(
            lambda: snapshot_message(store, store.branch(request.name, reference))
        )

    async def _reset(self, request: ResetLifetime.Request, response: ResetLifetime.Response) -> None:
        store, name = open_place(self._session.place)
        if self._session.record.started:
            await self._save_state()

        def ended() -> str:
            kept = _aside(store, name)
            if kept:
                store.forget(name)
            return kept

        response.before = await result_of(self._session.restart_from(None, ended), self._node)

    async def _list(self, request: ListLifetimes.Request, response: ListLifetimes.Response) -> None:
        store, name = open_place(self._session.place)

        def listed() -> None:
            branches, pins = store.branches(), store.pins()
            response.branches, response.heads = list(branches), list(branches.values())
            response.pins, response.pinned = list(pins), list(pins.values())
            # A store without a save has no branch, which is no error.
            if request.reference or name in branches:
                line = store.log(request.reference or name)
                response.snapshots = [
                    described(each, whole=not store.pruned(each))
                    for each in islice(line, request.limit or None)
                ]

        await self._run_in_worker(listed)

    async def _save_state(self) -> str:
        """Save the lifetime state, and return the digest of the snapshot."""
        return await result_of(self._session.save(), self._node)

    async def _run_in_worker(self, work: Callable[[], Any]) -> Any:
        """Run a function in the worker thread, and return its result."""
        return await result_of(self._session.worker.submit(work), self._node)


async def restore(node: Node, session: StateSession, reference: str) -> tuple[str, str]:
    """Save the state, then continue its branch from another snapshot at the agent's next step.

    Returns:
        Branch that holds the earlier state, and digest of the snapshot that the agent continues from.

    Raises:
        SnapshotError: If there is no such snapshot, or it has another base or robot. Then the state is unchanged.
    """
    store, name = open_place(session.place)
    # Before any change, so that an unknown reference has no effect.
    target = await result_of(session.worker.submit(lambda: store.show(reference)), node)
    if session.record.started:
        await result_of(session.save(), node)

    def turned() -> tuple[str, str]:
        present = store.show(name)
        for what in ("base_digest", "spec_digest"):
            if getattr(target, what) != getattr(present, what):
                raise SnapshotError(
                    f"snapshot {target.digest[:12]} has {what} {getattr(target, what)[:12]}, this lifetime state "
                    f"has {getattr(present, what)[:12]}. Name a snapshot with the same base and robot"
                )
        # Read and check the tensors before the present state is replaced.
        store.content(target)
        return _aside(store, name), store.reset(name, target.digest)

    return await result_of(session.restart_from(session.place, turned), node)


def _aside(store: Store, name: str) -> str:
    """Create a branch at the head of a branch that will move, so that its snapshots are never collected.

    Returns:
        Name of the new branch; empty if there was no such branch.
    """
    head = store.branches().get(name)
    if head is None:
        return ""
    kept = f"{name}-{head[:12]}"
    if store.branches().get(kept) != head:
        store.branch(kept, head)
    return kept


def _guarded(answer: Answer) -> Callable[[Any, Any], Awaitable[Any]]:
    """Return a callback that reports errors of the user in the response."""

    async def callback(request: Any, response: Any) -> Any:
        try:
            await answer(request, response)
            response.success = True
        except (WmRobotError, OSError) as error:
            response.success, response.message = False, f"{type(error).__name__}: {error}"
        return response

    return callback
