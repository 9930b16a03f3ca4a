"""Rescue store: receives a lifetime state if its own store cannot be written, for example on a full disk."""

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
from wm_robot.store.store import parse_reference


@dataclass(frozen=True, kw_only=True)
class RescueCopy:
    """Copy of a lifetime state, in a store of its own."""

    copy_reference: str
    """`STORE@BRANCH` of the copy."""
    digest: str
    original_reference: str
    """`STORE@BRANCH` of the original."""

    @property
    def restore_command(self) -> str:
        """Command that copies it back, once the original store can be written again."""
        return (
            f"wm-robot state clone {shlex.quote(self.copy_reference)} {shlex.quote(self.original_reference)}"
        )


def save_rescue_copy(save: Callable[[str], str], original_reference: str, *, agent_name: str) -> RescueCopy:
    """Save a copy of a lifetime state in the first rescue folder that can be written.

    Args:
        save: Writes it to `STORE@BRANCH`, and returns the snapshot's digest.
        original_reference: Where it belongs, absolute or relative to the current folder.
        agent_name: Of the agent, for the copy's folder.

    Raises:
        OSError: If no folder can be written; the message names each with its reason.
    """
    store, branch = parse_reference(original_reference)
    reasons = []
    for folder, prefix in list_rescue_folders():
        try:
            make_folder(folder)
            # A unique name: every user may write in a folder for temporary files.
            stamp = time.strftime("%Y%m%d-%H%M%S")
            target = Path(tempfile.mkdtemp(prefix=f"{prefix}{agent_name}-{stamp}-", dir=folder))
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
        return RescueCopy(
            copy_reference=f"{target}@{branch}",
            digest=digest,
            original_reference=f"{store.folder.absolute()}@{branch}",
        )
    raise OSError(f"no rescue folder can be written either ({'; '.join(reasons) or 'there is none'})")


def list_rescue_folders() -> Iterator[tuple[Path, str]]:
    """Yield the folders for rescued states, the permanent one first, with the name prefix used in each.

    They are `$XDG_STATE_HOME/wm_robot`, by default in `~/.local/state`, and `$TMPDIR`, by default `/tmp`.
    """
    try:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        yield Path(state) / "wm_robot", "rescued-"
    except RuntimeError:
        # A user without a home.
        pass
    # Not `tempfile.gettempdir`: on a full disk it returns the current folder.
    yield Path(os.environ.get("TMPDIR") or "/tmp"), "wm_robot-rescued-"
