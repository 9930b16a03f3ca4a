"""Service notifications for systemd: ready, watchdog and stopping. One datagram each, no library.

Source: sd_notify(3).
"""

import os
import socket
import time
from collections.abc import Callable, Mapping

PART = 0.4
"""Time between two pings, as a share of the watchdog's timeout: below half, even if a period lies between."""


class Service:
    """Notifier of a systemd service; without systemd it sends nothing."""

    def __init__(
        self, environment: Mapping[str, str] = os.environ, *, clock: Callable[[], float] = time.monotonic
    ):
        self._clock, self._told, self.failed = clock, float("-inf"), 0
        self._address = environment.get("NOTIFY_SOCKET", "")
        limit = environment.get("WATCHDOG_USEC", "")
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.interval = PART * int(limit) / 1e6 if limit.isdigit() and mine else 0.0
        """Time between two pings, in s; 0: no watchdog."""
        self._socket: socket.socket | None = None
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    def ready(self) -> None:
        self._say("READY=1")

    def progress(self) -> None:
        """Ping the watchdog. The loop itself calls it at every period: a loop that hangs sends no ping."""
        now = self._clock()
        if self.interval and now - self._told >= self.interval:
            self._told = now
            self._say("WATCHDOG=1")

    def stopping(self) -> None:
        self._say("STOPPING=1")

    def _say(self, what: str) -> None:
        if self._socket is None:
            return
        # An address that starts with @ is an abstract socket, without a file.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            self._socket.sendto(what.encode(), address)
        except OSError:
            # A robot does not stop because no process receives this; systemd will, if its watchdog gets no ping.
            self.failed += 1

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
