"""Episode splitter: turns the message stream of a robot into episodes, live or from a file, with the same result.

An episode starts with the first observation that a command answers; the robot was not controlled before. It ends
when commands pause, when observations pause, or when the robot's clock was set back. The next one starts with the
next command. An end is data; it resets no state.
"""

import json
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

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
"""Topics used for episodes: name in a robot's namespace → message type."""
FRAMES = ("", "base_link")
PAUSE = 1.0
"""Seconds on the robot's clock, without an observation or a command, that end an episode."""
SOME = 5
"""Least number of control periods in a pause."""
SET_BACK = 0.1
"""Seconds by which a stamp must be older than the last one to count as a clock that was set back."""
LONGEST = 3600.0
"""Seconds of an episode; a longer one continues in the next, which starts with the last observation."""


@runtime_checkable
class Growing(Protocol):
    """Episode in progress."""

    def append(
        self,
        stamp: int,
        obs: np.ndarray,
        *,
        action: np.ndarray | None,
        goal: np.ndarray | None = None,
        valid: bool = True,
    ) -> None:
        """Add an observation and the transition to it; see `OpenEpisode.append`."""


G = TypeVar("G", bound=Growing)


class Cutter(Generic[G]):
    """Splits the messages of one robot, in the order of receipt, into episodes."""

    def __init__(
        self,
        spec: RobotSpec,
        begin: Callable[[], G],
        end: Callable[[G], object],
        *,
        commanded: bool = True,
    ):
        """Args:
        begin: Returns a new episode.
        end: Receives an episode that has ended; it is truncated, since no message reports a terminal state.
        commanded: False for a robot without recorded commands: its whole motion is an episode.
        """
        self.spec, self.commanded = spec, commanded
        self.observations = 0
        """Observations received, rejected ones included."""
        self.complaint = ""
        """Reason of the first rejection."""
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
        """Process a message.

        Args:
            name: One of `STREAMS`; others are ignored.
            message: Decoded message of any library.

        Raises:
            SpecError: If the plant reports another robot.
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
        """End the episode in progress, if there is one."""
        if self._growing is not None:
            growing, self._growing = self._growing, None
            self._end(growing)

    def _sense(self, message: Any) -> None:
        self.observations += 1
        obs, stamp = sensed(message, self.spec), stamp_of(message)
        if self._last and stamp > 0 and not -SET_BACK <= (stamp - self._last) / 1e9 <= self._pause:
            self._break_off(stamp)
        # The time of receipt does not matter here: an observation too late for the agent is still valid data.
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
        """End the episode and clear the history at a break; the observation of that stamp is the first after it."""
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
        """Start an episode at the observation of that stamp, if it and the action before it were received."""
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
        """Return the goal at a time; NaN before the first."""
        known = [goal for said, goal in self._goals if said <= stamp]
        return known[-1] if known else np.full(self._goal_size, np.nan)


class Gathered:
    """Episode in progress, in memory."""

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
        """Add an observation; see `EpisodeSink`."""
        self._rows.append((stamp, obs, action, goal, valid))

    def episode(self) -> Episode | None:
        """Return the episode; None if it has no transition."""
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
    """Return the size of the goal in episodes of a robot: 3 if a task has a point as its goal."""
    return 3 if any(task.goal == 3 for task in spec.tasks.values()) else 0


def _check_plant(message: Any, spec: RobotSpec) -> None:
    try:
        said = json.loads(message.data)
        robot, digest = str(said["robot"]), str(said["spec_digest"])
    # Any program may publish text on this topic.
    except (ValueError, KeyError, TypeError):
        return
    if digest != spec.digest():
        raise SpecError(
            f"the plant is robot '{robot}' with spec {digest[:12]}; the given spec is that of '{spec.name}', "
            f"{spec.digest()[:12]}. Use the plant's"
        )


def _touched_at(message: Any) -> int:
    """Return the stamp of the observation after a step with an intervention; 0 if the message is not readable."""
    try:
        return int(json.loads(message.data)["stamp"])
    # Any program may publish text on this topic.
    except (ValueError, KeyError, TypeError):
        return 0


def _goal(message: Any) -> np.ndarray:
    frame = message.header.frame_id
    if frame not in FRAMES:
        raise BadMessageError(Refusal.FRAME, f"the target is in frame '{frame}', not '{FRAMES[-1]}'")
    return finite([message.point.x, message.point.y, message.point.z], ("x", "y", "z"), "point")
