"""Folders that a long run will write to: found wanting before the run, and not after it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wm_robot.errors import ConfigError


def check_writable(folder: Path, argument: str) -> None:
    """Refuse a folder that cannot be written to; nothing is made.

    Args:
        argument: That named it, for the error, such as `--out`.

    Raises:
        ConfigError: If it is no folder, or may not be written to; or that in which it would be made.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    where = f"{argument} is {folder}" + ("" if there == folder else f", to be made in {there}")
    if not there.is_dir():
        raise ConfigError(f"{where}: that is no folder. Name another folder")
    if not os.access(there, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise ConfigError(f"{where}: this user may not write there. Name another folder, or ask its owner")


@contextmanager
def sole_writer(folder: Path, argument: str) -> Iterator[None]:
    """Keep another run out of a folder for as long as this one writes to it.

    The lock lies beside the folder, so that the folder itself holds nothing but what was made, and it is removed at
    the end. A process that dies gives it back.

    Args:
        argument: That named it, for the error, such as `--out`.

    Raises:
        ConfigError: If another process writes there, or none can.
    """
    from wm_robot.io.durable import claim, make_folder

    check_writable(folder, argument)
    make_folder(folder.absolute().parent)
    path = folder.absolute().parent / f".{folder.name}.lock"
    with path.open("w") as lock:
        # Another run may have removed the file that was opened here, and a third made a new one.
        if not (claim(lock) and path.exists() and os.path.samestat(path.stat(), os.fstat(lock.fileno()))):
            raise ConfigError(
                f"{argument} is {folder}, and another run writes there. Wait until it ends, or name another folder: "
                f"{argument} FOLDER"
            )
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
