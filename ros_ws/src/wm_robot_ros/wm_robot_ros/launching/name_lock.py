"""Name lock: prevents two graphs that start at the same time from using the same node names in a ROS domain."""

import os
import socket
from collections.abc import Sequence
from hashlib import sha256
from types import TracebackType

from wm_robot.errors import ConfigError


class NameLock:
    """Lock on node names in a ROS domain of this machine, held until the end of the process that starts the nodes.

    Discovery alone cannot decide between two processes that start at the same time. Each name is an abstract socket,
    which the system gives to one process only, and which leaves no file. Only Linux has such locks.
    """

    def __init__(self, domain: int, names: Sequence[str], advice: str):
        """Args:
        domain: ROS domain id.
        names: Full names of nodes, sorted, so that one of two processes with common names gets all of them.
        advice: Advice for the error.
        """
        self._domain, self._names, self._advice = domain, names, advice
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> "NameLock":
        """Raises:
        ConfigError: If another process has one of the names.
        """
        if os.uname().sysname != "Linux":
            return self
        for name in self._names:
            own = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._sockets.append(own)
            try:
                own.bind(b"\0wm_robot up" + sha256(f"{self._domain} {name}".encode()).digest())
            except OSError as error:
                self.release_names()
                raise ConfigError(
                    f"{name} is up already in ROS domain {self._domain}. {self._advice}"
                ) from error
        return self

    def release_names(self) -> None:
        for own in self._sockets:
            own.close()
        self._sockets.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release_names()
