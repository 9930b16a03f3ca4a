"""Configured agent: an agent over ROS with its inputs, outputs, control loop, state session and status."""

import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
from rclpy.lifecycle import LifecycleNode

from wm_robot.control.agent_loop import AgentLoop
from wm_robot.control.period_log import PeriodLog
from wm_robot.spec import RobotSpec
from wm_robot.streams.throttled_log import ThrottledLog
from wm_robot.streams.transition_assembler import StampedTransition
from wm_robot_ros.middleware.idle_tasks import IdleTasks
from wm_robot_ros.nodes.agent_inputs import AgentInputs
from wm_robot_ros.nodes.agent_outputs import AgentOutputs
from wm_robot_ros.nodes.agent_parameters import AgentParameters
from wm_robot_ros.nodes.agent_status import AgentStatus, StatusSources
from wm_robot_ros.nodes.shadow_mode import publish_report
from wm_robot_ros.nodes.validation_report import REPORT_INTERVAL, ValidationReport
from wm_robot_ros.state_api.create import create_state_interfaces
from wm_robot_ros.state_api.live_report import LiveReport
from wm_robot_ros.state_api.save_service import create_save_service
from wm_robot_ros.state_api.served_agent import ServedAgent
from wm_robot_ros.state_api.state_session import StateSession

if TYPE_CHECKING:
    from wm_robot.agent.agent import PredictionError
    from wm_robot.agent.builder import RobotAgent


class ConfiguredAgent:
    """Agent over ROS: connects inputs, control loop, outputs and state session."""

    def __init__(
        self,
        node: LifecycleNode,
        config: AgentParameters,
        spec: RobotSpec,
        robot_agent: "RobotAgent",
        session: StateSession,
        *,
        idle_tasks: IdleTasks,
        log: PeriodLog | None,
        describe_process: Callable[[], dict[str, Any]],
        resources: ExitStack,
    ):
        """Args:
        describe_process: See `StatusSources`.
        resources: Stack that destroys each part when it closes.
        """
        self._node, self._config, self._session = node, config, session
        self._agent = robot_agent.agent
        self.needs_goal = spec.find_task(config.agent.task).goal > 0
        """Whether the task has a goal; without a goal such an agent does not act."""
        self._outputs = AgentOutputs(node, spec, config.command_topic, resources)
        self._live_report: LiveReport | None = None
        self._publish_report: Callable[[], None] = lambda: None
        if config.shadow:
            self._live_report, self._publish_report = publish_report(
                node, robot_agent.agent, spec, idle_tasks, resources
            )
        self.loop: AgentLoop[PredictionError] = AgentLoop(
            robot_agent.agent,
            spec,
            send=self._send_command,
            on_update=self._publish_update,
            on_error=self._deactivate_node,
            log=log.add_period if log else None,
            clock=self._read_clock,
        )
        complaints = ThrottledLog(node.get_logger().warning)
        self._inputs = AgentInputs(node, self, spec, config, complaints, resources)
        validation = ValidationReport(node, robot_agent, config, session, resources)
        self.status = AgentStatus(
            node,
            StatusSources(
                spec=spec,
                config=config.agent,
                robot_agent=robot_agent,
                loop=self.loop,
                session=session,
                inputs=self._inputs,
                throttled_log=complaints,
                is_shadow=config.shadow,
                describe_process=describe_process,
                describe_validation=validation.describe,
            ),
            resources,
        )
        create_save_service(node, session, resources, explain=self._inputs.health.explain_failure)
        served = ServedAgent(
            node=node,
            spec=spec,
            robot_agent=robot_agent,
            loop=self.loop,
            session=session,
            idle_tasks=idle_tasks,
            base=config.agent.base,
            robot=config.robot,
            task=config.agent.task,
            learning=config.agent.learning,
            live_report=self._live_report,
        )
        self._transition_callbacks = create_state_interfaces(served, resources)
        for period, work in (
            (1.0 / config.status_rate, self.status.publish_status),
            (1.0, self.status.publish_diagnostics),
            (REPORT_INTERVAL, validation.update),
            (config.save_every if config.save_to else 0.0, self._save_in_background),
        ):
            if period:
                resources.callback(idle_tasks.add_periodic(period, work))

    @property
    def is_active(self) -> bool:
        """Whether the agent acts."""
        return self.loop.active

    @property
    def has_started(self) -> bool:
        """Whether the agent updates its lifetime state."""
        return self._session.record.has_started

    def start_acting(self) -> None:
        """Start acting at the next observation."""
        self._session.discard_if_damaged()
        self._inputs.start_empty()
        self.loop.start()

    def stop_acting(self) -> None:
        """Stop acting; in shadow mode, publish the report on all transitions."""
        was_active = self.loop.active
        self.loop.stop()
        if was_active:
            self._publish_report()

    def act_on_observation(self, stamp: int, obs: np.ndarray, next_due: float) -> None:
        """Act on an observation, and learn from the transition that led to it; see `InputReceiver`."""
        self.loop.expect_observation(next_due)
        self.loop.run_guarded(self._run_step, stamp, obs)

    def find_faults(self, obs: np.ndarray) -> Mapping[str, str]:
        """Find the readings of an observation that are frozen or noisy; see `InputReceiver`."""
        return self._agent.find_faults(obs)

    def learn_late_transition(self) -> None:
        """Learn from one transition, if the agent has already acted on its last observation."""
        self.loop.run_guarded(self._learn_transition)

    def _run_step(self, stamp: int, obs: np.ndarray) -> None:
        if self.has_started or self._start_state():
            goal = self._inputs.find_goal(stamp)
            self.loop.run_step(stamp, obs, goal, self._inputs.take_transitions())

    def _start_state(self) -> bool:
        """Start the lifetime state after the first applied command, if there are enough subscribers."""
        hold = self._inputs.assembler.last_applied
        # A recorder that subscribes later would miss the first steps.
        if hold is None or self._outputs.num_subscribers < self._config.min_subscribers:
            return False
        self._session.start_agent(hold)
        self._inputs.start_state()
        return True

    def _learn_transition(self) -> None:
        transition = self._inputs.take_transition() if self.has_started else None
        if transition is not None:
            self.loop.learn_transition(transition)

    def _send_command(self, stamp: int, action: np.ndarray) -> None:
        self._outputs.send_command(stamp, action)
        if self._live_report is not None:
            self._live_report.add_command(stamp, action)

    def _publish_update(self, transition: StampedTransition, surprise: "PredictionError") -> None:
        """Count an update of the lifetime state, and publish its prediction and surprise."""
        self._session.record_update()
        self._outputs.publish_surprise(transition, surprise, has_acted=self.loop.has_acted)
        self._inputs.health.count_transition(transition)
        if self._live_report is not None:
            self._live_report.add_transition(transition, surprise)
        for watch in self._transition_callbacks:
            watch(transition, surprise)

    def _deactivate_node(self, error: Exception) -> None:
        """Deactivate the node after an error stopped the loop."""
        # The error may have damaged the state, so it must not replace the saved one.
        self._session.mark_damaged(self.loop.fault)
        trace = "".join(traceback.format_exception(error))
        then = "it drove nothing" if self._config.shadow else "the plant holds position"
        self._node.get_logger().fatal(f"the agent stopped acting; {then}\n{trace}")
        self._node.trigger_deactivate()

    def _save_in_background(self) -> None:
        """Save while the loop continues, so that a power cut loses only the updates since."""
        if self.loop.active:
            self._session.save_in_background()

    def _read_clock(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)
