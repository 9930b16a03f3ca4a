"""Recorded experience: loads episodes from episode files, sessions and bags, with finite numbers only."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wm_robot.errors import SnapshotError, SpecError
from wm_robot.recording.episode_splitter import APPLIED, COMMANDS, STATES, STREAMS, Cutter, Gathered
from wm_robot.recording.recording_path import check_recording
from wm_robot.recording.robot_topics import robots_with_actions, select_robot
from wm_robot.spec import RobotSpec
from wm_robot.streams.joint_message import stamp_of
from wm_robot.streams.rejection import Refusal
from wm_robot.types import Episode

MOST_REFUSED = 0.05
"""Largest share of messages that may be rejected, by the rules of an agent; with more, the recording is refused."""
LEAST_VALID = 0.5
"""Least share of valid transitions."""
OFF_RATE = 1.1
"""Largest ratio between the median period and that of the spec, either way."""
PARQUET = b"PAR1"
NOT_READINGS = {Refusal.GAP.value, Refusal.UNPAIRED.value}
NEEDED = (STATES, APPLIED, COMMANDS)
"""Topics that make transitions; without the last, the whole motion of the robot is an episode."""
MEANING = {
    APPLIED: "Give each the stamp of the observation that follows it",
    COMMANDS: "Give each the stamp of the observation that it answers, or leave the topic out of the recording",
}


def load_experience(path: Path, spec: RobotSpec, *, namespace: str | None = None) -> list[Episode]:
    """Return the episodes of a robot, in the order of recording. Learning from them equals the recorded experience.

    Args:
        path: An episode file, a folder of them, or a session or bag of ROS 2, whole or cut.
        namespace: Of the robot in a session; needed if there are several.

    Raises:
        SpecError: If it belongs to another robot or rate, or too much of it is invalid.
        SnapshotError: If a file is missing, damaged or of another kind.
    """
    path = Path(path)
    check_recording(path)
    if path.is_dir():
        files = sorted(path.glob("*.parquet"))
        if files:
            return _checked([_read(file, spec) for file in files], spec, path)
        _check_bag(path)
    elif _is_episode(path):
        return _checked([_read(path, spec)], spec, path)
    return cut_session(path, spec, namespace=namespace).episodes


def _is_episode(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(PARQUET)) == PARQUET


def _check_bag(folder: Path) -> None:
    from wm_robot.recording.rosbag import is_bag_folder

    if not is_bag_folder(folder):
        raise SnapshotError(
            f"{folder} holds no episode file and no bag of ROS 2. Name a folder with one of them, or a session"
        )


def recorded(paths: Sequence[Path], spec: RobotSpec, robot: str = "") -> list[Episode]:
    """Return the episodes of several recordings, in order; see `load_experience`.

    Args:
        robot: Namespace in sessions; empty if each has one robot.
    """
    return [each for path in paths for each in load_experience(path, spec, namespace=robot or None)]


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Experience of one robot in a session or a bag."""

    namespace: str
    episodes: list[Episode]
    refused: dict[str, int]
    """Reason of rejection → number of messages; zeros are left out."""


def robots_in(path: Path) -> list[str]:
    """Return the namespaces of the robots in a session or a bag with enough topics to learn from.

    Raises:
        SnapshotError: If the file is no session.
    """
    from wm_robot.recording.session_file import topics_in

    return robots_with_actions(topics_in(path))


def cut_session(path: Path, spec: RobotSpec, *, namespace: str | None = None) -> Cut:
    """Return a robot's episodes in a session or a bag, split as an agent that receives every message would.

    Raises:
        SpecError: If they belong to another robot or rate, or too much is invalid.
        SnapshotError: If the file is no session.
    """
    from wm_robot.recording.session_file import messages, topics_in, was_closed

    topics = topics_in(path)
    if not topics:
        why = "nothing was recorded" if was_closed(path) else "it was cut before the first"
        raise SpecError(f"{path} holds no message: {why}. Check that the robot publishes, and record again")
    robot = select_robot(topics, namespace, path)
    prefix = f"/{robot}/".replace("//", "/")
    wanted = {prefix + name: kind for name, kind in STREAMS.items() if topics.get(prefix + name) == kind}
    ended: list[Gathered] = []
    stamps: dict[str, list[int]] = {name: [] for name in NEEDED if prefix + name in wanted}
    cutter = Cutter(spec, Gathered, ended.append, commanded=COMMANDS in stamps)
    try:
        for topic, _, message in messages(path, wanted):
            name = topic.removeprefix(prefix)
            if name in stamps:
                stamps[name].append(stamp_of(message))
            cutter.take(name, message)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from error
    cutter.finish()
    episodes = [episode for gathered in ended if (episode := gathered.episode()) is not None]
    refused = {name: count for name, count in cutter.pairing.refusals.to_dict().items() if count}
    _check_refused(path, refused, cutter)
    return Cut(namespace=robot, episodes=_checked(episodes, spec, path, _unpaired(stamps)), refused=refused)


def _unpaired(stamps: Mapping[str, list[int]]) -> str:
    """Return the fault in the stamps that leaves no valid transition; empty if there is none.

    Args:
        stamps: Topic in the robot's namespace → stamps of its messages, in ns.
    """
    for name, given in stamps.items():
        if not given:
            return f"{name} holds no message"
    sensed = np.unique(stamps[STATES])
    if len(sensed) < 2:
        return f"{STATES} holds one stamp only, and a transition needs two"
    for name, given in stamps.items():
        after = np.searchsorted(sensed, given).clip(1, len(sensed) - 1)
        off = np.minimum(np.abs(sensed[after] - given), np.abs(given - sensed[after - 1]))
        if off.all():
            return (
                f"no {name} has the stamp of an observation, by which they are paired; the nearest is "
                f"{off.min() / 1e6:.3g} ms off. {MEANING[name]}"
            )
    return ""


def _read(path: Path, spec: RobotSpec) -> Episode:
    from wm_robot.recording.episode_file import read_episode

    return livable(read_episode(path, spec))


def livable(episode: Episode) -> Episode:
    """Return an episode without its non-finite observations, which an agent rejects; a gap is left.

    A missing action is replaced by the last one present, in a transition that stays invalid.

    Raises:
        SpecError: If no observation is finite.
    """
    kept = np.flatnonzero(np.isfinite(episode.obs).all(-1))
    if not len(kept):
        raise SpecError(f"none of {len(episode.obs)} observations is finite; leave this episode out")
    led = np.concatenate([episode.hold[None], episode.action])
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
        goal=episode.goal[kept],
        action=led[1:],
        hold=led[0],
        reward=np.where(one_on, episode.reward[kept[1:] - 1], np.nan),
        valid=one_on & episode.valid[kept[1:] - 1],
    )


def _check_refused(path: Path, refused: dict[str, int], cutter: Cutter[Any]) -> None:
    readings = Counter({name: count for name, count in refused.items() if name not in NOT_READINGS})
    if readings.total() > MOST_REFUSED * cutter.observations:
        reasons = ", ".join(f"{count} {name}" for name, count in readings.most_common())
        other = readings.most_common(1)[0][0] == Refusal.NAMES.value
        advice = ". Use the spec of the robot that was recorded" if other else ""
        raise SpecError(
            f"{path}: {readings.total()} messages, for {cutter.observations} observations, of robot "
            f"'{cutter.spec.name}' cannot be used ({reasons}); the first is {cutter.complaint}{advice}"
        )


def _checked(episodes: list[Episode], spec: RobotSpec, path: Path, unpaired: str = "") -> list[Episode]:
    """Return the episodes, after a check that they can be experience of a robot.

    Args:
        unpaired: Reason why there are no transitions, for the error.

    Raises:
        SpecError: If they have no transition, another rate, or too many invalid transitions.
    """
    steps = sum(len(episode) for episode in episodes)
    if not steps:
        why = f": {unpaired}" if unpaired else ""
        raise SpecError(
            f"{path} holds no transition of robot '{spec.name}': no observation that a command answers, with its "
            f"applied command{why}. Record joint_states, joint_command and applied_command"
        )
    period = float(np.median(np.concatenate([np.diff(episode.stamp) for episode in episodes]))) / 1e9
    if not 1 / OFF_RATE <= period / spec.dt <= OFF_RATE:
        raise SpecError(
            f"{path} has an observation every {1e3 * period:.3g} ms; robot '{spec.name}' runs at {spec.rate:g} Hz, "
            f"one every {1e3 * spec.dt:.3g} ms. Record at its rate, or use the spec of that robot"
        )
    valid = sum(int(episode.valid.sum()) for episode in episodes)
    if valid < LEAST_VALID * steps:
        why = f" ({unpaired})" if unpaired else ""
        raise SpecError(
            f"{path}: {steps - valid} of {steps} transitions are invalid, by gaps or missing actions{why}; at most "
            "half may be. Check for lost messages"
        )
    return episodes
