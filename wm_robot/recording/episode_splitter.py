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
from wm_robot.recording.recorded_observations import RecordedObservation, RecordedObservations
from wm_robot.spec import RobotSpec
from wm_robot.streams.joint_message import check_finite, decode_action, decode_observation, read_stamp
from wm_robot.streams.rejection import BadMessageError, RejectionReason
from wm_robot.streams.sensor_message import list_message_sensors
from wm_robot.streams.transition_assembler import (
    MAX_PENDING_COMMANDS,
    STEPS_AFTER_INTERVENTION,
    StampedTransition,
    TransitionAssembler,
)
from wm_robot.tasks import select_goal_type
from wm_robot.types import Episode

COMMAND_TOPIC, PLANT_TOPIC, INTERVENTION_TOPIC = "joint_command", "plant/status", "plant/intervention"
STATE_TOPIC, APPLIED_TOPIC = "joint_states", "applied_command"
JOINT_STATE_TYPE, POINT_TYPE, STRING_TYPE = (
    "sensor_msgs/msg/JointState",
    "geometry_msgs/msg/PointStamped",
    "std_msgs/msg/String",
)
TOPIC_TYPES = {
    STATE_TOPIC: JOINT_STATE_TYPE,
    APPLIED_TOPIC: JOINT_STATE_TYPE,
    COMMAND_TOPIC: JOINT_STATE_TYPE,
    "target": POINT_TYPE,
    PLANT_TOPIC: STRING_TYPE,
    INTERVENTION_TOPIC: STRING_TYPE,
}
"""Topics used for episodes of every robot: name in a robot's namespace → message type."""
GOAL_FRAMES = ("", "base_link")
MIN_PAUSE = 1.0
"""Seconds on the robot's clock, without an observation or a command, that end an episode."""
MIN_PAUSE_PERIODS = 5
"""Least number of control periods in a pause."""
CLOCK_SET_BACK = 0.1
"""Seconds by which a stamp must be older than the last one to count as a clock that was set back."""
MAX_EPISODE_TIME = 3600.0
"""Seconds of an episode; a longer one continues in the next, which starts with the last observation."""


@runtime_checkable
class EpisodeSink(Protocol):
    """Episode in progress."""

    def append(
        self,
        stamp: int,
        obs: np.ndarray,
        *,
        action: np.ndarray | None,
        goal: np.ndarray | None = None,
        valid: bool = True,
        is_new: np.ndarray | None = None,
    ) -> None:
        """Add an observation and the transition to it; see `OpenEpisode.append`."""


G = TypeVar("G", bound=EpisodeSink)


class EpisodeSplitter(Generic[G]):
    """Splits the messages of one robot, in the order of receipt, into episodes."""

    def __init__(
        self,
        spec: RobotSpec,
        new_episode: Callable[[], G],
        on_end: Callable[[G], object],
        *,
        has_commands: bool = True,
    ):
        """Args:
        new_episode: Returns a new episode.
        on_end: Receives an episode that has ended; it is truncated, since no message reports a terminal state.
        has_commands: False for a robot without recorded commands: its whole motion is an episode.
        """
        self.spec, self.has_commands = spec, has_commands
        self.num_observations = 0
        """Observations received, rejected ones included."""
        self.first_rejection = ""
        """Reason of the first rejection."""
        self.pairing = TransitionAssembler(period=spec.dt, max_age=CLOCK_SET_BACK)
        self.observations = RecordedObservations(spec)
        self._new_episode, self._on_end = new_episode, on_end
        self._pause = max(MIN_PAUSE, MIN_PAUSE_PERIODS * spec.dt)
        self._current: G | None = None
        self._plant_checked = False
        self._num_steps = self._last_command = self._last_stamp = self._start_stamp = 0
        self._intervention_stamps: deque[int] = deque(maxlen=MAX_PENDING_COMMANDS)
        self._steps_since_intervention = STEPS_AFTER_INTERVENTION
        self._observations: deque[tuple[int, RecordedObservation]] = deque(maxlen=MAX_PENDING_COMMANDS)
        self._transitions: deque[StampedTransition] = deque(maxlen=MAX_PENDING_COMMANDS)
        self._goals: deque[tuple[int, np.ndarray]] = deque(maxlen=MAX_PENDING_COMMANDS)
        self._goal_size = get_goal_size(spec)

    def process_message(self, name: str, message: Any, received: int) -> None:
        """Process a message.

        Args:
            name: One of `list_topic_types`; others are ignored.
            message: Decoded message of any library.
            received: Time of its receipt, in ns.

        Raises:
            SpecError: If the plant reports another robot.
        """
        try:
            if name == STATE_TOPIC:
                self._process_observation(message, received)
            elif name in self.observations.topics:
                self.observations.receive_reading(name, message, received)
            elif name == APPLIED_TOPIC:
                self._process_applied(read_stamp(message), decode_action(message, self.spec))
            elif name == COMMAND_TOPIC:
                self._process_command(read_stamp(message))
            elif name == "target" and self._goal_size:
                self._goals.append((read_stamp(message), _parse_goal(message)))
            elif name == INTERVENTION_TOPIC:
                self._intervention_stamps.append(_parse_intervention(message))
            elif name == PLANT_TOPIC and not self._plant_checked:
                self._plant_checked = True
                _check_plant(message, self.spec)
        except BadMessageError as error:
            self.pairing.rejections.count_rejection(error.reason)
            self.first_rejection = self.first_rejection or f"{name}: {error}"

    def end_episode(self) -> None:
        """End the episode in progress, if there is one."""
        if self._current is not None:
            growing, self._current = self._current, None
            self._on_end(growing)

    def _process_observation(self, message: Any, received: int) -> None:
        self.num_observations += 1
        joints, stamp = decode_observation(message, self.spec), read_stamp(message)
        if (
            self._last_stamp
            and stamp > 0
            and not -CLOCK_SET_BACK <= (stamp - self._last_stamp) / 1e9 <= self._pause
        ):
            self._restart_after_break(stamp)
        # The time of receipt does not matter here: an observation too late for the agent is still valid data.
        refusal = self.pairing.reject_untimely(stamp, stamp)
        if refusal:
            self.first_rejection = (
                self.first_rejection
                or f"joint_states: stamp {stamp} after {self._last_stamp}: {refusal.value}"
            )
            return
        found = self.observations.assemble(stamp, joints, received)
        self.pairing.add_observation(stamp, stamp, found.values, found.is_new)
        self._last_stamp = stamp
        self._observations.append((stamp, found))
        self._try_start(self._last_command if self.has_commands else stamp)
        self._process_transitions()
        if self.has_commands and (stamp - self._last_command) / 1e9 > self._pause:
            self._last_command = 0
            self.end_episode()

    def _restart_after_break(self, stamp: int) -> None:
        """End the episode and clear the history at a break; the observation of that stamp is the first after it."""
        self._last_command = 0
        self.end_episode()
        applied = self.pairing.find_applied(stamp)
        self.pairing.reset()
        self._observations.clear()
        self._transitions.clear()
        if applied is not None:
            self.pairing.add_applied(stamp, applied)

    def _process_applied(self, stamp: int, action: np.ndarray) -> None:
        self.pairing.add_applied(stamp, action)
        self._try_start(self._last_command if self.has_commands else stamp)
        self._process_transitions()

    def _process_command(self, stamp: int) -> None:
        self._last_command = stamp
        self._try_start(stamp)

    def _try_start(self, stamp: int) -> None:
        """Start an episode at the observation of that stamp, if it and the action before it were received."""
        first = next((found for seen, found in self._observations if seen == stamp), None)
        hold = self.pairing.find_applied(stamp)
        if self._current is not None or first is None or hold is None:
            return
        self._start_episode(stamp, first, hold)
        for one in tuple(self._transitions):
            self._append_transition(one)

    def _start_episode(self, stamp: int, first: RecordedObservation, last_action: np.ndarray) -> None:
        self._current, self._start_stamp, self._num_steps = self._new_episode(), stamp, 0
        self._current.append(
            stamp, first.values, action=last_action, goal=self._find_goal(stamp), is_new=first.is_new
        )

    def _process_transitions(self) -> None:
        while (one := self.pairing.take_transition()) is not None:
            self._steps_since_intervention = (
                0 if one.stamp in self._intervention_stamps else self._steps_since_intervention + 1
            )
            one = replace(one, valid=one.valid and self._steps_since_intervention >= STEPS_AFTER_INTERVENTION)
            self._transitions.append(one)
            self._append_transition(one)

    def _append_transition(self, transition: StampedTransition) -> None:
        if self._current is None or transition.stamp <= self._start_stamp:
            return
        goal = self._find_goal(transition.stamp)
        self._current.append(
            transition.stamp,
            transition.next_obs,
            action=transition.applied,
            goal=goal,
            valid=transition.valid,
            is_new=transition.is_new,
        )
        self._num_steps += 1
        if self._num_steps * self.spec.dt >= MAX_EPISODE_TIME:
            self.end_episode()
            last = RecordedObservation(transition.next_obs, transition.is_new)
            self._start_episode(transition.stamp, last, transition.applied)

    def _find_goal(self, stamp: int) -> np.ndarray:
        """Return the goal at a time; NaN before the first."""
        known = [goal for said, goal in self._goals if said <= stamp]
        return known[-1] if known else np.full(self._goal_size, np.nan)


class EpisodeBuilder:
    """Episode in progress, in memory."""

    def __init__(self, is_required: np.ndarray | None = None) -> None:
        """Args:
        is_required: As in `Episode`.
        """
        self._is_required = is_required
        self._rows: list[tuple[Any, ...]] = []

    def append(
        self,
        stamp: int,
        obs: np.ndarray,
        *,
        action: np.ndarray | None,
        goal: np.ndarray | None = None,
        valid: bool = True,
        is_new: np.ndarray | None = None,
    ) -> None:
        """Add an observation; see `EpisodeSink`."""
        self._rows.append((stamp, obs, action, goal, valid, is_new))

    def build(self) -> Episode | None:
        """Return the episode; None if it has no transition."""
        if len(self._rows) < 2:
            return None
        *parts, news = zip(*self._rows, strict=True)
        stamp, obs, led, goal, valid = map(np.array, parts)
        return Episode(
            stamp=stamp,
            obs=obs,
            action=led[1:],
            initial_action=led[0],
            reward=np.full(len(led) - 1, np.nan),
            goal=goal,
            valid=valid[1:],
            truncated=True,
            is_required=self._is_required,
            is_new=None if news[0] is None else np.array(news),
        )


def list_topic_types(spec: RobotSpec) -> dict[str, str]:
    """List the topics used for episodes of a robot: name → message type.

    A name is in the robot's namespace, unless it starts with a slash.
    """
    sensors = list_message_sensors(spec).values()
    return {**TOPIC_TYPES, **{each.topic: each.message.replace("/", "/msg/") for each in sensors}}


def get_goal_size(spec: RobotSpec) -> int:
    """Return the size of the goal in episodes of a robot: 3 if a task has a point as its goal."""
    return 3 if any(select_goal_type(task) == "PointStamped" for task in spec.tasks.values()) else 0


def _check_plant(message: Any, spec: RobotSpec) -> None:
    try:
        said = json.loads(message.data)
        robot, digest = str(said["robot"]), str(said["spec_digest"])
    # Any program may publish text on this topic.
    except (ValueError, KeyError, TypeError):
        return
    if digest != spec.compute_digest():
        raise SpecError(
            f"the plant is robot '{robot}' with spec {digest[:12]}; the given spec is that of '{spec.name}', "
            f"{spec.compute_digest()[:12]}. Use the plant's"
        )


def _parse_intervention(message: Any) -> int:
    """Return the stamp of the observation after a step with an intervention; 0 if the message is not readable."""
    try:
        return int(json.loads(message.data)["stamp"])
    # Any program may publish text on this topic.
    except (ValueError, KeyError, TypeError):
        return 0


def _parse_goal(message: Any) -> np.ndarray:
    frame = message.header.frame_id
    if frame not in GOAL_FRAMES:
        raise BadMessageError(
            RejectionReason.FRAME, f"the target is in frame '{frame}', not '{GOAL_FRAMES[-1]}'"
        )
    return check_finite([message.point.x, message.point.y, message.point.z], ("x", "y", "z"), "point")
