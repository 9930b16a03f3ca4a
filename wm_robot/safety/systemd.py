"""Service notifications for systemd: ready, watchdog and stopping. One datagram each, no library.

Source: sd_notify(3).
"""

import os
import socket
import time
from collections.abc import Callable, Mapping

PING_SHARE = 0.4
"""Time between two pings, as a share of the watchdog's timeout: below half, even if a period lies between."""


class ServiceNotifier:
    """Notifier of a systemd service; without systemd it sends nothing."""

    def __init__(
        self, environment: Mapping[str, str] = os.environ, *, clock: Callable[[], float] = time.monotonic
    ):
        self._clock, self._last_ping, self.num_failed = clock, float("-inf"), 0
        self._address = environment.get("NOTIFY_SOCKET", "")
        limit = environment.get("WATCHDOG_USEC", "")
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.ping_interval = PING_SHARE * int(limit) / 1e6 if limit.isdigit() and mine else 0.0
        """Time between two pings, in s; 0: no watchdog."""
        self._socket: socket.socket | None = None
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    def notify_ready(self) -> None:
        self._send_datagram("READY=1")

    def ping_watchdog(self) -> None:
        """Ping the watchdog. The loop itself calls it at every period: a loop that hangs sends no ping."""
        now = self._clock()
        if self.ping_interval and now - self._last_ping >= self.ping_interval:
            self._last_ping = now
            self._send_datagram("WATCHDOG=1")

    def notify_stopping(self) -> None:
        self._send_datagram("STOPPING=1")

    def _send_datagram(self, text: str) -> None:
        if self._socket is None:
            return
        # An address that starts with @ is an abstract socket, without a file.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            self._socket.sendto(text.encode(), address)
        except OSError:
            # A robot does not stop because no process receives this; systemd will, if its watchdog gets no ping.
            self.num_failed += 1

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
