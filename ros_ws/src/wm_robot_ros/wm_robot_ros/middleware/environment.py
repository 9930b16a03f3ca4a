"""ROS environment: environment variables of ROS 2 processes, and node processes that run with them."""

import json
import os
import random
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any

from wm_robot.errors import ConfigError, MissingExtraError

PARENT_VARIABLE = "WM_ROBOT_PARENT"
"""Variable with the id of the process that started a node; the node ends when that process has ended."""
FREE_DOMAINS = range(1, 102)
"""Domain ids whose ports do not overlap with the ephemeral ports of Linux."""
MAX_DOMAIN = 232
"""Largest valid domain id."""


def read_ros_domain(domain_option: int | None = None) -> int:
    """Return the ROS domain: the given one, else `ROS_DOMAIN_ID`, else 0.

    Args:
        domain_option: Value of the option `--domain`.

    Raises:
        ConfigError: If the value is not a domain id. An empty variable counts as 0, as in ROS.
    """
    name, text = "ROS_DOMAIN_ID", os.environ.get("ROS_DOMAIN_ID", "").strip() or "0"
    if domain_option is not None:
        name, text = "--domain", str(domain_option)
    if not (text.isascii() and text.isdigit() and int(text) <= MAX_DOMAIN):
        better = ". Run: export ROS_DOMAIN_ID=0" if domain_option is None else ""
        raise ConfigError(f"{name} is '{text}'; it must be a whole number from 0 to {MAX_DOMAIN}{better}")
    return int(text)


def make_ros_environment(*, domain: int | None = None) -> dict[str, str]:
    """Return the environment of a child process that imports rclpy.

    With a sourced system ROS this is the current environment. With ROS 2 from wheels it has their library paths, and
    limits discovery to this machine.

    Args:
        domain: `ROS_DOMAIN_ID`; None: the current one, or with the wheels a random one.

    Raises:
        ConfigError: If the domain is invalid.
        MissingExtraError: If ROS 2 is not installed.
    """
    environment = dict(os.environ)
    if domain is not None or "ROS_DOMAIN_ID" in environment:
        environment["ROS_DOMAIN_ID"] = str(read_ros_domain(domain))
    if has_system_ros():
        return environment
    if not has_ros_wheels():
        raise MissingExtraError("a ROS 2 node", "ros")
    site = Path(sysconfig.get_path("purelib"))
    own = [str(Path(sys.prefix) / "lib"), *map(str, sorted(site.glob("ros_*.libs")))]
    others = [path for path in environment.get("LD_LIBRARY_PATH", "").split(":") if path not in ("", *own)]
    environment["LD_LIBRARY_PATH"] = ":".join(own + others)
    environment["AMENT_PREFIX_PATH"] = sys.prefix
    # Without this variable the wheels start the interpreter a second time to set the path above.
    environment["_ROS_WHEELS_BOOTSTRAP_COMPLETE"] = "1"
    environment.setdefault("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp")
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    environment.setdefault("ROS_DOMAIN_ID", str(random.SystemRandom().choice(FREE_DOMAINS)))
    return environment


def make_private_environment() -> dict[str, str]:
    """Return `make_ros_environment` with a random other domain, limited to this machine.

    For simulated robots, whose commands must never reach a real one.
    """
    present = os.environ.get("ROS_DOMAIN_ID", "")
    domain = random.SystemRandom().choice([number for number in FREE_DOMAINS if str(number) != present])
    return make_ros_environment(domain=domain) | {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


def has_system_ros() -> bool:
    """Whether a system ROS, other than the wheels, is sourced."""
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(":")
    return "ROS_DISTRO" in os.environ and any(prefix not in ("", sys.prefix) for prefix in prefixes)


def has_ros_wheels() -> bool:
    """Whether ROS 2 is installed as wheels in this environment."""
    try:
        return bool(version("ros-rclpy"))
    except PackageNotFoundError:
        return False


def make_node_command(
    module: str, parameters: Mapping[str, Any], *, namespace: str = "", name: str = ""
) -> list[str]:
    """Return the command line of a node.

    Args:
        module: Node of this package, such as `plant_node`, or full module name with dots.
        parameters: Values by name. A float stays a double, and text stays text even if it has the form of a number.
        namespace: Namespace of the node; empty: none.
        name: Name of the node; empty: its default name.
    """
    module = module if "." in module else f"wm_robot_ros.nodes.{module}"
    arguments = [sys.executable, "-m", module, "--ros-args"]
    if namespace:
        arguments += ["-r", f"__ns:=/{namespace.strip('/')}"]
    if name:
        arguments += ["-r", f"__node:={name}"]
    for parameter, value in parameters.items():
        # YAML can read JSON, and JSON quotes text: so YAML does not parse a world, given as text, as a mapping.
        arguments += ["-p", f"{parameter}:={json.dumps(value, ensure_ascii=False)}"]
    return arguments


class NodeProcess:
    """Node in a separate process, which is stopped by its process id and ends with its parent."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], *, log: Path | None = None):
        """Start the process.

        Args:
            command: Command line.
            environment: Environment variables.
            log: File for its output; None: the output of this process.
        """
        self._log = log.open("wb") if log else None
        # In its own session: Ctrl-C reaches only this process, which then stops its nodes in order.
        self._process = subprocess.Popen(
            command,
            env={**environment, PARENT_VARIABLE: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT if self._log else None,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait_for_exit(self, timeout: float) -> int:
        """Wait until the process has ended, and return its exit code.

        Raises:
            subprocess.TimeoutExpired: If it runs for more than `timeout` s.
        """
        return self._process.wait(timeout)

    def stop_process(
        self, *, kill_timeout: float = 5.0, is_discarded: Callable[[], bool] | None = None
    ) -> int:
        """Terminate the process, kill it after a timeout, and return its exit code.

        Args:
            kill_timeout: Timeout between termination and kill, in s.
            is_discarded: Whether the user discards a state that cannot be saved. The process is not killed before
                that; then it is terminated once more, with the same timeout. None: kill after the first timeout.
        """
        if self.is_running:
            # Not SIGINT: a node that still imports would print a traceback.
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(kill_timeout)
            except subprocess.TimeoutExpired:
                self._kill_when_discarded(kill_timeout, is_discarded)
        code = self._process.wait()
        if self._log:
            self._log.close()
        return code

    def _kill_when_discarded(self, kill_timeout: float, is_discarded: Callable[[], bool] | None) -> None:
        if is_discarded is not None:
            while self.is_running and not is_discarded():
                time.sleep(0.1)
            if self.is_running:
                self._process.send_signal(signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(kill_timeout)
        self._process.kill()

    def __enter__(self) -> "NodeProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_process()
