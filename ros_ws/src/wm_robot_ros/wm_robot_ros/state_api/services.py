"""Lifetime services of an agent: save, restore, branch, reset and list lifetime states."""

from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from wm_robot_msgs.srv import BranchLifetime, ListLifetimes, ResetLifetime, RestoreLifetime, SaveLifetime

from wm_robot.errors import SnapshotError, WmRobotError
from wm_robot.store.store import Store
from wm_robot_ros.middleware.worker_result import await_result, create_async_service
from wm_robot_ros.state_api.messages import manifest_message, snapshot_message
from wm_robot_ros.state_api.state_place import open_store_branch
from wm_robot_ros.state_api.state_session import StateSession

ServiceHandler = Callable[[Any, Any], Awaitable[None]]


class LifetimeServices:
    """Services that run in the worker thread: control continues, and changes of a store never overlap."""

    def __init__(self, node: Node, session: StateSession):
        self._node, self._session = node, session
        group = ReentrantCallbackGroup()
        self._services = [
            create_async_service(node, kind, f"~/{name}", _report_user_errors(answer), group)
            for name, (kind, answer) in self._list_handlers().items()
        ]

    def _list_handlers(self) -> dict[str, tuple[type, ServiceHandler]]:
        return {
            "save_lifetime": (SaveLifetime, self._save_lifetime),
            "restore_lifetime": (RestoreLifetime, self._restore_lifetime),
            "branch_lifetime": (BranchLifetime, self._branch_lifetime),
            "reset_lifetime": (ResetLifetime, self._reset_lifetime),
            "list_lifetimes": (ListLifetimes, self._list_lifetimes),
        }

    def destroy_all(self) -> None:
        for service in self._services:
            self._node.destroy_service(service)

    async def _save_lifetime(self, request: SaveLifetime.Request, response: SaveLifetime.Response) -> None:
        digest = await self._save_state()
        store, _ = open_store_branch(self._session.place)

        def pin_snapshot() -> Any:
            if request.pin:
                store.create_pin(request.pin, digest)
            return snapshot_message(store, digest)

        response.snapshot = await self._run_in_worker(pin_snapshot)

    async def _restore_lifetime(
        self, request: RestoreLifetime.Request, response: RestoreLifetime.Response
    ) -> None:
        response.previous_branch, digest = await restore_state(self._node, self._session, request.reference)
        response.snapshot = snapshot_message(open_store_branch(self._session.place)[0], digest)

    async def _branch_lifetime(
        self, request: BranchLifetime.Request, response: BranchLifetime.Response
    ) -> None:
        reference = request.reference or await self._save_state()
        store, _ = open_store_branch(self._session.place)
        response.snapshot = await self._run_in_worker(
            lambda: snapshot_message(store, store.create_branch(request.name, reference))
        )

    async def _reset_lifetime(self, request: ResetLifetime.Request, response: ResetLifetime.Response) -> None:
        store, name = open_store_branch(self._session.place)
        if self._session.record.has_started:
            await self._save_state()

        def keep_and_delete() -> str:
            kept = _keep_branch(store, name)
            if kept:
                store.delete_branch(name)
            return kept

        response.previous_branch = await await_result(
            self._session.restart_from(None, keep_and_delete), self._node
        )

    async def _list_lifetimes(self, request: ListLifetimes.Request, response: ListLifetimes.Response) -> None:
        store, name = open_store_branch(self._session.place)

        def fill_response() -> None:
            branches, pins = store.read_branches(), store.read_pins()
            response.branches, response.heads = list(branches), list(branches.values())
            response.pins, response.pinned = list(pins), list(pins.values())
            # A store without a save has no branch, which is no error.
            if request.reference or name in branches:
                line = store.iterate_lineage(request.reference or name)
                response.snapshots = [
                    manifest_message(each, whole=not store.is_pruned(each))
                    for each in islice(line, request.limit or None)
                ]

        await self._run_in_worker(fill_response)

    async def _save_state(self) -> str:
        """Save the lifetime state, and return the digest of the snapshot."""
        return await await_result(self._session.save_in_worker(), self._node)

    async def _run_in_worker(self, work: Callable[[], Any]) -> Any:
        """Run a function in the worker thread, and return its result."""
        return await await_result(self._session.worker.submit_job(work), self._node)


async def restore_state(node: Node, session: StateSession, reference: str) -> tuple[str, str]:
    """Save the state, then continue its branch from another snapshot at the agent's next step.

    Returns:
        Branch that holds the earlier state, and digest of the snapshot that the agent continues from.

    Raises:
        SnapshotError: If there is no such snapshot, or it has another base or robot. Then the state is unchanged.
    """
    store, name = open_store_branch(session.place)
    # Before any change, so that an unknown reference has no effect.
    target = await await_result(session.worker.submit_job(lambda: store.read_manifest(reference)), node)
    if session.record.has_started:
        await await_result(session.save_in_worker(), node)

    def reset_branch() -> tuple[str, str]:
        present = store.read_manifest(name)
        for what in ("base_digest", "spec_digest"):
            if getattr(target, what) != getattr(present, what):
                raise SnapshotError(
                    f"snapshot {target.digest[:12]} has {what} {getattr(target, what)[:12]}, this lifetime state "
                    f"has {getattr(present, what)[:12]}. Name a snapshot with the same base and robot"
                )
        # Read and check the tensors before the present state is replaced.
        store.read_object(target)
        return _keep_branch(store, name), store.reset_branch(name, target.digest)

    return await await_result(session.restart_from(session.place, reset_branch), node)


def _keep_branch(store: Store, name: str) -> str:
    """Create a branch at the head of a branch that will move, so that its snapshots are never collected.

    Returns:
        Name of the new branch; empty if there was no such branch.
    """
    head = store.read_branches().get(name)
    if head is None:
        return ""
    kept = f"{name}-{head[:12]}"
    if store.read_branches().get(kept) != head:
        store.create_branch(kept, head)
    return kept


def _report_user_errors(answer: ServiceHandler) -> Callable[[Any, Any], Awaitable[Any]]:
    """Return a callback that reports errors of the user in the response."""

    async def callback(request: Any, response: Any) -> Any:
        try:
            await answer(request, response)
            response.success = True
        except (WmRobotError, OSError) as error:
            response.success, response.message = False, f"{type(error).__name__}: {error}"
        return response

    return callback
