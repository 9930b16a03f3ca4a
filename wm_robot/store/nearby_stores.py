"""Search for nearby stores, for the error about a folder that is no store."""

import os
import shlex
from collections.abc import Iterator
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from wm_robot.errors import SnapshotError

STORE_MARKER = "manifests"
"""Folder in every store."""
MAX_NAMES = 2000
"""Names of a folder that are searched at most."""


def no_store_error(folder: Path) -> SnapshotError:
    """Return the error for a folder in which no lifetime state was ever saved; it names the next move."""
    what = "there is no such folder" if not os.path.lexists(folder) else "it is no store"
    found = find_nearby_stores(folder)
    if not found:
        move = "Name the folder that an agent saves in, its parameter 'save_to'"
    else:
        others = ", ".join(map(str, found[1:5]))
        move = f"Did you mean {found[0]}? {f'Others near: {others}. ' if others else ''}"
        move += f"Run: wm-robot state ls {shlex.quote(str(found[0]))}"
    return SnapshotError(f"no lifetime states in {folder}: {what}. {move}")


def find_nearby_stores(folder: Path) -> list[Path]:
    """Return the stores in a folder, above it and next to it, the likeliest first."""
    inside = [
        path for child in _list_folders(folder) for path in (child, *_list_folders(child)) if _is_store(path)
    ]
    above = [path for path in folder.parents if str(path) not in (".", "/") and _is_store(path)]
    siblings = {path.name: path for path in _list_folders(folder.parent) if _is_store(path)}
    close = get_close_matches(folder.name, siblings, n=3)
    rest = [] if inside or above or close else sorted(siblings.values())
    return [*inside, *above, *(siblings[name] for name in close), *rest]


def _is_store(folder: Path) -> bool:
    return os.path.isdir(folder / STORE_MARKER) and os.path.isdir(folder / "objects")


def _list_folders(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in islice(entries, MAX_NAMES) if entry.is_dir())
    except OSError:
        return
    yield from (folder / name for name in names if not name.startswith("."))
