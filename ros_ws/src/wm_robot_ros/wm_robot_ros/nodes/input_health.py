"""Input health: checks which inputs an agent lacks in order to act and to learn."""

from functools import partial
from typing import Any, Protocol

from rclpy.node import Node
from rclpy.subscription import Subscription

from wm_robot.streams.throttled_log import Complaints
from wm_robot.streams.transition_assembler import Lived
from wm_robot.streams.unusable_transitions import Unlearned
from wm_robot_ros.middleware.convert import FRAME
from wm_robot_ros.middleware.input_monitor import SILENCE, InputWatch, NodeClock, joined

SELDOM = 0.1
"""Share of observations without a target above which the missing target is reported."""


class InputNeeds(Protocol):
    """Current input requirements of an agent."""

    @property
    def active(self) -> bool:
        """Whether the agent acts."""

    @property
    def has_started(self) -> bool:
        """Whether the agent updates its lifetime state."""

    @property
    def needs_goal(self) -> bool:
        """Whether the task has a goal; without a goal such an agent does not act."""


class InputHealth:
    """Monitor of clock, observations, applied commands and targets; checked about once a second."""

    def __init__(
        self,
        node: Node,
        needs: InputNeeds,
        complaints: Complaints,
        *,
        period: float,
        target_max_age: float,
        listeners: int,
        sensed: Subscription,
        applied: Subscription,
        target: Subscription,
    ):
        """Args:
        period: Control period, in s.
        target_max_age: Largest age of a target that is used, in s.
        min_subscribers: Minimum number of `joint_command` subscribers before the agent starts.
        """
        self._node, self._needs, self._complaints = node, needs, complaints
        self._period, self._target_max_age, self._listeners = period, target_max_age, listeners
        self.clock = NodeClock(node, complaints, period)
        self.unlearned = Unlearned(period)
        self.missing: list[str] = []
        """Missing inputs at the last check, a sentence for each."""
        self.answered = self.aimless = 0
        """Number of observations since the last check with a target (or without need of one), and without."""
        rate = f"{1 / period:g} times a second"
        self.sensed = InputWatch(
            node,
            sensed,
            complaints,
            missing="no observation to act on",
            refused="observation rejected",
            needs=rate,
            remedy="Check that the plant runs without errors.",
        )
        self.applied = InputWatch(
            node,
            applied,
            complaints,
            missing="no applied command, so the agent neither starts nor learns",
            refused="applied command rejected",
            needs="with the stamp of the observation that it led to, and before that observation",
            remedy="Check that the plant runs without errors.",
        )
        self.target = InputWatch(
            node,
            target,
            complaints,
            missing="no recent target, so the agent does not act",
            refused="target rejected",
            needs=f"in frame '{FRAME}', at least every {target_max_age:g} s (target.max_age)",
            remedy="Start the node that publishes the goals of the gripper.",
        )

    def begin(self) -> None:
        """Restart the wait for every input, after activation."""
        for watch in (self.sensed, self.applied, self.target):
            watch.begin()
        self.answered = self.aimless = 0
        self.missing = []

    def start_state(self) -> None:
        """Count the transitions of a lifetime state from its start."""
        self.unlearned = Unlearned(self._period)

    def count(self, transition: Lived) -> None:
        """Count a transition that the agent got."""
        self.unlearned.add(transition)

    def look(self) -> None:
        """Check all inputs, and log the missing ones."""
        active, still = self._needs.active, self.clock.look()
        blind = active and not still and self.sensed.silence > SILENCE
        lame = active and not still and self.applied.silence > SILENCE
        unobserved = self.sensed.look(blind)
        unapplied = self.applied.look(lame, explained=bool(unobserved))
        untargeted = self.target.look(
            active and not still and self._lacks_target(), explained=bool(unobserved)
        )
        found = (still, unobserved, unapplied, untargeted, self._unheard(active and not (blind or lame)))
        self.missing = [words for words in found if words]
        for cause, words in self.unlearned.troubles().items():
            self._complaints.add(f"unlearned: {cause}", partial(str, words), lasting=True)

    def explain(self, what: str) -> str:
        """Return a text about a failed request, with all inputs that are missing now."""
        self.look()
        return joined([what, *self.missing])

    def so_far(self, refused: int) -> str:
        """Return the counts of earlier input faults, while there are none now."""
        counted = {"refused": refused, "periods missed": self.unlearned.missed}
        return ", ".join(f"{count} {what} so far" for what, count in counted.items() if count) or "all used"

    def _lacks_target(self) -> bool:
        """Whether many recent observations lacked a target; before the first observation, whether none arrived."""
        aimless, answered = self.aimless, self.answered
        self.aimless = self.answered = 0
        if not self._needs.needs_goal or self.target.silence < SILENCE and self.target.used_at is None:
            return False
        if aimless + answered:
            return aimless > SELDOM * (aimless + answered)
        return self.target.silence > max(SILENCE, self._target_max_age)

    def _unheard(self, ready: bool) -> str:
        """Return a sentence about missing subscribers that the agent waits for; empty if there are enough."""
        topic, wanted = self._node.resolve_topic_name("joint_command"), self._listeners
        if not ready or self._needs.has_started or self._node.count_subscribers(topic) >= wanted:
            return ""
        words = f"the agent waits until {topic} has {wanted} subscribers (parameter listeners). Start them"
        self._complaints.add("listeners", lambda: words, lasting=True)
        return words

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for `~/status`."""
        return {
            "missing": self.missing,
            "unlearned": self.unlearned.to_dict(),
            "clock": self.clock.to_dict(),
        }
