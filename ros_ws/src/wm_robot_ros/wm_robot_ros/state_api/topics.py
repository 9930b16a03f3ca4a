"""Lifetime topics of an agent: status of its lifetime state, surprise by channel, and predicted plan.

They are published only to subscribers, and after the command of the step was sent.
"""

import math
import time
from typing import TYPE_CHECKING

from std_msgs.msg import Header
from wm_robot_msgs.msg import LifetimeStatus, Prediction, Surprise

from wm_robot.control.histogram import Histogram
from wm_robot.store.store import parse_reference
from wm_robot.streams.transition_assembler import StampedTransition
from wm_robot_ros.middleware.convert import BASE_FRAME, make_duration_message, make_time_message
from wm_robot_ros.middleware.qos import OUTPUT_QOS
from wm_robot_ros.state_api.channel_units import list_channel_units
from wm_robot_ros.state_api.messages import flatten_floats
from wm_robot_ros.state_api.served_agent import ServedAgent

if TYPE_CHECKING:
    from wm_robot.agent.agent import PredictionError as AgentSurprise

STATUS_PERIOD = 0.5
"""Time between two messages of `~/lifetime`, in s."""
PLAN_PERIOD = 0.2
"""Time between two messages of `~/plan`, in s. Predicting a plan takes time of the loop, so the rate is low."""


class LifetimeTopics:
    """Publishers of the lifetime topics of an agent."""

    def __init__(self, agent: ServedAgent):
        self._agent, node = agent, agent.node
        self._status_publisher = node.create_publisher(LifetimeStatus, "~/lifetime", OUTPUT_QOS)
        self._surprise_publisher = node.create_publisher(Surprise, "~/surprise_by_channel", OUTPUT_QOS)
        self._plan_publisher = node.create_publisher(Prediction, "~/plan", OUTPUT_QOS)
        self._remove_task = agent.idle_tasks.add_periodic(STATUS_PERIOD, self._publish_status)
        self._next_plan = 0.0
        self._channels = list(agent.spec.observation_names)
        self._units = list_channel_units(agent.spec)

    def destroy_all(self) -> None:
        self._remove_task()
        for publisher in (self._status_publisher, self._surprise_publisher, self._plan_publisher):
            self._agent.node.destroy_publisher(publisher)

    def publish_transition(self, transition: StampedTransition, surprise: "AgentSurprise") -> None:
        """Publish the surprise of a transition, and the predicted plan if it is due."""
        if self._surprise_publisher.get_subscription_count():
            self._surprise_publisher.publish(self._surprise_message(transition, surprise))
        if self._plan_publisher.get_subscription_count() and time.monotonic() >= self._next_plan:
            self._next_plan = time.monotonic() + PLAN_PERIOD
            self._publish_plan(transition.stamp)

    def _surprise_message(self, transition: StampedTransition, surprise: "AgentSurprise") -> Surprise:
        return Surprise(
            header=Header(stamp=make_time_message(transition.stamp)),
            num_steps=self._read_counter("num_steps"),
            negative_log_likelihood=float(surprise.nll),
            valid=bool(transition.valid),
            names=self._channels,
            units=self._units,
            expected=flatten_floats(surprise.mean),
            stddev=flatten_floats(surprise.deviation),
            error=flatten_floats(surprise.error),
        )

    def _publish_plan(self, stamp: int) -> None:
        spec = self._agent.spec
        imagined = self._agent.robot_agent.agent.predict_plan()
        if imagined is None:
            return
        message = Prediction(
            header=Header(stamp=make_time_message(stamp), frame_id=BASE_FRAME),
            num_steps=self._read_counter("num_steps"),
            step_duration=make_duration_message(spec.dt),
            horizon=len(imagined.action),
            action_names=list(spec.action_names),
            action_units=list(spec.action_units),
            actions=flatten_floats(imagined.action),
            names=self._channels,
            units=self._units,
            mean=flatten_floats(imagined.mean),
            stddev=flatten_floats(imagined.deviation),
        )
        self._plan_publisher.publish(message)

    def _publish_status(self) -> None:
        if not self._status_publisher.get_subscription_count():
            return
        agent, loop, session = self._agent, self._agent.loop, self._agent.session
        store, branch = parse_reference(session.place) if session.place else (None, "")
        self._status_publisher.publish(
            LifetimeStatus(
                header=Header(stamp=agent.node.get_clock().now().to_msg()),
                robot=agent.spec.name,
                spec_digest=agent.spec.compute_digest(),
                store=str(store.folder) if store else "",
                branch=branch,
                snapshot=store.read_branches().get(branch, "") if store else "",
                active=loop.active,
                learning=agent.learning,
                unsaved=session.record.is_unsaved,
                fault=loop.fault or session.record.error,
                num_steps=self._read_counter("num_steps"),
                num_valid=self._read_counter("num_valid"),
                num_invalid=self._read_counter("num_invalid"),
                num_actions=loop.num_actions,
                negative_log_likelihood=math.nan if loop.surprise is None else loop.surprise,
                latency_p50=_percentile_seconds(loop.latency, 50),
                latency_p99=_percentile_seconds(loop.latency, 99),
            )
        )

    def _read_counter(self, name: str) -> int:
        return int(self._agent.robot_agent.counters[name])


def _percentile_seconds(times: Histogram, percentile: float) -> float:
    """Return a percentile in s; NaN for an empty histogram."""
    return times.compute_percentile(percentile) / 1e3 if times.count else math.nan
