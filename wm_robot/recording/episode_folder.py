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
from wm_robot.io.durable import PART_SUFFIX, is_locked, make_folder, remove_file, sync_folder, try_lock
from wm_robot.recording.episode_file import (
    SUFFIX,
    compute_episode_digest,
    read_episode,
    read_origin,
    write_episode,
)
from wm_robot.recording.episode_origin import EpisodeOrigin
from wm_robot.recording.open_episode import OpenEpisode, read_open_episode
from wm_robot.types import Episode

LOCK = ".lock"
OPEN_SUFFIX, CUT_SUFFIX, DAMAGED_SUFFIX = ".open", ".cut", ".damaged"
"""`.cut` is the unchanged open file of an episode whose end was lost."""
_NAME = re.compile(r"episode_(\d{6,})(\.[a-z]+)")


@dataclass(frozen=True, kw_only=True)
class SalvageResult:
    """Result of salvaging an open file of a dead process."""

    path: Path
    """The open file."""
    fault: str
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
        if not try_lock(self._lock):
            self._lock.close()
            raise SnapshotError(
                f"another process writes episodes in {folder}. Wait for its end, or name another folder"
            )
        self.salvage_results = [_salvage_file(path) for path in _list_files(folder, OPEN_SUFFIX)]
        for left in folder.glob(f".*{PART_SUFFIX}"):
            left.unlink(missing_ok=True)
        self._open: OpenEpisode | None = None
        self._digests: dict[str, Path] | None = None
        self._next = 1 + max((get_episode_number(path) for path in list_episodes(folder)), default=-1)

    def start_episode(
        self, origin: EpisodeOrigin, *, goal_size: int = 0, dtype: Any = np.float64
    ) -> OpenEpisode:
        """Start the next episode; end it before another one starts."""
        path = self.folder / f"episode_{self._next:06d}{OPEN_SUFFIX}"
        self._open = OpenEpisode(path, origin, goal_size=goal_size, dtype=dtype)
        return self._open

    def end_episode(
        self, episode: OpenEpisode, *, terminated: bool = False, truncated: bool = False
    ) -> Path | None:
        """End an episode, durably.

        Returns:
            Its file; None if it had no transition. Its number is then used again.

        Raises:
            OSError: If it could not be written. The open file is still there, and nothing in it is lost.
        """
        episode.end(terminated=terminated, truncated=truncated)
        left = read_open_episode(episode.path)
        if left.episode is None or left.origin is None:
            remove_file(episode.path)
            return None
        path = episode.path.with_suffix(SUFFIX)
        write_episode(path, left.episode, left.origin)
        remove_file(episode.path)
        self._next += 1
        return path

    def add_episode(self, episode: Episode, origin: EpisodeOrigin) -> tuple[Path, bool]:
        """Write an episode that has ended, unless the folder has it.

        Returns:
            Its file, and whether it is new.

        Raises:
            OSError: If it could not be written.
        """
        if self._digests is None:
            self._digests = {read_origin(path)[1]: path for path in list_episodes(self.folder)}
        found = self._digests.get(compute_episode_digest(episode, origin))
        if found is not None:
            return found, False
        path = self.folder / f"episode_{self._next:06d}{SUFFIX}"
        self._digests[write_episode(path, episode, origin)] = path
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


def list_episodes(folder: Path) -> list[Path]:
    """Return the files of the episodes that have ended, in order."""
    return _list_files(folder, SUFFIX)


def list_open_files(folder: Path) -> list[Path]:
    """Return the files of episodes in progress, or of dead processes."""
    return _list_files(folder, OPEN_SUFFIX)


def is_being_written(folder: Path) -> bool:
    """Whether a process writes episodes there now."""
    return is_locked(folder / LOCK)


def get_episode_number(path: Path) -> int:
    """Return the number of an episode."""
    found = _NAME.fullmatch(path.name)
    assert found, path
    return int(found[1])


def inspect_open_file(path: Path) -> SalvageResult:
    """Return how `EpisodeFolder` would salvage an open file of a dead process; nothing is changed."""
    if _has_whole_episode(path):
        return SalvageResult(path=path, fault="its episode is whole", steps=0, stamp=None)
    try:
        left = read_open_episode(path)
    except SnapshotError as error:
        return SalvageResult(path=path, fault=str(error), steps=0, stamp=None)
    if left.episode is None:
        return SalvageResult(
            path=path, fault="it holds no transition", steps=0, stamp=None, ended=left.has_end
        )
    what = "it ended, and was not written as an episode" if left.has_end else "its process died"
    stamp = int(left.episode.stamp[-1])
    return SalvageResult(path=path, fault=what, steps=len(left.episode), stamp=stamp, ended=left.has_end)


def _salvage_file(path: Path) -> SalvageResult:
    seen, final = inspect_open_file(path), path.with_suffix(SUFFIX)
    try:
        left = None if _has_whole_episode(path) else read_open_episode(path)
    except SnapshotError:
        return replace(seen, original_copy=_rename_file(path, DAMAGED_SUFFIX))
    if left and left.episode and left.origin:
        if final.exists():
            _rename_file(final, DAMAGED_SUFFIX)
        write_episode(final, left.episode, left.origin)
        if not left.has_end:
            return replace(seen, original_copy=_rename_file(path, CUT_SUFFIX))
    remove_file(path)
    return seen


def _has_whole_episode(path: Path) -> bool:
    """Whether the episode of an open file exists and is whole."""
    final = path.with_suffix(SUFFIX)
    try:
        return final.exists() and read_episode(final) is not None
    except SnapshotError:
        return False


def _rename_file(path: Path, suffix: str) -> Path:
    """Give a file another ending, and a number if that name is taken."""
    first = path.with_suffix(suffix)
    names = (first if n == 1 else first.with_name(f"{first.name}{n}") for n in itertools.count(1))
    free = next(name for name in names if not name.exists())
    path.replace(free)
    sync_folder(path.parent)
    return free


def _list_files(folder: Path, suffix: str) -> list[Path]:
    there = folder.iterdir() if folder.is_dir() else ()
    found = [path for path in there if (name := _NAME.fullmatch(path.name)) and name[2] == suffix]
    return sorted(found, key=get_episode_number)
