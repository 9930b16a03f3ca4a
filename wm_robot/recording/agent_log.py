"""Agent log: the transitions that an agent took from a recorded session, in its own order, with what it published."""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wm_robot.errors import SpecError
from wm_robot.recording.episode_splitter import (
    APPLIED_TOPIC,
    COMMAND_TOPIC,
    INTERVENTION_TOPIC,
    JOINT_STATE_TYPE,
    STATE_TOPIC,
    STRING_TYPE,
    list_topic_types,
)
from wm_robot.recording.recorded_experience import is_session, load_experience
from wm_robot.recording.recorded_observations import RecordedObservations
from wm_robot.recording.robot_topics import check_sensor_topics, resolve_topic, select_robot
from wm_robot.spec import RobotSpec
from wm_robot.streams.joint_message import decode_action, decode_observation, read_stamp
from wm_robot.streams.rejection import BadMessageError
from wm_robot.streams.transition_assembler import MAX_GAP
from wm_robot.streams.transition_record import TransitionRecord, parse_transition
from wm_robot.types import Episode

NUMBER_TYPE = "std_msgs/msg/Float64"
DRIVING_AGENT = "agent"
"""Name of the node of the agent that drives a robot."""
SHADOW_COMMAND = "shadow_command"
"""Topic of an agent in shadow mode, in its own namespace: what it would have commanded."""
MAX_UNRECORDED = 5
"""Transitions of an agent that its log may lack: its counters arrive later than its predictions."""


@dataclass(frozen=True, kw_only=True)
class LoggedStep:
    """Transition of an agent. Numbers are float32, as an agent computes with them."""

    start: int
    """Stamp of `obs`, in ns."""
    stamp: int
    """Stamp of `next_obs`, in ns."""
    obs: np.ndarray
    applied: np.ndarray
    next_obs: np.ndarray
    valid: bool
    """False: it does not span one control period, or its applied action is unknown."""
    continues: bool
    """Whether it starts where the step before it ended."""
    intervention: bool = False
    is_new: np.ndarray | None = None
    """Whether each channel of `next_obs` is a new reading, as the agent was told; None: all are."""
    surprise: float | None = None
    """Surprise that the agent published, in nats per channel; None if there is none in the log."""
    predicted: np.ndarray | None = None
    """Joint readings that the agent predicted; None if there are none in the log."""
    command: np.ndarray | None = None
    """What the agent commanded in answer to `obs`; None if there is no command in the log."""


@dataclass(frozen=True, kw_only=True)
class AgentLog:
    """Log of one agent."""

    initial_action: np.ndarray
    """Action in force at the start, `A`."""
    steps: tuple[LoggedStep, ...]
    is_live: bool = False
    """Whether the log has transitions or predictions that the agent published."""
    learning: bool | None = None
    """Whether the agent learned; None if the log does not show it."""
    num_updates_before: int | None = None
    """Updates of the lifetime state at the start; None if the log does not show it."""
    notes: tuple[str, ...] = ()
    """What the log lacks, a sentence each."""


def read_agent_log(
    path: Path, spec: RobotSpec, *, namespace: str | None = None, agent: str = DRIVING_AGENT
) -> AgentLog:
    """Read the log of an agent from a session, a bag, an episode file or a folder of episode files.

    A session has the transitions of its agent: then the steps are those, the valid ones and the others. From its
    predictions alone they are inferred. Without them, and in episodes, they are those of an agent that receives every
    message.

    Args:
        namespace: Of the robot in a session; needed if there are several.
        agent: Name of the agent's node.

    Raises:
        SpecError: If it belongs to another robot, or has no transition.
        SnapshotError: If a file is missing, damaged or of another kind.
    """
    if not is_session(path):
        return _convert_episodes(load_experience(path, spec), spec)
    from wm_robot.recording.session_file import iterate_messages, read_topics

    topics = read_topics(path)
    robot = select_robot(topics, namespace, path)
    check_sensor_topics(topics, spec, robot, path)
    types = {**list_topic_types(spec), **_list_agent_topics(agent)}
    if agent != DRIVING_AGENT:
        # Those are of the controller that drives.
        del types[COMMAND_TOPIC]
    names = {resolve_topic(robot, name): name for name in types}
    wanted = {topic: types[name] for topic, name in names.items() if topics.get(topic) == types[name]}
    content = _SessionContent(spec, agent)
    for topic, received, message in iterate_messages(path, wanted):
        content.add_message(names[topic], message, received)
    log = content.make_log()
    if not log.steps:
        raise SpecError(
            f"{path} holds no transition of robot '{spec.name}'. Record joint_states and applied_command"
        )
    return log


def _list_agent_topics(agent: str) -> dict[str, str]:
    """List the topics of an agent that its log reads: name in the namespace of the robot → type."""
    return {
        f"{agent}/prediction": JOINT_STATE_TYPE,
        f"{agent}/surprise": NUMBER_TYPE,
        f"{agent}/status": STRING_TYPE,
        f"{agent}/transition": STRING_TYPE,
        f"{agent}/{SHADOW_COMMAND}": JOINT_STATE_TYPE,
    }


@dataclass
class _SessionContent:
    """Content of a session that is needed for the log of one agent."""

    spec: RobotSpec
    agent: str
    observations: dict[int, tuple[np.ndarray, np.ndarray | None]] = field(default_factory=dict)
    """Stamp → observation, and which channels are new; stamps increase."""
    applied: dict[int, np.ndarray] = field(default_factory=dict)
    newest_applied: dict[int, np.ndarray | None] = field(default_factory=dict)
    """Stamp of an observation → action that had arrived last when it arrived."""
    commands: dict[int, np.ndarray] = field(default_factory=dict)
    interventions: set[int] = field(default_factory=set)
    predictions: list[tuple[int, int, np.ndarray]] = field(default_factory=list)
    """Stamp, time of receipt, and predicted joint readings."""
    surprises: list[float] = field(default_factory=list)
    records: dict[int, TransitionRecord] = field(default_factory=dict)
    """Stamp → what the agent took as the transition to it."""
    statuses: list[dict[str, Any]] = field(default_factory=list)
    pauses: list[int] = field(default_factory=list)
    """Times of receipt of a status that says that the agent does not act."""

    def __post_init__(self) -> None:
        self._recorded = RecordedObservations(self.spec)
        self._last_stamp = 0

    def add_message(self, name: str, message: Any, received: int) -> None:
        """Add a message; one that an agent rejects is left out."""
        try:
            if name == STATE_TOPIC:
                self._add_observation(message, received)
            elif name in self._recorded.topics:
                self._recorded.receive_reading(name, message, received)
            elif name == APPLIED_TOPIC:
                stamp, action = read_stamp(message), self._decode_action(message)
                # In order of arrival, as an agent keeps them.
                self.applied.pop(stamp, None)
                self.applied[stamp] = action
            elif name in (COMMAND_TOPIC, f"{self.agent}/{SHADOW_COMMAND}"):
                self.commands[read_stamp(message)] = self._decode_action(message)
            elif name == INTERVENTION_TOPIC:
                self.interventions.add(int(_parse_text(message).get("stamp", 0)))
            elif name == f"{self.agent}/prediction":
                joints = decode_observation(message, self.spec).astype(np.float32)
                self.predictions.append((read_stamp(message), received, joints))
            elif name == f"{self.agent}/transition":
                if (record := parse_transition(message.data)) is not None:
                    self.records[record.stamp] = record
            elif name == f"{self.agent}/surprise":
                self.surprises.append(float(message.data))
            elif name == f"{self.agent}/status":
                self._add_status(_parse_text(message), received)
        except BadMessageError:
            # The agent rejected it too.
            return

    def _add_observation(self, message: Any, received: int) -> None:
        stamp = read_stamp(message)
        if stamp <= self._last_stamp:
            return
        joints = decode_observation(message, self.spec)
        found = self._recorded.assemble(stamp, joints, received)
        self.observations[stamp] = found.values.astype(np.float32), found.is_new
        self.newest_applied[stamp] = next(reversed(self.applied.values()), None)
        self._last_stamp = stamp

    def _add_status(self, status: dict[str, Any], received: int) -> None:
        if not status:
            return
        self.statuses.append(status)
        if status.get("active") is False:
            self.pauses.append(received)

    def _decode_action(self, message: Any) -> np.ndarray:
        return decode_action(message, self.spec).astype(np.float32)

    def make_log(self) -> AgentLog:
        """Make the log of the agent."""
        stamps, notes = list(self.observations), list[str]()
        if self.records:
            taken: list[TransitionRecord] = list(self.records.values())
        elif self.predictions:
            taken = self._infer_from_predictions(stamps, notes)
        else:
            taken = self._infer_from_messages(stamps)
        known = [each for each in taken if {each.start, each.stamp} <= self.observations.keys()]
        if len(known) < len(taken):
            notes.append(f"{len(taken) - len(known)} transitions of the agent lack an observation in the log")
        predicted = {stamp: joints for stamp, _, joints in self.predictions}
        steps = [
            self._make_step(each, stamps, predicted.get(each.stamp), continues=continues)
            for each, continues in zip(known, _find_continued(known), strict=True)
        ]
        learning, num_before, num_taken = _read_counters(self.statuses)
        is_live = bool(self.records or self.predictions)
        if is_live and num_taken > len(taken) + MAX_UNRECORDED:
            notes.append(
                f"the agent took {num_taken} transitions, and {len(taken)} of them are in the log. "
                "Start the recorder first"
            )
        return AgentLog(
            initial_action=self._find_initial_action(known[0].start) if known else self.spec.home_action,
            steps=tuple(steps),
            is_live=is_live,
            learning=learning,
            num_updates_before=num_before,
            notes=tuple(notes),
        )

    def _infer_from_predictions(self, stamps: list[int], notes: list[str]) -> list[TransitionRecord]:
        """Infer the transitions: an agent predicts each observation that it accepts, but the first."""
        found: list[TransitionRecord] = []
        last: tuple[int, int] | None = None
        has_surprises = len(self.surprises) == len(self.predictions)
        if self.surprises and not has_surprises:
            notes.append(
                f"{len(self.surprises)} surprises and {len(self.predictions)} predictions are in the log, so that "
                "the surprises are not compared"
            )
        for number, (stamp, received, _) in enumerate(self.predictions):
            at = bisect_left(stamps, stamp)
            paused = last is None or any(last[1] < pause < received for pause in self.pauses)
            start = stamps[at - 1] if paused and at else 0 if last is None else last[0]
            if start:
                surprise = self.surprises[number] if has_surprises else None
                found.append(self._infer_transition(start, stamp, surprise))
            last = (stamp, received) if stamp in self.observations else None
        return found

    def _infer_from_messages(self, stamps: list[int]) -> list[TransitionRecord]:
        """Infer the transitions of an agent that gets every message. Before the first action, none is known."""
        first = min(self.applied, default=0)
        pairs = zip(stamps, stamps[1:], strict=False)
        return [self._infer_transition(before, after, None) for before, after in pairs if after >= first]

    def _infer_transition(self, start: int, stamp: int, surprise: float | None) -> TransitionRecord:
        period = self.spec.dt * 1e9
        in_time = round(period / MAX_GAP) <= stamp - start <= round(period * MAX_GAP)
        return TransitionRecord(
            start=start,
            stamp=stamp,
            valid=in_time and stamp in self.applied,
            intervention=stamp in self.interventions,
            has_acted=stamp >= min(self.commands, default=0),
            surprise=surprise,
        )

    def _make_step(
        self,
        taken: TransitionRecord,
        stamps: list[int],
        predicted: np.ndarray | None,
        *,
        continues: bool,
    ) -> LoggedStep:
        (obs, _), (next_obs, is_new) = self.observations[taken.start], self.observations[taken.stamp]
        # An agent that has moved nothing yet does not take a constant reading for a frozen one.
        return LoggedStep(
            start=taken.start,
            stamp=taken.stamp,
            obs=obs,
            applied=self._find_applied(taken.stamp, stamps) if taken.applied is None else taken.applied,
            next_obs=next_obs,
            valid=taken.valid,
            continues=continues,
            intervention=taken.intervention,
            is_new=is_new if taken.has_acted else np.zeros(next_obs.shape, bool),
            surprise=taken.surprise,
            predicted=predicted,
            command=self.commands.get(taken.start),
        )

    def _find_initial_action(self, stamp: int) -> np.ndarray:
        """Return the action that had arrived last when the first observation of the agent arrived."""
        newest = self.newest_applied[stamp]
        if newest is None:
            newest = self.applied.get(stamp, next(iter(self.applied.values()), None))
        return self.spec.home_action if newest is None else newest

    def _find_applied(self, stamp: int, stamps: list[int]) -> np.ndarray:
        """Return the action in force up to a stamp.

        Where it is missing, an agent takes the one that arrived last, once the next observation is there.
        """
        if (found := self.applied.get(stamp)) is not None:
            return found
        later = bisect_right(stamps, stamp)
        newest = self.newest_applied[stamps[min(later, len(stamps) - 1)]]
        return self.spec.home_action if newest is None else newest


def _find_continued(taken: Iterable[TransitionRecord]) -> list[bool]:
    last, found = None, []
    for each in taken:
        found.append(each.start == last)
        last = each.stamp
    return found


def _read_counters(statuses: list[dict[str, Any]]) -> tuple[bool | None, int | None, int]:
    """Return whether the agent learned, its updates before the session, and how many transitions it took."""
    counted = [
        each["lifetime"]
        for each in statuses
        if isinstance(each.get("lifetime"), Mapping)
        and {"num_steps", "num_valid", "num_invalid"} <= set(each["lifetime"])
    ]
    if not counted:
        return None, None, 0
    first, last = counted[0], counted[-1]
    learning, before = None, None
    if last["num_valid"] - first["num_valid"] > MAX_UNRECORDED:
        learning = last["num_steps"] > first["num_steps"]
    if learning is not None or first["num_valid"] == 0:
        before = int(first["num_steps"] - (first["num_valid"] if learning else 0))
    return learning, before, int(last["num_valid"] + last["num_invalid"])


def _parse_text(message: Any) -> dict[str, Any]:
    """Return the values of a message with JSON text; none if it is not readable."""
    try:
        return dict(json.loads(message.data))
    # Any program may publish text on this topic.
    except (ValueError, TypeError):
        return {}


def _convert_episodes(episodes: list[Episode], spec: RobotSpec) -> AgentLog:
    """Convert episodes to the log of an agent that takes every transition; its state goes on between two episodes."""
    steps = []
    for episode in episodes:
        obs = spec.layout.normalize(episode.obs).astype(np.float32)
        for t in range(len(episode)):
            steps.append(
                LoggedStep(
                    start=int(episode.stamp[t]),
                    stamp=int(episode.stamp[t + 1]),
                    obs=obs[t],
                    applied=episode.action[t].astype(np.float32),
                    next_obs=obs[t + 1],
                    valid=bool(episode.valid[t]),
                    continues=t > 0,
                    is_new=None if episode.is_new is None else episode.is_new[t + 1],
                )
            )
    first = episodes[0]
    hold = np.where(np.isfinite(first.initial_action), first.initial_action, first.action[0])
    return AgentLog(initial_action=hold.astype(np.float32), steps=tuple(steps))
