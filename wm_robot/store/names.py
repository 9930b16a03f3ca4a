"""Names that people give to lives, keys and products: each is a file name that leads nowhere else."""

import re

from wm_robot.errors import SnapshotError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def is_name(text: str) -> bool:
    """Whether a text is such a name."""
    return NAME.fullmatch(text) is not None


def checked_name(name: str) -> str:
    """The name.

    Raises:
        SnapshotError: If it is none.
    """
    if not is_name(name):
        raise SnapshotError(
            f"'{name}' is no name: it must begin with a letter or digit and go on with those, '.', '_' or '-'"
        )
    return name
