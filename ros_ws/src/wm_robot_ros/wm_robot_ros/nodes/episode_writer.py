"""Episodes as they are lived: what the robots say is cut into episode files beside the session."""

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
    """Takes the raw messages of some robots of one kind. One thread only."""

    def __init__(
        self, folder: Path, spec: RobotSpec, robots: Sequence[str], kinds: Mapping[str, type], *, source: str
    ):
        """Args:
        folder: Each robot gets a folder in it, by its namespace.
        robots: Namespaces.
        kinds: Message type of each topic, by its name in a namespace.
        source: Name of the session beside it.

        Raises:
            SnapshotError: If another process writes there.
        """
        self.salvaged: list[Salvaged] = []
        """What a recorder that died had left."""
        self.complaints: dict[str, str] = {}
        """Why a message of a robot was refused first; where there was none, none."""
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
        """Take a message; topics without episodes are passed over.

        Raises:
            SpecError: If the plant says that it is another robot.
            OSError: If an episode could not be written.
        """
        for robot, cutter in self._cutters.items():
            prefix = f"/{robot}/".replace("//", "/")
            name = topic.removeprefix(prefix)
            if topic.startswith(prefix) and name in STREAMS:
                cutter.take(name, deserialize_message(data, self._kinds[name]))
                return

    def flush(self) -> None:
        """When this returns, every step so far survives a power cut."""
        for episode in self._open:
            episode.flush()

    def close(self) -> None:
        """End what goes on, and let others write there."""
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
