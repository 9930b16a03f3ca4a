"""A copy of this checkout, and environments of its own, for tests that set everything up anew."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ("constraints.txt", "constraints-ros-jazzy.txt")
LEAKS = (
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "AMENT_PREFIX_PATH",
    "LD_LIBRARY_PATH",
    "_ROS_WHEELS_BOOTSTRAP_COMPLETE",
)
"""Variables by which this test run's own environment would reach into a new one."""


def copy_checkout(target: Path) -> Path:
    """The files that git knows of or would add, as they are now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def clean_environment(**values: str) -> dict[str, str]:
    """This process's environment without what belongs to its virtual environment."""
    kept = {name: value for name, value in os.environ.items() if name not in LEAKS}
    return kept | {"OMP_NUM_THREADS": "1", **values}


def python_of(minor: int) -> str | None:
    """An interpreter of Python 3.`minor` on this machine, outside any virtual environment; None if there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = sorted(pyenv.glob(f"3.{minor}.*/bin/python"))
    return str(found[-1]) if found else shutil.which(f"python3.{minor}")
