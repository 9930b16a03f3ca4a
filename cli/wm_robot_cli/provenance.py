"""Provenance of a result: command, commit and package versions."""

import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from wm_robot import __version__

REPORTED_PACKAGES = ("torch", "numpy", "mujoco", "onnxruntime", "ros-rclpy")


def read_command() -> str:
    """Return the running command line."""
    return shlex.join(["wm-robot", *sys.argv[1:]])


def read_commit() -> str:
    """Return the commit of the running checkout, with `+` if it was changed; `unknown` outside one."""
    here = Path(__file__).parent
    try:
        # A package installed inside another repository does not belong to its commits.
        _run_git(here, "ls-files", "--error-unmatch", Path(__file__).name)
        head = _run_git(here, "rev-parse", "--short=12", "HEAD")
        return head + ("+" if _run_git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def read_versions() -> dict[str, str]:
    """Return the versions of the packages that affect a result."""
    found = {"wm_robot": __version__, "python": platform.python_version()}
    for name in REPORTED_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _run_git(folder: Path, *args: str) -> str:
    run = subprocess.run(["git", *args], cwd=folder, capture_output=True, text=True, check=True)
    return run.stdout.strip()
