"""The variables that a process over ROS 2 needs, and processes started with them."""

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

PARENT = "WM_ROBOT_PARENT"
"""Names the process that started a node; the node ends when that process is gone."""
DOMAINS = range(1, 102)
"""Domain ids whose ports stay clear of those that Linux hands out to anybody."""
MOST = 232
"""Largest domain id that has ports."""


def ros_domain(given: int | None = None) -> int:
    """The domain to use: the given one, else that of `ROS_DOMAIN_ID`, else 0.

    Args:
        given: As `--domain` has it.

    Raises:
        ConfigError: If it is none. An empty variable counts as 0, as in ROS.
    """
    name, text = "ROS_DOMAIN_ID", os.environ.get("ROS_DOMAIN_ID", "").strip() or "0"
    if given is not None:
        name, text = "--domain", str(given)
    if not (text.isascii() and text.isdigit() and int(text) <= MOST):
        better = ". Run: export ROS_DOMAIN_ID=0" if given is None else ""
        raise ConfigError(f"{name} is '{text}'; it must be a whole number from 0 to {MOST}{better}")
    return int(text)


def ros_environment(*, domain: int | None = None) -> dict[str, str]:
    """Environment for a child process that imports rclpy.

    Where a system ROS is sourced this is the present environment; with the wheels it holds their
    library paths and keeps discovery on this machine.

    Args:
        domain: `ROS_DOMAIN_ID`; without it the present one, or a random one with the wheels.

    Raises:
        ConfigError: If the domain cannot be.
        MissingExtraError: If there is no ROS 2.
    """
    environment = dict(os.environ)
    if domain is not None or "ROS_DOMAIN_ID" in environment:
        environment["ROS_DOMAIN_ID"] = str(ros_domain(domain))
    if system_ros():
        return environment
    if not wheels():
        raise MissingExtraError("a ROS 2 node", "ros")
    site = Path(sysconfig.get_path("purelib"))
    own = [str(Path(sys.prefix) / "lib"), *map(str, sorted(site.glob("ros_*.libs")))]
    others = [path for path in environment.get("LD_LIBRARY_PATH", "").split(":") if path not in ("", *own)]
    environment["LD_LIBRARY_PATH"] = ":".join(own + others)
    environment["AMENT_PREFIX_PATH"] = sys.prefix
    # Without it the wheels start the interpreter a second time to set the path above.
    environment["_ROS_WHEELS_BOOTSTRAP_COMPLETE"] = "1"
    environment.setdefault("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp")
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    environment.setdefault("ROS_DOMAIN_ID", str(random.SystemRandom().choice(DOMAINS)))
    return environment


def private_environment() -> dict[str, str]:
    """As `ros_environment`, on a domain that nobody here uses and on this machine alone.

    For what plays with robots of its own: it must never speak to somebody's real one.
    """
    present = os.environ.get("ROS_DOMAIN_ID", "")
    domain = random.SystemRandom().choice([number for number in DOMAINS if str(number) != present])
    return ros_environment(domain=domain) | {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


def system_ros() -> bool:
    """Whether a ROS other than the wheels is sourced."""
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(":")
    return "ROS_DISTRO" in os.environ and any(prefix not in ("", sys.prefix) for prefix in prefixes)


def wheels() -> bool:
    """Whether ROS 2 is installed as wheels in this environment."""
    try:
        return bool(version("ros-rclpy"))
    except PackageNotFoundError:
        return False


def node_command(
    module: str, parameters: Mapping[str, Any], *, namespace: str = "", name: str = ""
) -> list[str]:
    """Command line of a node.

    Args:
        module: A node of this package, such as `agent_node`, or a whole module name with dots.
        parameters: Values by name; a float stays a double and text stays text, whatever it looks like.
        name: Of the node, where it is not its own.
    """
    module = module if "." in module else f"wm_robot_ros.nodes.{module}"
    arguments = [sys.executable, "-m", module, "--ros-args"]
    if namespace:
        arguments += ["-r", f"__ns:=/{namespace.strip('/')}"]
    if name:
        arguments += ["-r", f"__node:={name}"]
    for parameter, value in parameters.items():
        # YAML reads JSON, and JSON quotes: a world given as text is not taken for a mapping.
        arguments += ["-p", f"{parameter}:={json.dumps(value, ensure_ascii=False)}"]
    return arguments


class NodeProcess:
    """A node in a process of its own, ended by its own pid and never outliving its parent."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], *, log: Path | None = None):
        """Start it.

        Args:
            log: File for its output; without one it goes where ours does.
        """
        self._log = log.open("wb") if log else None
        # In a session of its own: Ctrl-C reaches us, and we end our nodes in the order that suits.
        self._process = subprocess.Popen(
            command,
            env={**environment, PARENT: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT if self._log else None,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self, timeout: float) -> int:
        """Exit code, once it has ended.

        Raises:
            subprocess.TimeoutExpired: If it goes on for longer than `timeout` s.
        """
        return self._process.wait(timeout)

    def stop(self, *, patience: float = 5.0, give_up: Callable[[], bool] | None = None) -> int:
        """Ask it to end, and make it after `patience` s; returns its exit code.

        Args:
            give_up: Whether somebody gives up what it could not save. Until then it is not made to end, then it is
                asked once more, and has `patience` s again. None: there is nothing to wait for.
        """
        if self.running:
            # Not SIGINT: a node that still imports would print a traceback.
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                self._end_when_given_up(patience, give_up)
        code = self._process.wait()
        if self._log:
            self._log.close()
        return code

    def _end_when_given_up(self, patience: float, give_up: Callable[[], bool] | None) -> None:
        if give_up is not None:
            while self.running and not give_up():
                time.sleep(0.1)
            if self.running:
                self._process.send_signal(signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(patience)
        self._process.kill()

    def __enter__(self) -> "NodeProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
