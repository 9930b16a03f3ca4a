"""Lifetime topics of an agent: status of its lifetime state, surprise by channel, and predicted plan.

They are published only to subscribers, and after the command of the step was sent.
"""

import math
import time
from typing import TYPE_CHECKING

from std_msgs.msg import Header
from wm_robot_msgs.msg import LifetimeStatus, Prediction, Surprise

from wm_robot.control.histogram import Histogram
from wm_robot.store.store import opened
from wm_robot.streams.transition_assembler import Lived
from wm_robot_ros.middleware.convert import FRAME, duration_message, time_message
from wm_robot_ros.middleware.qos import OUTPUT
from wm_robot_ros.state_api.messages import floats
from wm_robot_ros.state_api.served_agent import ServedAgent

if TYPE_CHECKING:
    from wm_robot.agent.agent import Surprise as AgentSurprise

STATUS_PERIOD = 0.5
"""Time between two messages of `~/lifetime`, in s."""
PLAN_PERIOD = 0.2
"""Time between two messages of `~/plan`, in s. Predicting a plan takes time of the loop, so the rate is low."""
UNITS = {"position": "rad", "velocity": "rad/s", "effort": "N.m"}


class LifetimeTopics:
    """Publishers of the lifetime topics of an agent."""

    def __init__(self, agent: ServedAgent):
        self._agent, node = agent, agent.node
        self._status = node.create_publisher(LifetimeStatus, "~/lifetime", OUTPUT)
        self._surprised = node.create_publisher(Surprise, "~/surprise_by_channel", OUTPUT)
        self._planned = node.create_publisher(Prediction, "~/plan", OUTPUT)
        self._end = agent.idle_tasks.every(STATUS_PERIOD, self._publish_status)
        self._plan_due = 0.0
        self._channels = list(agent.spec.observation_names)
        self._units = [UNITS[name.rpartition("/")[2]] for name in self._channels]

    def destroy(self) -> None:
        self._end()
        for publisher in (self._status, self._surprised, self._planned):
            self._agent.node.destroy_publisher(publisher)

    def lived(self, lived: Lived, surprise: "AgentSurprise") -> None:
        """Publish the surprise of a transition, and the predicted plan if it is due."""
        if self._surprised.get_subscription_count():
            self._surprised.publish(self._surprise_message(lived, surprise))
        if self._planned.get_subscription_count() and time.monotonic() >= self._plan_due:
            self._plan_due = time.monotonic() + PLAN_PERIOD
            self._publish_plan(lived.stamp)

    def _surprise_message(self, lived: Lived, surprise: "AgentSurprise") -> Surprise:
        return Surprise(
            header=Header(stamp=time_message(lived.stamp)),
            lived=self._count("lived"),
            negative_log_likelihood=float(surprise.nll),
            valid=bool(lived.valid),
            names=self._channels,
            units=self._units,
            expected=floats(surprise.mean),
            stddev=floats(surprise.deviation),
            error=floats(surprise.error),
        )

    def _publish_plan(self, stamp: int) -> None:
        spec = self._agent.spec
        imagined = self._agent.life.agent.imagined()
        if imagined is None:
            return
        message = Prediction(
            header=Header(stamp=time_message(stamp), frame_id=FRAME),
            lived=self._count("lived"),
            step_duration=duration_message(spec.dt),
            horizon=len(imagined.action),
            action_names=list(spec.action_names),
            action_units=[actuator.unit for actuator in spec.actuators],
            actions=floats(imagined.action),
            names=self._channels,
            units=self._units,
            mean=floats(imagined.mean),
            stddev=floats(imagined.deviation),
        )
        self._planned.publish(message)

    def _publish_status(self) -> None:
        if not self._status.get_subscription_count():
            return
        agent, loop, session = self._agent, self._agent.loop, self._agent.session
        store, branch = opened(session.place) if session.place else (None, "")
        self._status.publish(
            LifetimeStatus(
                header=Header(stamp=agent.node.get_clock().now().to_msg()),
                robot=agent.spec.name,
                spec_digest=agent.spec.digest(),
                store=str(store.folder) if store else "",
                branch=branch,
                snapshot=store.branches().get(branch, "") if store else "",
                active=loop.active,
                learning=agent.learning,
                unsaved=session.record.unsaved,
                trouble=loop.trouble or session.record.error,
                lived=self._count("lived"),
                watched=self._count("watched"),
                invalid=self._count("invalid"),
                acted=loop.acted,
                negative_log_likelihood=math.nan if loop.surprise is None else loop.surprise,
                latency_p50=_seconds(loop.latency, 50),
                latency_p99=_seconds(loop.latency, 99),
            )
        )

    def _count(self, name: str) -> int:
        return int(self._agent.life.counters[name])


def _seconds(times: Histogram, percentile: float) -> float:
    """Return a percentile in s; NaN for an empty histogram."""
    return times.percentile(percentile) / 1e3 if times.count else math.nan
