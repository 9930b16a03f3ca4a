"""Configured agent: an agent over ROS with its inputs, outputs, control loop, state session and status."""

import traceback
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
from rclpy.lifecycle import LifecycleNode

from wm_robot.control.agent_loop import AgentLoop
from wm_robot.control.period_log import PeriodLog
from wm_robot.spec import RobotSpec
from wm_robot.streams.throttled_log import Complaints
from wm_robot.streams.transition_assembler import Lived
from wm_robot_ros.middleware.idle_tasks import Chores
from wm_robot_ros.nodes.agent_inputs import AgentInputs
from wm_robot_ros.nodes.agent_outputs import AgentOutputs
from wm_robot_ros.nodes.agent_parameters import AgentConfig
from wm_robot_ros.nodes.agent_status import AgentStatus, StatusSources
from wm_robot_ros.state_api.create import attach
from wm_robot_ros.state_api.save_service import offer_save
from wm_robot_ros.state_api.served_agent import ServedAgent
from wm_robot_ros.state_api.state_session import StateSession

if TYPE_CHECKING:
    from wm_robot.agent.agent import Surprise
    from wm_robot.agent.builder import RobotLife


class ConfiguredAgent:
    """Agent over ROS: connects inputs, control loop, outputs and state session."""

    def __init__(
        self,
        node: LifecycleNode,
        config: AgentConfig,
        spec: RobotSpec,
        life: "RobotLife",
        session: StateSession,
        *,
        idle_tasks: Chores,
        log: PeriodLog | None,
        process: Callable[[], dict[str, Any]],
        resources: ExitStack,
    ):
        """Args:
        process: See `StatusSources`.
        resources: Stack that destroys each part when it closes.
        """
        self._node, self._config, self._session = node, config, session
        self.needs_goal = spec.task(config.life.task).goal > 0
        """Whether the task has a goal; without a goal such an agent does not act."""
        self._outputs = AgentOutputs(node, spec, resources)
        self.loop: AgentLoop[Surprise] = AgentLoop(
            life.agent,
            spec,
            send=self._outputs.send,
            learned=self._publish,
            failed=self._stop,
            log=log.add if log else None,
            clock=self._now,
        )
        complaints = Complaints(node.get_logger().warning)
        self._inputs = AgentInputs(node, self, spec, config, complaints, resources)
        self.status = AgentStatus(
            node,
            StatusSources(
                spec=spec,
                config=config.life,
                life=life,
                loop=self.loop,
                session=session,
                inputs=self._inputs,
                complaints=complaints,
                process=process,
            ),
            resources,
        )
        offer_save(node, session, resources, explain=self._inputs.health.explain)
        served = ServedAgent(
            node=node,
            spec=spec,
            life=life,
            loop=self.loop,
            session=session,
            idle_tasks=idle_tasks,
            base=config.life.base,
            robot=config.robot,
            learning=config.life.learning,
        )
        self._watches = attach(served, resources)
        for period, work in (
            (1.0 / config.status_rate, self.status.publish),
            (1.0, self.status.publish_diagnostics),
            (config.save_every if config.state else 0.0, self._save),
        ):
            if period:
                resources.callback(idle_tasks.every(period, work))

    @property
    def active(self) -> bool:
        """Whether the agent acts."""
        return self.loop.active

    @property
    def has_started(self) -> bool:
        """Whether the agent updates its lifetime state."""
        return self._session.record.started

    def start(self) -> None:
        """Start acting at the next observation."""
        self._session.drop_if_suspect()
        self._inputs.start()
        self.loop.start()

    def take_observation(self, stamp: int, obs: np.ndarray, due: float) -> None:
        """Act on an observation, and learn from the transition that led to it; see `InputReceiver`."""
        self.loop.expect_observation(due)
        self.loop.run_guarded(self._step, stamp, obs)

    def take_applied(self) -> None:
        """Learn from one transition, if the agent has already acted on its last observation."""
        self.loop.run_guarded(self._learn)

    def _step(self, stamp: int, obs: np.ndarray) -> None:
        if self.has_started or self._start_state():
            goal = self._inputs.goal_at(stamp)
            self.loop.step(stamp, obs, goal, self._inputs.take_transitions())

    def _start_state(self) -> bool:
        """Start the lifetime state after the first applied command, if there are enough subscribers."""
        hold = self._inputs.pairing.applied
        # A recorder that subscribes later would miss the first steps.
        if hold is None or self._outputs.listeners < self._config.listeners:
            return False
        self._session.start(hold)
        self._inputs.start_state()
        return True

    def _learn(self) -> None:
        transition = self._inputs.take_transition() if self.has_started else None
        if transition is not None:
            self.loop.learn(transition)

    def _publish(self, transition: Lived, surprise: "Surprise") -> None:
        """Count an update of the lifetime state, and publish its prediction and surprise."""
        self._session.record_update()
        self._outputs.publish_surprise(transition, surprise)
        self._inputs.health.count(transition)
        for watch in self._watches:
            watch(transition, surprise)

    def _stop(self, error: Exception) -> None:
        """Deactivate the node after an error stopped the loop."""
        # The error may have damaged the state, so it must not replace the saved one.
        self._session.mark_suspect(self.loop.trouble)
        trace = "".join(traceback.format_exception(error))
        self._node.get_logger().fatal(f"the agent stopped acting; the plant holds position\n{trace}")
        self._node.trigger_deactivate()

    def _save(self) -> None:
        """Save while the loop continues, so that a power cut loses only the updates since."""
        if self.loop.active:
            self._session.save_in_background()

    def _now(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)
