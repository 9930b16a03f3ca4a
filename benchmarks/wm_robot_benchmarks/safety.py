"""`wm-robot bench safety`: wrong numbers, messages with wrong stamps, and control processes that die."""

import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from wm_robot.errors import SnapshotError
from wm_robot.memory.registry import DEFAULT_MEMORY
from wm_robot.progress import Progress, make_part_progress
from wm_robot.spec import RobotSpec, Safety
from wm_robot_benchmarks.fault_injection import stream_faults, value_faults
from wm_robot_benchmarks.fault_injection.motor_emulator import EmulatedRobot
from wm_robot_benchmarks.fault_injection.process_faults import (
    AgentController,
    ControllerWithLearner,
    HelperFaults,
    Victim,
    inject_helper_faults,
    make_still_controller,
)
from wm_robot_benchmarks.harness.bench import FirstSeedBench, MemoryBench
from wm_robot_benchmarks.harness.host_load import read_load
from wm_robot_benchmarks.harness.result import Result, Setting, find_base_folder, read_base_digest, require
from wm_robot_benchmarks.loop import START_S
from wm_robot_cli.progress import report_elapsed_time
from wm_robot_cli.values import Count, CountOrZero, Seed

LONGEST_FLOOD = 600_000
"""Largest number of messages: a minute at 10 kHz."""
PHASE = 10.0
"""Duration of each phase of a helper (running, stopped or dead), in s."""
FLOOD_RATE = 10_000.0
"""Messages per second, of both kinds together."""
NUMBER_S = 0.0005
"""Estimated total time of a generated case, in s."""
DRIVES = 0.02, 0.1
"""Time that a control process drives before it is ended, in s."""


@dataclass(frozen=True, kw_only=True)
class SafetyBench(MemoryBench, FirstSeedBench):
    """Whether a wrong number reaches a motor, a false message is acted on, or a plant moves on without control."""

    generated: Count = 10_000
    """Random actions and readings for each of two sets of limits."""
    kills: CountOrZero = 20
    """Number of control processes to kill, and number to stop; 0: none."""
    flood: Count = 100_000
    """Number of messages at 10 kHz."""
    helper_kills: CountOrZero = 2
    """Number of learners, and number of recorders, to stop twice and then kill, in a minute each; 0: none."""
    memory: str = DEFAULT_MEMORY
    """Memory family of the agent with the learner."""
    seeds: tuple[Seed, ...] = (0,)
    """Seeds; the first is used for the numbers and times."""
    quick: bool = False
    """A twentieth of the cases, five of the kills, one helper of each kind in a fifth of the time."""

    def run(self, progress: Progress) -> Result:
        setting = self.make_setting()
        from wm_robot.robots import load_spec

        require(self.generated >= 100, f"generated is {self.generated}; it must be at least 100")
        require(
            0 <= self.flood <= LONGEST_FLOOD, f"flood is {self.flood}; it must be from 0 to {LONGEST_FLOOD}"
        )
        require(self.kills >= 0, f"kills is {self.kills}; it must not be below 0")
        require(self.helper_kills >= 0, f"helper-kills is {self.helper_kills}; it must not be below 0")
        generated, kills, flood, helper_kills = self.generated, self.kills, self.flood, self.helper_kills
        if self.quick:
            generated, kills, flood = max(100, generated // 20), min(kills, 5), flood // 20
            helper_kills = min(helper_kills, 1)
        spec = load_spec(setting.robot)
        base = _find_agent_base(setting, self.memory)
        flooded, unwell = (PHASE, PHASE / 5) if setting.quick else (3 * PHASE, PHASE)
        shares = _split_progress(
            progress, generated, flooded if flood else 0.0, kills, 3 * helper_kills * (6 * unwell + 10)
        )
        rng = np.random.default_rng(setting.seeds[0])
        with report_elapsed_time(shares["numbers"], generated * NUMBER_S):
            table, figures = _inject_value_faults(spec, generated, rng)
        # Without progress: the growth of this process's memory by a flood is measured.
        told, said = _inject_stream_faults(spec, max(100, generated // 10), flood)
        notes = [
            f"none in {generated} generated cases means fewer than {3 / generated:.2%}, by the rule of three"
        ]
        rows, figures = table + told, figures | said
        if flood:
            told, said, note = _measure_flood(setting, base, self.memory, flooded, shares["flood"])
            rows, figures, notes = rows + told, figures | said, [*notes, *note]
        if kills and sys.platform == "linux":
            stopped, said, note = _measure_stops(spec, kills, rng, shares["stops"])
            rows, figures, notes = rows + stopped, figures | said, [*notes, *note]
        else:
            notes.append("no control process was ended: kills is 0, or this is not Linux")
        if helper_kills and sys.platform == "linux":
            stopped, said, note = _measure_helper_faults(
                spec, base, helper_kills, unwell, shares["helper kills"]
            )
            rows, figures, notes = rows + stopped, figures | said, [*notes, *note]
        bases = {self.memory: read_base_digest(base)} if base else {}
        return Result(setting=setting, figures=figures, table=rows, bases=bases, notes=tuple(notes))


def _find_agent_base(setting: Setting, memory: str) -> Path | None:
    """Return the folder of the agent's base; None without one, which skips the parts that need it."""
    try:
        return find_base_folder(setting, memory)
    except SnapshotError:
        if memory != DEFAULT_MEMORY:
            # The user requested it.
            raise
        return None


def _split_progress(
    progress: Progress, generated: int, flooded: float, kills: int, helper_faults: float
) -> dict[str, Progress]:
    """Return the progress of each part, weighted by its estimated time in s."""
    seconds = {
        "numbers": 2 + round(generated * NUMBER_S),
        "flood": round(2 * (flooded + START_S)) if flooded else 0,
        "stops": 5 + 2 * kills if kills else 0,
        "helper kills": round(helper_faults),
    }
    whole, before, shares = sum(seconds.values()), 0, dict[str, Progress]()
    for name, size in seconds.items():
        shares[name], before = make_part_progress(progress, before, size, whole), before + size
    return shares


def _measure_helper_faults(
    spec: RobotSpec, base: Path | None, rounds: int, seconds: float, progress: Progress
) -> tuple[list[dict[str, Any]], dict[str, float], list[str]]:
    """Stop and kill learners and recorders, and measure control during the faults."""
    rows, figures, make = [], dict[str, float](), _make_learning_agent(base)
    first, second, third = (make_part_progress(progress, number, 1, 3) for number in range(3))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "periods.ndjson"

        def inject(victim: Victim, share: Progress, **how: Any) -> HelperFaults:
            with report_elapsed_time(share, rounds * (6 * seconds + 10)):
                return inject_helper_faults(spec, victim, log=log, num_rounds=rounds, seconds=seconds, **how)

        tried = {"recorder": inject("recorder", first, make=make or make_still_controller)}
        if make is not None:
            tried["learner"] = inject("learner", second, make=make)
        tried["recorder, a loop that waits for it"] = naive = inject("recorder", third, waits=True)
    for name, found in tried.items():
        for what, times in (("well", found.times_running), ("stopped or dead", found.times_faulty)):
            row = {"helper": name, "it is": what, "periods": times.latency.size}
            rows.append(row | {f"p{q} ms": times.percentile(q) for q in (50, 99)})
        if found is not naive:
            figures[f"{name}_death_timing_ratio"] = found.compute_ratio(50)
            figures[f"{name}_death_timing_ratio_p99"] = found.compute_ratio(99)
            figures[f"{name}_death_missed_periods"] = float(found.num_missed)
    figures["naive_recorder_missed_periods"] = float(naive.num_missed)
    notes = [
        "ratios: time from deadline to command while a helper is stopped or dead, over that while it runs"
    ]
    if make is None:
        notes.append("no learner was ended: there is no torch, or no base")
    return rows, figures, notes


def _make_learning_agent(base: Path | None) -> Callable[[EmulatedRobot], ControllerWithLearner] | None:
    """Return a function that makes the agent of a base, with a busy learner; None where it is not possible."""
    if find_spec("torch") is None or base is None:
        return None

    def make(robot: EmulatedRobot) -> ControllerWithLearner:
        # Imported here, in the control process: this process must be able to fork.
        from wm_robot.adaptation.candidate import ResidualFitConfig
        from wm_robot.adaptation.learner_process import LearnerProcess
        from wm_robot.adaptation.transition_filter import TransitionFilter
        from wm_robot.agent.agent import Agent
        from wm_robot.agent.backends import select_model_backend
        from wm_robot.agent.onnx_files import load_functions
        from wm_robot.model.base import load_base

        loaded, task = load_base(base), next(iter(robot.spec.tasks))
        graphs = load_functions(base, loaded)
        # Reject all of its candidates: evaluating one makes plans slower, which is not measured here.
        learner = LearnerProcess(
            base,
            loaded,
            ResidualFitConfig(segment_interval=1, num_held_out=1, margin=1.0),
            backend=select_model_backend(loaded, graphs),
        )
        agent = Agent(
            loaded,
            robot.spec,
            task=task,
            functions=graphs,
            learner=learner,
            transition_filter=TransitionFilter(robot.spec),
        )
        goal = np.full(robot.spec.find_task(task).goal, 0.2, np.float32)
        return ControllerWithLearner(AgentController(robot, agent, goal), learner.pid, learner.close)

    return make


def make_limited_spec(spec: RobotSpec) -> RobotSpec:
    """Return the same robot with all optional limits of a spec set."""
    servos = [actuator for actuator in spec.actuators if actuator.is_servo]
    efforts = {joint.name: joint.effort for joint in spec.joints}
    return replace(
        spec,
        safety=Safety(
            acceleration={actuator.name: 8 * actuator.rate for actuator in spec.actuators},
            deceleration={joint.name: 5 * joint.velocity for joint in spec.joints},
            stiffness={actuator.name: 2 * efforts[actuator.joint] for actuator in servos},
            workspace=((-0.4, 0.4), (-0.4, 0.4), (0.0, 0.7))
            if spec.chain and len(servos) == len(spec.joints)
            else (),
        ),
    )


def _inject_value_faults(
    spec: RobotSpec, count: int, rng: np.random.Generator
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Inject wrong numbers, types and sizes."""
    tallies = {}
    for name, robot in (("as it ships", spec), ("all limits set", make_limited_spec(spec))):
        tallies[f"every fault, {name}"] = value_faults.inject_all_faults(robot)
        tallies[f"generated, {name}"] = value_faults.inject_random_faults(robot, count, rng)
    tallies["generated, np.clip"] = naive = value_faults.inject_into_clip(spec, count, rng)
    rows = [
        {
            "numbers": name,
            "tried": tally.tried,
            "values": tally.driven,
            "unsafe": tally.unsafe,
            "harmed": tally.harmed,
            "steps in learned": tally.steps,
        }
        for name, tally in tallies.items()
    ]
    ours = [tally for name, tally in tallies.items() if tally is not naive]
    return rows, {
        "cases": float(sum(tally.tried for tally in ours)),
        "values": float(sum(tally.driven for tally in ours)),
        "unsafe_values": float(sum(tally.unsafe for tally in ours)),
        "mode_left_within_steps": float(max(tally.steps for tally in ours)),
        "naive_unsafe_fraction": naive.harmed / naive.tried,
        "naive_not_finite_fraction": naive.not_finite / naive.tried,
    }


def _inject_stream_faults(
    spec: RobotSpec, each: int, flood: int
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Inject messages with wrong stamps."""
    tried = stream_faults.inject_false_stamps(spec, each)
    if flood:
        tried["flood at 10 kHz"] = stream_faults.inject_flood(spec, flood)
    lost, learned = stream_faults.inject_clock_jumps(spec, each)
    rows = [
        {
            "messages": name,
            "sent": s.num_sent,
            "learned from": s.num_learned,
            "acted on": s.num_acted,
            "bytes kept": s.memory_growth,
        }
        for name, s in tried.items()
    ]
    return rows, {
        "false_messages": float(sum(each.num_sent for each in tried.values())),
        "false_learned": float(sum(each.num_learned for each in tried.values()) + learned),
        "false_acted": float(sum(each.num_acted for each in tried.values())),
        "flood_bytes_kept": float(max(each.memory_growth for each in tried.values())),
        "clock_jump_lost_periods": float(lost),
        "clock_jumps": float(each // 100),
    }


def _measure_flood(
    setting: Setting, base: Path | None, memory: str, seconds: float, progress: Progress
) -> tuple[list[dict[str, Any]], dict[str, float], list[str]]:
    """Measure the two nodes with and without a third one that floods both."""
    if base is None or any(find_spec(name) is None for name in ("torch", "rclpy")):
        wanted = setting.bases / f"{setting.robot}-{memory}"
        return [], {}, [f"no node was flooded: there is no ROS, no torch or no base in {wanted}"]
    # Imported here, since it needs ROS.
    from wm_robot_benchmarks.ros_probes.loop_timing import measure_ros_loop

    rows, tried = [], {}
    for number, (name, rate) in enumerate((("no flood", 0.0), ("flood over ROS", FLOOD_RATE))):
        with report_elapsed_time(make_part_progress(progress, number, 1, 2), seconds + START_S):
            found = measure_ros_loop(robot=setting.robot, base=base, seconds=seconds, flood_rate=rate)
        tried[name] = found
        rows.append(
            {
                "loop": name,
                "false messages": found["flooded"],
                "p50 ms": found["p50_ms"],
                "p99 ms": found["p99_ms"],
                "p99.9 ms": found["p999_ms"],
                "missed periods": found["missed_periods"],
                "grown kB": found["grown"] / 1e3,
            }
        )
    quiet, flooded = tried.values()
    plant, agent = flooded["plant"], flooded["agent"]
    # There is one observation between two of the plant's periods; a command not sent by the agent is false.
    false = (
        plant["commands"]["accepted"] - agent["num_actions"],
        agent["num_actions"] - plant["num_steps"] - 2,
        agent["lifetime"]["num_valid"] - plant["num_steps"] - 2,
    )
    return (
        rows,
        {
            "ros_flood_rate_hz": flooded["flooded"] / seconds,
            "ros_flood_timing_ratio": flooded["p50_ms"] / quiet["p50_ms"],
            "ros_flood_p99_ms": flooded["p99_ms"],
            "ros_flood_missed_periods": float(flooded["missed_periods"]),
            "ros_flood_used": float(sum(max(0, count) for count in false)),
            "ros_flood_grown_bytes": float(flooded["grown"]),
            "ros_flood_realtime": float(flooded["realtime"]),
        },
        [f"over ROS: as many false messages as one process could send, at most {FLOOD_RATE:.0f} a second"],
    )


def _measure_stops(
    spec: RobotSpec, kills: int, rng: np.random.Generator, progress: Progress
) -> tuple[list[dict[str, Any]], dict[str, float], list[str]]:
    """Kill and stop control processes, and measure the time until the plant stops."""
    from wm_robot_benchmarks.fault_injection.stop_faults import StopFaultStage

    shared = Path("/dev/shm")
    rows, figures, worst = [], dict[str, float](), []
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        with StopFaultStage(spec, Path(folder) / "page").start_processes() as stage:
            for done, how in enumerate((signal.SIGKILL, signal.SIGSTOP)):
                tried = []
                for number in range(kills):
                    progress(done * kills + number, 2 * kills)
                    tried.append(stage.stop_control(how, float(rng.uniform(*DRIVES))))
                stops = [stop for stop in tried if stop is not None]
                require(
                    bool(stops), "no control process ran long enough to be ended: the machine is too busy"
                )
                after, silence = (
                    1e3 * np.array([getattr(s, what) for s in stops]) for what in ("after", "silence")
                )
                resumed = sum(stop.resumed for stop in stops)
                rows.append(
                    {
                        "ended by": how.name,
                        "trials": len(stops),
                        "p50 ms": float(np.median(after)),
                        "p95 ms": float(np.percentile(after, 95)),
                        "max ms": float(after.max()),
                        "silence max ms": float(silence.max()),
                        "resumed": resumed,
                    }
                )
                name = how.name.lower()
                figures |= {f"{name}_ms_p50": float(np.median(after)), f"{name}_ms_max": float(after.max())}
                figures["resumed_unarmed"] = figures.get("resumed_unarmed", 0.0) + resumed
                worst.append(after)
            figures["guard_stops_of_the_well"] = float(stage.spurious)
    everything = np.concatenate(worst)
    figures |= {
        "guard_stop_ms_p50": float(np.median(everything)),
        "guard_stop_ms_max": float(everything.max()),
        "guard_stops": float(everything.size),
    }
    note = f"time from the signal until the plant's supervisor is in safe-stop; load {read_load():.1f} a core"
    return rows, figures, [note]
