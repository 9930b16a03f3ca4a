"""Durable files: whole or absent after a power cut. All data that must last is written by `write_file`."""

import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

PART_SUFFIX = ".part"
"""Ending of files that are being written; such a file is useless after a kill."""


def write_file(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replace a file; when this returns, the new content survives a power cut.

    Space is reserved, then: temporary file, fsync, rename, fsync of the folder; each step was measured to be needed.
    A failed fsync is never retried under the same name, since the kernel then calls the lost page clean.

    Args:
        mode: Permissions of the file, from its first byte on.

    Raises:
        OSError: If it could not be written; the error names the file. The old content is still there.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART_SUFFIX}")
    try:
        with open(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as file:
            _reserve_space(file.fileno(), len(content))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno is not None:
            # The temporary name would not help the user, and a failed reservation has none.
            error.filename = str(path)
        raise
    sync_folder(path.parent)


def remove_file(path: Path) -> None:
    """Remove a file if it is there; when this returns, it stays removed after a power cut."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def compute_digest(content: bytes | memoryview) -> str:
    """Return the SHA-256, in hex."""
    return hashlib.sha256(content).hexdigest()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; each new name is synced into the folder that holds it."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make added, replaced and removed names of a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def lock_exclusive(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; it is released if the process dies."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def lock_shared(path: Path) -> Iterator[None]:
    """Hold a shared lock on a file against `lock_exclusive`, if the file can be read; nothing is written."""
    try:
        lock = path.open("rb")
    except OSError:
        # A copy, a read-only mount or another user's folder: no process here changes the files that it guards.
        yield
        return
    with lock:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def is_locked(path: Path) -> bool:
    """Whether another process has claimed a file; nothing is written."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def try_lock(file: IO[Any]) -> bool:
    """Try to lock an open file for this process alone, until it is closed or the process dies.

    Returns:
        False if another process has it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # A file system without locks must not prevent a recording.
        if error.errno not in {*_UNSUPPORTED, errno.ENOLCK}:
            raise
    return True


def _reserve_space(handle: int, size: int) -> None:
    """Reserve space, so that a full disk fails before the first byte is written."""
    if size and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(handle, 0, size)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise


_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}
"""Errors of file systems that cannot reserve space."""
