"""Recorded experience: loads episodes from episode files, sessions and bags, with finite numbers only."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wm_robot.errors import SnapshotError, SpecError
from wm_robot.recording.episode_origin import EpisodeOrigin
from wm_robot.recording.episode_splitter import (
    APPLIED_TOPIC,
    COMMAND_TOPIC,
    STATE_TOPIC,
    EpisodeBuilder,
    EpisodeSplitter,
    list_topic_types,
)
from wm_robot.recording.recording_path import check_recording
from wm_robot.recording.robot_topics import (
    check_sensor_topics,
    find_robots_with_actions,
    resolve_topic,
    select_robot,
)
from wm_robot.spec import RobotSpec
from wm_robot.streams.joint_message import read_stamp
from wm_robot.streams.rejection import RejectionReason
from wm_robot.types import Episode

MAX_REJECTED_SHARE = 0.05
"""Largest share of messages that may be rejected, by the rules of an agent; with more, the recording is refused."""
MIN_VALID_SHARE = 0.5
"""Least share of valid transitions."""
MAX_RATE_RATIO = 1.1
"""Largest ratio between the median period and that of the spec, either way."""
PARQUET_MAGIC = b"PAR1"
UNCOUNTED_REJECTIONS = {
    each.value for each in (RejectionReason.GAP, RejectionReason.UNPAIRED, RejectionReason.SENSOR)
}
"""Rejections of which `MIN_VALID_SHARE` limits the number."""
NEEDED_TOPICS = (STATE_TOPIC, APPLIED_TOPIC, COMMAND_TOPIC)
"""Topics that make transitions; without the last, the whole motion of the robot is an episode."""
STAMP_ADVICE = {
    APPLIED_TOPIC: "Give each the stamp of the observation that follows it",
    COMMAND_TOPIC: "Give each the stamp of the observation that it answers, or leave the topic out of the recording",
}


def load_experience(path: Path, spec: RobotSpec, *, namespace: str | None = None) -> list[Episode]:
    """Return the episodes of a robot, in the order of recording. Learning from them equals the recorded experience.

    Angles that wrap count turns within an episode.

    Args:
        path: An episode file, a folder of them, or a session or bag of ROS 2, whole or cut.
        namespace: Of the robot in a session; needed if there are several.

    Raises:
        SpecError: If it belongs to another robot or rate, or too much of it is invalid.
        SnapshotError: If a file is missing, damaged or of another kind.
    """
    episodes, layout = _read_episodes(Path(path), spec, namespace), spec.layout
    if not layout.wraps:
        return episodes
    return [replace(episode, obs=layout.count_turns(episode.obs)) for episode in episodes]


def _read_episodes(path: Path, spec: RobotSpec, namespace: str | None) -> list[Episode]:
    """Return the episodes of a robot as they were recorded; see `load_experience`."""
    if is_session(path):
        return split_session(path, spec, namespace=namespace).episodes
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    return _check_episodes([_read_finite_episode(file, spec) for file in files], spec, path)


def is_session(path: Path) -> bool:
    """Whether a recording is a session or a bag, and no episodes.

    Raises:
        SnapshotError: If there is nothing, or a folder with neither.
    """
    check_recording(path)
    if not path.is_dir():
        return not _is_episode_file(path)
    if any(path.glob("*.parquet")):
        return False
    _check_bag(path)
    return True


def _is_episode_file(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC


def _check_bag(folder: Path) -> None:
    from wm_robot.recording.rosbag import is_bag_folder

    if not is_bag_folder(folder):
        raise SnapshotError(
            f"{folder} holds no episode file and no bag of ROS 2. Name a folder with one of them, or a session"
        )


def load_recordings(paths: Sequence[Path], spec: RobotSpec, robot: str = "") -> list[Episode]:
    """Return the episodes of several recordings, in order; see `load_experience`.

    Args:
        robot: Namespace in sessions; empty if each has one robot.
    """
    return [each for path in paths for each in load_experience(path, spec, namespace=robot or None)]


@dataclass(frozen=True, kw_only=True)
class RobotRecording:
    """Experience of one robot in a session or a bag."""

    namespace: str
    episodes: list[Episode]
    rejections: dict[str, int]
    """Reason of rejection → number of messages; zeros are left out."""
    unread_sensors: dict[str, str]
    """Optional sensor without a valid reading in the whole recording → why."""


def list_robots(path: Path) -> list[str]:
    """Return the namespaces of the robots in a session or a bag with enough topics to learn from.

    Raises:
        SnapshotError: If the file is no session.
    """
    from wm_robot.recording.session_file import read_topics

    return find_robots_with_actions(read_topics(path))


def split_session(path: Path, spec: RobotSpec, *, namespace: str | None = None) -> RobotRecording:
    """Return a robot's episodes in a session or a bag, split as an agent that receives every message would.

    Raises:
        SpecError: If they belong to another robot or rate, or too much is invalid.
        SnapshotError: If the file is no session.
    """
    from wm_robot.recording.session_file import iterate_messages, read_topics, was_closed

    topics = read_topics(path)
    if not topics:
        why = "nothing was recorded" if was_closed(path) else "it was cut before the first"
        raise SpecError(f"{path} holds no message: {why}. Check that the robot publishes, and record again")
    robot = select_robot(topics, namespace, path)
    check_sensor_topics(topics, spec, robot, path)
    types = list_topic_types(spec)
    names = {resolve_topic(robot, name): name for name in types}
    wanted = {topic: types[name] for topic, name in names.items() if topics.get(topic) == types[name]}
    ended: list[EpisodeBuilder] = []
    stamps: dict[str, list[int]] = {
        name: [] for topic, name in names.items() if topic in wanted and name in NEEDED_TOPICS
    }
    new_episode = partial(EpisodeBuilder, EpisodeOrigin.from_robot(spec).is_required)
    cutter = EpisodeSplitter(spec, new_episode, ended.append, has_commands=COMMAND_TOPIC in stamps)
    try:
        for topic, received, message in iterate_messages(path, wanted):
            name = names[topic]
            if name in stamps:
                stamps[name].append(read_stamp(message))
            cutter.process_message(name, message, received)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from error
    cutter.end_episode()
    episodes = [episode for gathered in ended if (episode := gathered.build()) is not None]
    refused = {name: count for name, count in cutter.pairing.rejections.to_dict().items() if count}
    _check_rejections(path, refused, cutter)
    return RobotRecording(
        namespace=robot,
        episodes=_check_episodes(
            episodes, spec, path, _find_pairing_fault(stamps) or _find_sensor_fault(cutter)
        ),
        rejections=refused,
        unread_sensors=cutter.observations.describe_unread(),
    )


def _find_pairing_fault(stamps: Mapping[str, list[int]]) -> str:
    """Return the fault in the stamps that leaves no valid transition; empty if there is none.

    Args:
        stamps: Topic in the robot's namespace → stamps of its messages, in ns.
    """
    for name, given in stamps.items():
        if not given:
            return f"{name} holds no message"
    sensed = np.unique(stamps[STATE_TOPIC])
    if len(sensed) < 2:
        return f"{STATE_TOPIC} holds one stamp only, and a transition needs two"
    for name, given in stamps.items():
        after = np.searchsorted(sensed, given).clip(1, len(sensed) - 1)
        off = np.minimum(np.abs(sensed[after] - given), np.abs(given - sensed[after - 1]))
        if off.all():
            return (
                f"no {name} has the stamp of an observation, by which they are paired; the nearest is "
                f"{off.min() / 1e6:.3g} ms off. {STAMP_ADVICE[name]}"
            )
    return ""


def _find_sensor_fault(splitter: EpisodeSplitter[Any]) -> str:
    """Return why required sensors made observations unusable; empty if they did not."""
    is_found = splitter.pairing.rejections.to_dict()[RejectionReason.SENSOR.value]
    return splitter.first_rejection if is_found else ""


def _read_finite_episode(path: Path, spec: RobotSpec) -> Episode:
    from wm_robot.recording.episode_file import read_episode

    return drop_nonfinite(read_episode(path, spec))


def drop_nonfinite(episode: Episode) -> Episode:
    """Return an episode without the observations that an agent rejects, for a required channel that is not finite.

    A gap is left. A missing action is replaced by the last one present, in a transition that stays invalid.

    Raises:
        SpecError: If no observation is finite.
    """
    kept = np.flatnonzero(episode.find_whole_observations())
    if not len(kept):
        raise SpecError(f"none of {len(episode.obs)} observations is finite; leave this episode out")
    led = np.concatenate([episode.initial_action[None], episode.action])
    known = np.isfinite(led).all(-1)
    if len(kept) == len(episode) + 1 and known.all():
        return episode
    newest = np.maximum.accumulate(np.where(known, np.arange(len(led)), -1))
    first = int(np.argmax(known))
    led = led[np.where(newest < 0, first, newest)][kept] if known.any() else np.zeros_like(led)[kept]
    one_on = np.diff(kept) == 1
    return replace(
        episode,
        stamp=episode.stamp[kept],
        obs=episode.obs[kept],
        is_new=None if episode.is_new is None else episode.is_new[kept],
        goal=episode.goal[kept],
        action=led[1:],
        initial_action=led[0],
        reward=np.where(one_on, episode.reward[kept[1:] - 1], np.nan),
        valid=one_on & episode.valid[kept[1:] - 1],
    )


def _check_rejections(path: Path, rejections: dict[str, int], splitter: EpisodeSplitter[Any]) -> None:
    readings = Counter(
        {name: count for name, count in rejections.items() if name not in UNCOUNTED_REJECTIONS}
    )
    if readings.total() > MAX_REJECTED_SHARE * splitter.num_observations:
        reasons = ", ".join(f"{count} {name}" for name, count in readings.most_common())
        other = readings.most_common(1)[0][0] == RejectionReason.NAMES.value
        advice = ". Use the spec of the robot that was recorded" if other else ""
        raise SpecError(
            f"{path}: {readings.total()} messages, for {splitter.num_observations} observations, of robot "
            f"'{splitter.spec.name}' cannot be used ({reasons}); the first is {splitter.first_rejection}{advice}"
        )


def _check_episodes(
    episodes: list[Episode], spec: RobotSpec, path: Path, pairing_fault: str = ""
) -> list[Episode]:
    """Return the episodes, after a check that they can be experience of a robot.

    Args:
        pairing_fault: Reason why there are no transitions, for the error.

    Raises:
        SpecError: If they have no transition, another rate, or too many invalid transitions.
    """
    steps = sum(len(episode) for episode in episodes)
    if not steps:
        why = f": {pairing_fault}" if pairing_fault else ""
        raise SpecError(
            f"{path} holds no transition of robot '{spec.name}': no observation that a command answers, with its "
            f"applied command{why}. Record joint_states, joint_command and applied_command"
        )
    period = float(np.median(np.concatenate([np.diff(episode.stamp) for episode in episodes]))) / 1e9
    if not 1 / MAX_RATE_RATIO <= period / spec.dt <= MAX_RATE_RATIO:
        raise SpecError(
            f"{path} has an observation every {1e3 * period:.3g} ms; robot '{spec.name}' runs at {spec.rate:g} Hz, "
            f"one every {1e3 * spec.dt:.3g} ms. Record at its rate, or use the spec of that robot"
        )
    valid = sum(int(episode.valid.sum()) for episode in episodes)
    if valid < MIN_VALID_SHARE * steps:
        why = f" ({pairing_fault})" if pairing_fault else ""
        raise SpecError(
            f"{path}: {steps - valid} of {steps} transitions are invalid, by gaps or missing actions{why}; at most "
            "half may be. Check for lost messages"
        )
    return episodes
