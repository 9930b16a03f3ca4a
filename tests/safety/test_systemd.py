import os
import socket

import pytest

from wm_robot.safety.systemd import ServiceNotifier


class Clock:
    def __init__(self):
        self.now = 5.0

    def __call__(self):
        return self.now


@pytest.fixture(params=["file", "abstract"])
def systemd(request, tmp_path):
    name = str(tmp_path / "notify") if request.param == "file" else f"@wm_robot-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name[1:] if name.startswith("@") else name)
        listener.setblocking(False)
        yield name, listener


def heard(listener):
    words = []
    while True:
        try:
            words.append(listener.recv(256).decode())
        except BlockingIOError:
            return words


def test_it_says_what_systemd_wants_to_hear(systemd):
    name, listener = systemd
    service = ServiceNotifier({"NOTIFY_SOCKET": name})
    service.notify_ready()
    service.ping_watchdog()
    service.notify_stopping()
    service.close()
    assert heard(listener) == ["READY=1", "STOPPING=1"]


def test_while_the_loop_gets_on_it_pings_at_less_than_half_the_time_and_then_no_more(systemd):
    name, listener = systemd
    clock = Clock()
    service = ServiceNotifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000000"}, clock=clock)
    pings = []
    for _ in range(500):
        clock.now += 0.02
        service.ping_watchdog()
        pings += [clock.now for _ in heard(listener)]
    gaps = [after - before for before, after in zip(pings, pings[1:], strict=False)]
    assert 0.3 < min(gaps) and max(gaps) <= 0.5
    # The loop hangs: time goes on and nobody calls.
    clock.now += 10
    assert heard(listener) == []
    service.close()


def test_the_watchdog_of_another_process_is_not_ours(systemd):
    name, listener = systemd
    service = ServiceNotifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"})
    service.ping_watchdog()
    service.close()
    assert heard(listener) == []


def test_without_systemd_it_says_nothing():
    service = ServiceNotifier({})
    for say in (service.notify_ready, service.ping_watchdog, service.notify_stopping, service.close):
        say()
    assert service.num_failed == 0


def test_nobody_who_listens_stops_nobody(tmp_path):
    service = ServiceNotifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    service.notify_ready()
    service.close()
    assert service.num_failed == 1
