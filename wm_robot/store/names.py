"""Names of branches, pins, keys and products: each is a file name without a path."""

import re

from wm_robot.errors import SnapshotError

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def is_name(text: str) -> bool:
    """Whether a text is a valid name."""
    return NAME_PATTERN.fullmatch(text) is not None


def check_name(name: str) -> str:
    """Return the name, after a check.

    Raises:
        SnapshotError: If it is no valid name.
    """
    if not is_name(name):
        raise SnapshotError(
            f"'{name}' is no name: it must start with a letter or digit, followed by letters, digits, '.', '_' or '-'"
        )
    return name
