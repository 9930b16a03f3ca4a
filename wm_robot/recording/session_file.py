"""Session file: ROS 2 messages in one MCAP file, readable by `ros2 bag`, Foxglove and PlotJuggler.

Any ROS 2 bag can be read; see `wm_robot.recording.rosbag` for its forms.
"""

import os
import struct
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from wm_robot.errors import MissingExtraError, SnapshotError
from wm_robot.io.durable import claim
from wm_robot.recording.rosbag import (
    MCAP,
    RawMessage,
    bag_files,
    decompressed,
    full_topic,
    is_compressed,
    open_storage,
    sqlite_messages,
    sqlite_topics,
    storage_of,
)

try:
    from mcap.exceptions import McapError, UnsupportedCompressionError
    from mcap.opcode import Opcode
    from mcap.reader import make_reader
    from mcap.records import Channel, Chunk, Footer, Header, Message, Schema
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
"""Largest number of seconds lost in a power cut."""
MAGIC = MCAP
"""First and last bytes of a whole file."""
END, FOOTER = struct.pack("<BQ", Opcode.FOOTER, 20), 20 + len(MAGIC)
"""First bytes of its last record, and the number of bytes after them."""
DAMAGE = (McapError, struct.error, ZstdError, ValueError, IndexError, OverflowError, RuntimeError)
"""Errors of the reader at a cut; `lz4` raises RuntimeError, and a damaged length OverflowError."""
CHUNKS = ("", "zstd", "lz4")
"""Supported compressions of chunks."""


@cache
def typestore() -> Any:
    """Return the definitions of the standard message types."""
    return get_typestore(Stores.ROS2_JAZZY)


class SessionWriter:
    """Writer of serialized messages to a session file. One thread only."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb")
        # So that no program takes a session in progress for one whose recorder was killed.
        claim(self._file)
        self._mcap = Writer(self._file, chunk_size=CHUNK, compression=CompressionType.ZSTD)
        self._mcap.start(profile="ros2", library="wm_robot")
        self._schemas: dict[str, int] = {}
        self.written = 0

    def add_topic(self, topic: str, kind: str, qos: str = "") -> int:
        """Declare a topic, and return its channel.

        Args:
            kind: Type such as `sensor_msgs/msg/JointState`.
            qos: Profiles of its publishers, YAML as in a bag's metadata; without it a latched topic is played
                back as an ordinary one.
        """
        if kind not in self._schemas:
            definition, _ = typestore().generate_msgdef(kind, ros_version=2)
            self._schemas[kind] = self._mcap.register_schema(kind, "ros2msg", definition.encode())
        about = {"offered_qos_profiles": qos, "topic_type_hash": typestore().hash_rihs01(kind)}
        return int(self._mcap.register_channel(topic, "cdr", self._schemas[kind], about))

    def write(self, channel: int, stamp: int, data: bytes) -> None:
        """Append a message.

        Args:
            stamp: Time of receipt, in ns.
            data: CDR, as received.
        """
        self._mcap.add_message(channel, stamp, data, stamp, self.written)
        self.written += 1

    def flush(self) -> None:
        """Sync the file; when this returns, all messages so far survive a power cut."""
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
    """Content of a session or a bag."""

    topics: dict[str, list[tuple[float, Any]]]
    """Topic → messages, each with its time of receipt in s."""
    whole: bool
    """False: the recorder was killed, and up to one second is lost."""


def read_session(path: Path) -> Session:
    """Read a session or a bag, also one of a killed recorder.

    Raises:
        SnapshotError: If it is no session at all.
    """
    topics: dict[str, list[tuple[float, Any]]] = defaultdict(list)
    for topic, time, message in messages(path):
        topics[topic].append((time / 1e9, message))
    return Session(topics=dict(topics), whole=was_closed(path))


def messages(path: Path, wanted: Mapping[str, str] | None = None) -> Iterator[tuple[str, int, Any]]:
    """Yield topic, time of receipt in ns, and decoded message; see `iterate_raw_messages`.

    Raises:
        SnapshotError: If it is no session at all, or a message is not of the type of its topic.
    """
    for raw in raw_messages(path, wanted):
        try:
            yield raw.topic, raw.time, typestore().deserialize_cdr(raw.data, raw.kind)
        except (SerdeError, TypesysError, KeyError, *DAMAGE) as error:
            raise SnapshotError(f"{path}: a message of '{raw.topic}' is no '{raw.kind}': {error}") from error


def raw_messages(path: Path, wanted: Mapping[str, str] | None = None) -> Iterator[RawMessage]:
    """Yield the messages of a session or a bag, in the order of recording, each in plain CDR.

    Args:
        wanted: Topic → message type; others are skipped. All by default.

    Raises:
        SnapshotError: If it is no session at all, or a message is in another encoding than ROS 2 uses.
    """
    for file in bag_files(path):
        stored = _mcap_messages(file) if storage_of(file) == MCAP else sqlite_messages(file)
        for raw in stored:
            if wanted is not None and wanted.get(raw.topic) != raw.kind:
                continue
            if raw.encoding != "cdr":
                raise SnapshotError(
                    f"{file}: messages of '{raw.topic}' are encoded as '{raw.encoding}'; ROS 2 records 'cdr'. "
                    "Convert it: ros2 bag convert, or rosbags-convert for ROS 1"
                )
            try:
                yield decompressed(raw)
            except ZstdError as error:
                raise SnapshotError(f"{file}: a message of '{raw.topic}' is damaged: {error}") from error


def _mcap_messages(file: Path) -> Iterator[RawMessage]:
    kinds: dict[int, str] = {}
    channels: dict[int, Channel] = {}
    for record in records(file):
        if isinstance(record, Schema):
            kinds[record.id] = record.name
        elif isinstance(record, Channel):
            channels[record.id] = record
        elif isinstance(record, Message):
            channel = channels.get(record.channel_id)
            if channel is None:
                # Declared in a chunk that is damaged.
                continue
            kind = kinds.get(channel.schema_id, "")
            topic = full_topic(channel.topic)
            yield RawMessage(topic, kind, channel.message_encoding, record.log_time, record.data)


def topics_in(path: Path) -> dict[str, str]:
    """Return the topics of a session or a bag, each with its type; also for a killed recorder.

    Raises:
        SnapshotError: If it is no session at all.
    """
    found: dict[str, str] = {}
    for file in bag_files(path):
        found.update(_mcap_topics(file) if storage_of(file) == MCAP else sqlite_topics(file))
    return found


def _mcap_topics(file: Path) -> dict[str, str]:
    kinds: dict[int, str] = {}
    channels: list[Channel] = []
    for record in _indexed(file) or records(file):
        if isinstance(record, Schema):
            kinds[record.id] = record.name
        elif isinstance(record, Channel):
            channels.append(record)
    return {full_topic(channel.topic): kinds.get(channel.schema_id, "") for channel in channels}


def _indexed(file: Path) -> list[Any]:
    """Return schemas and channels from the index at the end, which is fast; none if there is no index."""
    if is_compressed(file) or not is_whole(file):
        return []
    with file.open("rb") as content:
        try:
            summary = make_reader(content).get_summary()
        except DAMAGE:
            return []
    return [*summary.schemas.values(), *summary.channels.values()] if summary else []


def records(path: Path) -> Iterator[Any]:
    """Yield the records of one file up to its end, or up to a cut.

    Raises:
        SnapshotError: If the file is no session at all.
        MissingExtraError: If a package to decompress its chunks is not installed.
    """
    has_header = False
    with open_storage(path) as file:
        try:
            for record in StreamReader(file, emit_chunks=True).records:
                for one in _opened(path, record) if isinstance(record, Chunk) else [record]:
                    has_header |= isinstance(one, Header)
                    yield one
        except DAMAGE as error:
            if not has_header:
                why = str(error) or "it ends before the first message"
                raise SnapshotError(f"{path} is no session: {why}") from error


def _opened(path: Path, chunk: Chunk) -> list[Any]:
    """Return the records of a chunk."""
    if chunk.compression not in CHUNKS:
        raise SnapshotError(
            f"{path} has chunks compressed as '{chunk.compression}'; supported: zstd and lz4. Convert it "
            "where it was recorded: ros2 bag convert"
        )
    try:
        return breakup_chunk(chunk, validate_crc=True)
    except UnsupportedCompressionError as error:
        raise MissingExtraError(f"{path} with chunks compressed as '{chunk.compression}'", "ros") from error


def was_closed(path: Path) -> bool:
    """Whether the recorder of a session or a bag closed each file; False if it was killed, or a file was cut."""
    return all(_was_closed(file) for file in bag_files(path))


def _was_closed(file: Path) -> bool:
    if storage_of(file) != MCAP:
        return True
    if not is_compressed(file):
        return is_whole(file)
    last = deque(records(file), maxlen=1)
    return bool(last) and isinstance(last[0], Footer)


def is_whole(path: Path) -> bool:
    """Whether a file ends as a closed session does."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) < len(END) + FOOTER:
            return False
        file.seek(-len(END) - FOOTER, os.SEEK_END)
        end = file.read()
    return end.startswith(END) and end.endswith(MAGIC)
