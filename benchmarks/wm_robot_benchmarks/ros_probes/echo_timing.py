"""Echo timing: cost of ROS alone, with twelve joints at 200 Hz and an agent that plans nothing."""

import json
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from wm_robot.errors import DeviceError
from wm_robot.spec import Actuator, Joint, RobotSpec, Task
from wm_robot_benchmarks.ros_probes import PROBES
from wm_robot_ros.middleware.environment import NodeProcess, make_node_command, make_private_environment

JOINTS, RATE = 12, 200.0
TASK = "echo"
QUANTILES = {"p50": 50.0, "p99": 99.0, "p999": 99.9, "worst": 100.0}
PATIENCE = 70.0
"""Additional time in which both nodes load and discover each other, in s."""


def make_synthetic_spec(*, joints: int = JOINTS, rate: float = RATE) -> RobotSpec:
    """Make the spec of a synthetic robot: servos only, and a task without a goal."""
    names = [f"joint_{index}" for index in range(joints)]
    return RobotSpec(
        name=f"synthetic{joints}",
        rate=rate,
        model="none.xml",
        joints=tuple(Joint(name=name, position=(-2.0, 2.0), velocity=5.0, effort=5.0) for name in names),
        actuators=tuple(
            Actuator(name=name, joint=name, kind="position", range=(-2.0, 2.0), rate=10.0) for name in names
        ),
        tasks={TASK: Task(reward="none")},
    )


class RoundTripLog:
    """Log of the sent observations and of their answers."""

    def __init__(self) -> None:
        self._sent: dict[int, tuple[np.ndarray, float]] = {}
        self._taken = list[float]()
        self._count = self._wrong = 0

    def record_sent(self, stamp: int, action: np.ndarray, time: float) -> None:
        """Record a sent observation.

        Args:
            stamp: Stamp that identifies its answer, in ns.
            action: Expected content of the answer, `A`.
            time: In s on a monotonic clock.
        """
        self._sent[stamp] = action, time
        self._count += 1

    def record_answer(self, stamp: int, action: np.ndarray, time: float) -> None:
        """Record an answer; one without an observation, or a second one, does not count."""
        sent = self._sent.pop(stamp, None)
        if sent is None:
            return
        places, then = sent
        self._wrong += not np.array_equal(places, action)
        self._taken.append(1e3 * (time - then))

    def to_dict(self) -> dict[str, Any]:
        """Return counts, and percentiles of the round-trip time in ms; None without answers."""
        taken = self._taken
        return {
            "sent": self._count,
            "answered": len(taken),
            "lost": len(self._sent),
            "wrong": self._wrong,
            **{
                f"{name}_ms": float(np.percentile(taken, q)) if taken else None
                for name, q in QUANTILES.items()
            },
        }


def measure_echo(
    *,
    seconds: float,
    executor: str = "",
    stall_every: int = 0,
    stall: float = 0.0,
    priority: int = 50,
    seed: int = 0,
    joints: int = JOINTS,
    rate: float = RATE,
) -> dict[str, Any]:
    """Run probe and echo, and return what they measured.

    Args:
        seconds: Measured time, from one second after the first answer.
        executor: Executor of the answering node, one of `echo_node.EXECUTORS`; empty: that of every agent.
        stall_every: Answers after which the answering process stalls; 0: never.
        stall: Duration of a stall, in s.
        priority: Real-time priority of both, where the system permits it; 0 for none.
        seed: Seed of the readings.

    Returns:
        The keys of `RoundTripLog.to_dict`; `skipped`, deadlines that the probe itself missed; `cpu`, processor time
        of the answering process per second; `stalled`, number of its stalls; `realtime`.

    Raises:
        DeviceError: If one of the two fails.
    """
    environment = make_private_environment()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        spec = folder / "robot.yaml"
        spec.write_text(
            yaml.safe_dump(json.loads(json.dumps(make_synthetic_spec(joints=joints, rate=rate).to_dict())))
        )
        shared = {"robot": str(spec), "realtime.priority": priority}

        def start_part(part: str, parameters: Mapping[str, Any], *own: str) -> NodeProcess:
            report = {"report": str(folder / f"{part}.json")}
            command = make_node_command(f"{PROBES}.{part}_node", {**shared, **report, **parameters})
            # Before what is for ROS: python -m MODULE.
            command[3:3] = own
            return stack.enter_context(NodeProcess(command, environment, log=folder / f"{part}.log"))

        stalls = ["--stall-every", str(stall_every), "--stall", str(stall)]
        echo = start_part(
            "echo", {"autostart": True}, *(["--executor", executor] if executor else []), *stalls
        )
        sounder = start_part("latency_probe", {"seconds": float(seconds), "seed": seed})
        try:
            sounder.wait_for_exit(seconds + PATIENCE)
        except subprocess.TimeoutExpired:
            pass
        echo.stop_process()
        sounder.stop_process()
        heard, answered = (_read_report(folder, part) for part in ("latency_probe", "echo"))
    permitted = [part["realtime"].get("priority") == "" for part in (heard, answered)]
    return heard | {
        "cpu": answered["cpu"],
        "stalled": answered["stalled"],
        "realtime": all(permitted),
    }


def _read_report(folder: Path, part: str) -> dict[str, Any]:
    path, log = folder / f"{part}.json", folder / f"{part}.log"
    if not path.exists():
        raise DeviceError(f"the {part} node failed:\n{log.read_text(errors='replace')[-2000:]}")
    return dict(json.loads(path.read_text()))
