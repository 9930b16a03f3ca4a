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
from wm_robot.io.durable import try_lock
from wm_robot.recording.rosbag import (
    MCAP_MAGIC,
    RawMessage,
    add_leading_slash,
    decompress_message,
    detect_storage,
    is_compressed,
    iterate_sqlite_messages,
    list_bag_files,
    open_storage,
    read_sqlite_topics,
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

CHUNK_BYTES = 64 * 1024
"""Bytes compressed at a time: 0.7 ms at most, against 7 ms for a MiB."""
FLUSH_PERIOD = 1.0
"""Largest number of seconds lost in a power cut."""
MAGIC = MCAP_MAGIC
"""First and last bytes of a whole file."""
FOOTER_START, FOOTER_BYTES = struct.pack("<BQ", Opcode.FOOTER, 20), 20 + len(MAGIC)
"""First bytes of its last record, and the number of bytes after them."""
MCAP_ERRORS = (McapError, struct.error, ZstdError, ValueError, IndexError, OverflowError, RuntimeError)
"""Errors of the reader at a cut; `lz4` raises RuntimeError, and a damaged length OverflowError."""
CHUNK_COMPRESSIONS = ("", "zstd", "lz4")
"""Supported compressions of chunks."""


@cache
def load_typestore() -> Any:
    """Return the definitions of the standard message types."""
    return get_typestore(Stores.ROS2_JAZZY)


class SessionWriter:
    """Writer of serialized messages to a session file. One thread only."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb")
        # So that no program takes a session in progress for one whose recorder was killed.
        try_lock(self._file)
        self._mcap = Writer(self._file, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD)
        self._mcap.start(profile="ros2", library="wm_robot")
        self._schemas: dict[str, int] = {}
        self.num_written = 0

    def add_topic(self, topic: str, message_type: str, qos: str = "") -> int:
        """Declare a topic, and return its channel.

        Args:
            message_type: Type such as `sensor_msgs/msg/JointState`.
            qos: Profiles of its publishers, YAML as in a bag's metadata; without it a latched topic is played
                back as an ordinary one.
        """
        if message_type not in self._schemas:
            definition, _ = load_typestore().generate_msgdef(message_type, ros_version=2)
            self._schemas[message_type] = self._mcap.register_schema(
                message_type, "ros2msg", definition.encode()
            )
        about = {"offered_qos_profiles": qos, "topic_type_hash": load_typestore().hash_rihs01(message_type)}
        return int(self._mcap.register_channel(topic, "cdr", self._schemas[message_type], about))

    def write(self, channel: int, stamp: int, data: bytes) -> None:
        """Append a message.

        Args:
            stamp: Time of receipt, in ns.
            data: CDR, as received.
        """
        self._mcap.add_message(channel, stamp, data, stamp, self.num_written)
        self.num_written += 1

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
    is_whole: bool
    """False: the recorder was killed, and up to one second is lost."""


def read_session(path: Path) -> Session:
    """Read a session or a bag, also one of a killed recorder.

    Raises:
        SnapshotError: If it is no session at all.
    """
    topics: dict[str, list[tuple[float, Any]]] = defaultdict(list)
    for topic, time, message in iterate_messages(path):
        topics[topic].append((time / 1e9, message))
    return Session(topics=dict(topics), is_whole=was_closed(path))


def iterate_messages(path: Path, wanted: Mapping[str, str] | None = None) -> Iterator[tuple[str, int, Any]]:
    """Yield topic, time of receipt in ns, and decoded message; see `iterate_raw_messages`.

    Raises:
        SnapshotError: If it is no session at all, or a message is not of the type of its topic.
    """
    for raw in iterate_raw_messages(path, wanted):
        try:
            yield raw.topic, raw.receive_time, load_typestore().deserialize_cdr(raw.data, raw.message_type)
        except (SerdeError, TypesysError, KeyError, *MCAP_ERRORS) as error:
            raise SnapshotError(
                f"{path}: a message of '{raw.topic}' is no '{raw.message_type}': {error}"
            ) from error


def iterate_raw_messages(path: Path, wanted: Mapping[str, str] | None = None) -> Iterator[RawMessage]:
    """Yield the messages of a session or a bag, in the order of recording, each in plain CDR.

    Args:
        wanted: Topic → message type; others are skipped. All by default.

    Raises:
        SnapshotError: If it is no session at all, or a message is in another encoding than ROS 2 uses.
    """
    for file in list_bag_files(path):
        stored = (
            _iterate_mcap_messages(file)
            if detect_storage(file) == MCAP_MAGIC
            else iterate_sqlite_messages(file)
        )
        for raw in stored:
            if wanted is not None and wanted.get(raw.topic) != raw.message_type:
                continue
            if raw.encoding != "cdr":
                raise SnapshotError(
                    f"{file}: messages of '{raw.topic}' are encoded as '{raw.encoding}'; ROS 2 records 'cdr'. "
                    "Convert it: ros2 bag convert, or rosbags-convert for ROS 1"
                )
            try:
                yield decompress_message(raw)
            except ZstdError as error:
                raise SnapshotError(f"{file}: a message of '{raw.topic}' is damaged: {error}") from error


def _iterate_mcap_messages(file: Path) -> Iterator[RawMessage]:
    kinds: dict[int, str] = {}
    channels: dict[int, Channel] = {}
    for record in iterate_records(file):
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
            topic = add_leading_slash(channel.topic)
            yield RawMessage(topic, kind, channel.message_encoding, record.log_time, record.data)


def read_topics(path: Path) -> dict[str, str]:
    """Return the topics of a session or a bag, each with its type; also for a killed recorder.

    Raises:
        SnapshotError: If it is no session at all.
    """
    found: dict[str, str] = {}
    for file in list_bag_files(path):
        found.update(
            _read_mcap_topics(file) if detect_storage(file) == MCAP_MAGIC else read_sqlite_topics(file)
        )
    return found


def _read_mcap_topics(file: Path) -> dict[str, str]:
    kinds: dict[int, str] = {}
    channels: list[Channel] = []
    for record in _read_index(file) or iterate_records(file):
        if isinstance(record, Schema):
            kinds[record.id] = record.name
        elif isinstance(record, Channel):
            channels.append(record)
    return {add_leading_slash(channel.topic): kinds.get(channel.schema_id, "") for channel in channels}


def _read_index(file: Path) -> list[Any]:
    """Return schemas and channels from the index at the end, which is fast; none if there is no index."""
    if is_compressed(file) or not is_whole(file):
        return []
    with file.open("rb") as content:
        try:
            summary = make_reader(content).get_summary()
        except MCAP_ERRORS:
            return []
    return [*summary.schemas.values(), *summary.channels.values()] if summary else []


def iterate_records(path: Path) -> Iterator[Any]:
    """Yield the records of one file up to its end, or up to a cut.

    Raises:
        SnapshotError: If the file is no session at all.
        MissingExtraError: If a package to decompress its chunks is not installed.
    """
    has_header = False
    with open_storage(path) as file:
        try:
            for record in StreamReader(file, emit_chunks=True).records:
                for one in _open_chunk(path, record) if isinstance(record, Chunk) else [record]:
                    has_header |= isinstance(one, Header)
                    yield one
        except MCAP_ERRORS as error:
            if not has_header:
                why = str(error) or "it ends before the first message"
                raise SnapshotError(f"{path} is no session: {why}") from error


def _open_chunk(path: Path, chunk: Chunk) -> list[Any]:
    """Return the records of a chunk."""
    if chunk.compression not in CHUNK_COMPRESSIONS:
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
    return all(_was_closed(file) for file in list_bag_files(path))


def _was_closed(file: Path) -> bool:
    if detect_storage(file) != MCAP_MAGIC:
        return True
    if not is_compressed(file):
        return is_whole(file)
    last = deque(iterate_records(file), maxlen=1)
    return bool(last) and isinstance(last[0], Footer)


def is_whole(path: Path) -> bool:
    """Whether a file ends as a closed session does."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) < len(FOOTER_START) + FOOTER_BYTES:
            return False
        file.seek(-len(FOOTER_START) - FOOTER_BYTES, os.SEEK_END)
        end = file.read()
    return end.startswith(FOOTER_START) and end.endswith(MAGIC)
