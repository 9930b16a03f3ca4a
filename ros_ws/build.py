"""Build the interfaces of this workspace: `make ros`. Needs nothing but Python, and a C++ compiler.

With a ROS 2 of the system sourced, colcon builds the whole workspace against it. With ROS 2 from wheels, colcon and
the generators of the installed distribution come as wheels too, into an environment of their own under build/, and
colcon builds the interfaces alone: the nodes are in the environment that runs this file.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

WORKSPACE = Path(__file__).resolve().parent
TOOLS = WORKSPACE / "build" / "tools"
REQUIREMENTS = WORKSPACE / "build-requirements.txt"
PINS = "constraints-ros-{}.txt"
"""Name of the file beside the workspace that pins the wheels of a distribution."""
MESSAGES = "wm_robot_msgs"
QUICK = ["-DCMAKE_BUILD_TYPE=None", "-DCMAKE_C_FLAGS=-O0", "-DCMAKE_CXX_FLAGS=-O0", "-DBUILD_TESTING=OFF"]
"""Half the time of a compiler that optimises what only copies fields."""


def system_ros() -> bool:
    """Whether a ROS other than the wheels is sourced."""
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(":")
    return "ROS_DISTRO" in os.environ and any(prefix not in ("", sys.prefix) for prefix in prefixes)


def find_distribution() -> str:
    """The distribution of the installed wheels: that whose pinned rclpy has the same major version; empty: none."""
    major = version("ros-rclpy").partition(".")[0]
    for pins in sorted(WORKSPACE.parent.glob(PINS.format("*"))):
        if re.search(rf"^ros-rclpy=={major}\.", pins.read_text(encoding="utf-8"), re.MULTILINE):
            return pins.stem.rpartition("-")[2]
    return ""


def why_not() -> str:
    """What keeps the interfaces from being built here; empty: nothing."""
    if system_ros():
        return "" if shutil.which("colcon") else "colcon is not installed: apt install python3-colcon-ros"
    try:
        found = find_distribution()
    except PackageNotFoundError:
        return "there is no ROS 2: source one, or install the wheels with make setup (Linux on x86-64)"
    if not found:
        return f"ros-rclpy is {version('ros-rclpy')}, which no {PINS.format('*')} pins: run make setup"
    if not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))):
        return "there is no C++ compiler: install g++"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        return f"{sysconfig.get_paths()['include']} has no Python.h: install python3-dev"
    return ""


def run(*command: str | Path, environment: dict[str, str] | None = None) -> None:
    """Run a command; its output is shown if it fails.

    Raises:
        SystemExit: If it does.
    """
    done = subprocess.run(
        [str(part) for part in command],
        cwd=WORKSPACE,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{done.stdout[-8000:]}\n{Path(command[0]).name} ended with {done.returncode}")


def make_tools(distribution: str) -> None:
    """colcon, CMake and the generators, in an environment of their own."""
    stamp, pins = TOOLS / ".complete", WORKSPACE.parent / PINS.format(distribution)
    wanted = "\n".join((sys.version, *(path.read_text(encoding="utf-8") for path in (REQUIREMENTS, pins))))
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    # What other tools have made is made anew.
    for folder in (TOOLS, WORKSPACE / "build" / MESSAGES, WORKSPACE / "install"):
        shutil.rmtree(folder, ignore_errors=True)
    venv.create(TOOLS, with_pip=False, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", TOOLS / "bin" / "python", "-qq", "--no-input"]
    # Without the variable the wheels start every interpreter a second time.
    quiet = {**os.environ, "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1"}
    run(
        *pip,
        *(
            "install",
            "--disable-pip-version-check",
            "--no-deps",
            "--no-compile",
            "-r",
            REQUIREMENTS,
            "-r",
            pins,
        ),
        environment=quiet,
    )
    # The C headers of numpy must be those of the numpy that the nodes run with.
    site = Path(sysconfig.get_path("purelib", vars={"base": str(TOOLS), "platbase": str(TOOLS)}))
    numpy = find_spec("numpy")
    assert numpy and numpy.origin
    (site / "numpy").symlink_to(Path(numpy.origin).parent)
    mend_paths(Path(numpy.origin).parent / "_core" / "include")
    stamp.write_text(wanted, encoding="utf-8")


def mend_paths(numpy: Path) -> None:
    """The CMake files in the wheels carry the include folders of the machine that built them."""
    python = "/opt/python/cp3[0-9]+-cp3[0-9]+"
    there = (
        (rf"{python}/include/python3\.[0-9]+", sysconfig.get_paths()["include"]),
        (rf"{python}/lib/python3\.[0-9]+/site-packages/numpy/(_core|core)/include", str(numpy)),
    )
    for path in (TOOLS / "share").rglob("*.cmake"):
        text = mended = path.read_text(encoding="utf-8")
        for pattern, here in there:
            mended = re.sub(pattern, here, mended)
        if mended != text:
            path.write_text(mended, encoding="utf-8")


def build_with_wheels() -> None:
    distribution = find_distribution()
    make_tools(distribution)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(TOOLS), "platbase": str(TOOLS)}))
    environment = {
        **os.environ,
        "PATH": f"{TOOLS / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": "",
        "AMENT_PREFIX_PATH": str(TOOLS),
        "CMAKE_PREFIX_PATH": str(TOOLS),
        "LD_LIBRARY_PATH": ":".join(map(str, (TOOLS / "lib", *sorted(site.glob("ros_*.libs"))))),
        "ROS_DISTRO": distribution,
        "ROS_VERSION": "2",
        "ROS_PYTHON_VERSION": "3",
        "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1",
    }
    python = TOOLS / "bin" / "python"
    run(
        *(python, "-m", "colcon", "build", "--merge-install", "--base-paths", "src"),
        *("--packages-select", MESSAGES, "--cmake-args", "-G", "Ninja", f"-DPython3_EXECUTABLE={python}"),
        # Found beside each other wherever they are loaded from.
        *("-DCMAKE_INSTALL_RPATH=$ORIGIN:$ORIGIN/../../..", *QUICK),
        environment=environment,
    )


def main() -> None:
    """Build, or say why it cannot be.

    Raises:
        SystemExit: With 1 if something is missing, or the build fails.
    """
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument(
        "--possible", action="store_true", help="build nothing; exit code 1 if it cannot be"
    )
    asked = arguments.parse_args()
    missing = why_not()
    if missing:
        sys.exit(f"{MESSAGES} is not built: {missing}")
    if asked.possible:
        return
    if system_ros():
        run("colcon", "build", "--merge-install", "--symlink-install", "--base-paths", "src")
    else:
        build_with_wheels()


if __name__ == "__main__":
    main()
