"""Real processes over real DDS; every test has a domain of its own and ends what it started."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

DOMAINS = range(215, 232)
"""Domains whose ports Linux gives to no other process. `make_private_environment` picks none of them."""


class Peer:
    """A node of the test, in its own context, that hears and speaks."""

    def __init__(self, domain: int):
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("peer", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def hear(self, kind: type, topic: str, *, latched: bool = False) -> list[Any]:
        """Messages of a topic, as they come."""
        from wm_robot_ros.middleware.qos import LATCHED_QOS, OUTPUT_QOS

        heard: list[Any] = []
        self.node.create_subscription(kind, topic, heard.append, LATCHED_QOS if latched else OUTPUT_QOS)
        return heard

    def speak(self, kind: type, topic: str) -> Any:
        """A publisher, once somebody listens."""
        from wm_robot_ros.middleware.qos import OUTPUT_QOS

        publisher = self.node.create_publisher(kind, topic, OUTPUT_QOS)
        self.until(lambda: publisher.get_subscription_count() > 0, f"nobody listens to {topic}")
        return publisher

    def now(self) -> int:
        return int(self.node.get_clock().now().nanoseconds)

    def now_message(self) -> Any:
        return self.node.get_clock().now().to_msg()

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.executor.spin_once(timeout_sec=left)

    def until(self, holds: Callable[[], Any], why: str, *, timeout: float = 20.0) -> None:
        """Go on until something holds."""
        end = time.monotonic() + timeout
        while not holds():
            assert time.monotonic() < end, why
            self.executor.spin_once(timeout_sec=0.02)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def domain() -> Iterator[int]:
    """A domain that no other test of this machine has, in whatever process it runs."""
    with ExitStack() as lease:
        yield lease_domain(lease)


def lease_domain(lease: ExitStack, *, timeout: float = 60.0) -> int:
    """Lock a free domain until `lease` is closed."""
    from wm_robot.errors import ConfigError
    from wm_robot_ros.launching.name_lock import NameLock

    end = time.monotonic() + timeout
    while time.monotonic() < end:
        for domain in random.SystemRandom().sample(DOMAINS, len(DOMAINS)):
            try:
                lease.enter_context(NameLock(domain, ["/test"], "Another test has it."))
            except ConfigError:
                continue
            return domain
        time.sleep(0.1)
    raise AssertionError(f"other tests have had all domains of {DOMAINS} for {timeout} s")


@pytest.fixture
def environment(
    domain: int, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """For every process of a test, and for the test itself."""
    from wm_robot_ros.middleware.environment import make_ros_environment

    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path_factory.mktemp("ros_log")))
    environment = make_ros_environment(domain=domain)
    monkeypatch.setenv(
        "ROS_AUTOMATIC_DISCOVERY_RANGE", environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    )
    return environment


@pytest.fixture
def peer(domain: int, environment: dict[str, str]) -> Iterator[Peer]:
    peer = Peer(domain)
    yield peer
    peer.close()


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Starts nodes; shows the log of one that failed."""
    from wm_robot_ros.middleware.environment import NodeProcess

    started: list[tuple[NodeProcess, Path]] = []

    def begin(command: list[str]) -> NodeProcess:
        log = tmp_path / f"node{len(started)}.log"
        process = NodeProcess(command, environment, log=log)
        started.append((process, log))
        return process

    yield begin
    for process, log in started:
        code = process.stop_process()
        print(f"--- pid {process.pid} ended with {code}\n{log.read_text(errors='replace')}")
