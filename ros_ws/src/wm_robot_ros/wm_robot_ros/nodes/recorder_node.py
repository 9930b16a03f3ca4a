"""Recorder node: records all topics of robots in one session file, and optionally their episodes in further files.

The session file survives a killed recorder. Raw subscriptions → bounded queue → one writer thread, so that a slow
disk delays no message, and no message is decoded and encoded again. It can also write a status summary.
"""

import itertools
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PointStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, String

from wm_robot.errors import ConfigError
from wm_robot.recording.session_file import FLUSH_EVERY, SessionWriter
from wm_robot_ros.middleware.idle_tasks import timer
from wm_robot_ros.middleware.node_runtime import (
    end,
    executor_of,
    one_sentence,
    spin_once,
    start,
    use_real_time,
)
from wm_robot_ros.middleware.parameters import declare, warn_of_unknown
from wm_robot_ros.middleware.qos import LATCHED
from wm_robot_ros.nodes.status_summary import Digest, line

if TYPE_CHECKING:
    from wm_robot_ros.nodes.episode_writer import EpisodeScribe

LISTEN = QoSProfile(depth=200, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Compatible with every publisher; no publisher waits for the recorder."""
TOPICS: Mapping[str, tuple[type, QoSProfile]] = {
    "joint_states": (JointState, LISTEN),
    "applied_command": (JointState, LISTEN),
    "joint_command": (JointState, LISTEN),
    "target": (PointStamped, LISTEN),
    "agent/status": (String, LISTEN),
    "agent/prediction": (JointState, LISTEN),
    "agent/surprise": (Float64, LISTEN),
    "plant/status": (String, LISTEN),
    "plant/contact": (String, LISTEN),
    "ground_truth/gripper": (PointStamped, LISTEN),
    "ground_truth/event": (String, LATCHED),
}
"""Recorded topics of each robot, by name in its namespace."""
SHARED: Mapping[str, tuple[type, QoSProfile]] = {"/diagnostics": (DiagnosticArray, LISTEN)}
QUEUE = 20_000
"""Capacity of the queue, in messages: half a minute of two robots."""
END = object()


class Scribe:
    """Writer thread of a session file, and of the episodes in it."""

    def __init__(
        self,
        path: Path,
        *,
        episodes: "EpisodeScribe | None" = None,
        capacity: int = QUEUE,
        flush_every: float = FLUSH_EVERY,
    ):
        self.dropped = 0
        """Number of messages that arrived while the queue was full."""
        self.error: BaseException | None = None
        """Error that ended the writing."""
        self.episodes_error: BaseException | None = None
        """Error that ended the episodes; the session continues without them."""
        self._episodes = episodes
        self._path, self._flush_every = path, flush_every
        self._queue: queue.Queue[Any] = queue.Queue(capacity)
        self._thread = threading.Thread(target=self._run, name="scribe")
        self._thread.start()

    @property
    def writing(self) -> bool:
        return self._thread.is_alive()

    def take(self, topic: str, kind: str, data: bytes, qos: str = "") -> None:
        """Add a message to the queue without waiting; its log time is the current time."""
        try:
            self._queue.put_nowait((topic, kind, time.time_ns(), data, qos))
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write the queued messages, then the index.

        Raises:
            BaseException: Error that ended the writing before this call.
        """
        while self.writing:
            try:
                self._queue.put(END, timeout=0.1)
                break
            except queue.Full:
                continue
        self._thread.join()
        if self.error:
            raise self.error

    def _run(self) -> None:
        try:
            writer = SessionWriter(self._path)
            try:
                self._write_until_end(writer)
            finally:
                if self._episodes:
                    with self._session_first():
                        self._episodes.close()
                writer.close()
        except BaseException as error:
            # Raised again in `close_session`, in the thread that can report it.
            self.error = error

    def _write_until_end(self, writer: SessionWriter) -> None:
        channels: dict[str, int] = {}
        writer.flush()
        due = time.monotonic() + self._flush_every
        while True:
            try:
                item = self._queue.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                item = None
            if item is END:
                return
            if item is not None:
                topic, kind, stamp, data, qos = item
                if topic not in channels:
                    channels[topic] = writer.add_topic(topic, kind, qos)
                writer.write(channels[topic], stamp, data)
                if self._episodes:
                    with self._session_first():
                        self._episodes.take(topic, data)
            if time.monotonic() >= due:
                writer.flush()
                if self._episodes:
                    with self._session_first():
                        self._episodes.flush()
                due = time.monotonic() + self._flush_every

    @contextmanager
    def _session_first(self) -> Iterator[None]:
        """Catch errors of the episodes, so that the session, which matters more, continues."""
        try:
            yield
        except Exception as error:
            self.episodes_error, self._episodes = error, None


class RecorderNode(Node):
    """Node that subscribes to the topics of robots and passes their messages to a session writer."""

    def __init__(self) -> None:
        super().__init__("recorder")
        path = Path(declare(self, "path", "session.mcap", "file to record to"))
        numbered = declare(
            self,
            "numbered",
            False,
            "if path exists, record to the first free one of path-2, path-3 and so on",
        )
        robots = declare(
            self, "robots", "", "namespaces of the robots, separated by commas; empty: no namespace"
        ).split(",")
        episodes = declare(self, "episodes", "", "folder for one file per episode; empty: no episodes")
        model = declare(self, "robot", "arm", "for episodes: name of a robot that ships, or path of its spec")
        digest = declare(self, "digest", "", "file for lines of JSON with a status summary; empty: none")
        rate = declare(self, "digest_rate", 10.0, "rate of the status summary, in Hz", bounds=(0.1, 50))
        priority = declare(
            self, "realtime.priority", 0, "SCHED_FIFO priority; 0: no real time", bounds=(0, 99)
        )
        warn_of_unknown(self)
        use_real_time(self, priority)
        if numbered:
            path = _next_free(path)
        elif path.exists():
            raise ConfigError(f"{path} exists already; move it, or set path to another file")
        self.path = path
        self._offered: dict[str, str] = {}
        self._digest = Digest() if digest else None
        for robot in robots:
            namespace = f"/{robot.strip('/ ')}".rstrip("/")
            for name, (kind, qos) in TOPICS.items():
                self._listen(f"{namespace}/{name}", kind, qos)
        for topic, (kind, qos) in SHARED.items():
            self._listen(topic, kind, qos)
        if self._digest:
            self._told = Path(digest).open("w", encoding="utf-8")
            self._robots = [robot.strip("/ ") for robot in robots]
            timer(self, 1.0 / rate, self._tell)
        names = [name.strip("/ ") for name in robots]
        self.scribe = Scribe(
            path, episodes=self._episode_scribe(episodes, model, names, path) if episodes else None
        )
        self.get_logger().info(f"recording {', '.join(robots) or 'one robot'} to {path}")

    def _episode_scribe(self, folder: str, model: str, names: list[str], path: Path) -> "EpisodeScribe":
        # Imported here, so that a recorder without episodes needs neither module.
        from wm_robot.robots import load_spec
        from wm_robot_ros.nodes.episode_writer import EpisodeScribe

        kinds = {name: kind for name, (kind, _) in TOPICS.items()}
        scribe = EpisodeScribe(Path(folder), load_spec(model), names, kinds, source=path.name)
        for one in scribe.salvaged:
            self.get_logger().warning(f"{one.path}: {one.what}; {one.steps} steps were recovered")
        timer(self, 1.0, self._complain)
        return scribe

    def _complain(self) -> None:
        if self.scribe.episodes_error:
            self.get_logger().error(f"no more episodes: {self.scribe.episodes_error}", once=True)

    def _listen(self, topic: str, kind: type, qos: QoSProfile) -> None:
        self.create_subscription(kind, topic, self._hand_over(topic, _name_of(kind)), qos, raw=True)

    def _hand_over(self, topic: str, kind: str) -> Callable[[bytes], None]:
        def hand_over(data: bytes) -> None:
            # Requested once, when a publisher exists.
            if topic not in self._offered:
                self._offered[topic] = _profiles_yaml(
                    [one.qos_profile for one in self.get_publishers_info_by_topic(topic)]
                )
            self.scribe.take(topic, kind, data, self._offered[topic])
            if self._digest:
                self._digest.take(topic, data)

        return hand_over

    def _tell(self) -> None:
        assert self._digest
        try:
            self._told.write(line({robot: self._digest.of(robot) for robot in self._robots}))
            self._told.flush()
        # The summary is only for display; the recording continues without it.
        except OSError as error:
            self.get_logger().error(f"no status summary: {error}", once=True)


def _next_free(path: Path) -> Path:
    """Return the path, or its first numbered variant that does not exist, so that no recording is overwritten."""
    numbers = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return next(one for one in itertools.chain([path], numbers) if not one.exists())


def _name_of(kind: type) -> str:
    package, folder = kind.__module__.split(".")[:2]
    return f"{package}/{folder}/{kind.__name__}"


def _profiles_yaml(profiles: list[QoSProfile]) -> str:
    """Encode offered QoS profiles as in the metadata of a bag."""

    def seconds(duration: Any) -> dict[str, int]:
        sec, nsec = divmod(duration.nanoseconds, 10**9)
        return {"sec": sec, "nsec": nsec}

    offered = [
        {
            "history": profile.history.name.lower(),
            "depth": profile.depth,
            "reliability": profile.reliability.name.lower(),
            "durability": profile.durability.name.lower(),
            "deadline": seconds(profile.deadline),
            "lifespan": seconds(profile.lifespan),
            "liveliness": profile.liveliness.name.lower(),
            "liveliness_lease_duration": seconds(profile.liveliness_lease_duration),
            "avoid_ros_namespace_conventions": profile.avoid_ros_namespace_conventions,
        }
        for profile in profiles
    ]
    return str(yaml.safe_dump(offered, sort_keys=False))


def _why_no_episodes(error: BaseException) -> str:
    return f"the session is complete, its episodes are not: {type(error).__name__}: {error}"


def _close(scribe: Scribe, path: Path) -> None:
    try:
        scribe.close()
    except OSError as error:
        if path.exists() and not path.stat().st_size:
            # An empty file; a restarted recorder creates it again.
            path.unlink()
        left = f". To recover its messages, run: wm-robot recover {path}" if path.exists() else ""
        sys.exit(f"{path} is incomplete: {error}{left}")
    if scribe.episodes_error:
        sys.exit(_why_no_episodes(scribe.episodes_error))


def main() -> None:
    """Record until SIGINT or SIGTERM, then close the file; exit code 1 if it could not be written."""
    stop = start()
    node = None
    try:
        with one_sentence():
            node = RecorderNode()
            executor = executor_of(node, quick=True)
            while node.scribe.writing and not stop.asked:
                spin_once(executor, node)
    except OSError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error
    finally:
        end(node)
        # After every error too: an open writer keeps the process alive and its file without an index.
        if node is not None:
            _close(node.scribe, node.path)
    if node.scribe.dropped:
        sys.exit(f"{node.scribe.dropped} messages were lost: the disk is too slow for these topics")


if __name__ == "__main__":
    main()
