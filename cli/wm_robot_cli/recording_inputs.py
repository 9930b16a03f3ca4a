"""Recording inputs of the verbs that update a lifetime state: checks, digests, and the base with its robot."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from wm_robot.errors import MissingExtraError

if TYPE_CHECKING:
    from wm_robot.model.base import Base
    from wm_robot.spec import RobotSpec

RecordingPaths = Annotated[tuple[Path, ...], tyro.conf.Positional]


def check_recordings(**given: tuple[Path, ...]) -> None:
    """Reject missing recordings before anything is loaded.

    Args:
        given: Paths by the argument that contains them.
    """
    from wm_robot.recording.recording_path import check_recording

    for argument, paths in given.items():
        for path in paths:
            check_recording(path, argument)


def load_base_and_spec(folder: Path, verb: str) -> "tuple[Base, RobotSpec]":
    """Load a base and the spec of its robot.

    Args:
        verb: Command that needs them, for the error.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError(verb, "learn") from error
    from wm_robot.model.base import load_base
    from wm_robot.robots import load_spec

    torch.set_num_threads(1)
    loaded = load_base(folder)
    spec = load_spec(loaded.manifest["robot"])
    loaded.check_spec(spec)
    return loaded, spec


def compute_recording_digest(path: Path) -> str:
    """Return the SHA-256 of a recording; of a folder, of its episode files or the files of its bag."""
    from wm_robot.io.durable import compute_digest

    if path.is_dir():
        return compute_digest("".join(compute_recording_digest(file) for file in _list_files(path)).encode())
    return compute_digest(path.read_bytes())


def _list_files(folder: Path) -> list[Path]:
    """List the episode files of a folder, or the files of a bag."""
    if episodes := sorted(folder.glob("*.parquet")):
        return episodes
    from wm_robot.recording.rosbag import list_bag_files

    return list_bag_files(folder)
