"""A simulated robot with sensors and its agent, in processes of their own, with a relay between them."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from tests.ros.built import need_messages

need_messages()
from wm_robot_msgs.msg import Surprise

from tests.ros.fault_relay import PREFIX, list_relayed_topics
from tests.ros.sensing_hinge import PLANNER
from wm_robot.robots import load_spec
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.environment import make_node_command
from wm_robot_ros.middleware.qos import OUTPUT_QOS

RELAY = Path(__file__).with_name("fault_relay.py")
PLANNER_PARAMETERS = {f"planner.{name}": value for name, value in PLANNER.items()}
GOAL_PERIOD = 2.0
"""Period of the goal, in s: windows of whole periods see the same motion."""


@dataclass
class Window:
    """What agent and plant said in a time."""

    error: np.ndarray
    """Prediction errors in the units of the channels, `T O`; NaN for a channel without a reading."""
    modes: set[str]
    diagnostics: set[tuple[str, str]]
    """Sensor and message of each diagnostic status above ok."""


@dataclass
class FaultOutcome:
    """What a fault of a sensor did."""

    modes: set[str]
    diagnostics: set[tuple[str, str]]
    """Sensor and message."""
    error_ratio: float
    """Error of the other channels over that before; while the sensor is masked, if it is."""
    masked_after: int | None
    """Steps until all its channels are masked; None: never."""
    num_unmasked: int
    """Steps after that in which one is not."""
    num_learned: int
    """Updates during the fault."""
    has_recovered: bool
    """Whether no channel is masked at the end."""


class SensingRun:
    """Plant, relay and agent of a robot whose only joint follows a sine."""

    def __init__(
        self,
        peer: Any,
        start: Callable[..., Any],
        robot: Path,
        base: Path | None = None,
        *,
        script: Path | None = None,
    ):
        """Args:
        script: Agent node in place of that of the package.
        """
        self.peer, self.spec = peer, load_spec(robot)
        self.relay = start([sys.executable, str(RELAY), str(robot)])
        self._faults = peer.node.create_publisher(String, "fault", OUTPUT_QOS)
        shared = {"robot": str(robot), "realtime.priority": 50}
        command = make_node_command("plant_node", {**shared, "hold_if_late": False})
        remaps = [
            part for topic in list_relayed_topics(self.spec) for part in ("-r", f"{topic}:={PREFIX}{topic}")
        ]
        self.plant = start([*command, *remaps, "-r", "target:=unused"])
        own = {"base": str(base or ""), "autostart": True, **PLANNER_PARAMETERS}
        command = make_node_command("agent_node", {**shared, **own})
        self.agent = start([sys.executable, str(script), *command[3:]] if script else command)
        self.surprise = peer.hear(Surprise, "agent/surprise_by_channel")
        self._diagnostics = peer.hear(DiagnosticArray, "/diagnostics")
        self._status = peer.hear(String, "plant/status")
        self._agent_status = peer.hear(String, "agent/status")
        self._goals = peer.node.create_publisher(JointState, "target", 1)
        self._start = time.monotonic()
        peer.node.create_timer(0.02, self._send_goal)

    def _send_goal(self) -> None:
        angle = 0.8 * np.sin(2 * np.pi * (time.monotonic() - self._start) / GOAL_PERIOD) - 0.2
        message = JointState(name=["swing"], position=[float(angle)])
        message.header.stamp = self.peer.now_message()
        message.header.frame_id = "base_link"
        self._goals.publish(message)

    def set_fault(self, **told: Any) -> None:
        """Tell the relay what to do; nothing ends all faults. See `FaultRelay`."""
        self._faults.publish(String(data=json.dumps(told)))

    def wait_for_motion(self) -> None:
        self.peer.until(lambda: len(self.surprise) > 20, "the agent does not learn", timeout=90.0)

    @property
    def status(self) -> dict[str, Any]:
        """Newest status of the agent."""
        return convert.decode_json_message(self._agent_status[-1])

    @property
    def mode(self) -> str:
        return str(convert.decode_json_message(self._status[-1])["mode"])

    def watch(self, seconds: float) -> Window:
        """Let time pass, and return what was said in it."""
        for heard in (self.surprise, self._diagnostics, self._status):
            heard.clear()
        self.peer.spin(seconds)
        # The error of a transition of several periods, on a busy machine, is no error of the model.
        told = [each for each in self.surprise if each.valid]
        deviations = np.array([each.error for each in told], float).reshape(-1, self.spec.obs_dim)
        scale = np.array([each.stddev for each in told], float).reshape(deviations.shape)
        statuses = [each for array in self._diagnostics for each in array.status]
        return Window(
            error=deviations * scale,
            modes={convert.decode_json_message(each)["mode"] for each in self._status},
            diagnostics={
                (each.name.partition(": sensor ")[2], each.message)
                for each in statuses
                if ": sensor " in each.name and each.level != DiagnosticStatus.OK
            },
        )

    def measure_fault(
        self, fault: str, name: str, *, before: float = 6.0, during: float = 6.0, after: float = 3.0
    ) -> FaultOutcome:
        """Measure what a fault of a sensor does; the times are in s. A delay is beyond the age limit."""
        sensor = next(each for each in self.spec.sensors if each.name == name)
        own = self.spec.layout.find_sensor(name)
        others = np.delete(np.arange(self.spec.obs_dim), np.arange(own.start, own.stop))
        usual, learned = self.watch(before), self.status["lifetime"]["num_valid"]
        delay = 2 * sensor.compute_max_age(self.spec.rate) + 0.02
        if fault != "none":
            self.set_fault(fault=fault, sensor=name, delay=delay, noise=10.0)
        faulty = self.watch(during)
        num_learned = self.status["lifetime"]["num_valid"] - learned
        self.set_fault()
        is_masked = np.isnan(faulty.error[:, own]).all(1)
        first = int(is_masked.argmax()) if is_masked.any() else None
        ratio = compute_size(faulty.error[first or 0 :, others]) / compute_size(usual.error[:, others])
        return FaultOutcome(
            modes=faulty.modes,
            diagnostics=faulty.diagnostics,
            error_ratio=float(np.sqrt(np.nanmean(ratio))),
            masked_after=first,
            num_unmasked=0 if first is None else int((~is_masked[first:]).sum()),
            num_learned=num_learned,
            has_recovered=bool(np.isfinite(self.watch(after).error[-5:]).all()),
        )


def compute_size(error: np.ndarray) -> np.ndarray:
    """Mean square of each channel, over the steps with a reading."""
    known = np.isfinite(error)
    return (np.where(known, error, 0.0) ** 2).sum(0) / np.maximum(known.sum(0), 1)
