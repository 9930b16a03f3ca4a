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

    stamp: int
    """Stamp of the next observation, in ns."""
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
    """Whether the log has the predictions that the agent published."""
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

    A session has the predictions of its agent: then the steps are those that the agent took, the valid ones and the
    others. Without them, and in episodes, they are those of an agent that receives every message.

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
    statuses: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    """Number of predictions before, and the status."""
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
        self.statuses.append((len(self.predictions), status))
        if status.get("active") is False:
            self.pauses.append(received)

    def _decode_action(self, message: Any) -> np.ndarray:
        return decode_action(message, self.spec).astype(np.float32)

    def make_log(self) -> AgentLog:
        """Make the log of the agent."""
        stamps = list(self.observations)
        if self.predictions:
            pairs, notes = self._pair_predictions(stamps)
        else:
            pairs = [(before, after, None) for before, after in zip(stamps, stamps[1:], strict=False)]
            # Nothing is known to be applied before.
            first = min(self.applied, default=0)
            pairs, notes = [pair for pair in pairs if pair[1] >= first], []
        # An agent that has moved nothing yet does not take a constant reading for a frozen one.
        acts_from = min(self.commands, default=0)
        surprises: list[float | None] = [None] * len(pairs)
        if self.predictions and len(self.surprises) == len(self.predictions):
            at = {stamp: value for (stamp, *_), value in zip(self.predictions, self.surprises, strict=True)}
            surprises = [at[after] for _, after, _ in pairs]
        elif self.surprises:
            notes.append(
                f"{len(self.surprises)} surprises and {len(self.predictions)} predictions are in the log, so that "
                "the surprises are not compared"
            )
        steps = [
            self._make_step(before, after, predicted, surprise, acts_from, stamps, continues=continues)
            for (before, after, predicted), surprise, continues in zip(
                pairs, surprises, _find_continued(pairs), strict=True
            )
        ]
        learning, num_before, missing = _read_counters(self.statuses)
        if missing > MAX_UNRECORDED and self.predictions:
            notes.append(f"the agent took {missing} transitions that are not in the log")
        return AgentLog(
            initial_action=self._find_initial_action(pairs[0][0]) if pairs else self.spec.home_action,
            steps=tuple(steps),
            is_live=bool(self.predictions),
            learning=learning,
            num_updates_before=num_before,
            notes=tuple(notes),
        )

    def _pair_predictions(
        self, stamps: list[int]
    ) -> tuple[list[tuple[int, int, np.ndarray | None]], list[str]]:
        """Pair each observation that the agent predicted with the one before it that the agent had accepted."""
        pairs: list[tuple[int, int, np.ndarray | None]] = []
        last: tuple[int, int] | None = None
        num_lost = 0
        for stamp, received, joints in self.predictions:
            at = bisect_left(stamps, stamp)
            if at == len(stamps) or stamps[at] != stamp:
                num_lost, last = num_lost + 1, None
                continue
            paused = last is None or any(last[1] < pause < received for pause in self.pauses)
            before = stamps[at - 1] if paused and at else None if last is None else last[0]
            if before is not None:
                pairs.append((before, stamp, joints))
            last = stamp, received
        notes = []
        if num_lost:
            notes.append(f"{num_lost} observations that the agent had are not in the log")
        return pairs, notes

    def _make_step(
        self,
        before: int,
        after: int,
        predicted: np.ndarray | None,
        surprise: float | None,
        acts_from: int,
        stamps: list[int],
        *,
        continues: bool,
    ) -> LoggedStep:
        (obs, _), (next_obs, is_new) = self.observations[before], self.observations[after]
        period = self.spec.dt * 1e9
        in_time = round(period / MAX_GAP) <= after - before <= round(period * MAX_GAP)
        known = after in self.applied
        if after < acts_from:
            is_new = np.zeros(next_obs.shape, bool)
        return LoggedStep(
            stamp=after,
            obs=obs,
            applied=self._find_applied(after, stamps),
            next_obs=next_obs,
            valid=in_time and known,
            continues=continues,
            intervention=after in self.interventions,
            is_new=is_new,
            surprise=surprise,
            predicted=predicted,
            command=self.commands.get(before),
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


def _find_continued(pairs: Iterable[tuple[int, int, Any]]) -> list[bool]:
    last, found = None, []
    for before, after, _ in pairs:
        found.append(before == last)
        last = after
    return found


def _read_counters(statuses: list[tuple[int, dict[str, Any]]]) -> tuple[bool | None, int | None, int]:
    """Return whether the agent learned, its updates before the session, and how many transitions the log lacks."""
    counted = [
        (num_predictions, each["lifetime"])
        for num_predictions, each in statuses
        if isinstance(each.get("lifetime"), Mapping)
        and {"num_steps", "num_valid", "num_invalid"} <= set(each["lifetime"])
    ]
    if not counted:
        return None, None, 0
    first, last = counted[0][1], counted[-1][1]
    grown = last["num_steps"] - first["num_steps"]
    learning = None
    if last["num_valid"] - first["num_valid"] > MAX_UNRECORDED:
        learning = grown > 0
    missing = max(each["num_valid"] + each["num_invalid"] - predictions for predictions, each in counted)
    before = None
    if learning is not None or first["num_valid"] == 0:
        before = int(first["num_steps"] - (first["num_valid"] if learning else 0))
    return learning, before, int(missing)


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
