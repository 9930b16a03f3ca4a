"""Episode writer: splits the recorded messages of robots into episode files, next to the session file."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from rclpy.serialization import deserialize_message

from wm_robot.recording.episode_folder import EpisodeFolder, SalvageResult
from wm_robot.recording.episode_origin import EpisodeOrigin
from wm_robot.recording.episode_splitter import EpisodeSplitter, get_goal_size, list_topic_types
from wm_robot.recording.open_episode import OpenEpisode
from wm_robot.recording.robot_topics import resolve_topic
from wm_robot.spec import RobotSpec


class EpisodeWriter:
    """Writer of the episodes of several robots. Use it in one thread only."""

    def __init__(
        self, folder: Path, robots: Mapping[str, tuple[RobotSpec, Mapping[str, type]]], *, source: str
    ):
        """Args:
        folder: Folder with one subfolder for each namespace.
        robots: Namespace → spec, and message type of each topic by its name there; other topics are ignored.
        source: Name of the session file.

        Raises:
            SnapshotError: If another process writes into the folder.
        """
        self.recovered: list[SalvageResult] = []
        """Episodes that a killed recorder left, and that were recovered."""
        self.first_rejections: dict[str, str] = {}
        """First rejection reason of each robot that had one."""
        self._folders: list[EpisodeFolder] = []
        self._splitters: list[EpisodeSplitter[OpenEpisode]] = []
        self._receivers: dict[str, list[tuple[EpisodeSplitter[OpenEpisode], str, type]]] = {}
        """Topic → splitters that process it, each with its name in the namespace of the robot, and its type."""
        self._open_episodes: set[OpenEpisode] = set()
        for robot, (spec, message_types) in robots.items():
            origin = EpisodeOrigin.from_robot(spec, source=source)
            place = EpisodeFolder(folder / robot)
            self.recovered += place.salvage_results
            self._folders.append(place)
            splitter = EpisodeSplitter(
                spec,
                partial(self._begin_episode, place, origin, get_goal_size(spec)),
                partial(self._end_episode, place),
            )
            self._splitters.append(splitter)
            for name in list_topic_types(spec).keys() & message_types.keys():
                receiver = splitter, name, message_types[name]
                self._receivers.setdefault(resolve_topic(robot, name), []).append(receiver)

    def add_message(self, topic: str, data: bytes, received: int) -> None:
        """Add a raw message to the episode of its robot; other topics are ignored.

        Args:
            received: Time of its receipt, in ns.

        Raises:
            SpecError: If the plant reports another robot.
            OSError: If an episode cannot be written.
        """
        for splitter, name, kind in self._receivers.get(topic, ()):
            splitter.process_message(name, deserialize_message(data, kind), received)

    def flush_episodes(self) -> None:
        """Write all steps durably: after this call they survive a power cut."""
        for episode in self._open_episodes:
            episode.flush()

    def close_folders(self) -> None:
        """End the open episodes, and unlock the folders."""
        try:
            for splitter in self._splitters:
                splitter.end_episode()
        finally:
            for place in self._folders:
                place.close()

    def _begin_episode(self, place: EpisodeFolder, origin: EpisodeOrigin, goal: int) -> OpenEpisode:
        episode = place.start_episode(origin, goal_size=goal)
        self._open_episodes.add(episode)
        return episode

    def _end_episode(self, place: EpisodeFolder, episode: OpenEpisode) -> None:
        self._open_episodes.discard(episode)
        place.end_episode(episode, truncated=True)
