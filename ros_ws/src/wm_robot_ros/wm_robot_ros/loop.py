"""How fast and how steady the loop through ROS is: plant and agent in processes of their own."""

import json
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wm_robot.errors import DeviceError
from wm_robot_ros.environment import NodeProcess, node_command, private_environment
from wm_robot_sim import load_spec

START_UP = 60.0
"""Patience for both nodes to load, find each other and begin, in s."""


def measure(
    *,
    robot: str,
    base: Path,
    seconds: float,
    seed: int = 0,
    priority: int = 50,
    agent: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Run the loop and say what the two nodes measured.

    Args:
        seconds: Length of the run from the first command on.
        priority: Of both nodes among real-time processes, where the system permits it; 0 for none.
        agent: Further parameters of the agent.

    Returns:
        `p50_ms`, `p99_ms` and `worst_ms` from a sensor's stamp to its command's arrival at the plant;
        `missed_periods`, the most periods in a row that had no new command or were skipped; and under
        `plant` and `agent` all that each of them counted.

    Raises:
        DeviceError: If one of the nodes fails, or the run is not whole.
    """
    environment = private_environment()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shared = {"robot": robot, "seed": seed, "realtime.priority": priority}
        plant_log, agent_log = folder / "plant.log", folder / "agent.log"
        plant_command = node_command(
            "plant_node", {**shared, "duration": float(seconds), "report": str(folder / "plant.json")}
        )
        agent_command = node_command(
            "agent_node",
            {
                **shared,
                "base": str(base.absolute()),
                "autostart": True,
                "report": str(folder / "agent.json"),
                **(agent or {}),
            },
        )
        with (
            NodeProcess(agent_command, environment, log=agent_log) as agent_node,
            NodeProcess(plant_command, environment, log=plant_log) as plant_node,
        ):
            _wait(plant_node, agent_node, time.monotonic() + seconds + START_UP)
        reports = {}
        for part, log in (("plant", plant_log), ("agent", agent_log)):
            path = folder / f"{part}.json"
            if not path.exists():
                raise DeviceError(f"the {part} node failed:\n{log.read_text(errors='replace')[-2000:]}")
            reports[part] = json.loads(path.read_text())
    plant = reports["plant"]
    latency = plant["latency"]
    trouble = reports["agent"]["trouble"]
    if trouble or not latency["count"]:
        raise DeviceError(f"the agent stopped, or sent no command: {trouble or 'no reason given'}")
    wanted = round(seconds / load_spec(robot).dt)
    if plant["lived"] < wanted:
        raise DeviceError(f"the plant lived {plant['lived']} periods of {wanted}; the machine is too busy")
    return {
        **{name: latency[name] for name in ("p50_ms", "p99_ms", "worst_ms")},
        "missed_periods": max(plant["commands"]["longest_silence"], plant["longest_skip"]),
        **reports,
    }


def _wait(plant: NodeProcess, agent: NodeProcess, deadline: float) -> None:
    """Until the plant has lived its time, or one of the two is no more."""
    while agent.running and time.monotonic() < deadline:
        try:
            plant.wait(0.2)
            return
        except subprocess.TimeoutExpired:
            continue
