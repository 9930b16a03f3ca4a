"""Recorder node: records all topics of robots in one session file, and optionally their episodes in further files.

The session file survives a killed recorder. Raw subscriptions → bounded queue → one writer thread, so that a slow
disk delays no message, and no message is decoded and encoded again. It can also write a status summary.
"""

import itertools
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from wm_robot.recording.agent_log import DRIVING_AGENT, SHADOW_COMMAND
from wm_robot.recording.robot_topics import resolve_topic
from wm_robot.recording.session_file import FLUSH_PERIOD, SessionWriter
from wm_robot.robots import load_spec
from wm_robot.spec import RobotSpec, Task
from wm_robot.streams.sensor_message import list_message_sensors
from wm_robot.tasks.goal_types import check_goal_type
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.idle_tasks import create_steady_timer
from wm_robot_ros.middleware.node_runtime import (
    init_ros,
    make_executor,
    report_errors,
    shut_down_node,
    spin_once,
    use_real_time,
)
from wm_robot_ros.middleware.parameters import declare_parameter, warn_about_unknown
from wm_robot_ros.middleware.qos import LATCHED_QOS
from wm_robot_ros.middleware.sensor_messages import check_sensor_topics, find_message_class
from wm_robot_ros.nodes.status_summary import StatusSummary, encode_summaries

if TYPE_CHECKING:
    from wm_robot_ros.nodes.episode_writer import EpisodeWriter

RECORD_QOS = QoSProfile(depth=200, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Compatible with every publisher; no publisher waits for the recorder."""
TOPICS: Mapping[str, tuple[type, QoSProfile]] = {
    "joint_states": (JointState, RECORD_QOS),
    "applied_command": (JointState, RECORD_QOS),
    "joint_command": (JointState, RECORD_QOS),
    "target": (PointStamped, RECORD_QOS),
    "plant/status": (String, RECORD_QOS),
    "plant/intervention": (String, RECORD_QOS),
    "ground_truth/gripper": (PointStamped, RECORD_QOS),
    "ground_truth/event": (String, LATCHED_QOS),
}
"""Recorded topics of each robot, by name in its namespace, besides those of its sensors. The type of `target` depends
on the task."""
AGENT_TOPICS: Mapping[str, type] = {
    "status": String,
    "prediction": JointState,
    "surprise": Float64,
    "transition": String,
}
"""Recorded topics of each agent, by name in the namespace of its node."""
SHARED: Mapping[str, tuple[type, QoSProfile]] = {"/diagnostics": (DiagnosticArray, RECORD_QOS)}
QUEUE_CAPACITY = 20_000
"""Capacity of the queue, in messages: half a minute of two robots."""
END_OF_QUEUE = object()


@dataclass(frozen=True, kw_only=True)
class RecordedRobot:
    """Robot that is recorded."""

    spec: RobotSpec
    task: Task | None
    """Task whose goals are recorded; None for a robot without tasks."""
    kinds: Mapping[str, type]
    """Recorded topic, as in `TOPICS` or the spec → message type."""

    @classmethod
    def load(cls, model: str, task_name: str, agents: Sequence[str] = ("agent",)) -> "RecordedRobot":
        """Load a robot by its name or the path of its spec.

        Args:
            agents: Names of the nodes of its agents. One that does not drive is called otherwise than `agent`.

        Raises:
            SpecError: If the spec cannot be read, or its sensors cannot be received.
        """
        spec = load_spec(model)
        check_sensor_topics(spec)
        kinds = {name: kind for name, (kind, _) in TOPICS.items()}
        for agent in agents:
            kinds |= {f"{agent}/{name}": kind for name, kind in AGENT_TOPICS.items()}
            if agent != DRIVING_AGENT:
                kinds[f"{agent}/{SHADOW_COMMAND}"] = JointState
        kinds |= {each.topic: find_message_class(each) for each in list_message_sensors(spec).values()}
        task = spec.tasks.get(task_name or next(iter(spec.tasks), ""))
        if task is not None and task.goal:
            kinds["target"] = convert.GOAL_MESSAGES[check_goal_type(spec, task)]
        return cls(spec=spec, task=task, kinds=kinds)


class SessionThread:
    """Writer thread of a session file, and of the episodes in it."""

    def __init__(
        self,
        path: Path,
        *,
        episodes: "EpisodeWriter | None" = None,
        capacity: int = QUEUE_CAPACITY,
        flush_every: float = FLUSH_PERIOD,
    ):
        self.num_dropped = 0
        """Number of messages that arrived while the queue was full."""
        self.error: BaseException | None = None
        """Error that ended the writing."""
        self.episodes_error: BaseException | None = None
        """Error that ended the episodes; the session continues without them."""
        self._episodes = episodes
        self._path, self._flush_every = path, flush_every
        self._queue: queue.Queue[Any] = queue.Queue(capacity)
        self._thread = threading.Thread(target=self._run_writer, name="scribe")
        self._thread.start()

    @property
    def is_writing(self) -> bool:
        return self._thread.is_alive()

    def add_message(self, topic: str, kind: str, data: bytes, qos: str = "") -> None:
        """Add a message to the queue without waiting; its log time is the current time."""
        try:
            self._queue.put_nowait((topic, kind, time.time_ns(), data, qos))
        except queue.Full:
            self.num_dropped += 1

    def close_session(self) -> None:
        """Write the queued messages, then the index.

        Raises:
            BaseException: Error that ended the writing before this call.
        """
        while self.is_writing:
            try:
                self._queue.put(END_OF_QUEUE, timeout=0.1)
                break
            except queue.Full:
                continue
        self._thread.join()
        if self.error:
            raise self.error

    def _run_writer(self) -> None:
        try:
            writer = SessionWriter(self._path)
            try:
                self._write_until_end(writer)
            finally:
                if self._episodes:
                    with self._catch_episode_errors():
                        self._episodes.close_folders()
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
            if item is END_OF_QUEUE:
                return
            if item is not None:
                topic, kind, stamp, data, qos = item
                if topic not in channels:
                    channels[topic] = writer.add_topic(topic, kind, qos)
                writer.write(channels[topic], stamp, data)
                if self._episodes:
                    with self._catch_episode_errors():
                        self._episodes.add_message(topic, data, stamp)
            if time.monotonic() >= due:
                writer.flush()
                if self._episodes:
                    with self._catch_episode_errors():
                        self._episodes.flush_episodes()
                due = time.monotonic() + self._flush_every

    @contextmanager
    def _catch_episode_errors(self) -> Iterator[None]:
        """Catch errors of the episodes, so that the session, which matters more, continues."""
        try:
            yield
        except Exception as error:
            self.episodes_error, self._episodes = error, None


class RecorderNode(Node):
    """Node that subscribes to the topics of robots and passes their messages to a session writer."""

    def __init__(self) -> None:
        super().__init__("recorder")
        path = Path(declare_parameter(self, "path", "session.mcap", "file to record to"))
        numbered = declare_parameter(
            self,
            "numbered",
            False,
            "if path exists, record to the first free one of path-2, path-3 and so on",
        )
        robots = declare_parameter(
            self, "robots", "", "namespaces of the robots, separated by commas; empty: no namespace"
        ).split(",")
        episodes = declare_parameter(
            self, "episodes", "", "folder for one file per episode; empty: no episodes"
        )
        model = declare_parameter(
            self,
            "robot",
            "arm",
            "for sensors, episodes, goals and summary: name of a robot that ships, or path of its spec; or one for "
            "each of `robots`, separated by commas",
        )
        task_name = declare_parameter(
            self, "task", "", "task whose goals are recorded; empty: the first one of the robot's spec"
        )
        agents = declare_parameter(
            self,
            "agents",
            "agent",
            "names of the agents' nodes, separated by commas; those in shadow mode have other names than agent",
        )
        summary = declare_parameter(
            self, "summary", "", "file for lines of JSON with a status summary; empty: none"
        )
        rate = declare_parameter(
            self, "summary_rate", 10.0, "rate of the status summary, in Hz", bounds=(0.1, 50)
        )
        priority = declare_parameter(
            self, "realtime.priority", 0, "SCHED_FIFO priority; 0: no real time", bounds=(0, 99)
        )
        warn_about_unknown(self)
        use_real_time(self, priority)
        if numbered:
            path = _find_free_path(path)
        elif path.exists():
            raise ConfigError(f"{path} exists already; move it, or set path to another file")
        self.path = path
        self._offered_qos: dict[str, str] = {}
        names = [robot.strip("/ ") for robot in robots]
        models = [each.strip() for each in model.split(",")]
        if len(models) not in (1, len(names)):
            raise ConfigError(
                f"robot has {len(models)} specs for {len(names)} robots; give one, or one for each"
            )
        listed = [each.strip() for each in agents.split(",") if each.strip()]
        loaded = {each: RecordedRobot.load(each, task_name, listed) for each in dict.fromkeys(models)}
        self._robots = {name: loaded[models[number % len(models)]] for number, name in enumerate(names)}
        self._summaries: dict[str, StatusSummary] = {}
        """Of each robot; empty if there is no summary."""
        if summary:
            self._summaries = {
                name: StatusSummary(each.spec, each.task) for name, each in self._robots.items()
            }
        recorded: dict[str, tuple[type, QoSProfile, StatusSummary | None]] = {
            topic: (kind, qos, None) for topic, (kind, qos) in SHARED.items()
        }
        for name, robot in self._robots.items():
            for topic, kind in robot.kinds.items():
                qos = TOPICS[topic][1] if topic in TOPICS else RECORD_QOS
                recorded[resolve_topic(name, topic)] = kind, qos, self._summaries.get(name)
        for topic, (kind, qos, of_robot) in recorded.items():
            self._subscribe_raw(topic, kind, qos, of_robot)
        if summary:
            self._summary_file = Path(summary).open("w", encoding="utf-8")
            create_steady_timer(self, 1.0 / rate, self._write_summary)
        self.scribe = SessionThread(
            path, episodes=self._make_episode_writer(episodes, path) if episodes else None
        )
        self.get_logger().info(f"recording {', '.join(robots) or 'one robot'} to {path}")

    def _make_episode_writer(self, folder: str, path: Path) -> "EpisodeWriter":
        # Imported here, so that a recorder without episodes does not need it.
        from wm_robot_ros.nodes.episode_writer import EpisodeWriter

        scribe = EpisodeWriter(
            Path(folder),
            {name: (robot.spec, _select_episode_kinds(robot)) for name, robot in self._robots.items()},
            source=path.name,
        )
        for one in scribe.recovered:
            self.get_logger().warning(f"{one.path}: {one.fault}; {one.steps} steps were recovered")
        create_steady_timer(self, 1.0, self._log_episode_error)
        return scribe

    def _log_episode_error(self) -> None:
        if self.scribe.episodes_error:
            self.get_logger().error(f"no more episodes: {self.scribe.episodes_error}", once=True)

    def _subscribe_raw(self, topic: str, kind: type, qos: QoSProfile, summary: StatusSummary | None) -> None:
        callback = self._make_callback(topic, _format_type(kind), summary)
        self.create_subscription(kind, topic, callback, qos, raw=True)

    def _make_callback(self, topic: str, kind: str, summary: StatusSummary | None) -> Callable[[bytes], None]:
        def record_message(data: bytes) -> None:
            # Requested once, when a publisher exists.
            if topic not in self._offered_qos:
                self._offered_qos[topic] = _encode_profiles(
                    [one.qos_profile for one in self.get_publishers_info_by_topic(topic)]
                )
            self.scribe.add_message(topic, kind, data, self._offered_qos[topic])
            if summary:
                summary.add_message(topic, data)

        return record_message

    def _write_summary(self) -> None:
        found = {robot: summary.summarise_robot(robot) for robot, summary in self._summaries.items()}
        try:
            self._summary_file.write(encode_summaries(found))
            self._summary_file.flush()
        # The summary is only for display; the recording continues without it.
        except OSError as error:
            self.get_logger().error(f"no status summary: {error}", once=True)


def _select_episode_kinds(robot: RecordedRobot) -> dict[str, type]:
    """Select the topics of episodes, whose goals are points."""
    return {name: kind for name, kind in robot.kinds.items() if name != "target" or kind is PointStamped}


def _find_free_path(path: Path) -> Path:
    """Return the path, or its first numbered variant that does not exist, so that no recording is overwritten."""
    numbers = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return next(one for one in itertools.chain([path], numbers) if not one.exists())


def _format_type(kind: type) -> str:
    package, folder = kind.__module__.split(".")[:2]
    return f"{package}/{folder}/{kind.__name__}"


def _encode_profiles(profiles: list[QoSProfile]) -> str:
    """Encode offered QoS profiles as in the metadata of a bag."""

    def _split_duration(duration: Any) -> dict[str, int]:
        sec, nsec = divmod(duration.nanoseconds, 10**9)
        return {"sec": sec, "nsec": nsec}

    offered = [
        {
            "history": profile.history.name.lower(),
            "depth": profile.depth,
            "reliability": profile.reliability.name.lower(),
            "durability": profile.durability.name.lower(),
            "deadline": _split_duration(profile.deadline),
            "lifespan": _split_duration(profile.lifespan),
            "liveliness": profile.liveliness.name.lower(),
            "liveliness_lease_duration": _split_duration(profile.liveliness_lease_duration),
            "avoid_ros_namespace_conventions": profile.avoid_ros_namespace_conventions,
        }
        for profile in profiles
    ]
    return str(yaml.safe_dump(offered, sort_keys=False))


def _describe_episode_error(error: BaseException) -> str:
    return f"the session is complete, its episodes are not: {type(error).__name__}: {error}"


def _close_session(scribe: SessionThread, path: Path) -> None:
    try:
        scribe.close_session()
    except OSError as error:
        if path.exists() and not path.stat().st_size:
            # An empty file; a restarted recorder creates it again.
            path.unlink()
        left = f". To recover its messages, run: wm-robot recover {path}" if path.exists() else ""
        sys.exit(f"{path} is incomplete: {error}{left}")
    if scribe.episodes_error:
        sys.exit(_describe_episode_error(scribe.episodes_error))


def main() -> None:
    """Record until SIGINT or SIGTERM, then close the file; exit code 1 if it could not be written."""
    stop = init_ros()
    node = None
    try:
        with report_errors():
            node = RecorderNode()
            executor = make_executor(node, use_events=True)
            while node.scribe.is_writing and not stop.is_set:
                spin_once(executor, node)
    except OSError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error
    finally:
        shut_down_node(node)
        # After every error too: an open writer keeps the process alive and its file without an index.
        if node is not None:
            _close_session(node.scribe, node.path)
    if node.scribe.num_dropped:
        sys.exit(f"{node.scribe.num_dropped} messages were lost: the disk is too slow for these topics")


if __name__ == "__main__":
    main()
