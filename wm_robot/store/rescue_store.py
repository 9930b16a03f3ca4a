"""A second place for a life whose own store cannot be written, as when the disk is full: nothing lived is lost."""

import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wm_robot.errors import SnapshotError
from wm_robot.io.durable import make_folder, sync_folder
from wm_robot.store.store import opened


@dataclass(frozen=True, kw_only=True)
class Rescued:
    """A copy of a life, in a store of its own."""

    life: str
    """`STORE@BRANCH` of the copy."""
    digest: str
    place: str
    """`STORE@BRANCH` where it belongs."""

    @property
    def command(self) -> str:
        """Brings it back, once its own store can be written again."""
        return f"wm-robot state clone {shlex.quote(self.life)} {shlex.quote(self.place)}"


def rescue(save: Callable[[str], str], place: str, *, name: str) -> Rescued:
    """Save a copy of a life in the first second place that takes it.

    Args:
        save: Writes it to `STORE@BRANCH`, and returns the snapshot's digest.
        place: Where it belongs, absolute or from the current folder.
        name: Of the agent, for the copy's folder.

    Raises:
        OSError: If no place takes it; the words name each, and why not.
    """
    store, branch = opened(place)
    reasons = []
    for folder, prefix in second_places():
        try:
            make_folder(folder)
            # Of a name that nobody else can have taken: everybody may write in a folder for temporary files.
            stamp = time.strftime("%Y%m%d-%H%M%S")
            target = Path(tempfile.mkdtemp(prefix=f"{prefix}{name}-{stamp}-", dir=folder))
            sync_folder(folder)
        except OSError as error:
            reasons.append(f"{folder}: {error.strerror}")
            continue
        try:
            digest = save(f"{target}@{branch}")
        except (OSError, SnapshotError) as error:
            shutil.rmtree(target, ignore_errors=True)
            reasons.append(f"{folder}: {error}")
            continue
        return Rescued(life=f"{target}@{branch}", digest=digest, place=f"{store.folder.absolute()}@{branch}")
    raise OSError(f"no second place takes it either ({'; '.join(reasons) or 'there is none'})")


def second_places() -> Iterator[tuple[Path, str]]:
    """Folders for rescued lives, the lasting one first, and how a name in each begins.

    They are `$XDG_STATE_HOME/wm_robot`, by default in `~/.local/state`, and `$TMPDIR`, by default `/tmp`.
    """
    try:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        yield Path(state) / "wm_robot", "rescued-"
    except RuntimeError:
        # A user without a home.
        pass
    # Not `tempfile.gettempdir`: where that finds no room, it takes the current folder.
    yield Path(os.environ.get("TMPDIR") or "/tmp"), "wm_robot-rescued-"
