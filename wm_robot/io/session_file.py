"""A session on disk: ROS 2 messages in one MCAP file, as `ros2 bag`, Foxglove and PlotJuggler read them."""

import os
import struct
from collections import defaultdict
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from wm_robot.errors import MissingExtraError, SnapshotError
from wm_robot.io.durable import claim

try:
    from mcap.exceptions import McapError
    from mcap.opcode import Opcode
    from mcap.reader import make_reader
    from mcap.records import Channel, Chunk, Message, Schema
    from mcap.stream_reader import StreamReader, breakup_chunk
    from mcap.writer import CompressionType, Writer
    from rosbags.serde import SerdeError
    from rosbags.typesys import Stores, TypesysError, get_typestore
    from zstandard import ZstdError
except ImportError as error:
    raise MissingExtraError("a session file", "ros") from error

CHUNK = 64 * 1024
"""Bytes compressed at a time: 0.7 ms at most, against 7 ms for a MiB."""
FLUSH_EVERY = 1.0
"""Most seconds of a session that a power cut may take."""
MAGIC = b"\x89MCAP0\r\n"
"""First and last bytes of a whole file."""
END, FOOTER = struct.pack("<BQ", Opcode.FOOTER, 20), 20 + len(MAGIC)
"""How its last record begins, and the bytes after that."""
DAMAGE = (McapError, struct.error, ZstdError, ValueError, IndexError)
"""What the reader meets where a file was cut."""


@cache
def typestore() -> Any:
    """Definitions of the standard message types."""
    return get_typestore(Stores.ROS2_JAZZY)


class SessionWriter:
    """Appends serialized messages to a session file. One thread only."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb")
        # So that nobody takes a session that is being recorded for one whose recorder is dead.
        claim(self._file)
        self._mcap = Writer(self._file, chunk_size=CHUNK, compression=CompressionType.ZSTD)
        self._mcap.start(profile="ros2", library="wm_robot")
        self._schemas: dict[str, int] = {}
        self.written = 0

    def add_topic(self, topic: str, kind: str, qos: str = "") -> int:
        """Declare a topic, and return its channel.

        Args:
            kind: Type such as `sensor_msgs/msg/JointState`.
            qos: Profiles that its publishers offer, YAML as in a bag's metadata; without it a latched topic
                is played back as an ordinary one.
        """
        if kind not in self._schemas:
            definition, _ = typestore().generate_msgdef(kind, ros_version=2)
            self._schemas[kind] = self._mcap.register_schema(kind, "ros2msg", definition.encode())
        about = {"offered_qos_profiles": qos, "topic_type_hash": typestore().hash_rihs01(kind)}
        return int(self._mcap.register_channel(topic, "cdr", self._schemas[kind], about))

    def write(self, channel: int, stamp: int, data: bytes) -> None:
        """Append a message.

        Args:
            stamp: When it was received, in ns.
            data: CDR, as it came.
        """
        self._mcap.add_message(channel, stamp, data, stamp, self.written)
        self.written += 1

    def flush(self) -> None:
        """When this returns, everything written so far survives a power cut."""
        self._mcap.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Write the index and the end."""
        self._mcap.finish()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a session file holds."""

    topics: dict[str, list[tuple[float, Any]]]
    """Messages by topic, each with the time in s at which it was received."""
    whole: bool
    """False: the recorder was killed, and the file ends within its last second."""


def read_session(path: Path) -> Session:
    """Read a session, or what a killed recorder left of it.

    Raises:
        SnapshotError: If the file is no session at all.
    """
    topics: dict[str, list[tuple[float, Any]]] = defaultdict(list)
    for topic, time, message in messages(path):
        topics[topic].append((time / 1e9, message))
    return Session(topics=dict(topics), whole=is_whole(path))


def messages(path: Path, wanted: Container[str] | None = None) -> Iterator[tuple[str, int, Any]]:
    """Topic, time of receipt in ns, and message, in the order in which they were recorded.

    Args:
        wanted: Topics whose messages are decoded; the others are passed over. All by default.

    Raises:
        SnapshotError: If the file is no session at all, or a message is not of the type that its topic says.
    """
    kinds: dict[int, str] = {}
    channels: dict[int, Channel] = {}
    for record in records(path):
        if isinstance(record, Schema):
            kinds[record.id] = record.name
        elif isinstance(record, Channel):
            channels[record.id] = record
        elif isinstance(record, Message):
            channel = channels.get(record.channel_id)
            if channel is None:
                # Declared in a chunk that is damaged.
                continue
            if wanted is None or channel.topic in wanted:
                yield channel.topic, record.log_time, _decoded(path, channel, kinds, record)


def _decoded(path: Path, channel: Channel, kinds: dict[int, str], record: Message) -> Any:
    kind = kinds.get(channel.schema_id, "")
    try:
        return typestore().deserialize_cdr(record.data, kind)
    except (SerdeError, TypesysError, KeyError, *DAMAGE) as error:
        raise SnapshotError(f"{path}: a message of '{channel.topic}' is no '{kind}': {error}") from error


def topics_in(path: Path) -> set[str]:
    """Topics of a session, or of what a killed recorder left of it.

    Raises:
        SnapshotError: If the file is no session at all.
    """
    channels = _indexed(path) or (record for record in records(path) if isinstance(record, Channel))
    return {channel.topic for channel in channels}


def _indexed(path: Path) -> list[Channel]:
    """Channels by the index at the end, which is quick; none if there is no index."""
    if not is_whole(path):
        return []
    with path.open("rb") as file:
        try:
            summary = make_reader(file).get_summary()
        except DAMAGE:
            return []
    return list(summary.channels.values()) if summary else []


def records(path: Path) -> Iterator[Any]:
    """Records of a session up to its end, or to where it was cut.

    Raises:
        SnapshotError: If the file is no session at all.
    """
    begun = False
    with path.open("rb") as file:
        try:
            for record in StreamReader(file, emit_chunks=True).records:
                for one in (
                    breakup_chunk(record, validate_crc=True) if isinstance(record, Chunk) else [record]
                ):
                    begun |= isinstance(one, Channel)
                    yield one
        except DAMAGE as error:
            if not begun:
                raise SnapshotError(f"{path} is no session: {error}") from error


def is_whole(path: Path) -> bool:
    """Whether a file ends as a session does that was closed."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) < len(END) + FOOTER:
            return False
        file.seek(-len(END) - FOOTER, os.SEEK_END)
        end = file.read()
    return end.startswith(END) and end.endswith(MAGIC)
