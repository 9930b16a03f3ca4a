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
from wm_robot.io.durable import PART, claim, sync_folder
from wm_robot.io.open_files import find_writer
from wm_robot.recording.session_file import CHUNK, DAMAGE, FLUSH_EVERY, MAGIC, is_whole

try:
    from mcap.records import Attachment, Channel, Chunk, Header, Message, Metadata, Schema
    from mcap.stream_reader import StreamReader, breakup_chunk
    from mcap.writer import CompressionType, Writer
except ImportError as error:
    raise MissingExtraError("recovering a session", "ros") from error

WHOLE, RECORDING, WRITING = "whole", "is being recorded", "is being written"
CUT = ".cut"
"""Ending, added to its own, of the unchanged original file."""
OURS = "wm_robot"
RECOVERED = "wm_robot.recovered"
"""Name of the metadata that marks a recovered file."""


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """Result of the recovery of a session."""

    path: Path
    what: str
    """Description of the fault."""
    messages: int = 0
    stamp: int | None = None
    """Time of receipt of the last saved message, in ns."""
    lost: float | None = None
    """Largest number of seconds lost before the kill; None if it cannot be determined."""
    original_copy: Path | None = None
    """The unchanged original file."""


def recover_session(path: Path, *, dry_run: bool = False) -> Recovered:
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
        if not claim(cut):
            return Recovered(path=path, what=RECORDING)
        if writer := find_writer(path):
            return Recovered(path=path, what=f"{WRITING} by {writer}")
        first_bytes = cut.read(len(MAGIC))
        if first_bytes != MAGIC:
            why = "is not an MCAP file" if first_bytes else "is empty: nothing reached the disk"
            raise SnapshotError(f"{path} is no session: it {why}")
        if is_whole(path):
            return Recovered(path=path, what=WHOLE)
        if dry_run:
            with open(os.devnull, "wb") as nowhere:
                return _copy(path, cut, nowhere)
        try:
            with _replacing(path) as whole:
                before = _size_and_time(cut)
                found = _copy(path, cut, whole)
                if _size_and_time(cut) != before:
                    raise _StillWritten
        except _StillWritten:
            return Recovered(path=path, what=WRITING)
    return replace(found, original_copy=_kept(path))


class _StillWritten(Exception):
    """Raised if the file changed while it was copied."""


def _size_and_time(file: IO[bytes]) -> tuple[int, int]:
    about = os.fstat(file.fileno())
    return about.st_size, about.st_mtime_ns


def _copy(path: Path, cut: IO[bytes], whole: IO[bytes]) -> Recovered:
    """Copy every message, with its topic, its type and both of its times."""
    writer = Writer(whole, chunk_size=CHUNK, compression=CompressionType.ZSTD)
    damaged: list[Chunk] = []
    schemas, channels = {0: 0}, dict[int, int]()
    about_file: dict[str, str] = {}
    messages, stamp = 0, 0
    for record in _records(cut, damaged):
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
    writer.add_metadata(RECOVERED, {"messages": str(messages), "damaged_chunks": str(len(damaged))})
    writer.finish()
    lost = FLUSH_EVERY if about_file.get("library") == OURS and not damaged else None
    what = "its recorder was killed" + (f"; {len(damaged)} chunks are damaged" if damaged else "")
    return Recovered(path=path, what=what, messages=messages, stamp=stamp if messages else None, lost=lost)


def _records(cut: IO[bytes], damaged: list[Chunk]) -> Iterator[Any]:
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
            except DAMAGE:
                damaged.append(record)
                continue
            yield from inside
    except DAMAGE:
        # The file was cut here.
        return


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file that replaces another once it is durable; the other one gets a second name first."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART}")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _keep(path)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _keep(path: Path) -> None:
    """Give the unchanged file a second name."""
    kept = _kept(path)
    if kept.exists():
        # An earlier recovery may have been killed before its last step.
        if filecmp.cmp(kept, path, shallow=False):
            return
        raise SnapshotError(f"{kept} is there already; move it away, and recover {path} again")
    try:
        os.link(path, kept)
    except OSError:
        # File systems of memory cards have no hard links.
        part = kept.with_name(f".{kept.name}{PART}")
        shutil.copyfile(path, part)
        with part.open("rb") as copy:
            os.fsync(copy.fileno())
        part.replace(kept)
    sync_folder(path.parent)


def _kept(path: Path) -> Path:
    return path.with_name(path.name + CUT)
