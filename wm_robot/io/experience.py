"""Experience from what was recorded, whatever it was recorded in: episodes whose every number may be lived."""

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wm_robot.errors import SnapshotError, SpecError
from wm_robot.io.cutting import COMMANDS, STREAMS, Cutter, Gathered
from wm_robot.io.refusal import Refusal
from wm_robot.spec import RobotSpec
from wm_robot.types import Episode

MOST_REFUSED = 0.05
"""Share of readings that may be refused, as an agent would refuse them one by one; with more the log is no good."""
LEAST_VALID = 0.5
"""Share of transitions that must be valid."""
OFF_RATE = 1.1
"""How many times longer or shorter than the spec's the usual period may be."""
PARQUET = b"PAR1"
NOT_READINGS = {Refusal.GAP.value, Refusal.UNPAIRED.value}


def load_experience(path: Path, spec: RobotSpec, *, namespace: str | None = None) -> list[Episode]:
    """Episodes of a robot, in the order in which they happened. To live them is to live what was recorded.

    Args:
        path: An episode file, a folder of them, or a session (MCAP), whole or cut.
        namespace: Of the robot in a session; needed if there are several.

    Raises:
        SpecError: If it is another robot's, of another rate, or much of it could not be lived.
        SnapshotError: If a file is missing, damaged or something else.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob("*.parquet"))
        if not files:
            raise SnapshotError(f"{path} holds no episode file. Name a folder with some, or a session")
        return _checked([_read(file, spec) for file in files], spec, path)
    if not path.exists():
        raise SnapshotError(f"{path} is not there. Name an episode file, a folder of them, or a session")
    with path.open("rb") as file:
        begins = file.read(len(PARQUET))
    if begins == PARQUET:
        return _checked([_read(path, spec)], spec, path)
    return cut_session(path, spec, namespace=namespace).episodes


def recorded(paths: Sequence[Path], spec: RobotSpec, robot: str = "") -> list[Episode]:
    """Episodes of all of these, one after another; see `load_experience`.

    Args:
        robot: Namespace in sessions; empty where they tell of one.
    """
    return [each for path in paths for each in load_experience(path, spec, namespace=robot or None)]


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What a session holds of a robot."""

    namespace: str
    episodes: list[Episode]
    refused: dict[str, int]
    """Messages by the reason for which an agent refuses them; zeros are left out."""


def robots_in(path: Path) -> list[str]:
    """Namespaces of the robots that a session tells of.

    Raises:
        SnapshotError: If the file is no session.
    """
    from wm_robot.io.session_file import topics_in

    return _robots_of(topics_in(path))


def cut_session(path: Path, spec: RobotSpec, *, namespace: str | None = None) -> Cut:
    """Cut a robot's episodes out of a session, as an agent that heard all of it would have lived them.

    Raises:
        SpecError: If they are another robot's, of another rate, or much of it could not be lived.
        SnapshotError: If the file is no session.
    """
    from wm_robot.io.session_file import messages, topics_in

    topics = topics_in(path)
    robot = _the_one(_robots_of(topics), namespace, path)
    prefix = f"/{robot}/".replace("//", "/")
    ended: list[Gathered] = []
    cutter = Cutter(spec, Gathered, ended.append, commanded=prefix + COMMANDS in topics)
    try:
        for topic, _, message in messages(path, {prefix + name for name in STREAMS}):
            cutter.take(topic.removeprefix(prefix), message)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from error
    cutter.finish()
    episodes = [episode for gathered in ended if (episode := gathered.episode()) is not None]
    refused = {name: count for name, count in cutter.pairing.refusals.to_dict().items() if count}
    _check_refused(path, refused, cutter)
    return Cut(namespace=robot, episodes=_checked(episodes, spec, path), refused=refused)


def _robots_of(topics: Set[str]) -> list[str]:
    spaces = sorted(name.rpartition("/")[0] for name in topics if name.endswith("/joint_states"))
    return [space.strip("/") for space in spaces if f"{space}/applied_command" in topics]


def _the_one(robots: list[str], namespace: str | None, path: Path) -> str:
    if namespace is not None and namespace.strip("/") in robots:
        return namespace.strip("/")
    if namespace is None and len(robots) == 1:
        return robots[0]
    if namespace is None:
        raise SpecError(
            f"{path} tells of {len(robots)} robots: {robots}; what is needed is joint_states and applied_command of "
            "one. Set namespace to it"
        )
    raise SpecError(f"{path} tells of no robot '{namespace}'; it has {robots}")


def _read(path: Path, spec: RobotSpec) -> Episode:
    from wm_robot.io.episode_file import read_episode

    return livable(read_episode(path, spec))


def livable(episode: Episode) -> Episode:
    """The episode without observations that are not finite: as an agent refuses them, so that a gap is left.

    An action that nobody knows becomes the last one that somebody does, in a transition that stays invalid.

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
        told = ", ".join(f"{count} {name}" for name, count in readings.most_common())
        raise SpecError(
            f"{path}: {readings.total()} messages beside {cutter.observations} observations of robot "
            f"'{cutter.spec.name}' cannot be used ({told}); the first is {cutter.complaint}"
        )


def _checked(episodes: list[Episode], spec: RobotSpec, path: Path) -> list[Episode]:
    """Raises:
    SpecError: If they cannot be what this robot lived.
    """
    steps = sum(len(episode) for episode in episodes)
    if not steps:
        raise SpecError(
            f"{path} holds no transition of robot '{spec.name}': no observation that a command answers, with what "
            "was applied. Record joint_states, joint_command and applied_command"
        )
    period = float(np.median(np.concatenate([np.diff(episode.stamp) for episode in episodes]))) / 1e9
    if not 1 / OFF_RATE <= period / spec.dt <= OFF_RATE:
        raise SpecError(
            f"{path} has an observation every {1e3 * period:.3g} ms; robot '{spec.name}' lives at {spec.rate:g} Hz, "
            f"one every {1e3 * spec.dt:.3g} ms. Record at its rate, or use the spec of that robot"
        )
    valid = sum(int(episode.valid.sum()) for episode in episodes)
    if valid < LEAST_VALID * steps:
        raise SpecError(
            f"{path}: {steps - valid} of {steps} transitions are invalid, by gaps or unknown actions; at most half "
            "may be. Look for lost messages"
        )
    return episodes
