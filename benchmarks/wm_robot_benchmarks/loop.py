"""`wm-robot bench loop`: sensor to command through ROS 2, at the robot's rate or, for timing only, at another."""

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from wm_robot.errors import MissingExtraError
from wm_robot.progress import Progress
from wm_robot_benchmarks.harness.bench import MemoryBench
from wm_robot_benchmarks.harness.host_load import (
    QUOTA_MS,
    count_quota_pauses,
    measure_pauses,
    read_load,
    read_stolen_time,
)
from wm_robot_benchmarks.harness.result import Result, Setting, find_base_folder, read_base_digest, require
from wm_robot_cli.progress import report_elapsed_time
from wm_robot_cli.values import CountOrZero, Duration, Priority, RateOrZero
from wm_robot_cli.worker_processes import in_processes

BARE = 0.1
"""Duration of the bare loop before the run, as a fraction of the run."""
START_S, NEW_RATE_S = 12.0, 40.0
"""Estimated time for both nodes to load and discover each other, and to make a base for another rate, in s."""
LONG_MS = 3.0
"""Shortest pause of the bare loop that counts as long."""
FIGURES = ("p50_ms", "p99_ms", "p999_ms", "worst_ms", "missed_periods", "longest_miss")


@dataclass(frozen=True, kw_only=True)
class LoopBench(MemoryBench):
    """Time from a sensor's stamp to its command through ROS 2, with plant and agent in separate processes."""

    seconds: Duration = 60.0
    """Length of the run."""
    rate: RateOrZero = 0.0
    """Rate of the loop, in Hz; 0: the robot's own. Another rate is for timing only: the base cannot predict there."""
    learner: Literal["on", "off"] = "off"
    """Whether the agent runs with its learner."""
    busy_processes: CountOrZero = 0
    """Number of busy processes of ordinary priority that run at the same time."""
    priority: Priority = 50
    """Real-time priority of both nodes, where it is permitted; 0: none."""
    quick: bool = False
    """A quarter of the time."""

    def run(self, progress: Progress) -> Result:
        setting = self.make_setting()
        try:
            from wm_robot_benchmarks.ros_probes.loop_timing import measure_ros_loop, run_busy_processes
        except ImportError as error:
            raise MissingExtraError("wm-robot bench loop", "learn,sim,ros") from error

        require(0 < self.seconds < math.inf, f"seconds is {self.seconds}; it must be above 0")
        require(0 <= self.rate <= 1000, f"rate is {self.rate}; it must be from 0 to 1000 Hz")
        require(
            0 <= self.busy_processes <= 64,
            f"busy-processes is {self.busy_processes}; it must be from 0 to 64",
        )
        require(
            0 <= self.priority <= 59,
            f"priority is {self.priority}; it must be from 0 to 59, below the guard's",
        )
        seconds = self.seconds / 4 if self.quick else self.seconds
        known = find_base_folder(setting, self.memory)
        with (
            report_elapsed_time(progress, (1 + BARE) * seconds + estimate_start_time(setting, self.rate)),
            make_robot_at_rate(setting, known, self.rate) as (robot, base, own),
        ):
            with run_busy_processes(self.busy_processes):
                bare = in_processes(measure_pauses, [(BARE * seconds, self.priority)])[0]
            before = read_stolen_time()
            measured = measure_ros_loop(
                robot=robot,
                base=base,
                seconds=seconds,
                priority=self.priority,
                num_busy_processes=self.busy_processes,
                agent={"learner": self.learner == "on"},
            )
            kept = read_stolen_time() - before
        long = [pause for pause in bare if pause.duration_ms > LONG_MS]
        plant, agent = measured["plant"], measured["agent"]
        timing = [
            {"what": what} | {f"{name} ms": times[f"{name}_ms"] for name in ("p50", "p99", "p999", "worst")}
            for what, times in (
                ("sensor to command at the plant", plant["latency"]),
                ("sensor to command at the agent", agent["latency"]),
                ("plan", agent["act"]),
                ("write, recall, and watch the plan", agent["learn"]),
                ("a period begins after its deadline by", plant["lateness"]),
            )
        ]
        figures = {name: float(measured[name]) for name in FIGURES}
        figures |= {
            "realtime": float(measured["realtime"]),
            "log_lines_missing": float(plant["periods"] - measured["log"]),
            "learner_alive": float(agent.get("learner_alive", False)),
            "hurried": float(agent["degraded_steps"]),
            "load": read_load(),
            "stolen_s": kept,
            "bare_worst_ms": max((pause.duration_ms for pause in bare), default=0.0),
            "bare_long_pauses_a_minute": len(long) / (BARE * seconds / 60),
            "bare_pauses_of_quota": count_quota_pauses(long) / len(long) if long else 0.0,
        }
        notes = [
            f"{agent['num_actions']} commands in {seconds:.0f} s, at {plant['rate']:g} Hz",
            "missed_periods are all without a new command; hurried: late steps, after which the plan is not "
            "monitored and every second one is not searched",
            "load is that of a core, in the last minute; stolen: core time that the host took from this machine",
            f"bare: pauses of a loop that only reads the clock, with this priority and these busy processes, in "
            f"{BARE * seconds:.0f} s before; long ones: more than {LONG_MS:g} ms",
            f"of quota: share of the long ones that end at the same phase of {QUOTA_MS:g} ms, as under a host's "
            "quota of core time for that period",
        ]
        if not own:
            notes.append(
                f"the base was trained for another rate than {self.rate:g} Hz: these figures are its timing only"
            )
        return Result(
            setting=setting,
            figures=figures,
            table=[*timing, *_describe_realtime(self.priority, plant, agent)],
            bases={self.memory: read_base_digest(known)},
            notes=tuple(notes),
        )


def estimate_start_time(setting: Setting, rate: float) -> float:
    """Estimate the time until the loop runs at a rate, in s."""
    from wm_robot.robots import load_spec

    return START_S + (NEW_RATE_S if rate and rate != load_spec(setting.robot).rate else 0.0)


@contextmanager
def make_robot_at_rate(setting: Setting, base: Path, rate: float) -> Iterator[tuple[str, Path, bool]]:
    """Yield robot and base, and whether the base was trained for that rate."""
    from wm_robot.robots import load_spec
    from wm_robot_benchmarks.ros_probes.loop_timing import write_at_rate

    if not rate or rate == load_spec(setting.robot).rate:
        yield setting.robot, base, True
        return
    with tempfile.TemporaryDirectory() as folder:
        yield *write_at_rate(setting.robot, base, rate, Path(folder)), False


def _describe_realtime(priority: int, plant: dict[str, Any], agent: dict[str, Any]) -> list[dict[str, Any]]:
    """Describe the real-time settings that the system permitted."""
    if not priority:
        return [{"real time": "both nodes", "asked for": "nothing", "had": "priority is 0"}]
    return [
        {"real time": part, "asked for": what, "had": why_not or "yes"}
        for part, report in (("plant", plant), ("agent", agent))
        for what, why_not in report["realtime"].items()
    ]
