"""A lock on names of nodes in a ROS domain of this machine: two graphs that start at once cannot both have them."""

import os
import socket
from collections.abc import Sequence
from hashlib import sha256
from types import TracebackType

from wm_robot.errors import ConfigError


class NameLock:
    """Held by the process that brings nodes up, and let go with it, however it ends.

    Discovery alone decides nothing between two that start at the same instant. Each name is an abstract socket: the
    system gives it to one process alone, and it leaves no file behind. Outside of Linux nothing is locked.
    """

    def __init__(self, domain: int, names: Sequence[str], elsewhere: str):
        """Args:
        names: Full names of nodes, sorted, so that of two that share names one gets all of them.
        elsewhere: What to do instead, for the error.
        """
        self._domain, self._names, self._elsewhere = domain, names, elsewhere
        self._held: list[socket.socket] = []

    def __enter__(self) -> "NameLock":
        """Raises:
        ConfigError: If another process has one of the names.
        """
        if os.uname().sysname != "Linux":
            return self
        for name in self._names:
            own = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._held.append(own)
            try:
                own.bind(b"\0wm_robot up" + sha256(f"{self._domain} {name}".encode()).digest())
            except OSError as error:
                self.release()
                raise ConfigError(
                    f"{name} is up already in ROS domain {self._domain}. {self._elsewhere}"
                ) from error
        return self

    def release(self) -> None:
        for own in self._held:
            own.close()
        self._held.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
