"""The project's own messages, for tests that need them: skipped only where they cannot be built."""

import subprocess
import sys
from pathlib import Path

import pytest

from wm_robot_ros.state_api import interfaces

BUILD = Path(__file__).parents[2] / "ros_ws" / "build.py"


def need_messages() -> None:
    """Make `wm_robot_msgs` importable, or skip the module that asks.

    Raises:
        AssertionError: If they could be built and are not.
    """
    missing = interfaces.interfaces_unavailable()
    if missing:
        asked = subprocess.run([sys.executable, str(BUILD), "--possible"], capture_output=True, text=True)
        assert asked.returncode, missing
        pytest.skip(asked.stderr.strip(), allow_module_level=True)
