"""The project's own messages, services and actions, where they are built.

Nothing that drives a robot needs them. `make ros` builds them; with a sourced workspace they are on the path already,
and with ROS 2 from wheels they are taken from `ros_ws/install`, whoever started the process and with whatever
environment.
"""

import ctypes
import functools
import sys
from importlib.util import find_spec
from pathlib import Path

INSTALLED = Path(__file__).resolve().parents[4] / "install"
"""Of the workspace that this package lies in."""


@functools.cache
def missing() -> str:
    """Make `import wm_robot_msgs` possible; why that cannot be, in one line, or empty."""
    if find_spec("wm_robot_msgs") is None:
        lib = INSTALLED / "lib"
        site = lib / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        if not (site / "wm_robot_msgs").is_dir():
            return (
                "wm_robot_msgs is not built: no services for lives, no actions and no predictions with their "
                "uncertainty. Build it: make ros"
            )
        # rclpy looks for some of them by their bare name, which leads to what is loaded already: the library path of
        # a process cannot be changed from inside.
        for library in sorted(lib.glob("libwm_robot_msgs__*.so")):
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        sys.path.append(str(site))
    return ""
