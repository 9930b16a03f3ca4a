"""Agent node: lifecycle of an agent that acts on each observation and learns from each transition.

`ConfiguredAgent` holds the parts of a configured agent. `StateSession` holds its lifetime state, which survives a
cleanup. See `AgentLoop` for the order of acting and learning.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from rclpy.executors import Executor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from wm_robot.agent.builder import AgentConfig, RobotAgent, complete_tasks, load_agent, warm_up
from wm_robot.control.period_log import PeriodLog, describe_log
from wm_robot.control.realtime import GarbageCollector, defer_garbage_collection
from wm_robot.errors import SnapshotError
from wm_robot.robots import load_spec
from wm_robot.safety.heartbeat import Heartbeat
from wm_robot.spec import RobotSpec
from wm_robot_ros.middleware.idle_tasks import IdleTasks
from wm_robot_ros.middleware.lifecycle import log_transition_errors, refuse_invalid_transitions
from wm_robot_ros.middleware.node_runtime import (
    MAX_WAIT,
    ShutdownFlag,
    init_ros,
    make_executor,
    report_errors,
    shut_down_node,
    spin_once,
    use_real_time,
)
from wm_robot_ros.middleware.parameters import warn_about_unknown
from wm_robot_ros.middleware.sensor_messages import check_sensor_topics
from wm_robot_ros.nodes.agent_parameters import AgentParameters
from wm_robot_ros.nodes.configured_agent import ConfiguredAgent
from wm_robot_ros.nodes.shadow_mode import DRIVING_NODE, check_shadow_mode
from wm_robot_ros.state_api.final_save import hold_until_saved
from wm_robot_ros.state_api.state_session import StateSession

GUARDED_WAIT = 0.005
"""Longest wait for messages of an agent that has a guard, in s."""
MakeAgent = Callable[[AgentConfig, RobotSpec], RobotAgent]


class AgentNode(LifecycleNode):
    """Lifecycle node of an agent."""

    def __init__(self, make_agent: MakeAgent = load_agent):
        super().__init__(DRIVING_NODE)
        refuse_invalid_transitions(self)
        self.config = config = AgentParameters.declare_parameters(self)
        warn_about_unknown(self)
        if config.shadow:
            check_shadow_mode(self, heartbeat_file=config.heartbeat_file)
        self._make_agent = make_agent
        self.session = StateSession(
            place=config.save_to,
            initial_state=config.initial_state,
            resume=config.resume,
            keep_last=config.keep_last,
            name=self.get_fully_qualified_name().strip("/").replace("/", "-"),
            log=self.get_logger(),
        )
        self._agent: ConfiguredAgent | None = None
        """Newest configured agent; kept after a cleanup until the next configuration."""
        self._configured = False
        self._idle_tasks, self._resources = IdleTasks(self), ExitStack()
        self._heartbeat = Heartbeat(Path(config.heartbeat_file)) if config.heartbeat_file else None
        self.log = PeriodLog(config.log) if config.log else None
        self._realtime: dict[str, str] = {}
        self._garbage_collector: GarbageCollector | None = None

    @log_transition_errors
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the base, warm up, check the saved state, and create the topics."""
        self.session.check_place()
        spec = load_spec(self.config.robot)
        check_sensor_topics(spec)
        life_config = self.config.agent
        life_config = replace(life_config, task=life_config.task or next(iter(spec.tasks), ""))
        spec = complete_tasks(spec, life_config)
        warm_up(
            self._make_agent(replace(life_config, learner=False), spec).agent, spec, task=life_config.task
        )
        life = self._make_agent(life_config, spec)
        self._resources.callback(life.close)
        try:
            self.session.attach_agent(life.agent, spec.home_action)
        except SnapshotError:
            self._release_agent()
            raise
        self._agent = ConfiguredAgent(
            self,
            replace(self.config, agent=life_config),
            spec,
            life,
            self.session,
            idle_tasks=self._idle_tasks,
            log=self.log,
            describe_process=self._describe_process,
            resources=self._resources,
        )
        self._configured = True
        # The first log line of a process takes 15 ms, so it must come before the first control step.
        self.get_logger().info(
            f"configured: {spec.name}, task {life_config.task or 'none'}, base {life_config.base}"
        )
        # After loading and after the start of the learner, so that neither gets real-time priority.
        self._realtime = use_real_time(self, self.config.priority, self.config.cores)
        self._garbage_collector = defer_garbage_collection()
        return TransitionCallbackReturn.SUCCESS

    @log_transition_errors
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = super().on_activate(state)
        assert self._agent is not None
        self._agent.start_acting()
        return result

    @log_transition_errors
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop acting, then save the lifetime state, if a store is configured.

        The agent stops even if the state cannot be saved. Then the state stays in memory, a copy is in a second
        folder, and `~/save` can be called again.
        """
        self._stop_acting()
        assert self._agent is not None
        # Immediately: a plant treats missing commands without this status as missed deadlines.
        self._agent.status.publish_status()
        result = super().on_deactivate(state)
        self.session.save_and_wait()
        return result

    @log_transition_errors
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release the agent; fails while its state cannot be saved."""
        self.session.save_and_wait()
        if self.session.must_be_kept:
            self.get_logger().error(
                f"state kept in memory: {self.session.record.error}. Fix this and call ~/save"
            )
            return TransitionCallbackReturn.FAILURE
        self._release_agent()
        return TransitionCallbackReturn.SUCCESS

    @log_transition_errors
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_acting()
        self.session.save_and_wait()
        self._release_agent()
        return TransitionCallbackReturn.SUCCESS

    @log_transition_errors
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_acting()
        self._release_agent()
        return TransitionCallbackReturn.SUCCESS

    @property
    def fault(self) -> str:
        """Error that stopped the agent or prevents saving its state; empty if there is none."""
        return (self._agent.loop.fault if self._agent else "") or self.session.record.error

    @property
    def max_wait(self) -> float:
        """Longest wait for messages, in s."""
        return GUARDED_WAIT if self.config.heartbeat_file else MAX_WAIT

    def work_between_steps(self) -> None:
        """Report progress to the guard, then collect garbage and publish the status if time is left."""
        self._report_progress()
        if self._garbage_collector:
            self._garbage_collector.collect_if_due(self._time_left())
        self._idle_tasks.run_due(self._time_left)

    def end_driving(self) -> None:
        """Stop acting without an emergency stop, and publish the last status."""
        was_active = self._stop_acting()
        self._report_progress()
        if was_active and self._agent:
            self._agent.status.publish_last()

    def write_report(self) -> None:
        """Write the last status to the file of parameter `report`."""
        if not (self.config.report and self._configured and self._agent):
            return
        try:
            self._agent.status.write_status(Path(self.config.report))
        except OSError as error:
            self.get_logger().error(f"report not written: {error}")

    def _report_progress(self) -> None:
        """Report to the guard that the loop runs, or that this process does not drive while the agent is inactive."""
        if self._heartbeat is None:
            return
        if self._agent and self._agent.is_active:
            self._heartbeat.beat()
        elif self._heartbeat.driver == os.getpid():
            self._heartbeat.deregister_driver()

    def _time_left(self) -> float:
        """Return the time until the next observation is due, in s."""
        return self._agent.loop.time_left() if self._agent else float("inf")

    def _stop_acting(self) -> bool:
        """Stop acting; return whether the agent acted before."""
        was_active = self._agent is not None and self._agent.is_active
        if self._agent:
            self._agent.stop_acting()
        return was_active

    def _release_agent(self) -> None:
        self._resources.close()
        self._configured = False

    def _describe_process(self) -> dict[str, Any]:
        """Return the values of real time, garbage collection and log for the status."""
        return {
            "realtime": self._realtime,
            "garbage_collection": self._garbage_collector.describe_status()
            if self._garbage_collector
            else {},
            "log": describe_log(self.log),
        }


def run_agent(node: AgentNode, executor: Executor, shutdown_flag: ShutdownFlag) -> None:
    """Run the node until it is requested to stop.

    Raises:
        SystemExit: If `autostart` is set and the node cannot be configured or activated.
    """
    if node.config.autostart:
        for step in (node.trigger_configure, node.trigger_activate):
            if step() != TransitionCallbackReturn.SUCCESS:
                raise SystemExit(1)
    while not shutdown_flag.is_set:
        spin_once(executor, node, node.max_wait)
        node.work_between_steps()


def main(make_agent: MakeAgent = load_agent) -> None:
    """Run the node until Ctrl-C; then save its state, or a copy of it in a second folder.

    Raises:
        SystemExit: With 1 if an error stopped the agent or the state cannot be saved in the store of parameter
            `save_to`; with 2 if a parameter is invalid.
    """
    stop = init_ros()
    node = None
    try:
        with report_errors():
            node = AgentNode(make_agent)
        run_agent(node, make_executor(node, use_events=True), stop)
        node.end_driving()
        node.session.save_and_wait()
        hold_until_saved(node.session, stop, node.get_logger())
        node.write_report()
        if node.fault:
            raise SystemExit(1)
    finally:
        if node and node.log:
            node.log.close()
        shut_down_node(node)


if __name__ == "__main__":
    main()
