"""Input health of an agent: what it needs in order to act and to learn, and what of it is missing."""

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
"""Part of the observations from which on their want of a target is reported."""


class InputNeeds(Protocol):
    """What an agent needs at the moment."""

    @property
    def active(self) -> bool:
        """Whether it acts."""

    @property
    def has_started(self) -> bool:
        """Whether it updates its lifetime state."""

    @property
    def needs_goal(self) -> bool:
        """Whether its task has a goal, without which it does not act."""


class InputHealth:
    """Watches clock, observations, applied commands and targets; looked at about once a second."""

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
        target_max_age: Oldest target that counts, in s.
        listeners: Subscribers of `joint_command` without which it does not start.
        """
        self._node, self._needs, self._complaints = node, needs, complaints
        self._period, self._target_max_age, self._listeners = period, target_max_age, listeners
        self.clock = NodeClock(node, complaints, period)
        self.unlearned = Unlearned(period)
        self.missing: list[str] = []
        """What keeps it from acting, as of the last look: a sentence each."""
        self.answered = self.aimless = 0
        """Observations since the last look that had a target or needed none, and that lacked one."""
        rate = f"{1 / period:g} times a second"
        self.sensed = InputWatch(
            node,
            sensed,
            complaints,
            missing="no observation to act on",
            refused="observation refused",
            needs=rate,
            remedy="Is the plant running, and well?",
        )
        self.applied = InputWatch(
            node,
            applied,
            complaints,
            missing="no applied command, without which it neither begins nor learns",
            refused="applied command refused",
            needs="with the stamp of the observation that it led to, before it",
            remedy="Is the plant running, and well?",
        )
        self.target = InputWatch(
            node,
            target,
            complaints,
            missing="no recent target, so it does not act",
            refused="target refused",
            needs=f"in frame '{FRAME}', at least every {target_max_age:g} s (target.max_age)",
            remedy="Start what publishes the goals of the gripper.",
        )

    def begin(self) -> None:
        """It was activated: from now on all is waited for."""
        for watch in (self.sensed, self.applied, self.target):
            watch.begin()
        self.answered = self.aimless = 0
        self.missing = []

    def start_state(self) -> None:
        """Count the transitions of a lifetime state from its start."""
        self.unlearned = Unlearned(self._period)

    def count(self, transition: Lived) -> None:
        """Count a transition that was handed to the agent."""
        self.unlearned.add(transition)

    def look(self) -> None:
        """Find out what is missing, and log it."""
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
        """What cannot be done, with all that is missing now."""
        self.look()
        return joined([what, *self.missing])

    def so_far(self, refused: int) -> str:
        """What was amiss since it was started, where nothing is now."""
        counted = {"refused": refused, "periods missed": self.unlearned.missed}
        return ", ".join(f"{count} {what} so far" for what, count in counted.items() if count) or "all used"

    def _lacks_target(self) -> bool:
        """Whether much of the last second lacked a target; before the first observation, whether none came."""
        aimless, answered = self.aimless, self.answered
        self.aimless = self.answered = 0
        if not self._needs.needs_goal or self.target.silence < SILENCE and self.target.used_at is None:
            return False
        if aimless + answered:
            return aimless > SELDOM * (aimless + answered)
        return self.target.silence > max(SILENCE, self._target_max_age)

    def _unheard(self, ready: bool) -> str:
        """Who does not listen yet, without whom it does not begin."""
        topic, wanted = self._node.resolve_topic_name("joint_command"), self._listeners
        if not ready or self._needs.has_started or self._node.count_subscribers(topic) >= wanted:
            return ""
        words = (
            f"it waits until {topic} has {wanted} subscribers (parameter listeners). Start what listens to it"
        )
        self._complaints.add("listeners", lambda: words, lasting=True)
        return words

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ~/status."""
        return {
            "missing": self.missing,
            "unlearned": self.unlearned.to_dict(),
            "clock": self.clock.to_dict(),
        }
