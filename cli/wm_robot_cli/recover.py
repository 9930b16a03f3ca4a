"""Verb `wm-robot recover`: repairs the files of a killed recorder."""

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import tyro

from wm_robot.errors import SnapshotError
from wm_robot_cli.values import JsonFlag

SESSION_SUFFIX, OPEN_SUFFIX, EPISODE_SUFFIX = ".mcap", ".open", ".parquet"
WHOLE, WRITING = "whole", "is being written"


def recover_recordings(
    paths: Annotated[tuple[Path, ...], tyro.conf.Positional],
    /,
    *,
    dry_run: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """Repair the sessions and episodes of a killed recorder, up to the last second on the disk.

    The recovered file keeps the name; the damaged original is renamed to `.cut`. Complete files and files that are
    being recorded stay unchanged: recently changed files are observed for two seconds. Exit code 2 if a path is not a
    session.

    Args:
        paths: Sessions (MCAP), open episodes, or folders that contain them.
        dry_run: Print the result, and change nothing.
        as_json: Print JSON.
    """
    rows, complaints = [], []
    found = list(_find_files(paths))
    growing = _find_growing(found)
    for path in found:
        try:
            rows += _recover_file(path, growing, dry_run)
        # The other files are recovered nevertheless.
        except SnapshotError as error:
            complaints.append(str(error))
        except OSError as error:
            complaints.append(_describe_failure(path, error))
    if rows or not complaints:
        _print_recovered(rows, dry_run, as_json)
    if complaints:
        raise SnapshotError("\n".join(complaints))


def _describe_failure(path: Path, error: OSError) -> str:
    at = "" if error.filename in (None, str(path)) else f" at {error.filename}"
    return (
        f"{path} is unchanged: {error.strerror}{at}. Correct that, or copy the file to a folder with free space and "
        "write permission, and recover the copy"
    )


def _find_files(paths: tuple[Path, ...]) -> Iterator[Path]:
    """Yield sessions and episodes, and folders with open episodes."""
    if not paths:
        raise SnapshotError("no path given; give sessions, open episodes, or folders with some")
    for path in paths:
        if not path.exists():
            raise SnapshotError(
                f"{path} does not exist; give a session, an open episode, or a folder with some"
            )
        yield from _find_in_folder(path) if path.is_dir() else [path]


def _find_in_folder(folder: Path) -> list[Path]:
    found = sorted(folder.rglob(f"*{SESSION_SUFFIX}")) + sorted(folder.rglob(f"episode_*{EPISODE_SUFFIX}"))
    unended = {path.parent for path in folder.rglob(f"episode_*{OPEN_SUFFIX}")}
    if not found and not unended:
        raise SnapshotError(f"{folder} contains no session and no episode; give another folder")
    leftovers = [
        path for path in found if path.suffix == EPISODE_SUFFIX and path.with_suffix(OPEN_SUFFIX).exists()
    ]
    return [*sorted(unended), *(path for path in found if path not in leftovers)]


def _find_growing(paths: list[Path]) -> set[Path]:
    """Find the files that another process extends."""
    from wm_robot.io.open_files import find_growing_files

    opened = [path for folder in paths if folder.is_dir() for path in folder.glob(f"episode_*{OPEN_SUFFIX}")]
    return find_growing_files(
        [
            *opened,
            *(path for path in paths if path.suffix in (SESSION_SUFFIX, OPEN_SUFFIX) and not _is_whole(path)),
        ]
    )


def _is_whole(path: Path) -> bool:
    from wm_robot.recording.session_file import is_whole

    try:
        return path.suffix == SESSION_SUFFIX and is_whole(path)
    except OSError:
        # The error is reported when the file is read.
        return True


def _recover_file(path: Path, growing: set[Path], dry_run: bool) -> list[dict[str, Any]]:
    if path.is_dir():
        return _recover_open_episodes(path, growing, dry_run)
    if path.suffix == OPEN_SUFFIX:
        return [
            row for row in _recover_open_episodes(path.parent, growing, dry_run) if row["file"] == str(path)
        ]
    if path in growing:
        return [_make_row(path, WRITING)]
    if path.suffix == EPISODE_SUFFIX:
        from wm_robot.recording.episode_file import read_episode

        read_episode(path)
        return [_make_row(path, WHOLE)]
    from wm_robot.recording.session_recovery import recover_session

    found = recover_session(path, dry_run=dry_run)
    left_alone = found.status == WHOLE or found.status.startswith(("is being recorded", WRITING))
    saved = None if left_alone else found.num_messages
    return [_make_row(path, found.status, saved, found.stamp, found.max_lost_time, found.original_copy)]


def _recover_open_episodes(folder: Path, growing: set[Path], dry_run: bool) -> list[dict[str, Any]]:
    """Recover all episodes of a folder, because a writer needs exclusive access to it."""
    from wm_robot.io.open_files import find_writer
    from wm_robot.recording.episode_folder import (
        EpisodeFolder,
        inspect_open_file,
        is_being_written,
        list_open_files,
    )
    from wm_robot.recording.open_episode import FLUSH_PERIOD

    if is_being_written(folder):
        return [_make_row(path, "is being recorded") for path in list_open_files(folder)]
    if any(path in growing or find_writer(path) for path in list_open_files(folder)):
        return [_make_row(path, WRITING) for path in list_open_files(folder)]
    if dry_run:
        salvaged = [inspect_open_file(path) for path in list_open_files(folder)]
    else:
        with EpisodeFolder(folder) as place:
            salvaged = place.salvage_results
    return [
        _make_row(
            one.path, one.fault, one.steps, one.stamp, 0.0 if one.ended else FLUSH_PERIOD, one.original_copy
        )
        for one in salvaged
    ]


def _make_row(
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
        "last stamp": None if stamp is None else _format_time(stamp),
        "s lost at most": lost,
        "as it was": None if kept is None else str(kept),
    }


def _format_time(stamp: int) -> str:
    return datetime.fromtimestamp(stamp / 1e9, timezone.utc).isoformat(timespec="milliseconds")


def _print_recovered(rows: list[dict[str, Any]], dry_run: bool, as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows))
        return
    from wm_robot_cli.tables import make_console, print_table

    if rows:
        shown = [{name: "" if value is None else value for name, value in row.items()} for row in rows]
        print_table(make_console(), shown)
    saved = sum(bool(row["saved"]) and row["found"] != WHOLE for row in rows)
    print(f"{saved} of {len(rows)} files {'would be' if dry_run else 'were'} recovered")
