"""Output folder checks: permissions and locks, before a long run starts."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wm_robot.errors import ConfigError


def check_writable(folder: Path, argument: str) -> None:
    """Reject a folder without write permission; nothing is created.

    Args:
        argument: Option with the folder, for the error, such as `--out`.

    Raises:
        ConfigError: If it, or the folder where it would be created, is no folder or not writable.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    where = f"{argument} is {folder}" + ("" if there == folder else f", to be created in {there}")
    if not there.is_dir():
        raise ConfigError(f"{where}: that is not a folder. Select another folder")
    if not os.access(there, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise ConfigError(
            f"{where}: this user may not write there. Select another folder, or contact its owner"
        )


@contextmanager
def lock_output_folder(folder: Path, argument: str) -> Iterator[None]:
    """Lock a folder against other runs.

    The lock is a file next to the folder, so that the folder contains only results. It is removed at the end. The
    operating system releases it when a process ends.

    Args:
        argument: Option with the folder, for the error, such as `--out`.

    Raises:
        ConfigError: If another process writes there, or the folder is not writable.
    """
    from wm_robot.io.durable import make_folder, try_lock

    check_writable(folder, argument)
    make_folder(folder.absolute().parent)
    path = folder.absolute().parent / f".{folder.name}.lock"
    with path.open("w") as lock:
        # Another run may have removed the opened file, and a third run created a new one.
        if not (try_lock(lock) and path.exists() and os.path.samestat(path.stat(), os.fstat(lock.fileno()))):
            raise ConfigError(
                f"{argument} is {folder}, and another run writes there. Wait until it ends, or select another "
                f"folder: {argument} FOLDER"
            )
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
