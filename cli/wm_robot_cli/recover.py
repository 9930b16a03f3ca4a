"""Verb `wm-robot recover`: repairs the files of a killed recorder."""

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import tyro

from wm_robot.errors import SnapshotError

SESSION, OPEN, EPISODE = ".mcap", ".open", ".parquet"
WHOLE, WRITING = "whole", "is being written"


def recover(
    paths: Annotated[tuple[Path, ...], tyro.conf.Positional],
    /,
    *,
    dry_run: bool = False,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Repair the sessions and episodes of a killed recorder, up to the last second on the disk.

    The recovered file gets the name, and the original file is renamed to `.cut`. Complete files and files that are
    being recorded stay unchanged: recently changed files are observed for two seconds. Exit code 2 if a path is no
    session.

    Args:
        paths: Sessions (MCAP), open episodes, or folders with some.
        dry_run: Print the result, and change nothing.
        as_json: Print JSON.
    """
    rows, complaints = [], []
    found = list(_files(paths))
    growing = _growing(found)
    for path in found:
        try:
            rows += _recovered(path, growing, dry_run)
        # The other files are recovered nevertheless.
        except SnapshotError as error:
            complaints.append(str(error))
        except OSError as error:
            complaints.append(_why_not(path, error))
    if rows or not complaints:
        _print(rows, dry_run, as_json)
    if complaints:
        raise SnapshotError("\n".join(complaints))


def _why_not(path: Path, error: OSError) -> str:
    at = "" if error.filename in (None, str(path)) else f" at {error.filename}"
    return (
        f"{path} is unchanged: {error.strerror}{at}. Correct that, or copy the file to a folder with free space and "
        "write permission, and recover the copy"
    )


def _files(paths: tuple[Path, ...]) -> Iterator[Path]:
    """Yield sessions and episodes, and folders with open episodes."""
    if not paths:
        raise SnapshotError("no path given; give sessions, open episodes, or folders with some")
    for path in paths:
        if not path.exists():
            raise SnapshotError(
                f"{path} does not exist; give a session, an open episode, or a folder with some"
            )
        yield from _inside(path) if path.is_dir() else [path]


def _inside(folder: Path) -> list[Path]:
    found = sorted(folder.rglob(f"*{SESSION}")) + sorted(folder.rglob(f"episode_*{EPISODE}"))
    unended = {path.parent for path in folder.rglob(f"episode_*{OPEN}")}
    if not found and not unended:
        raise SnapshotError(f"{folder} contains no session and no episode; give another folder")
    leftovers = [path for path in found if path.suffix == EPISODE and path.with_suffix(OPEN).exists()]
    return [*sorted(unended), *(path for path in found if path not in leftovers)]


def _growing(paths: list[Path]) -> set[Path]:
    """Find the files that another process extends."""
    from wm_robot.io.open_files import find_growing

    opened = [path for folder in paths if folder.is_dir() for path in folder.glob(f"episode_*{OPEN}")]
    return find_growing(
        [*opened, *(path for path in paths if path.suffix in (SESSION, OPEN) and not _is_whole(path))]
    )


def _is_whole(path: Path) -> bool:
    from wm_robot.recording.session_file import is_whole

    try:
        return path.suffix == SESSION and is_whole(path)
    except OSError:
        # The error is reported when the file is read.
        return True


def _recovered(path: Path, growing: set[Path], dry_run: bool) -> list[dict[str, Any]]:
    if path.is_dir():
        return _open_episodes(path, growing, dry_run)
    if path.suffix == OPEN:
        return [row for row in _open_episodes(path.parent, growing, dry_run) if row["file"] == str(path)]
    if path in growing:
        return [_row(path, WRITING)]
    if path.suffix == EPISODE:
        from wm_robot.recording.episode_file import read_episode

        read_episode(path)
        return [_row(path, WHOLE)]
    from wm_robot.recording.session_recovery import recover_session

    found = recover_session(path, dry_run=dry_run)
    left_alone = found.what == WHOLE or found.what.startswith(("is being recorded", WRITING))
    saved = None if left_alone else found.messages
    return [_row(path, found.what, saved, found.stamp, found.lost, found.original_copy)]


def _open_episodes(folder: Path, growing: set[Path], dry_run: bool) -> list[dict[str, Any]]:
    """Recover all episodes of a folder, because a writer needs exclusive access to it."""
    from wm_robot.io.open_files import find_writer
    from wm_robot.recording.episode_folder import EpisodeFolder, is_written, look, open_in
    from wm_robot.recording.open_episode import FLUSH_EVERY

    if is_written(folder):
        return [_row(path, "is being recorded") for path in open_in(folder)]
    if any(path in growing or find_writer(path) for path in open_in(folder)):
        return [_row(path, WRITING) for path in open_in(folder)]
    if dry_run:
        salvaged = [look(path) for path in open_in(folder)]
    else:
        with EpisodeFolder(folder) as place:
            salvaged = place.salvaged
    return [
        _row(one.path, one.what, one.steps, one.stamp, 0.0 if one.ended else FLUSH_EVERY, one.original_copy)
        for one in salvaged
    ]


def _row(
    path: Path,
    what: str,
    saved: int | None = None,
    stamp: int | None = None,
    lost: float | None = None,
    kept: Path | None = None,
) -> dict[str, Any]:
    return {
        "file": str(path),
        "found": what,
        "saved": saved,
        "last stamp": None if stamp is None else _time(stamp),
        "s lost at most": lost,
        "as it was": None if kept is None else str(kept),
    }


def _time(stamp: int) -> str:
    return datetime.fromtimestamp(stamp / 1e9, timezone.utc).isoformat(timespec="milliseconds")


def _print(rows: list[dict[str, Any]], dry_run: bool, as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows))
        return
    from wm_robot_cli.tables import console_of_stdout, print_table

    if rows:
        shown = [{name: "" if value is None else value for name, value in row.items()} for row in rows]
        print_table(console_of_stdout(), shown)
    saved = sum(bool(row["saved"]) and row["found"] != WHOLE for row in rows)
    print(f"{saved} of {len(rows)} files {'would be' if dry_run else 'were'} recovered")
