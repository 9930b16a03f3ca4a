"""From what a robot and its agent said, message by message, to episodes: the same while it is said and from a file.

An episode begins with the first observation that a command answers: what stood still before was nobody's doing. It
ends when no command came for a while, when the observations paused, or when the robot's clock was set back; the next
begins with the next command. An end is data, and nobody is reset by it.
"""

import json
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from wm_robot.errors import SpecError
from wm_robot.spec import RobotSpec
from wm_robot.streams.joint_message import finite, sensed, stamp_of, told
from wm_robot.streams.rejection import BadMessageError, Refusal
from wm_robot.streams.transition_assembler import AFTER_CONTACT, KEPT, Lived, Pairing
from wm_robot.types import Episode

COMMANDS, PLANT, CONTACT = "joint_command", "plant/status", "plant/contact"
STATES, APPLIED = "joint_states", "applied_command"
JOINTS, POINT, TEXT = "sensor_msgs/msg/JointState", "geometry_msgs/msg/PointStamped", "std_msgs/msg/String"
STREAMS = {STATES: JOINTS, APPLIED: JOINTS, COMMANDS: JOINTS, "target": POINT, PLANT: TEXT, CONTACT: TEXT}
"""Topics that episodes are cut from, by name in a robot's namespace, each with its type."""
FRAMES = ("", "base_link")
PAUSE = 1.0
"""Seconds on the robot's clock, without an observation or a command, that end an episode."""
SOME = 5
"""Control periods that a pause has at least."""
SET_BACK = 0.1
"""Seconds by which a stamp must be older than the last one, for the clock to have been set back."""
LONGEST = 3600.0
"""Seconds of an episode; a longer one goes on in the next, with the observation that it ended with."""


class Growing(Protocol):
    """An episode that goes on."""

    def append(
        self,
        stamp: int,
        obs: np.ndarray,
        *,
        action: np.ndarray | None,
        goal: np.ndarray | None = None,
        valid: bool = True,
    ) -> None:
        """Add an observation and what led to it; see `OpenEpisode.append`."""


G = TypeVar("G", bound=Growing)


class Cutter(Generic[G]):
    """Takes the messages of one robot in the order in which they were heard."""

    def __init__(
        self,
        spec: RobotSpec,
        begin: Callable[[], G],
        end: Callable[[G], object],
        *,
        commanded: bool = True,
    ):
        """Args:
        begin: Gives an episode to append to.
        end: Takes one that has ended; it was truncated, since nobody said how the world ended it.
        commanded: False for a robot whose commands are not heard: all that it did is an episode.
        """
        self.spec, self.commanded = spec, commanded
        self.observations = 0
        """All that came, the refused ones too."""
        self.complaint = ""
        """Why a message was refused first."""
        self.pairing = Pairing(period=spec.dt, max_age=SET_BACK)
        self._begin, self._end = begin, end
        self._pause = max(PAUSE, SOME * spec.dt)
        self._growing: G | None = None
        self._asked = False
        self._steps = self._told = self._last = self._begun = 0
        self._touched: deque[int] = deque(maxlen=KEPT)
        self._since_contact = AFTER_CONTACT
        self._sensed: deque[tuple[int, np.ndarray]] = deque(maxlen=KEPT)
        self._lived: deque[Lived] = deque(maxlen=KEPT)
        self._goals: deque[tuple[int, np.ndarray]] = deque(maxlen=KEPT)
        self._goal_size = goal_size(spec)

    def take(self, name: str, message: Any) -> None:
        """Take a message.

        Args:
            name: One of `STREAMS`; others are passed over.
            message: Decoded, by whom does not matter.

        Raises:
            SpecError: If the plant says that it is another robot.
        """
        try:
            if name == STATES:
                self._sense(message)
            elif name == APPLIED:
                self._apply(stamp_of(message), told(message, self.spec))
            elif name == COMMANDS:
                self._command(stamp_of(message))
            elif name == "target" and self._goal_size:
                self._goals.append((stamp_of(message), _goal(message)))
            elif name == CONTACT:
                self._touched.append(_touched_at(message))
            elif name == PLANT and not self._asked:
                self._asked = True
                _check_plant(message, self.spec)
        except BadMessageError as error:
            self.pairing.refusals.add(error.reason)
            self.complaint = self.complaint or f"{name}: {error}"

    def finish(self) -> None:
        """End the episode that goes on, if there is one."""
        if self._growing is not None:
            growing, self._growing = self._growing, None
            self._end(growing)

    def _sense(self, message: Any) -> None:
        self.observations += 1
        obs, stamp = sensed(message, self.spec), stamp_of(message)
        if self._last and stamp > 0 and not -SET_BACK <= (stamp - self._last) / 1e9 <= self._pause:
            self._break_off(stamp)
        # The time of receipt does not matter any more: what is late for an agent is true all the same.
        refusal = self.pairing.sense(stamp, stamp, obs)
        if refusal:
            self.complaint = (
                self.complaint or f"joint_states: stamp {stamp} after {self._last}: {refusal.value}"
            )
            return
        self._last = stamp
        self._sensed.append((stamp, obs))
        self._begin_at(self._told if self.commanded else stamp)
        self._live()
        if self.commanded and (stamp - self._told) / 1e9 > self._pause:
            self._told = 0
            self.finish()

    def _break_off(self, stamp: int) -> None:
        """Let nothing go on over a break, after which the observation of that stamp is the first."""
        self._told = 0
        self.finish()
        applied = self.pairing.applied_at(stamp)
        self.pairing.forget()
        self._sensed.clear()
        self._lived.clear()
        if applied is not None:
            self.pairing.apply(stamp, applied)

    def _apply(self, stamp: int, action: np.ndarray) -> None:
        self.pairing.apply(stamp, action)
        self._begin_at(self._told if self.commanded else stamp)
        self._live()

    def _command(self, stamp: int) -> None:
        self._told = stamp
        self._begin_at(stamp)

    def _begin_at(self, stamp: int) -> None:
        """Begin with the observation of that stamp, if it is known and what led to it is."""
        obs = next((obs for seen, obs in self._sensed if seen == stamp), None)
        hold = self.pairing.applied_at(stamp)
        if self._growing is not None or obs is None or hold is None:
            return
        self._start(stamp, obs, hold)
        for one in tuple(self._lived):
            self._append(one)

    def _start(self, stamp: int, obs: np.ndarray, hold: np.ndarray) -> None:
        self._growing, self._begun, self._steps = self._begin(), stamp, 0
        self._growing.append(stamp, obs, action=hold, goal=self._goal_at(stamp))

    def _live(self) -> None:
        while (one := self.pairing.take()) is not None:
            self._since_contact = 0 if one.stamp in self._touched else self._since_contact + 1
            one = replace(one, valid=one.valid and self._since_contact >= AFTER_CONTACT)
            self._lived.append(one)
            self._append(one)

    def _append(self, one: Lived) -> None:
        if self._growing is None or one.stamp <= self._begun:
            return
        goal = self._goal_at(one.stamp)
        self._growing.append(one.stamp, one.next_obs, action=one.applied, goal=goal, valid=one.valid)
        self._steps += 1
        if self._steps * self.spec.dt >= LONGEST:
            self.finish()
            self._start(one.stamp, one.next_obs, one.applied)

    def _goal_at(self, stamp: int) -> np.ndarray:
        """The goal in force; NaN before the first."""
        known = [goal for said, goal in self._goals if said <= stamp]
        return known[-1] if known else np.full(self._goal_size, np.nan)


class Gathered:
    """An episode that goes on in memory."""

    def __init__(self) -> None:
        self._rows: list[tuple[Any, ...]] = []

    def append(
        self,
        stamp: int,
        obs: np.ndarray,
        *,
        action: np.ndarray | None,
        goal: np.ndarray | None = None,
        valid: bool = True,
    ) -> None:
        """See `Growing`."""
        self._rows.append((stamp, obs, action, goal, valid))

    def episode(self) -> Episode | None:
        """What was appended; None if it was not one transition."""
        if len(self._rows) < 2:
            return None
        stamp, obs, led, goal, valid = (np.array(part) for part in zip(*self._rows, strict=True))
        return Episode(
            stamp=stamp,
            obs=obs,
            action=led[1:],
            hold=led[0],
            reward=np.full(len(led) - 1, np.nan),
            goal=goal,
            valid=valid[1:],
            truncated=True,
        )


def goal_size(spec: RobotSpec) -> int:
    """Numbers in the goal of episodes of a robot: 3 where a task has a point as its goal."""
    return 3 if any(task.goal == 3 for task in spec.tasks.values()) else 0


def _check_plant(message: Any, spec: RobotSpec) -> None:
    try:
        said = json.loads(message.data)
        robot, digest = str(said["robot"]), str(said["spec_digest"])
    # Anybody may publish text there.
    except (ValueError, KeyError, TypeError):
        return
    if digest != spec.digest():
        raise SpecError(
            f"the plant is robot '{robot}' with spec {digest[:12]}; the spec given is '{spec.name}' with "
            f"{spec.digest()[:12]}. Use the plant's"
        )


def _touched_at(message: Any) -> int:
    """Stamp of the observation that a step with contact led to; 0 if nobody can read it."""
    try:
        return int(json.loads(message.data)["stamp"])
    # Anybody may publish text there.
    except (ValueError, KeyError, TypeError):
        return 0


def _goal(message: Any) -> np.ndarray:
    frame = message.header.frame_id
    if frame not in FRAMES:
        raise BadMessageError(Refusal.FRAME, f"the target is in frame '{frame}', not '{FRAMES[-1]}'")
    return finite([message.point.x, message.point.y, message.point.z], ("x", "y", "z"), "point")
