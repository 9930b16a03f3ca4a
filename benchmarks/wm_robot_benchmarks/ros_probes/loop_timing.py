"""Loop timing: latency and jitter of the loop through ROS, with plant and agent in separate processes."""

import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from wm_robot.errors import DeviceError
from wm_robot.robots import load_spec
from wm_robot_benchmarks.ros_probes import PROBES
from wm_robot_ros.middleware.environment import NodeProcess, make_node_command, make_private_environment

START_UP = 60.0
"""Timeout for both nodes to load, discover each other and start, in s."""
PHYSICS = 0.004
"""Longest step of the physics at a rate that is not the robot's own, in s."""
NEVER = 1e9
"""Surprise above that of any observation."""
SPIN = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"


def measure_ros_loop(
    *,
    robot: str,
    base: Path,
    seconds: float,
    seed: int = 0,
    priority: int = 50,
    num_busy_processes: int = 0,
    agent: Mapping[str, Any] | None = None,
    plant: Mapping[str, Any] | None = None,
    flood_rate: float = 0.0,
) -> dict[str, Any]:
    """Run the loop and return what the two nodes measured.

    Args:
        seconds: Length of the run from the first command on.
        priority: Real-time priority of both nodes, where the system permits it; 0 for none.
        num_busy_processes: Number of busy processes of ordinary priority during the run.
        agent: Further parameters of the agent.
        plant: Further parameters of the plant.
        flood_rate: False observations and commands per second, from another process.

    Returns:
        `p50_ms`, `p99_ms`, `p999_ms` and `worst_ms` from a sensor's stamp to its command's arrival at the plant;
        `missed_periods`, all without a new command or skipped, and `longest_miss`, the most of them in a
        row; `realtime`, whether both had priority; `log`, the number of lines in the plant's log; `grown`, memory
        growth of the two nodes in the second half, in bytes; `flooded`, the false messages; and under `plant` and
        `agent` all counters of each.

    Raises:
        DeviceError: If one of the nodes fails, or the run is incomplete.
    """
    environment = make_private_environment()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        shared = {"robot": robot, "seed": seed, "realtime.priority": priority}

        def start_part(part: str, parameters: Mapping[str, Any]) -> NodeProcess:
            files = {"report": str(folder / f"{part}.json"), "log": str(folder / f"{part}.ndjson")}
            command = make_node_command(f"{part}_node", {**shared, **files, **parameters})
            return stack.enter_context(NodeProcess(command, environment, log=folder / f"{part}.log"))

        agent_node = start_part("agent", {"base": str(base.absolute()), "autostart": True, **(agent or {})})
        # No hold for late commands: they are counted instead.
        plant_node = start_part("plant", {"duration": float(seconds), "hold_if_late": False, **(plant or {})})
        stack.enter_context(run_busy_processes(num_busy_processes))
        deadline = time.monotonic() + seconds + START_UP
        _wait_for_start(agent_node, folder / "agent.ndjson", deadline)
        sent = folder / "flood.txt"
        if flood_rate:
            command = make_node_command(
                f"{PROBES}.flood_node", {"robot": robot, "rate": float(flood_rate), "report": str(sent)}
            )
            flooding = stack.enter_context(NodeProcess(command, environment, log=folder / "flood.log"))
        grown = _wait_for_end(plant_node, agent_node, deadline)
        if flood_rate:
            flooding.stop_process()
        agent_node.stop_process()
        plant_node.stop_process()
        reports = {part: _read_report(folder, part) for part in ("plant", "agent")}
        flooded = int(sent.read_text()) if flood_rate else 0
        log = folder / "plant.ndjson"
        lines = log.read_text().count("\n") if log.exists() else 0
    return _check_reports(reports, seconds, load_spec(robot).dt) | {
        "log": lines,
        "grown": grown,
        "flooded": flooded,
    }


def _read_report(folder: Path, part: str) -> dict[str, Any]:
    path, log = folder / f"{part}.json", folder / f"{part}.log"
    if not path.exists():
        raise DeviceError(f"the {part} node failed:\n{log.read_text(errors='replace')[-2000:]}")
    return dict(json.loads(path.read_text()))


def _check_reports(reports: Mapping[str, Any], seconds: float, dt: float) -> dict[str, Any]:
    plant, agent = reports["plant"], reports["agent"]
    latency, commands = plant["latency"], plant["commands"]
    if agent["fault"] or not latency["count"]:
        raise DeviceError(f"the agent stopped, or sent no command: {agent['fault'] or 'no reason given'}")
    if plant["num_steps"] < round(seconds / dt):
        raise DeviceError(
            f"the plant ran {plant['num_steps']} of {round(seconds / dt)} periods; the machine is too busy"
        )
    permitted = [part["realtime"].get("priority") == "" for part in (plant, agent)]
    return {
        **{name: latency[name] for name in ("p50_ms", "p99_ms", "p999_ms", "worst_ms")},
        "missed_periods": commands["silent_periods"] + plant["skipped_periods"],
        "longest_miss": max(commands["longest_silence"], plant["longest_skip"]),
        "realtime": all(permitted),
        **reports,
    }


@contextmanager
def run_busy_processes(count: int) -> Iterator[None]:
    """Run `count` busy processes; all end with this process."""
    processes = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def write_at_rate(robot: str, base: Path, rate: float, folder: Path) -> tuple[str, Path]:
    """Write robot and base for another rate, for timing only: the base cannot predict at that rate.

    Args:
        folder: Folder for both; it must exist during their use.

    Returns:
        The spec's file and the base's folder.
    """
    from wm_robot.agent.onnx_files import load_functions
    from wm_robot.model.base import load_base, save_base
    from wm_robot.training.export.base_graphs import export_graphs

    known, loaded = load_spec(robot), load_base(base)
    loaded.check_spec(known)
    model = known.model if ":" in known.model else str((known.folder / known.model).absolute())
    world = {**known.world, "timestep": 1 / rate / math.ceil(1 / rate / PHYSICS)}
    # The surprise comes from the changed rate, so it must not stop the robot.
    safety = replace(known.safety, surprise_threshold=NEVER)
    spec = replace(known, rate=rate, model=model, world=world, safety=safety)
    file, copy = folder / f"{known.name}.yaml", folder / "base"
    file.write_text(yaml.safe_dump(json.loads(json.dumps(spec.to_dict()))))
    save_base(copy, loaded.model, load_spec(str(file)), {"for": f"timing at {rate:g} Hz, and nothing else"})
    graphs = load_functions(base, loaded)
    if graphs is not None and graphs.plan is not None:
        planner = graphs.plan.planner
        export_graphs(
            copy, load_base(copy), load_spec(str(file)), task=next(iter(spec.tasks)), planner=planner
        )
    return str(file), copy


def _wait_for_start(agent: NodeProcess, log: Path, deadline: float) -> None:
    """Wait until the agent has acted, or has ended."""
    while agent.is_running and time.monotonic() < deadline and not (log.exists() and log.stat().st_size):
        time.sleep(0.1)


def _wait_for_end(plant: NodeProcess, agent: NodeProcess, deadline: float) -> int:
    """Wait until the plant has run its time, or one of the two has ended; return their memory growth in bytes."""
    sizes = list[int]()
    while agent.is_running and time.monotonic() < deadline:
        try:
            plant.wait_for_exit(0.2)
            break
        except subprocess.TimeoutExpired:
            sizes.append(_read_resident_memory(plant.pid) + _read_resident_memory(agent.pid))
    late = sizes[len(sizes) // 2 : -1]
    return max(0, late[-1] - late[0]) if late else 0


def _read_resident_memory(pid: int) -> int:
    """Return the memory of a process, in bytes; 0 after its end."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0
