"""A session on disk: ROS 2 messages in one MCAP file, as `ros2 bag`, Foxglove and PlotJuggler read them."""

import os
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from wm_robot.errors import MissingExtraError, SnapshotError

try:
    from mcap.exceptions import McapError
    from mcap.records import Channel, Chunk, Footer, Message, Schema
    from mcap.stream_reader import StreamReader, breakup_chunk
    from mcap.writer import CompressionType, Writer
    from rosbags.typesys import Stores, get_typestore
    from zstandard import ZstdError
except ImportError as error:
    raise MissingExtraError("a session file", "ros") from error

CHUNK = 64 * 1024
"""Bytes compressed at a time: 0.7 ms at most, against 7 ms for a MiB."""
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
    kinds: dict[int, str] = {}
    channels: dict[int, Channel] = {}
    whole = False
    with path.open("rb") as file:
        try:
            for record in _records(StreamReader(file, emit_chunks=True)):
                if isinstance(record, Schema):
                    kinds[record.id] = record.name
                elif isinstance(record, Channel):
                    channels[record.id] = record
                elif isinstance(record, Message):
                    channel = channels[record.channel_id]
                    message = typestore().deserialize_cdr(record.data, kinds[channel.schema_id])
                    topics[channel.topic].append((record.log_time / 1e9, message))
                whole = isinstance(record, Footer)
        except DAMAGE as error:
            if not channels:
                raise SnapshotError(f"{path} is no session: {error}") from error
    return Session(topics=dict(topics), whole=whole)


def _records(reader: StreamReader) -> Iterator[Any]:
    for record in reader.records:
        if isinstance(record, Chunk):
            yield from breakup_chunk(record, validate_crc=True)
        else:
            yield record
