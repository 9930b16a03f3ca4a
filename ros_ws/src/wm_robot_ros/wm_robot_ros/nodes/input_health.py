"""Input health: checks which inputs an agent lacks in order to act and to learn."""

from functools import partial
from typing import Any, Protocol

from rclpy.node import Node
from rclpy.subscription import Subscription

from wm_robot.streams.throttled_log import ThrottledLog
from wm_robot.streams.transition_assembler import StampedTransition
from wm_robot.streams.unusable_transitions import UnusableTransitions
from wm_robot_ros.middleware.input_monitor import MAX_SILENCE, InputMonitor, NodeClock, join_sentences
from wm_robot_ros.nodes.sensor_inputs import SensorInputs

MAX_SHARE_WITHOUT_TARGET = 0.1
"""Share of observations without a target above which the missing target is reported."""


class InputRequirements(Protocol):
    """Current input requirements of an agent."""

    @property
    def is_active(self) -> bool:
        """Whether the agent acts."""

    @property
    def has_started(self) -> bool:
        """Whether the agent updates its lifetime state."""

    @property
    def needs_goal(self) -> bool:
        """Whether the task has a goal; without a goal such an agent does not act."""


class InputHealth:
    """Monitor of clock, observations, sensors, applied commands and targets; checked about once a second."""

    def __init__(
        self,
        node: Node,
        requirements: InputRequirements,
        throttled_log: ThrottledLog,
        *,
        period: float,
        target_max_age: float,
        min_subscribers: int,
        command_topic: str,
        sensed: Subscription,
        applied: Subscription,
        target: Subscription,
        target_requirement: str,
        sensors: SensorInputs,
    ):
        """Args:
        period: Control period, in s.
        target_max_age: Largest age of a target that is used, in s.
        min_subscribers: Minimum number of subscribers of the commands before the agent starts.
        command_topic: Topic of the commands.
        target_requirement: See `GoalDecoder.requirement`.
        """
        self._node, self._requirements, self._throttled_log = node, requirements, throttled_log
        self._sensors, self._command_topic = sensors, command_topic
        self._period, self._target_max_age, self._min_subscribers = period, target_max_age, min_subscribers
        self.clock = NodeClock(node, throttled_log, period)
        self.unusable_transitions = UnusableTransitions(period)
        self.missing: list[str] = []
        """Missing inputs at the last check, a sentence for each."""
        self.num_with_goal = self.num_without_goal = 0
        """Number of observations since the last check with a target (or without need of one), and without."""
        rate = f"{1 / period:g} times a second"
        self.observation_monitor = InputMonitor(
            node,
            sensed,
            throttled_log,
            missing="no observation to act on",
            rejected="observation rejected",
            needs=rate,
            remedy="Check that the plant runs without errors.",
        )
        self.applied_monitor = InputMonitor(
            node,
            applied,
            throttled_log,
            missing="no applied command, so the agent neither starts nor learns",
            rejected="applied command rejected",
            needs="with the stamp of the observation that it led to, and before that observation",
            remedy="Check that the plant runs without errors.",
        )
        self.target_monitor = InputMonitor(
            node,
            target,
            throttled_log,
            missing="no recent target, so the agent does not act",
            rejected="target rejected",
            needs=f"{target_requirement}, at least every {target_max_age:g} s (target.max_age)",
            remedy="Start the node that publishes the goals of the task.",
        )

    def restart_wait(self) -> None:
        """Restart the wait for every input, after activation."""
        for watch in (self.observation_monitor, self.applied_monitor, self.target_monitor):
            watch.restart_wait()
        self.num_with_goal = self.num_without_goal = 0
        self.missing = []

    def start_state(self) -> None:
        """Count the transitions of a lifetime state from its start."""
        self.unusable_transitions = UnusableTransitions(self._period)

    def count_transition(self, transition: StampedTransition) -> None:
        """Count a transition that the agent got."""
        self.unusable_transitions.count_transition(transition)

    def check_inputs(self) -> None:
        """Check all inputs, and log the missing ones."""
        active, still = self._requirements.is_active, self.clock.check_clock()
        blind = active and not still and self.observation_monitor.silence > MAX_SILENCE
        lame = active and not still and self.applied_monitor.silence > MAX_SILENCE
        unobserved = self.observation_monitor.check_input(blind)
        unapplied = self.applied_monitor.check_input(lame, has_other_cause=bool(unobserved))
        untargeted = self.target_monitor.check_input(
            active and not still and self._lacks_target(), has_other_cause=bool(unobserved)
        )
        found = (
            still,
            unobserved,
            unapplied,
            untargeted,
            *(self._sensors.check_sensors() if active and not still else ()),
            self._describe_missing_subscribers(active and not (blind or lame)),
        )
        self.missing = [words for words in found if words]
        for cause, words in self.unusable_transitions.find_frequent_causes().items():
            self._throttled_log.report_cause(f"unusable: {cause}", partial(str, words), is_condition=True)

    def explain_failure(self, failure: str) -> str:
        """Return a text about a failed request, with all inputs that are missing now."""
        self.check_inputs()
        return join_sentences([failure, *self.missing])

    def describe_past_faults(self, num_rejected: int) -> str:
        """Return the counts of earlier input faults, while there are none now."""
        counted = {"rejected": num_rejected, "periods missed": self.unusable_transitions.num_missed_periods}
        return ", ".join(f"{count} {what} so far" for what, count in counted.items() if count) or "all used"

    def _lacks_target(self) -> bool:
        """Whether many recent observations lacked a target; before the first observation, whether none arrived."""
        aimless, answered = self.num_without_goal, self.num_with_goal
        self.num_without_goal = self.num_with_goal = 0
        if (
            not self._requirements.needs_goal
            or self.target_monitor.silence < MAX_SILENCE
            and self.target_monitor.used_at is None
        ):
            return False
        if aimless + answered:
            return aimless > MAX_SHARE_WITHOUT_TARGET * (aimless + answered)
        return self.target_monitor.silence > max(MAX_SILENCE, self._target_max_age)

    def _describe_missing_subscribers(self, inputs_present: bool) -> str:
        """Return a sentence about missing subscribers that the agent waits for; empty if there are enough."""
        topic, wanted = self._node.resolve_topic_name(self._command_topic), self._min_subscribers
        if (
            not inputs_present
            or self._requirements.has_started
            or self._node.count_subscribers(topic) >= wanted
        ):
            return ""
        words = (
            f"the agent waits until {topic} has {wanted} subscribers (parameter min_subscribers). Start them"
        )
        self._throttled_log.report_cause("min_subscribers", lambda: words, is_condition=True)
        return words

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for `~/status`."""
        return {
            "missing": self.missing,
            "unusable": self.unusable_transitions.to_dict(),
            "clock": self.clock.to_dict(),
        }
