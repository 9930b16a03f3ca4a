"""ROS bag: the files of a bag recorded by `ros2 bag record`, their order, and how each is opened.

A bag is a folder with a `metadata.yaml` and one or more files, of MCAP or SQLite, plain or compressed. A killed
recorder leaves no `metadata.yaml`. One file of a bag is a bag, too.

`rosbags.rosbag2.Reader` is not used: it needs the metadata, and skips topics whose QoS profile is written there in
another form than in the files. It returned no message for 8 of the 21 bags in rosbag2's own tests (rosbags 0.11.9).
"""

import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import IO, NamedTuple, cast
from urllib.parse import quote

import yaml

from wm_robot.errors import MissingExtraError, SnapshotError

try:
    from zstandard import ZstdDecompressor, ZstdError
except ImportError as error:
    raise MissingExtraError("a recording", "ros") from error

METADATA = "metadata.yaml"
FILE_NAME = re.compile(r"(?P<name>.+?)(?:_(?P<number>\d+))?\.(?:mcap|db3)(?:\.zstd)?")
"""Name of a file of a bag: name of the bag, number, storage, compression."""
MCAP_MAGIC, SQLITE_MAGIC, ZSTD_MAGIC = b"\x89MCAP0\r\n", b"SQLite format 3\0", b"\x28\xb5\x2f\xfd"
"""First bytes of a file, by its kind. A message in CDR is never taken for compressed data: its first byte is 0."""
FOREIGN_MAGIC = {
    b"#ROSBAG V": "is a bag of ROS 1. Convert it: rosbags-convert --src {path} --dst {path}-ros2",
    b"PAR1": "is an episode file, which is split already. Name the recording from which it was split",
}
"""First bytes of other kinds of files → advice."""
EXPECTED_INPUT = "Expected: a folder that `ros2 bag record` wrote, or one file of it (MCAP or SQLite)"


class RawMessage(NamedTuple):
    """Message as it was recorded, still encoded."""

    topic: str
    """With a leading slash, which some programs that write bags leave out."""
    message_type: str
    """Type such as `sensor_msgs/msg/JointState`."""
    encoding: str
    """`cdr` in every bag of ROS 2."""
    receive_time: int
    """Time of receipt, in ns."""
    data: bytes


def is_bag_folder(folder: Path) -> bool:
    """Whether a folder holds a recording: its metadata, or files with the names that a recorder gives."""
    return folder.is_dir() and ((folder / METADATA).exists() or bool(_list_named_files(folder)))


def list_bag_files(path: Path) -> list[Path]:
    """Return the files with the messages of a bag, in the order of recording.

    Args:
        path: Folder of a bag, or one file of it.

    Raises:
        SnapshotError: If the folder is no bag, lacks a file, or has a storage that cannot be read here.
    """
    if not path.is_dir():
        return [path]
    return _read_file_list(path) if (path / METADATA).exists() else _find_unlisted_files(path)


def _read_file_list(folder: Path) -> list[Path]:
    """Return the files of a closed bag, as its metadata lists them."""
    metadata, again = folder / METADATA, f"Make it from the files: ros2 bag reindex {folder}"
    try:
        about = yaml.safe_load(metadata.read_text(encoding="utf-8"))["rosbag2_bagfile_information"]
        storage, compression = about["storage_identifier"], about.get("compression_format") or "zstd"
        # Old recorders wrote the folder's name at that time, too.
        files = [folder / PurePath(str(name)).name for name in about["relative_file_paths"]]
    except (yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError, AttributeError) as error:
        why = str(error).partition("\n")[0]
        raise SnapshotError(
            f"{metadata} does not describe a bag ({type(error).__name__}: {why}). {again}"
        ) from error
    for what, value, known in (
        ("storage", storage, ("mcap", "sqlite3")),
        ("compression", compression, ("zstd",)),
    ):
        if value not in known:
            raise SnapshotError(
                f"{folder} is a bag with {what} '{value}'; supported: {' and '.join(known)}. Convert it "
                "where it was recorded: ros2 bag convert"
            )
    if not files:
        raise SnapshotError(f"{folder} is a bag without files: nothing was recorded. Record again")
    missing = [file.name for file in files if not file.exists()]
    if missing:
        raise SnapshotError(
            f"{folder} is a bag without its files {missing}. Copy them there, or continue without them: "
            f"ros2 bag reindex {folder}"
        )
    return files


def _find_unlisted_files(folder: Path) -> list[Path]:
    """Return the files of a bag whose recorder was killed before it wrote the metadata."""
    files = _list_named_files(folder)
    names = sorted({_parse_name(file)[0] for file in files})
    if not names:
        raise SnapshotError(
            f"{folder} is no bag: it has neither {METADATA} nor a file of MCAP or "
            f"SQLite{_describe_contents(folder)}. {EXPECTED_INPUT}"
        )
    if len(names) > 1:
        raise SnapshotError(
            f"{folder} holds several recordings: {[file.name for file in files]}. Name one of them, or its folder"
        )
    # The last is empty if the recorder was killed before it wrote anything into it.
    return [file for file in files if file.stat().st_size] or files[:1]


def _describe_contents(folder: Path) -> str:
    """Return the other recordings in a folder without a bag, for an error; empty if there are none."""
    bags = sorted(each.name for each in folder.iterdir() if is_bag_folder(each))
    if bags:
        return f", but the bags {bags}"
    return ", but episode files, which are split already" if any(folder.glob("*.parquet")) else ""


def _list_named_files(folder: Path) -> list[Path]:
    """Return the files with the names that a recorder gives, by number."""
    found: dict[tuple[str, int], Path] = {}
    # If the recorder was killed while it compressed, both a file and its compressed copy exist. The copy, which may
    # be cut, comes later by name.
    for file in sorted(folder.iterdir()):
        if FILE_NAME.fullmatch(file.name) and file.is_file():
            found.setdefault(_parse_name(file), file)
    return [found[key] for key in sorted(found)]


def _parse_name(file: Path) -> tuple[str, int]:
    """Return the name of its bag, and its number."""
    match = FILE_NAME.fullmatch(file.name)
    assert match
    return match["name"], int(match["number"] or -1)


@contextmanager
def open_storage(file: Path) -> Iterator[IO[bytes]]:
    """Yield the content of a file of a bag, from its start; decompressed if the whole file was compressed."""
    with file.open("rb") as content:
        compressed = content.read(len(ZSTD_MAGIC)) == ZSTD_MAGIC
        content.seek(0)
        if compressed:
            reader = ZstdDecompressor().stream_reader(content, read_across_frames=True)
            yield cast("IO[bytes]", reader)
        else:
            yield content


def is_compressed(file: Path) -> bool:
    """Whether the whole file was compressed."""
    with file.open("rb") as content:
        return content.read(len(ZSTD_MAGIC)) == ZSTD_MAGIC


def detect_storage(file: Path) -> bytes:
    """Return the storage of a file: `MCAP_MAGIC` or `SQLITE_MAGIC`.

    Raises:
        SnapshotError: If it is neither; the error names the kind of file if it is recognised.
    """
    try:
        with open_storage(file) as content:
            first_bytes = content.read(len(SQLITE_MAGIC))
    except ZstdError as error:
        raise SnapshotError(f"{file} is damaged: {error}. Copy it again") from error
    for known in (MCAP_MAGIC, SQLITE_MAGIC):
        # This includes a file that was cut within the first bytes.
        if first_bytes and known.startswith(first_bytes[: len(known)]):
            return known
    if not first_bytes and file.stat().st_size:
        raise SnapshotError(f"{file} is compressed, and was cut within its first block. Copy it again")
    if not first_bytes:
        raise SnapshotError(f"{file} is empty: its recorder wrote nothing into it. Leave it out")
    for magic, advice in FOREIGN_MAGIC.items():
        if first_bytes.startswith(magic):
            raise SnapshotError(f"{file} {advice.format(path=file)}")
    raise SnapshotError(f"{file} is no session: it is neither MCAP nor SQLite. {EXPECTED_INPUT}")


def decompress_message(message: RawMessage) -> RawMessage:
    """Return a message, decompressed if it was compressed on its own.

    Raises:
        ZstdError: If it is damaged.
    """
    if not message.data.startswith(ZSTD_MAGIC):
        return message
    return message._replace(data=ZstdDecompressor().decompressobj().decompress(message.data))


def add_leading_slash(name: str) -> str:
    """Return the name of a topic with its leading slash."""
    return name if name.startswith("/") else f"/{name}"


def read_sqlite_topics(file: Path) -> dict[str, str]:
    """Return the topics of a SQLite file, each with its type.

    Raises:
        SnapshotError: If it is damaged, or no bag.
    """
    with _open_database(file) as database:
        found = database.execute("SELECT name, type FROM topics ORDER BY id")
        return {add_leading_slash(name): kind for name, kind in found}


def iterate_sqlite_messages(file: Path) -> Iterator[RawMessage]:
    """Yield the messages of a SQLite file, in the order of receipt.

    Raises:
        SnapshotError: If it is damaged, or no bag.
    """
    # Columns that every version of the schema has.
    query = (
        "SELECT topics.name, topics.type, topics.serialization_format, messages.timestamp, messages.data "
        "FROM messages JOIN topics ON messages.topic_id = topics.id WHERE typeof(messages.data) = 'blob' "
        "ORDER BY messages.timestamp, messages.id"
    )
    with _open_database(file) as database:
        for topic, *others in database.execute(query):
            yield RawMessage(add_leading_slash(topic), *others)


@contextmanager
def _open_database(file: Path) -> Iterator[sqlite3.Connection]:
    with TemporaryDirectory() as place:
        plain = file
        if is_compressed(file):
            plain = Path(place) / "bag.db3"
            with open_storage(file) as content, plain.open("wb") as copy:
                shutil.copyfileobj(content, copy)
        try:
            database = sqlite3.connect(f"file:{quote(str(plain))}?{_get_sqlite_options(plain)}", uri=True)
            try:
                yield database
            finally:
                database.close()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise SnapshotError(
                f"{file} is a SQLite file that cannot be read as a bag: {error}. If its recorder was killed: "
                f"ros2 bag reindex {file.parent}; otherwise copy it again"
            ) from error


def _get_sqlite_options(file: Path) -> str:
    """Return options with which SQLite writes nothing, and takes no lock unless it must read a journal."""
    journals = [file.with_name(file.name + ending) for ending in ("-wal", "-journal")]
    left = any(journal.exists() and journal.stat().st_size for journal in journals)
    return "mode=ro" if left else "mode=ro&immutable=1"
