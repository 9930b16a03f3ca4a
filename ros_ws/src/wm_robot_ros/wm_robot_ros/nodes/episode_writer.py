"""Episode writer: splits the recorded messages of robots into episode files, next to the session file."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from rclpy.serialization import deserialize_message

from wm_robot.recording.episode_file import Origin
from wm_robot.recording.episode_folder import EpisodeFolder, Salvaged
from wm_robot.recording.episode_splitter import STREAMS, Cutter, goal_size
from wm_robot.recording.open_episode import OpenEpisode
from wm_robot.spec import RobotSpec


class EpisodeScribe:
    """Writer of the episodes of several robots with one spec. Use it in one thread only."""

    def __init__(
        self, folder: Path, spec: RobotSpec, robots: Sequence[str], kinds: Mapping[str, type], *, source: str
    ):
        """Args:
        folder: Folder with one subfolder for each namespace.
        robots: Namespaces of the robots.
        kinds: Message type of each topic, by the topic's name in a namespace.
        source: Name of the session file.

        Raises:
            SnapshotError: If another process writes into the folder.
        """
        self.salvaged: list[Salvaged] = []
        """Episodes that a killed recorder left, and that were recovered."""
        self.complaints: dict[str, str] = {}
        """First rejection reason of each robot that had one."""
        self._kinds = kinds
        self._folders: list[EpisodeFolder] = []
        self._cutters: dict[str, Cutter[OpenEpisode]] = {}
        self._open: set[OpenEpisode] = set()
        origin = Origin.of(spec, source=source)
        for robot in robots:
            place = EpisodeFolder(folder / robot)
            self.salvaged += place.salvaged
            self._folders.append(place)
            self._cutters[robot] = Cutter(
                spec,
                partial(self._begin, place, origin, goal_size(spec)),
                partial(self._end, place),
            )

    def take(self, topic: str, data: bytes) -> None:
        """Add a raw message to the episode of its robot; other topics are ignored.

        Raises:
            SpecError: If the plant reports another robot.
            OSError: If an episode cannot be written.
        """
        for robot, cutter in self._cutters.items():
            prefix = f"/{robot}/".replace("//", "/")
            name = topic.removeprefix(prefix)
            if topic.startswith(prefix) and name in STREAMS:
                cutter.take(name, deserialize_message(data, self._kinds[name]))
                return

    def flush(self) -> None:
        """Write all steps durably: after this call they survive a power cut."""
        for episode in self._open:
            episode.flush()

    def close(self) -> None:
        """End the open episodes, and unlock the folders."""
        try:
            for cutter in self._cutters.values():
                cutter.finish()
        finally:
            for place in self._folders:
                place.close()

    def _begin(self, place: EpisodeFolder, origin: Origin, goal: int) -> OpenEpisode:
        episode = place.begin(origin, goal=goal)
        self._open.add(episode)
        return episode

    def _end(self, place: EpisodeFolder, episode: OpenEpisode) -> None:
        self._open.discard(episode)
        place.end(episode, truncated=True)
