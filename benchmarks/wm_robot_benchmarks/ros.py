"""`wm-robot bench ros`: cost of ROS 2 and of its executors in a loop, and the whole agent at a rate."""

import math
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from wm_robot.errors import DeviceError, MissingExtraError
from wm_robot.progress import Progress, make_part_progress
from wm_robot_benchmarks.harness.bench import FirstSeedBench, MemoryBench
from wm_robot_benchmarks.harness.host_load import read_load, read_stolen_time
from wm_robot_benchmarks.harness.result import Result, Setting, find_base_folder, read_base_digest, require
from wm_robot_benchmarks.loop import START_S, estimate_start_time, make_robot_at_rate
from wm_robot_cli.progress import report_elapsed_time
from wm_robot_cli.values import Duration, Priority, Rate, Seed

SHORTER = 6
"""Divisor of the total time for each executor and for the control."""
STALL_EVERY, STALL = 20, 0.02
"""Stalls of the control: answers between two stalls, and duration in s, which is four periods of the robot."""
LOST_BY_STALL = 2
"""Fewest observations that such a stall loses: of those that arrive during it only the newest is kept."""


@dataclass(frozen=True, kw_only=True)
class RosBench(MemoryBench, FirstSeedBench):
    """Cost of ROS 2 in a loop: twelve joints at 200 Hz with an echo agent without planning, and the whole agent."""

    robot: str = "arm"
    """Name of the robot of the whole agent."""
    seconds: Duration = 60.0
    """Time of the echo, and of the whole agent; each executor and the control get a sixth."""
    rate: Rate = 100.0
    """Rate of the whole agent, in Hz; other than the robot's rate it is for timing only, without predictions."""
    priority: Priority = 50
    """Real-time priority of all nodes, where it is permitted; 0: none."""
    seeds: tuple[Seed, ...] = (0,)
    """Seeds; the first is used for the readings of the robot with twelve joints."""
    quick: bool = False
    """A quarter of the time."""

    def run(self, progress: Progress) -> Result:
        setting = self.make_setting()
        if find_spec("rclpy") is None or find_spec("wm_robot_ros") is None:
            raise MissingExtraError("wm-robot bench ros", "learn,sim,ros")
        require(0 < self.seconds < math.inf, f"seconds is {self.seconds}; it must be above 0")
        require(0 <= self.rate <= 1000, f"rate is {self.rate}; it must be from 0 to 1000 Hz")
        require(
            0 <= self.priority <= 59,
            f"priority is {self.priority}; it must be from 0 to 59, below the guard's",
        )
        seconds = self.seconds / 4 if self.quick else self.seconds
        # Before the echoes, which need no base and take most of the time.
        base = find_base_folder(setting, self.memory)
        before = read_stolen_time()
        ways = _list_echo_options(seconds)
        echoes = round(sum(way["seconds"] + START_S for way in ways.values()))
        agents = round(seconds + estimate_start_time(setting, self.rate))
        tried = _measure_echoes(
            ways, self.priority, setting.seeds[0], make_part_progress(progress, 0, echoes, echoes + agents)
        )
        echo, control = tried["as every agent has it"], tried["control: it stalls"]
        if not echo["answered"]:
            raise DeviceError("the echo has no answer in the measured time; the machine is too busy")
        share = make_part_progress(progress, echoes, agents, echoes + agents)
        with report_elapsed_time(share, agents):
            agent = _measure_agent(setting, self.memory, seconds, self.rate, self.priority)
        figures = {
            "echo_p50_ms": echo["p50_ms"],
            "echo_p99_ms": echo["p99_ms"],
            "echo_p999_ms": echo["p999_ms"],
            "echo_worst_ms": echo["worst_ms"],
            "echo_cpu": echo["cpu"],
            "sent": float(echo["sent"]),
            "lost": float(echo["lost"]),
            "wrong": float(echo["wrong"]),
            "agent_p50_ms": agent["p50_ms"],
            "agent_p99_ms": agent["p99_ms"],
            "agent_missed": float(agent["missed_periods"]),
            "control_lost": float(control["lost"]),
            "control_lost_seen": float(detects_stalls(control)),
            "realtime": float(echo["realtime"] and agent["realtime"]),
            "load": read_load(),
            "stolen_s": read_stolen_time() - before,
        }
        return Result(
            setting=setting,
            figures=figures,
            table=[*(make_echo_row(name, found) for name, found in tried.items()), _make_agent_row(agent)],
            bases={self.memory: read_base_digest(base)},
            notes=(
                "echo: 12 joints at 200 Hz, from the publication of an observation to the arrival of its command",
                "load is that of a core, in the last minute; stolen: core time that the host took from this machine",
                "lost: observations without an answer; cpu: time of the answering process, s for each s",
                f"the control stalls for {1e3 * STALL:.0f} ms at every {STALL_EVERY}th answer: "
                f"each loses {LOST_BY_STALL} observations or more",
            ),
        )


def _list_echo_options(seconds: float) -> dict[str, dict[str, Any]]:
    """Return the options of each echo, by executor of the answering node."""
    shorter = seconds / SHORTER
    ways: dict[str, dict[str, Any]] = {"as every agent has it": {"seconds": seconds}}
    ways["SingleThreadedExecutor"] = {"seconds": shorter, "executor": "single"}
    if find_spec("rclpy.experimental") is not None:
        ways["EventsExecutor"] = {"seconds": shorter, "executor": "events"}
    ways["MultiThreadedExecutor"] = {"seconds": shorter, "executor": "multi"}
    ways["control: it stalls"] = {"seconds": shorter, "stall_every": STALL_EVERY, "stall": STALL}
    return ways


def _measure_echoes(
    ways: dict[str, dict[str, Any]], priority: int, seed: int, progress: Progress
) -> dict[str, dict[str, Any]]:
    """Measure all echoes, by executor of the answering node."""
    from wm_robot_benchmarks.ros_probes.echo_timing import measure_echo

    lengths = {name: round(way["seconds"] + START_S) for name, way in ways.items()}
    found, before = dict[str, dict[str, Any]](), 0
    for name, way in ways.items():
        share = make_part_progress(progress, before, lengths[name], sum(lengths.values()))
        with report_elapsed_time(share, lengths[name]):
            found[name] = measure_echo(priority=priority, seed=seed, **way)
        before += lengths[name]
    return found


def detects_stalls(control: dict[str, Any]) -> bool:
    """Return whether the stalls of the control are detected, by lost observations and by its slowest answers."""
    worst = control["worst_ms"]
    return (
        control["stalled"] > 0
        # Some of its stalls are before and after the measurement.
        and control["lost"] >= LOST_BY_STALL * control["answered"] // STALL_EVERY
        and worst is not None
        and worst >= 1e3 * STALL
    )


def make_echo_row(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the table."""
    times = {
        f"{q} ms": "none" if found[f"{q}_ms"] is None else found[f"{q}_ms"] for q in ("p50", "p99", "worst")
    }
    return {"echo": name, "sent": found["sent"], **times, "lost": found["lost"], "cpu": found["cpu"]}


def _measure_agent(
    setting: Setting, memory: str, seconds: float, rate: float, priority: int
) -> dict[str, Any]:
    from wm_robot_benchmarks.ros_probes.loop_timing import measure_ros_loop

    with make_robot_at_rate(setting, find_base_folder(setting, memory), rate) as (robot, base, _):
        return measure_ros_loop(robot=robot, base=base, seconds=seconds, priority=priority)


def _make_agent_row(agent: dict[str, Any]) -> dict[str, Any]:
    return {
        "whole agent": f"{agent['plant']['rate']:g} Hz",
        **{f"{name} ms": agent[f"{name}_ms"] for name in ("p50", "p99", "worst")},
        "missed periods": agent["missed_periods"],
        "longest miss": agent["longest_miss"],
    }
