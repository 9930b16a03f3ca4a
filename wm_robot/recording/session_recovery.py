"""Recovery of a session whose recorder was killed: all data on disk, in a file with an index and an end."""

import filecmp
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from wm_robot.errors import MissingExtraError, SnapshotError
from wm_robot.io.durable import PART_SUFFIX, sync_folder, try_lock
from wm_robot.io.open_files import find_writer
from wm_robot.recording.session_file import CHUNK_BYTES, FLUSH_PERIOD, MAGIC, MCAP_ERRORS, is_whole

try:
    from mcap.records import Attachment, Channel, Chunk, Header, Message, Metadata, Schema
    from mcap.stream_reader import StreamReader, breakup_chunk
    from mcap.writer import CompressionType, Writer
except ImportError as error:
    raise MissingExtraError("recovering a session", "ros") from error

WHOLE, RECORDING, WRITING = "whole", "is being recorded", "is being written"
ORIGINAL_SUFFIX = ".cut"
"""Ending, added to its own, of the unchanged original file."""
LIBRARY = "wm_robot"
RECOVERY_METADATA = "wm_robot.recovered"
"""Name of the metadata that marks a recovered file."""


@dataclass(frozen=True, kw_only=True)
class RecoveryResult:
    """Result of the recovery of a session."""

    path: Path
    status: str
    """Description of the fault."""
    num_messages: int = 0
    stamp: int | None = None
    """Time of receipt of the last saved message, in ns."""
    max_lost_time: float | None = None
    """Largest number of seconds lost before the kill; None if it cannot be determined."""
    original_copy: Path | None = None
    """The unchanged original file."""


def recover_session(path: Path, *, dry_run: bool = False) -> RecoveryResult:
    """Replace a cut session by a whole one; the unchanged original is kept next to it.

    At every instant the name leads to one of the two. A whole file is not changed. Neither is a file that another
    program has open for writing, or extends while it is copied.

    Args:
        dry_run: Change nothing.

    Raises:
        SnapshotError: If the file is no session.
        OSError: If it could not be written; nothing is changed then.
    """
    with path.open("rb") as cut:
        if not try_lock(cut):
            return RecoveryResult(path=path, status=RECORDING)
        if writer := find_writer(path):
            return RecoveryResult(path=path, status=f"{WRITING} by {writer}")
        first_bytes = cut.read(len(MAGIC))
        if first_bytes != MAGIC:
            why = "is not an MCAP file" if first_bytes else "is empty: nothing reached the disk"
            raise SnapshotError(f"{path} is no session: it {why}")
        if is_whole(path):
            return RecoveryResult(path=path, status=WHOLE)
        if dry_run:
            with open(os.devnull, "wb") as nowhere:
                return _copy_messages(path, cut, nowhere)
        try:
            with _replace_file(path) as whole:
                before = _size_and_time(cut)
                found = _copy_messages(path, cut, whole)
                if _size_and_time(cut) != before:
                    raise _StillWritten
        except _StillWritten:
            return RecoveryResult(path=path, status=WRITING)
    return replace(found, original_copy=_original_path(path))


class _StillWritten(Exception):
    """Raised if the file changed while it was copied."""


def _size_and_time(file: IO[bytes]) -> tuple[int, int]:
    about = os.fstat(file.fileno())
    return about.st_size, about.st_mtime_ns


def _copy_messages(path: Path, cut: IO[bytes], whole: IO[bytes]) -> RecoveryResult:
    """Copy every message, with its topic, its type and both of its times."""
    writer = Writer(whole, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD)
    damaged: list[Chunk] = []
    schemas, channels = {0: 0}, dict[int, int]()
    about_file: dict[str, str] = {}
    messages, stamp = 0, 0
    for record in _iterate_records(cut, damaged):
        if isinstance(record, Header):
            about_file = vars(record)
            writer.start(**about_file)
        elif isinstance(record, Schema) and record.id not in schemas:
            schemas[record.id] = writer.register_schema(record.name, record.encoding, record.data)
        elif isinstance(record, Channel) and record.id not in channels and record.schema_id in schemas:
            about = (record.topic, record.message_encoding, schemas[record.schema_id], record.metadata)
            channels[record.id] = writer.register_channel(*about)
        elif isinstance(record, Message) and record.channel_id in channels:
            times = {"log_time": record.log_time, "publish_time": record.publish_time}
            writer.add_message(
                channels[record.channel_id], data=record.data, sequence=record.sequence, **times
            )
            messages, stamp = messages + 1, max(stamp, record.log_time)
        elif isinstance(record, Attachment):
            writer.add_attachment(
                record.create_time, record.log_time, record.name, record.media_type, record.data
            )
        elif isinstance(record, Metadata):
            writer.add_metadata(record.name, record.metadata)
    writer.add_metadata(RECOVERY_METADATA, {"messages": str(messages), "damaged_chunks": str(len(damaged))})
    writer.finish()
    lost = FLUSH_PERIOD if about_file.get("library") == LIBRARY and not damaged else None
    what = "its recorder was killed" + (f"; {len(damaged)} chunks are damaged" if damaged else "")
    return RecoveryResult(
        path=path, status=what, num_messages=messages, stamp=stamp if messages else None, max_lost_time=lost
    )


def _iterate_records(cut: IO[bytes], damaged: list[Chunk]) -> Iterator[Any]:
    """Yield the records up to the end of the file; damaged chunks are left out, and listed."""
    cut.seek(0)
    size = os.fstat(cut.fileno()).st_size
    try:
        for record in StreamReader(cut, emit_chunks=True, record_size_limit=size).records:
            if not isinstance(record, Chunk):
                yield record
                continue
            try:
                inside = breakup_chunk(record, validate_crc=True)
            except MCAP_ERRORS:
                damaged.append(record)
                continue
            yield from inside
    except MCAP_ERRORS:
        # The file was cut here.
        return


@contextmanager
def _replace_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file that replaces another once it is durable; the other one gets a second name first."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART_SUFFIX}")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _keep_original(path)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _keep_original(path: Path) -> None:
    """Give the unchanged file a second name."""
    kept = _original_path(path)
    if kept.exists():
        # An earlier recovery may have been killed before its last step.
        if filecmp.cmp(kept, path, shallow=False):
            return
        raise SnapshotError(f"{kept} is there already; move it away, and recover {path} again")
    try:
        os.link(path, kept)
    except OSError:
        # File systems of memory cards have no hard links.
        part = kept.with_name(f".{kept.name}{PART_SUFFIX}")
        shutil.copyfile(path, part)
        with part.open("rb") as copy:
            os.fsync(copy.fileno())
        part.replace(kept)
    sync_folder(path.parent)


def _original_path(path: Path) -> Path:
    return path.with_name(path.name + ORIGINAL_SUFFIX)
