"""A simulated robot with sensors and its agent, in processes of their own, with a relay between them."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from tests.ros.built import need_messages

need_messages()
from wm_robot_msgs.msg import Surprise

from tests.ros.fault_relay import PREFIX, list_relayed_topics
from wm_robot.robots import load_spec
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.environment import make_node_command
from wm_robot_ros.middleware.qos import OUTPUT_QOS

RELAY = Path(__file__).with_name("fault_relay.py")
SMALL = {"planner.num_samples": 32, "planner.horizon": 6, "planner.num_iterations": 1}
GOAL_PERIOD = 2.0
"""Period of the goal, in s: windows of whole periods see the same motion."""


@dataclass
class Window:
    """What an agent said in a time."""

    error: np.ndarray
    """Prediction errors in deviations, `T O`; NaN for a channel without a reading."""
    raw: np.ndarray
    """The same in the units of the channels."""
    modes: set[str]
    diagnostics: list[tuple[str, str, str]]
    """Name, level and message of each diagnostic status above ok."""


class SensingRun:
    """Plant, relay and agent of a robot whose only joint follows a sine."""

    def __init__(self, peer: Any, start: Callable[..., Any], robot: Path, base: Path, **parameters: Any):
        self.peer, self.spec = peer, load_spec(robot)
        self.relay = start([sys.executable, str(RELAY), str(robot)])
        self._faults = peer.node.create_publisher(String, "fault", OUTPUT_QOS)
        shared = {"robot": str(robot), "realtime.priority": 50}
        command = make_node_command("plant_node", {**shared, "hold_if_late": False})
        remaps = [
            part for topic in list_relayed_topics(self.spec) for part in ("-r", f"{topic}:={PREFIX}{topic}")
        ]
        self.plant = start([*command, *remaps, "-r", "target:=unused"])
        self.agent = start(
            make_node_command(
                "agent_node",
                {**shared, "base": str(base), "autostart": True, **SMALL, **parameters},
            )
        )
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
        error = np.array([each.error for each in self.surprise], float).reshape(-1, self.spec.obs_dim)
        deviation = np.array([each.stddev for each in self.surprise], float).reshape(error.shape)
        names = {bytes([0]): "ok", bytes([1]): "warn", bytes([2]): "error", bytes([3]): "stale"}
        told = [
            (each.name, names[each.level], each.message)
            for array in self._diagnostics
            for each in array.status
            if each.level != bytes([0])
        ]
        return Window(
            error=error,
            raw=error * deviation,
            modes={convert.decode_json_message(each)["mode"] for each in self._status},
            diagnostics=told,
        )
