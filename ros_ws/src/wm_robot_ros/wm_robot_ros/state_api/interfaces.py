"""Availability of `wm_robot_msgs`: the messages, services and actions of this project.

Driving a robot does not need them. `make ros` builds them. A sourced workspace has them on the Python path. With
ROS 2 from wheels they are loaded from `ros_ws/install`, for every start method and environment of the process.
"""

import ctypes
import functools
import sys
from importlib.util import find_spec
from pathlib import Path

INSTALL_FOLDER = Path(__file__).resolve().parents[4] / "install"
"""Install folder of the workspace that contains this package."""


@functools.cache
def interfaces_unavailable() -> str:
    """Make `wm_robot_msgs` importable; return the reason of a failure in one line, or an empty text."""
    if find_spec("wm_robot_msgs") is None:
        lib = INSTALL_FOLDER / "lib"
        site = lib / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        if not (site / "wm_robot_msgs").is_dir():
            return (
                "wm_robot_msgs is not built: no services of lifetime states, no actions and no predictions with "
                "uncertainty. Build it: make ros"
            )
        # rclpy loads some of these libraries by their bare name, which finds libraries that are loaded already. The
        # library path of a process cannot be changed from inside.
        for library in sorted(lib.glob("libwm_robot_msgs__*.so")):
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        sys.path.append(str(site))
    return ""
