"""The agent: acts on each observation as it comes, and lives each transition into its state.

The order matters. The plan starts from the observation and from the actions that are really on their way; the
transition that led there is lived while the command is on its way to the motors. So a command comes after one search,
and the life that it reads is one control period old.
"""

import json
import math
import os
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PointStamped
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.duration import Duration
from rclpy.executors import Executor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, String
from std_srvs.srv import Trigger

from wm_robot.agent.builder import Life, LifeConfig, Surprise, load_life
from wm_robot.control.period_log import Period, PeriodLog, log_status
from wm_robot.control.realtime import Garbage
from wm_robot.control.timing import Histogram, Slack
from wm_robot.errors import SnapshotError, WmRobotError
from wm_robot.io.durable import write_file
from wm_robot.robots import load_spec
from wm_robot.safety.heartbeat import Heartbeat
from wm_robot.spec import RobotSpec
from wm_robot.store.rescue_store import Rescued, rescue
from wm_robot.store.store import opened
from wm_robot.streams.rejection import UNTIMELY, BadMessageError, Refusal, check_time
from wm_robot.streams.throttled_log import Complaints
from wm_robot.streams.transition_assembler import Lived, Pairing
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.idle_tasks import Chores
from wm_robot_ros.middleware.input_monitor import WATCHED, InputWatch, joined
from wm_robot_ros.middleware.lifecycle import transition
from wm_robot_ros.middleware.node_runtime import (
    PATIENCE,
    Stop,
    end,
    executor_of,
    incompatible_qos,
    one_sentence,
    spin_once,
    start,
    use_real_time,
)
from wm_robot_ros.middleware.parameters import declare, warn_of_unknown
from wm_robot_ros.middleware.qos import HEARTBEAT, OUTPUT, SENSOR
from wm_robot_ros.middleware.subscriptions import Newest, OneSpeaker
from wm_robot_ros.nodes.agent_inputs import AgentInputs
from wm_robot_ros.state_api.create import attach
from wm_robot_ros.state_api.snapshot_pruner import Thinning

NAME = "agent"
LAST_WORD = Duration(seconds=0.5)
"""Patience for those who listen, at the end."""
LOOK = 0.005
"""Longest wait for work of an agent that has a guard, in s."""
RETRY = 5.0
"""Seconds between two tries to save what is saved nowhere, at the end."""
WARM_UP = 20
"""Steps before the first observation, which no one sees: the first ones take many times longer."""
MakeLife = Callable[[LifeConfig, RobotSpec], Life]


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """Parameters of the node."""

    robot: str
    life: LifeConfig
    restore: str
    resume: bool
    state: str
    max_age: float
    target_max_age: float
    status_rate: float
    autostart: bool
    save_every: float
    keep_last: int
    report: str
    listeners: int
    heartbeat: str
    log: str
    priority: int
    cores: str

    @classmethod
    def declare(cls, node: Node) -> "AgentConfig":
        life = LifeConfig(
            base=declare(node, "base", "", "folder of the base"),
            task=declare(node, "task", "", "task of the robot's spec; empty: its first"),
            learning=declare(node, "learning", True, "false: the state is read and never written"),
            recall=declare(
                node, "recall", True, "conditions lived before are recognised; false: learned anew"
            ),
            learner=declare(node, "learner", False, "a process beside it fits a residual for the life"),
            watch_plans=declare(node, "watch_plans", True, "tell when plans do not keep what they promise"),
            seed=declare(node, "seed", 0, "of the planner's noise"),
            samples=declare(node, "planner.samples", 0, "plans an iteration; 0: default", bounds=(0, 65536)),
            horizon=declare(node, "planner.horizon", 0, "steps looked ahead; 0: default", bounds=(0, 256)),
            iterations=declare(node, "planner.iterations", 0, "iterations; 0: default", bounds=(0, 64)),
            threads=declare(node, "threads", 1, "threads of torch", bounds=(1, 64)),
        )
        return cls(
            life=life,
            robot=declare(node, "robot", "arm", "name of a robot that ships, or path of its spec"),
            restore=declare(node, "restore", "", "life to go on from, STORE or STORE@BRANCH; empty: birth"),
            resume=declare(
                node, "resume", False, "go on from `state` where it holds a life, whatever restore is"
            ),
            state=declare(node, "state", "", "where to save, STORE or STORE@BRANCH; empty: not at all"),
            save_every=declare(
                node, "save_every", 60.0, "s between saves while it acts; 0: at the end", bounds=(0, 86400)
            ),
            keep_last=declare(
                node,
                "keep_last",
                64,
                "snapshots kept whole, and as many before, ever further apart; 0: all",
                bounds=(0, 1_000_000),
            ),
            max_age=declare(
                node, "observation.max_age", 0.1, "s; an older observation is refused", bounds=(0, 10)
            ),
            target_max_age=declare(
                node, "target.max_age", 0.5, "s; with an older target it does not act", bounds=(0, 3600)
            ),
            status_rate=declare(node, "status_rate", 10.0, "Hz of ~/status", bounds=(2, 50)),
            autostart=declare(node, "autostart", False, "configure and activate without being asked"),
            report=declare(node, "report", "", "file for the last ~/status, written at the end; empty: none"),
            listeners=declare(
                node,
                "listeners",
                0,
                "subscribers of joint_command without whom it does not begin",
                bounds=(0, 64),
            ),
            heartbeat=declare(node, "heartbeat", "", "page shared with wm-robot guard; empty: none"),
            log=declare(node, "log", "", "file that gets a line of JSON for each step; empty: none"),
            priority=declare(node, "realtime.priority", 0, "of SCHED_FIFO; 0: none", bounds=(0, 99)),
            cores=declare(node, "realtime.cores", "", "to run on alone, as 2,3; empty: any"),
        )


class AgentNode(LifecycleNode):
    """Translates: messages in, the life's actions out."""

    def __init__(self, make_life: MakeLife = load_life):
        super().__init__(NAME)
        self.config = AgentConfig.declare(self)
        warn_of_unknown(self)
        self._make_life = make_life
        self._worker = ThreadPoolExecutor(1)
        self._active = self._born = self._unsaved = False
        self._doubtful = False
        """Whether something went wrong since the life was last known to be good."""
        self._from = self._begin_from()
        """What the life goes on from; one that this process saved goes before any other."""
        self.trouble = self.unsaved_because = ""
        """What keeps it from acting, and from saving; empty if nothing does."""
        self._rescued: Rescued | None = None
        """Where a copy is of what could not be saved, as long as nothing is lived after it."""
        self.acted = 0
        self.latency, self.act_time, self.live_time = Histogram(), Histogram(), Histogram()
        self.slack = Slack()
        self.chores = Chores(self)
        self._entities: list[Callable[[], object]] = []
        self._watching: list[Callable[[Lived, Surprise], None]] = []
        """Who is told of each step, after it was lived."""
        self._thinning = Thinning(self.config.state, self.config.keep_last)
        self._heartbeat = Heartbeat(Path(self.config.heartbeat)) if self.config.heartbeat else None
        self.log = PeriodLog(self.config.log) if self.config.log else None
        self.realtime: dict[str, str] = {}
        self.garbage: Garbage | None = None
        self._contact = False
        """Whether the plant's guard stood between us and the motors, in what is yet to be lived."""
        self._complaints = Complaints(self.get_logger().warning)
        self._sensing, self._applying = (
            OneSpeaker(self, topic, self._complaints, wary=False)
            for topic in ("joint_states", "applied_command")
        )
        self._next_due = 0.0
        """When the next observation may be there, in s of the monotonic clock."""

    # Transitions

    @transition
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the base, check the state to restore, warm up, and open the topics."""
        config = self.config
        self._refuse_to_overwrite()
        self.spec = spec = load_spec(config.robot)
        life = replace(config.life, task=config.life.task or next(iter(spec.tasks), ""))
        self._goal_size = spec.task(life.task).goal
        # With a life that nobody lives on, so that nothing it did counts.
        self._practise(self._make_life(replace(life, learner=False), spec))
        self.life = self._make_life(life, spec)
        self._entities.append(self.life.close)
        # So that a state which does not fit is refused here and not in mid-air.
        try:
            self.life.begin(self._neutral, self._from)
        except SnapshotError:
            self._release()
            raise
        self._born = self._unsaved = self._doubtful = False
        self.trouble = ""
        self.pairing = Pairing(period=spec.dt, max_age=config.max_age)
        self._goal: tuple[int, np.ndarray] | None = None
        self._surprise: float | None = None
        self._open_topics()
        # Not only to be read: the first line of a process takes 15 ms, and the next may be said between two steps.
        self.get_logger().info(f"configured: {spec.name}, task {life.task or 'none'}, base {life.base}")
        # Everything is loaded, and the learner is started: nothing of that is to go before others.
        self.realtime = use_real_time(self, config.priority, config.cores)
        self.garbage = Garbage()
        return TransitionCallbackReturn.SUCCESS

    @transition
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = super().on_activate(state)
        self.pairing.forget()
        if self._doubtful:
            # Nobody goes on with a life that may be broken: back to where it was born or restored.
            self._born = self._doubtful = False
        self.trouble = ""
        for speaker in (self._sensing, self._applying):
            speaker.forget()
        self.inputs.begin()
        self._active = True
        return result

    @transition
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop acting; then save, where a folder is named.

        A state that cannot be saved does not keep the agent acting: the life is still there, a copy is in a second
        place, and `~/save` may be tried again.
        """
        self._active = False
        # At once: to a plant, silence without a word is a controller that is late.
        self._publish_status()
        result = super().on_deactivate(state)
        self.save_if_lived()
        return result

    @transition
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget the life; refused while it could not be saved."""
        if self.config.state and self._unsaved:
            self.get_logger().error(f"kept: {self.unsaved_because}. Mend that and call ~/save")
            return TransitionCallbackReturn.FAILURE
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @transition
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._active = False
        self.save_if_lived()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @transition
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._active = False
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def tell_progress(self) -> None:
        """Tell the guard that the loop gets on; while it does not act, that nobody drives."""
        if self._heartbeat is None:
            return
        if self._active:
            self._heartbeat.beat()
        elif self._heartbeat.driver == os.getpid():
            self._heartbeat.end()

    def end_driving(self) -> None:
        """An end in order is no emergency."""
        was, self._active = self._active, False
        self.tell_progress()
        if was:
            self._publish_status()
            # The last word goes with its publisher, unless somebody has it already.
            self._status.wait_for_all_acked(LAST_WORD)

    def tidy(self) -> None:
        """Between two steps: collect garbage and say how it is, if the next observation is far enough away."""
        if self.garbage:
            self.garbage.tidy(self._left())
        self.chores.do(self._left)

    def _left(self) -> float:
        """Time in which nothing is due, in s."""
        left = self._next_due - time.monotonic()
        # Nobody knows when the next one comes of a plant that is late by a whole period.
        if not self._active or left < -self.spec.dt:
            return math.inf
        return left

    @property
    def patience(self) -> float:
        """Longest wait for work, in s."""
        return LOOK if self.config.heartbeat else PATIENCE

    def _practise(self, life: Life) -> None:
        """Live and act a few steps, so that the first real one is not the slow one."""
        obs, goal = np.zeros(self.spec.obs_dim, np.float32), np.zeros(self._goal_size, np.float32)
        life.begin(self._neutral)
        for _ in range(WARM_UP):
            life.live(obs, life.act(obs, goal), obs)

    @property
    def _neutral(self) -> np.ndarray:
        """The action nearest to zero, `A`."""
        spec = self.spec
        return np.clip(np.zeros(spec.action_dim, np.float32), spec.action_low, spec.action_high)

    def _begin_from(self) -> str | None:
        """What the first life of this process goes on from: of an agent that died, what it saved last."""
        if self.config.resume and self.config.state:
            store, branch = opened(self.config.state)
            if branch in store.branches():
                return self.config.state
        return self.config.restore or None

    def _refuse_to_overwrite(self) -> None:
        """A branch that holds a life is never left to another life that does not go on from it.

        Raises:
            SnapshotError: If `state` holds a life and `restore` does not name it, or nothing can be saved there.
        """
        if not self.config.state:
            return
        store, branch = opened(self.config.state)
        store.check_writable()
        head = store.branches().get(branch)
        if head is None:
            return
        source, reference = opened(self._from or "")
        same = self._from and source.folder.resolve() == store.folder.resolve()
        if not same or source.find(reference) != head:
            raise SnapshotError(
                f"state {self.config.state} holds a life, and restore is {self._from or ''!r}. "
                f"Write restore:={self.config.state} to go on with it, or name another branch: FOLDER@BRANCH"
            )

    def _open_topics(self) -> None:
        self._command = self.create_lifecycle_publisher(JointState, "joint_command", OUTPUT)
        self._predicted = self.create_lifecycle_publisher(JointState, "~/prediction", OUTPUT)
        self._surprised = self.create_lifecycle_publisher(Float64, "~/surprise", OUTPUT)
        self._status = self.create_publisher(String, "~/status", HEARTBEAT)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", OUTPUT)
        for publisher in (self._command, self._predicted, self._surprised, self._status, self._diagnostics):
            self._entities.append(partial(self.destroy_publisher, publisher))
        # In the order in which they are worked off when all are there: the observation comes last.
        subscriptions = [
            self.create_subscription(
                kind,
                topic,
                callback,
                # A copy: what parameters override is written into it.
                copy(SENSOR),
                event_callbacks=events,
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
            for kind, topic, callback, events in (
                (PointStamped, "target", self._on_target, WATCHED),
                (
                    String,
                    "plant/contact",
                    self._on_contact,
                    incompatible_qos("plant/contact", self._complaints),
                ),
            )
        ] + [
            Newest(
                self,
                JointState,
                topic,
                callback,
                refuses=partial(self._ignores, speaker),
                event_callbacks=WATCHED,
            ).subscription
            for topic, callback, speaker in (
                ("applied_command", self._on_applied, self._applying),
                ("joint_states", self._on_observation, self._sensing),
            )
        ]
        for subscription in subscriptions:
            self._entities.append(partial(self.destroy_subscription, subscription))
        target, _, applied, sensed = subscriptions
        self.inputs = AgentInputs(self, self._complaints, sensed=sensed, applied=applied, target=target)
        service = self.create_service(
            Trigger, "~/save", self._on_save, callback_group=ReentrantCallbackGroup()
        )
        self._entities.append(partial(self.destroy_service, service))
        attach(self, self._entities, self._watching)
        for period, publish in (
            (1.0 / self.config.status_rate, self._publish_status),
            (1.0, self._publish_diagnostics),
            (self.config.save_every if self.config.state else 0.0, self._save_beside),
        ):
            if not period:
                continue
            self._entities.append(self.chores.every(period, publish))

    def _release(self) -> None:
        for destroy in reversed(self._entities):
            destroy()
        self._entities.clear()
        self._watching.clear()

    # Messages

    def _on_target(self, message: PointStamped) -> None:
        try:
            stamp, goal = convert.stamp_of(message), convert.goal(message)
        except BadMessageError as error:
            self._refuse(self.inputs.target, error.reason, str(error))
            return
        last, now = self._goal[0] if self._goal else 0, self._now()
        oldest = max(self.config.target_max_age, self.config.max_age)
        if not self.inputs.clock.runs(now):
            return
        refusal = check_time(stamp, now, last, round(oldest * 1e9))
        if refusal:
            self._refuse(self.inputs.target, refusal, UNTIMELY[refusal])
            return
        self._goal = stamp, goal
        self.inputs.target.use(time.monotonic())

    def _on_contact(self, message: String) -> None:
        self._contact = True

    def _ignores(self, speaker: OneSpeaker, source: bytes) -> bool:
        """Whether a message does not count, whatever it says."""
        if not self._active:
            return True
        refused = speaker.refuses(source)
        if refused:
            self.pairing.refusals.add(Refusal.SOURCE)
        return refused

    def _on_applied(self, message: JointState, source: bytes) -> None:
        try:
            self.pairing.apply(convert.stamp_of(message), convert.action(message, self.spec))
        except BadMessageError as error:
            self._refuse(self.inputs.applied, error.reason, str(error))
            return
        self._applying.follow(source)
        self.inputs.applied.use(time.monotonic())
        # Late: the observation that it led to has been acted on already.
        self._guarded(self._live_what_is_ready)

    def _on_observation(self, message: JointState, source: bytes) -> None:
        stamp, now = convert.stamp_of(message), self._now()
        if not self.inputs.clock.runs(now):
            self.pairing.refusals.add(Refusal.NO_CLOCK)
            return
        refusal = self.pairing.untimely(stamp, now)
        if refusal:
            self.inputs.sensed.refuse(refusal, UNTIMELY[refusal])
            return
        try:
            obs = convert.observation(message, self.spec).values
        except BadMessageError as error:
            self._refuse(self.inputs.sensed, error.reason, str(error))
            return
        if self.pairing.sense(stamp, self._now(), obs) is None:
            self._sensing.follow(source)
            moment = time.monotonic()
            self.inputs.sensed.use(moment)
            self._next_due = moment + self.spec.dt - max(0, self._now() - stamp) / 1e9
            self._guarded(self._step, stamp, obs)

    def _refuse(self, watch: InputWatch, reason: Refusal, words: str) -> None:
        """Count a message that is not used, and say why."""
        self.pairing.refusals.add(reason)
        watch.refuse(reason, words)

    def _look_for_plant(self) -> None:
        """Now and then: whether the plant is still there and who else speaks for it, and what else is missing."""
        for speaker in (self._sensing, self._applying):
            speaker.look()
        self.inputs.look()

    def _step(self, stamp: int, obs: np.ndarray) -> None:
        """One control step: act, then live what came of the action before."""
        if not self._born:
            hold = self.pairing.applied
            # A recorder that comes late would miss the beginning.
            if hold is None or self._command.get_subscription_count() < self.config.listeners:
                return
            self.life.begin(hold, self._from)
            self._born = True
            self.inputs.born()
            while self.pairing.take() is not None:
                # What was before its birth is not its experience.
                continue
        last = self.pairing.take()
        while (newer := self.pairing.take()) is not None:
            if last is not None:
                self._live(last)
            last = newer
        before = self.acted
        self._act(stamp, obs, None if last is None else last.applied)
        acted = self.acted > before
        if last is not None:
            left_ms = 1e3 * self.spec.dt - self.latency.last_ms
            self._live(last, hurry=acted and self.slack.lacks(left_ms))
        if self.log:
            self.log.add(
                Period(
                    stamp=stamp,
                    latency_ms=self.latency.last_ms if acted else math.nan,
                    act_ms=self.act_time.last_ms if acted else math.nan,
                    live_ms=math.nan if last is None else self.live_time.last_ms,
                    surprise=math.nan if last is None or self._surprise is None else self._surprise,
                )
            )

    def _act(self, stamp: int, obs: np.ndarray, applied: np.ndarray | None) -> None:
        goal = self._present_goal(stamp)
        if goal is None:
            self.inputs.aimless += 1
            return
        self.inputs.answered += 1
        began = self._now()
        action = self.life.act(obs, goal, applied=applied)
        if not np.isfinite(action).all():
            bad = [self.spec.action_names[i] for i in np.flatnonzero(~np.isfinite(action))]
            raise FloatingPointError(f"the action of {bad} is not finite")
        self._command.publish(convert.action_message(action, self.spec, stamp))
        now = self._now()
        self.acted += 1
        self.act_time.add((now - began) / 1e6)
        self.latency.add((now - stamp) / 1e6)

    def _present_goal(self, stamp: int) -> np.ndarray | None:
        """The goal to act towards; None if there is none that is recent."""
        if not self._goal_size:
            return np.zeros(0, np.float32)
        if self._goal is None or stamp - self._goal[0] > self.config.target_max_age * 1e9:
            return None
        return self._goal[1]

    def _live_what_is_ready(self) -> bool:
        """Live one transition, if there is one."""
        lived = self.pairing.take() if self._born else None
        if lived is not None:
            self._live(lived)
        return lived is not None

    def _live(self, lived: Lived, *, hurry: bool = False) -> None:
        began = self._now()
        contact, self._contact = self._contact, False
        surprise = self.life.live(
            lived.obs, lived.applied, lived.next_obs, valid=lived.valid, contact=contact, hurry=hurry
        )
        if not np.isfinite(surprise.nll):
            raise FloatingPointError(f"surprise is {surprise.nll}")
        self._unsaved, self._rescued = True, None
        self._surprise = float(surprise.nll)
        self.live_time.add((self._now() - began) / 1e6)
        self.slack.add(self.live_time.last_ms, hurried=hurry)
        self._predicted.publish(convert.observation_message(surprise.mean, self.spec, lived.stamp))
        self._surprised.publish(convert.number_message(surprise.nll))
        self.inputs.live(lived)
        for watch in self._watching:
            watch(lived, surprise)

    def _guarded(self, work: Callable[..., object], *arguments: Any) -> None:
        """The control loop's one net: whatever goes wrong stops the agent, and then is told."""
        try:
            work(*arguments)
        except Exception as error:
            # What was lived since the last save is in doubt, so it must not replace what is saved.
            self._active = self._unsaved = False
            self._doubtful = True
            self.trouble = f"{type(error).__name__}: {error}"
            self.get_logger().fatal(f"stopped acting; the plant holds position\n{traceback.format_exc()}")
            self.trigger_deactivate()

    # Saving

    async def _on_save(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.message, response.success = await self.save(), True
        except WmRobotError as error:
            response.success, response.message = False, str(error)
        return response

    async def save(self) -> str:
        """Save in the worker, between two steps as the state is concerned; returns the snapshot's digest.

        Raises:
            SnapshotError: If there is nothing to save, nowhere to, or it failed.
        """
        if not self.config.state:
            raise SnapshotError("parameter 'state' is empty")
        if not self._born:
            raise SnapshotError(self.inputs.explain("nothing was lived yet"))
        if self._doubtful:
            raise SnapshotError(f"the life is in doubt since it stopped: {self.trouble}. What is saved stays")
        # What is lived from now on counts as unsaved, though it may come in time.
        before, self._unsaved = self._unsaved, False
        try:
            saved = str(await self.beside(partial(self.life.save, self.config.state)))
        except Exception as error:
            self._unsaved |= before
            told = f"{type(error).__name__}: {error}"
            self.unsaved_because = f"state not saved: {told}"
            raise SnapshotError(told) from error
        self._from, self.unsaved_because = self.config.state, ""
        self._thinning.saved()
        return saved

    async def beside(self, work: Callable[[], Any]) -> Any:
        """What work gives that the worker does, one after another, while the loop goes on."""
        executor, done = self.executor, rclpy.task.Future(executor=self.executor)

        def run() -> None:
            try:
                done.set_result(work())
            except Exception as error:
                done.set_exception(error)
            # A sleeping executor would not see that the future is done.
            executor.wake()

        self._worker.submit(run)
        return await done

    def go_on_from(self, restore: str | None) -> None:
        """Live on from a saved life, or from birth, at the next step that it acts; what is unsaved is lost."""
        self._from, self._born, self._unsaved, self._doubtful = restore, False, False, False

    @property
    def born(self) -> bool:
        """Whether it has lived since it was configured, or went on from somewhere."""
        return self._born

    @property
    def active(self) -> bool:
        return self._active

    @property
    def needs_goal(self) -> bool:
        """Whether its task has a goal, without which it does not act."""
        return self._goal_size > 0

    @property
    def unsaved(self) -> bool:
        return self._unsaved

    def _save_beside(self) -> None:
        """Save in the worker while the loop goes on: a power cut takes no more than what was lived since."""
        if not (self._active and self._unsaved):
            return
        self._unsaved = False

        def work() -> None:
            try:
                self.life.save(self.config.state)
            except Exception as error:
                self._unsaved = True
                self.unsaved_because = f"state not saved: {type(error).__name__}: {error}"
                return
            self._from, self.unsaved_because = self.config.state, ""
            self._thinning.saved()

        self._worker.submit(work)

    def save_if_lived(self) -> None:
        """Save what was lived since the last time, where a folder is named; a copy elsewhere, if that fails."""
        if not (self.config.state and self._unsaved):
            return
        before = self.unsaved_because
        try:
            # In line behind a ~/save that may be under way: two at once would destroy each other's files.
            digest = self._worker.submit(self.life.save, self.config.state).result()
        except Exception as error:
            self.unsaved_because = f"state not saved: {type(error).__name__}: {error}. {self._rescue()}"
            if self.unsaved_because != before:
                self.get_logger().error(self.unsaved_because)
            return
        self._unsaved, self._from, self.unsaved_because = False, self.config.state, ""
        self._thinning.saved()
        self.get_logger().info(f"saved {digest[:12]} in {self.config.state}")

    def _rescue(self) -> str:
        """Save a copy in a second place, unless one is there; returns what to say of it."""
        if self._rescued is None:
            name = self.get_fully_qualified_name().strip("/").replace("/", "-")
            try:
                work = partial(rescue, self.life.rescue, self.config.state, name=name)
                self._rescued = self._worker.submit(work).result()
            except Exception as error:
                return f"And {error}"
        return f"Nothing is lost: a copy is {self._rescued.life}. Bring it back: {self._rescued.command}"

    def keep_until_saved(self, stop: Stop) -> None:
        """Stay, and try again, while what was lived is saved nowhere; one more request to end gives it up."""
        if not (self.config.state and self._unsaved) or self._rescued:
            return
        self.get_logger().fatal(
            f"what was lived is saved nowhere. This process, {os.getpid()}, keeps the state and tries again every "
            f"{RETRY:.0f} s: make room. Another Ctrl-C or SIGTERM gives the state up"
        )
        before, due = stop.requests, time.monotonic() + RETRY
        while self._unsaved and not self._rescued:
            if stop.requests > before:
                self.get_logger().fatal(
                    f"given up: what was lived since the last save. {self.unsaved_because}"
                )
                return
            time.sleep(PATIENCE)
            if time.monotonic() >= due:
                self.save_if_lived()
                due = time.monotonic() + RETRY

    # Reports

    def status(self) -> dict[str, Any]:
        return {
            "active": self._active,
            "trouble": self.trouble or self.unsaved_because,
            "acted": self.acted,
            "hurried": self.slack.hurried,
            "life": dict(self.life.counters),
            "surprise": self._surprise,
            "refused": self.pairing.refusals.to_dict(),
            "latency": self.latency.to_dict(),
            "act": self.act_time.to_dict(),
            "live": self.live_time.to_dict(),
            "realtime": self.realtime,
            "garbage": self.garbage.status() if self.garbage else {},
            "log": log_status(self.log),
            **self.inputs.to_dict(),
            **self.life.report(),
        }

    def write_report(self) -> None:
        if not (self.config.report and self._entities):
            return
        try:
            write_file(Path(self.config.report), json.dumps(self.status()).encode())
        except OSError as error:
            self.get_logger().error(f"report not written: {error}")

    def _publish_status(self) -> None:
        self._status.publish(convert.json_message(self.status()))

    def _publish_diagnostics(self) -> None:
        self._look_for_plant()
        missing = self.inputs.missing
        wrong = [words for words in self._complaints.present() if words not in missing]
        name = self.get_fully_qualified_name().lstrip("/")
        refused = self.pairing.refusals
        late = self.latency.percentile(99)
        slow = late > 1e3 * self.spec.dt
        waiting = "ok" if self._active else "stale"
        told = self.life.report()
        components = (
            (
                f"{name}: inference",
                "error" if self.trouble or self.unsaved_because else "warn" if slow or missing else waiting,
                self.trouble
                or self.unsaved_because
                or joined(missing)
                or ("slower than the control period" if slow else "")
                or ("acting" if self._active else "idle"),
                {"acted": self.acted, "latency_p50_ms": self.latency.percentile(50), "latency_p99_ms": late},
            ),
            (
                f"{name}: observations",
                "warn" if wrong else "ok",
                "; ".join(wrong) or self.inputs.so_far(refused.total),
                {**refused.to_dict(), **self.inputs.unlearned.to_dict(), **self.inputs.clock.to_dict()},
            ),
            (
                f"{name}: lifetime",
                waiting if told.get("plans_kept", True) else "warn",
                ("learning" if self.config.life.learning else "frozen")
                + ("" if told.get("plans_kept", True) else "; plans do not keep what they promise"),
                {
                    **self.life.counters,
                    **told,
                    "surprise": self._surprise,
                    "base": self.config.life.base,
                },
            ),
        )
        self._diagnostics.publish(convert.diagnostics_message(self._now(), self.spec.name, components))

    def _now(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def run(node: AgentNode, executor: Executor, stop: Stop) -> None:
    """Work until asked to end.

    Raises:
        SystemExit: If it was to start by itself and could not.
    """
    if node.config.autostart:
        for step in (node.trigger_configure, node.trigger_activate):
            if step() != TransitionCallbackReturn.SUCCESS:
                raise SystemExit(1)
    while not stop.asked:
        spin_once(executor, node, node.patience)
        node.tell_progress()
        node.tidy()


def main(make_life: MakeLife = load_life) -> None:
    """Run the node until Ctrl-C; what was lived is saved on the way out, or a copy of it elsewhere.

    Raises:
        SystemExit: With 1 if it stopped acting by itself, or could not save where its parameter `state` says; with 2
            if its parameters cannot be.
    """
    stop = start()
    node = None
    try:
        with one_sentence():
            node = AgentNode(make_life)
        run(node, executor_of(node, quick=True), stop)
        node.end_driving()
        node.save_if_lived()
        node.keep_until_saved(stop)
        node.write_report()
        if node.trouble or node.unsaved_because:
            raise SystemExit(1)
    finally:
        if node and node.log:
            node.log.close()
        end(node)


if __name__ == "__main__":
    main()
