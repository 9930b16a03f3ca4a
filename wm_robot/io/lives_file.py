"""Lives on disk: one safetensors file, read in place."""

from pathlib import Path

from safetensors.numpy import load_file, save

from wm_robot.errors import SnapshotError
from wm_robot.io.durable import write_file
from wm_robot.types import Lives


def save_lives(path: Path, lives: Lives) -> None:
    """Write lives, whole or not at all."""
    write_file(path, save({name: getattr(lives, name) for name in lives.__dataclass_fields__}))


def load_lives(path: Path) -> Lives:
    """Read lives.

    Raises:
        SnapshotError: If the file does not hold lives.
    """
    try:
        return Lives(**load_file(path))
    except Exception as error:
        raise SnapshotError(
            f"{path} does not hold lives: {error}. Delete it; it is gathered again"
        ) from error
