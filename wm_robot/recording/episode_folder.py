"""Episode folder: files `episode_000000.parquet` and so on, without gaps; the episode in progress ends in `.open`.

An episode that ends is written next to its open file; only then is the open file removed. So the next writer finds
the files of a killed process: an open file alone is saved; next to a whole episode it is a leftover.
"""

import itertools
import re
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from wm_robot.errors import SnapshotError
from wm_robot.io.durable import PART, claim, is_claimed, make_folder, remove_file, sync_folder
from wm_robot.recording.episode_file import (
    SUFFIX,
    Origin,
    digest_of,
    read_episode,
    read_origin,
    write_episode,
)
from wm_robot.recording.open_episode import OpenEpisode, read_open
from wm_robot.types import Episode

LOCK = ".lock"
OPEN, CUT, DAMAGED = ".open", ".cut", ".damaged"
"""`.cut` is the unchanged open file of an episode whose end was lost."""
_NAME = re.compile(r"episode_(\d{6,})(\.[a-z]+)")


@dataclass(frozen=True, kw_only=True)
class Salvaged:
    """Result of salvaging an open file of a dead process."""

    path: Path
    """The open file."""
    what: str
    """Description of the fault."""
    steps: int
    stamp: int | None
    """Of the last saved observation, in ns."""
    ended: bool = True
    """False: later observations may exist that never reached the disk."""
    original_copy: Path | None = None
    """Unchanged copy of the open file, if its episode's end was lost."""


class EpisodeFolder:
    """Starts and ends episodes. One process at a time writes in a folder; open files of a dead one are saved."""

    def __init__(self, folder: Path):
        """Raises:
        SnapshotError: If another process writes here.
        """
        make_folder(folder)
        self.folder = folder
        self._lock = (folder / LOCK).open("w")
        if not claim(self._lock):
            self._lock.close()
            raise SnapshotError(
                f"another process writes episodes in {folder}. Wait for its end, or name another folder"
            )
        self.salvaged = [_salvage(path) for path in _of_kind(folder, OPEN)]
        for left in folder.glob(f".*{PART}"):
            left.unlink(missing_ok=True)
        self._open: OpenEpisode | None = None
        self._known: dict[str, Path] | None = None
        self._next = 1 + max((number_of(path) for path in episodes_in(folder)), default=-1)

    def begin(self, origin: Origin, *, goal: int = 0, dtype: Any = np.float64) -> OpenEpisode:
        """Start the next episode; end it before another one starts."""
        path = self.folder / f"episode_{self._next:06d}{OPEN}"
        self._open = OpenEpisode(path, origin, goal=goal, dtype=dtype)
        return self._open

    def end(self, episode: OpenEpisode, *, terminated: bool = False, truncated: bool = False) -> Path | None:
        """End an episode, durably.

        Returns:
            Its file; None if it had no transition. Its number is then used again.

        Raises:
            OSError: If it could not be written. The open file is still there, and nothing in it is lost.
        """
        episode.end(terminated=terminated, truncated=truncated)
        left = read_open(episode.path)
        if left.episode is None or left.origin is None:
            remove_file(episode.path)
            return None
        path = episode.path.with_suffix(SUFFIX)
        write_episode(path, left.episode, left.origin)
        remove_file(episode.path)
        self._next += 1
        return path

    def add(self, episode: Episode, origin: Origin) -> tuple[Path, bool]:
        """Write an episode that has ended, unless the folder has it.

        Returns:
            Its file, and whether it is new.

        Raises:
            OSError: If it could not be written.
        """
        if self._known is None:
            self._known = {read_origin(path)[1]: path for path in episodes_in(self.folder)}
        found = self._known.get(digest_of(episode, origin))
        if found is not None:
            return found, False
        path = self.folder / f"episode_{self._next:06d}{SUFFIX}"
        self._known[write_episode(path, episode, origin)] = path
        self._next += 1
        return path, True

    def close(self) -> None:
        """Release the folder. An open episode is left for the next writer to save."""
        if self._open is not None:
            self._open.close()
        self._lock.close()

    def __enter__(self) -> "EpisodeFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def episodes_in(folder: Path) -> list[Path]:
    """Return the files of the episodes that have ended, in order."""
    return _of_kind(folder, SUFFIX)


def open_in(folder: Path) -> list[Path]:
    """Return the files of episodes in progress, or of dead processes."""
    return _of_kind(folder, OPEN)


def is_written(folder: Path) -> bool:
    """Whether a process writes episodes there now."""
    return is_claimed(folder / LOCK)


def number_of(path: Path) -> int:
    """Return the number of an episode."""
    found = _NAME.fullmatch(path.name)
    assert found, path
    return int(found[1])


def look(path: Path) -> Salvaged:
    """Return how `EpisodeFolder` would salvage an open file of a dead process; nothing is changed."""
    if _finished(path):
        return Salvaged(path=path, what="its episode is whole", steps=0, stamp=None)
    try:
        left = read_open(path)
    except SnapshotError as error:
        return Salvaged(path=path, what=str(error), steps=0, stamp=None)
    if left.episode is None:
        return Salvaged(path=path, what="it holds no transition", steps=0, stamp=None, ended=left.ended)
    what = "it ended, and was not written as an episode" if left.ended else "its process died"
    stamp = int(left.episode.stamp[-1])
    return Salvaged(path=path, what=what, steps=len(left.episode), stamp=stamp, ended=left.ended)


def _salvage(path: Path) -> Salvaged:
    seen, final = look(path), path.with_suffix(SUFFIX)
    try:
        left = None if _finished(path) else read_open(path)
    except SnapshotError:
        return replace(seen, original_copy=_put_aside(path, DAMAGED))
    if left and left.episode and left.origin:
        if final.exists():
            _put_aside(final, DAMAGED)
        write_episode(final, left.episode, left.origin)
        if not left.ended:
            return replace(seen, original_copy=_put_aside(path, CUT))
    remove_file(path)
    return seen


def _finished(path: Path) -> bool:
    """Whether the episode of an open file exists and is whole."""
    final = path.with_suffix(SUFFIX)
    try:
        return final.exists() and read_episode(final) is not None
    except SnapshotError:
        return False


def _put_aside(path: Path, suffix: str) -> Path:
    """Give a file another ending, and a number if that name is taken."""
    first = path.with_suffix(suffix)
    names = (first if n == 1 else first.with_name(f"{first.name}{n}") for n in itertools.count(1))
    free = next(name for name in names if not name.exists())
    path.replace(free)
    sync_folder(path.parent)
    return free


def _of_kind(folder: Path, suffix: str) -> list[Path]:
    there = folder.iterdir() if folder.is_dir() else ()
    found = [path for path in there if (name := _NAME.fullmatch(path.name)) and name[2] == suffix]
    return sorted(found, key=number_of)
