"""Lifetime actions of an agent: adapt, assimilate and evaluate, with feedback and cancel.

`adapt` monitors the learning agent. The other two run in a separate process with low priority. Only one goal runs
at a time.
"""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.task import Future
from wm_robot_msgs.action import Adapt, Assimilate, Evaluate

from wm_robot.errors import ConfigError, DeviceError, SnapshotError, WmRobotError
from wm_robot.streams.transition_assembler import StampedTransition
from wm_robot_ros.middleware.idle_tasks import create_steady_timer
from wm_robot_ros.middleware.worker_result import await_result
from wm_robot_ros.state_api.live_report import flatten_report
from wm_robot_ros.state_api.messages import metric_messages, snapshot_message
from wm_robot_ros.state_api.served_agent import ServedAgent
from wm_robot_ros.state_api.services import restore_state
from wm_robot_ros.state_api.state_place import open_store_branch

if TYPE_CHECKING:
    from wm_robot.agent.agent import PredictionError

CHECK_INTERVAL = 0.2
"""Time between two progress checks, and between two feedback messages, in s."""
MIN_STEPS = 8
"""Smallest number of steps of `adapt`: two in each quarter."""
WORKER_MODULE = "wm_robot_ros.state_api.worker"
LIVE, BATTERY, QUICK = "live", "battery", "quick"
"""What `evaluate` runs in place of recordings: `live:SECONDS`, `battery:quick` and `battery:full`."""
Execute = Callable[[ServerGoalHandle, Any, Any], Awaitable[bool]]


class GoalCancelledError(Exception):
    """The client cancelled the goal."""


class LifetimeActions:
    """Action servers of an agent."""

    def __init__(self, agent: ServedAgent):
        self._agent, self._node, self._busy = agent, agent.node, False
        self._surprises: list[float] | None = None
        """Surprise of each step of the running `adapt` goal; None without one."""
        self._child: subprocess.Popen[bytes] | None = None
        self._tick = Future()
        self._timer: Any = None
        """Timer of the progress checks while a goal runs."""
        self._servers = [
            self._create_server(Adapt, "adapt", self._run_adapt),
            self._create_server(Assimilate, "assimilate", self._run_assimilate),
            self._create_server(Evaluate, "evaluate", self._run_evaluate),
        ]

    def destroy_all(self) -> None:
        """Destroy the action servers, and stop a running worker process."""
        self._end_goal()
        for server in self._servers:
            server.destroy()

    def record_transition(self, transition: StampedTransition, surprise: "PredictionError") -> None:
        """Store the surprise of a transition that the agent learned from."""
        if self._surprises is not None and transition.valid:
            self._surprises.append(float(surprise.nll))

    def _create_server(self, kind: Any, name: str, execute: Execute) -> ActionServer:
        async def run_goal(goal: ServerGoalHandle) -> Any:
            self._busy, self._tick = True, Future(executor=self._node.executor)
            self._timer = create_steady_timer(self._node, CHECK_INTERVAL, self._wake_goal)
            result = kind.Result()
            try:
                result.success = bool(await execute(goal, goal.request, result))
                goal.succeed()
            except GoalCancelledError:
                result.message = result.message or "cancelled"
                goal.canceled()
            except (WmRobotError, OSError) as error:
                result.message = f"{type(error).__name__}: {error}"
                goal.abort()
            finally:
                self._end_goal()
            return result

        return ActionServer(
            self._node,
            kind,
            f"~/{name}",
            execute_callback=run_goal,
            goal_callback=self._accept_goal,
            cancel_callback=lambda goal: CancelResponse.ACCEPT,
            callback_group=ReentrantCallbackGroup(),
        )

    def _accept_goal(self, goal: Any) -> GoalResponse:
        if self._busy:
            self._node.get_logger().warning(
                "goal rejected: another goal is running. Wait until it ends, or cancel it"
            )
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    async def _run_adapt(self, goal: ServerGoalHandle, asked: Adapt.Goal, result: Adapt.Result) -> bool:
        agent, wanted = self._agent, int(asked.steps)
        if wanted < MIN_STEPS:
            raise ConfigError(f"steps is {wanted}; it must be at least {MIN_STEPS}")
        if math.isnan(asked.max_surprise_increase):
            raise ConfigError(
                "max_surprise_increase is NaN; it must be a number in nats per channel, or infinity"
            )
        if not (agent.loop.active and agent.learning):
            raise SnapshotError("the agent does not act or does not learn. Activate it with learning: true")
        store, _ = open_store_branch(agent.session.place)
        before = await self._save_state()
        result.before = snapshot_message(store, before)
        surprises: list[float] = []
        self._surprises = surprises
        cancelled = False
        try:
            while len(surprises) < wanted:
                await self._wait_for_check(goal)
                if not agent.loop.active:
                    raise DeviceError(f"the agent stopped acting: {agent.loop.fault or 'it was deactivated'}")
                newest = surprises[-1] if surprises else math.nan
                goal.publish_feedback(
                    Adapt.Feedback(
                        progress=min(len(surprises) / wanted, 1.0),
                        steps=len(surprises),
                        surprise=float(newest),
                    )
                )
        except GoalCancelledError:
            cancelled = True
        result.steps = len(surprises)
        result.surprise_first, result.surprise_last = _compute_quarter_means(surprises)
        worse = result.surprise_last - result.surprise_first > asked.max_surprise_increase
        result.kept = not (asked.undo_on_cancel if cancelled else worse)
        if result.kept:
            after = await self._save_state()
        else:
            _, after = await restore_state(self._node, agent.session, before)
        if asked.pin:
            await await_result(
                agent.session.worker.submit_job(lambda: store.create_pin(asked.pin, after)), self._node
            )
        result.after = snapshot_message(store, after)
        if cancelled:
            raise GoalCancelledError
        if not result.kept:
            result.message = (
                "the session was undone: the surprise increased by more than max_surprise_increase"
            )
        return bool(result.kept)

    async def _run_assimilate(
        self, goal: ServerGoalHandle, asked: Assimilate.Goal, result: Assimilate.Result
    ) -> bool:
        store, _ = open_store_branch(self._agent.session.place)
        told = await self._run_worker(
            goal,
            Assimilate.Feedback,
            work="assimilate",
            reference=asked.reference or await self._save_state(),
            branch=asked.branch,
            recordings=list(asked.recordings),
            robot=asked.robot,
            own_recordings=list(asked.own_recordings),
            own_robot=asked.own_robot,
        )
        result.steps = int(told["steps"])
        result.metrics = metric_messages(told["metrics"], "1")
        result.snapshot = snapshot_message(store, told["snapshot"])
        if not told["accepted"]:
            result.message = (
                f"the recordings did not improve the state: {told['description']}. No branch was saved"
            )
        return bool(told["accepted"])

    async def _run_evaluate(
        self, goal: ServerGoalHandle, asked: Evaluate.Goal, result: Evaluate.Result
    ) -> bool:
        kind, size = parse_evaluation(list(asked.recordings))
        if kind == LIVE:
            return await self._report_live(goal, float(size), result)
        if kind == BATTERY:
            return await self._run_battery(goal, size, list(asked.references), result)
        store, _ = open_store_branch(self._agent.session.place)
        told = await self._run_worker(
            goal,
            Evaluate.Feedback,
            work="evaluate",
            references=list(asked.references) or [await self._save_state()],
            recordings=list(asked.recordings),
            robot=asked.robot,
        )
        result.snapshots = [snapshot_message(store, head) for head in told["snapshots"]]
        result.steps = int(told["steps"])
        for row in told["metrics"]:
            surprise = {"surprise": row.pop("surprise")}
            result.metrics = [*result.metrics, *metric_messages(surprise, "nat"), *metric_messages(row, "1")]
        return True

    async def _report_live(self, goal: ServerGoalHandle, seconds: float, result: Evaluate.Result) -> bool:
        """Report on the next seconds of an agent in shadow mode."""
        agent, report = self._agent, self._agent.live_report
        if report is None:
            raise ConfigError(
                f"'{LIVE}:' needs an agent in shadow mode, and this one drives. Run: wm-robot up shadow"
            )
        wanted = max(1, round(seconds / agent.spec.dt))
        report.restart()
        while report.num_steps < wanted:
            await self._wait_for_check(goal)
            if not agent.loop.active:
                raise DeviceError(f"the agent is not active: {agent.loop.fault or 'activate it'}")
            goal.publish_feedback(
                Evaluate.Feedback(progress=min(report.num_steps / wanted, 1.0), current_work="live topics")
            )
        found = report.to_dict()
        result.steps = int(found["num_steps"])
        result.metrics = metric_messages(flatten_report(found), "1")
        return True

    async def _run_battery(
        self, goal: ServerGoalHandle, size: str, references: list[str], result: Evaluate.Result
    ) -> bool:
        """Validate base and state of this agent by the battery, in a worker process; the message is the verdict."""
        store, _ = open_store_branch(self._agent.session.place)
        if len(references) > 1:
            raise ConfigError(f"'{BATTERY}:' validates one state, and references are {references}")
        told = await self._run_worker(
            goal,
            Evaluate.Feedback,
            work="validate",
            reference=references[0] if references else await self._save_state(),
            is_quick=size == QUICK,
            model=self._agent.robot,
            task=self._agent.task,
        )
        result.snapshots = [snapshot_message(store, told["snapshot"])]
        result.metrics = metric_messages(told["metrics"], "1")
        result.message = told["verdict"]
        return bool(told["passed"])

    async def _run_worker(self, goal: ServerGoalHandle, feedback: type, **request: Any) -> dict[str, Any]:
        """Run a request in a worker process, publish its progress as feedback, and return its result."""
        agent = self._agent
        request |= {
            "base": agent.base,
            "spec": agent.robot,
            "store": str(open_store_branch(agent.session.place)[0].folder),
        }
        self._child = child = subprocess.Popen(
            [sys.executable, "-m", WORKER_MODULE, json.dumps(request)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            # In its own session, so that Ctrl-C reaches only the agent, which then stops the worker.
            start_new_session=True,
        )
        assert child.stdout
        os.set_blocking(child.stdout.fileno(), False)
        rest = b""
        while True:
            ended = child.poll() is not None
            *lines, rest = (rest + (child.stdout.read() or b"")).split(b"\n")
            for line in map(json.loads, lines):
                if "result" in line:
                    return dict(line["result"])
                if "error" in line:
                    raise DeviceError(line["error"])
                goal.publish_feedback(
                    feedback(progress=float(line["progress"]), current_work=str(line["current_work"]))
                )
            if ended:
                raise DeviceError(
                    f"the worker process ended with code {child.returncode} and no result. See the log of the agent"
                )
            await self._wait_for_check(goal)

    async def _save_state(self) -> str:
        """Save the lifetime state, and return the digest of the snapshot."""
        return await await_result(self._agent.session.save_in_worker(), self._node)

    async def _wait_for_check(self, goal: ServerGoalHandle) -> None:
        """Wait for the next progress check.

        Raises:
            Cancelled: If the client cancelled the goal.
        """
        await self._tick
        if goal.is_cancel_requested:
            raise GoalCancelledError

    def _wake_goal(self) -> None:
        self._tick, past = Future(executor=self._node.executor), self._tick
        past.set_result(None)

    def _end_goal(self) -> None:
        """Reset all values of the goal, and stop its worker process."""
        self._surprises, self._busy = None, False
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._timer = None
        if self._child is not None:
            if self._child.poll() is None:
                # With all processes that it started.
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()
            if self._child.stdout:
                self._child.stdout.close()
        self._child = None


def parse_evaluation(recordings: list[str]) -> tuple[str, str]:
    """Return what is evaluated in place of recordings, and its size; empty texts for recordings.

    Raises:
        ConfigError: If the size is not permitted, or there are recordings besides.
    """
    kind, _, size = recordings[0].partition(":") if recordings else ("", "", "")
    if kind not in (LIVE, BATTERY):
        return "", ""
    if len(recordings) > 1:
        raise ConfigError(f"recordings are {recordings}; '{recordings[0]}' must be the only one")
    try:
        is_permitted = size in (QUICK, "full") if kind == BATTERY else 0 < float(size) < math.inf
    except ValueError:
        is_permitted = False
    if not is_permitted:
        raise ConfigError(
            f"'{recordings[0]}' cannot be evaluated; it must be {BATTERY}:{QUICK}, {BATTERY}:full or {LIVE}:SECONDS"
        )
    return kind, size


def _compute_quarter_means(surprises: Iterable[float]) -> tuple[float, float]:
    """Compute the means over the first and the last quarter; NaN for too few values."""
    values = np.array(list(surprises))
    part = len(values) // 4
    return (float(values[:part].mean()), float(values[-part:].mean())) if part else (math.nan, math.nan)
