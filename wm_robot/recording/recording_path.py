"""Check of the path of a recording, before anything is read."""

from difflib import get_close_matches
from pathlib import Path

from wm_robot.errors import SnapshotError

RECORDING_SUFFIXES = (".mcap", ".db3", ".zstd", ".parquet")
"""Endings of files with recorded data."""
MAX_LISTED = 5


def check_recording(path: Path, argument: str = "recording") -> None:
    """Refuse a path that does not exist.

    Args:
        argument: Name of the argument, for the error.

    Raises:
        SnapshotError: If the path does not exist; the error lists similar ones.
    """
    if path.exists():
        return
    if not path.parent.is_dir():
        raise SnapshotError(f"{argument} '{path}' does not exist: there is no folder '{path.parent}'")
    there = sorted(each.name for each in path.parent.iterdir() if _is_recording(each))
    close = get_close_matches(path.name, there, n=1)
    if close:
        advice = f"Did you mean '{path.with_name(close[0])}'?"
    elif there:
        shown = ", ".join(there[:MAX_LISTED]) + (", …" if len(there) > MAX_LISTED else "")
        advice = f"Recordings in {path.parent}: {shown}"
    else:
        advice = "Name a bag of ROS 2 (its folder, or a file of it), an episode file, or a folder of them"
    raise SnapshotError(f"{argument} '{path}' does not exist. {advice}")


def _is_recording(path: Path) -> bool:
    if path.is_dir():
        return any(each.suffix in RECORDING_SUFFIXES for each in path.iterdir())
    return path.suffix in RECORDING_SUFFIXES
