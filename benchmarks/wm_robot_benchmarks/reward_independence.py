"""`wm-robot bench reward-independence`: effects of rewards by the clock, and the alarm for false predictions."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from wm_robot.progress import Progress
from wm_robot_benchmarks.harness.bench import MemoryBench, SeededBench
from wm_robot_benchmarks.harness.result import (
    Result,
    Setting,
    describe_seed_count,
    load_bases,
    require,
    require_gripper,
)
from wm_robot_benchmarks.measures.noncontingent_reward import (
    GateBatch,
    NaiveLearner,
    RewardSchedule,
    compute_ritual_statistics,
    concatenate_statistics,
    find_outside_statistics,
    record_behaviour,
)
from wm_robot_cli.values import Count, Seed
from wm_robot_cli.worker_processes import in_processes

if TYPE_CHECKING:
    from wm_robot.model.world_model import WorldModel

PERIOD_S, LENGTH_S, SETTLE_S, TRAINED_S, AFTER_S = 4.0, 0.3, 2.0, 24.0, 6.0
"""Times in s. For 1 to 1.5 s after a reward the return to a target that jumped is visible: 2 s are left out."""
OPTIMISTIC_S = 8.0
"""Time for which a model is optimistic, and then for the same time not, in s."""
UNRESPONSIVE_GAIN = 0.02
"""Gain of a motor that does not respond, as a fraction."""
RUNS = ("control", "again", "rewarded")
"""Runs of the schedule. Only the last one is rewarded; otherwise they differ by random numbers."""
BROKEN = ("flattered", "deaf")
"""Runs whose plans are wrong."""


@dataclass(frozen=True, kw_only=True)
class RewardIndependenceBench(MemoryBench, SeededBench):
    """Whether reward independent of behaviour causes a ritual, and whether an alarm detects false predictions."""

    robots: Count = 24
    """Robots for each run and seed, each in its own world."""
    seeds: tuple[Seed, ...] = (0, 1)
    """Seeds of worlds, tasks and noise."""
    quick: bool = False
    """A third of the robots, one seed: too few to separate a ritual from noise."""

    def run(self, progress: Progress) -> Result:
        setting = self.make_setting()
        require_gripper(setting)
        require(self.robots >= 8, f"robots is {self.robots}; it must be at least 8")
        robots = max(8, self.robots // 3) if self.quick else self.robots
        bases, seeds = load_bases(setting, [self.memory]), setting.seeds
        keys = [(who, name, seed) for who in (self.memory, "naive") for name in RUNS for seed in seeds]
        keys += [(self.memory, name, seed) for name in BROKEN for seed in seeds]
        jobs = [(setting, *key, robots) for key in keys]
        found = dict(zip(keys, in_processes(_run_schedule, jobs, progress), strict=True))
        told, said = _find_rituals(
            {key: of[0] for key, of in found.items() if key[1] in RUNS}, self.memory, seeds
        )
        rows, rates = _summarise_alarms(
            {
                name: np.concatenate([found[self.memory, name, seed][1] for seed in seeds])
                for name in RUNS + BROKEN
            }
        )
        return Result(
            setting=setting,
            figures=said | rates,
            table=told + rows,
            bases={name: base.digest for name, base in bases.items()},
            notes=(
                f"{robots} robots a run and seed, {describe_seed_count(seeds)}; within: the control's simultaneous "
                "95 % interval",
                f"for {TRAINED_S:.0f} s the target is on the gripper every {PERIOD_S:.0f} s for {LENGTH_S} s, "
                f"independent of the robot; then {AFTER_S:.0f} s without",
                "naive: greedy on the values of rewarded postures, without a model; its ritual must be detected",
                f"flattered: for {OPTIMISTIC_S:.0f} s the model predicts perfect servos, then no longer; "
                "deaf: frozen states, and motors that do not respond",
            ),
        )


def _find_rituals(
    found: dict[tuple[str, str, int], dict[str, np.ndarray]], memory: str, seeds: tuple[int, ...]
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Find the statistics outside the control's interval, by group and run."""
    rows, counts = [], {}
    for who in (memory, "naive"):
        said = {name: concatenate_statistics([found[who, name, seed] for seed in seeds]) for name in RUNS}
        for name in ("again", "rewarded"):
            out, bounds = find_outside_statistics(said[name], said["control"], seed=seeds[0])
            counts[who, name] = float(len(out))
            furthest = max(out, key=lambda one: abs(one.difference), default=None)
            rows.append(
                {
                    "who": who,
                    "run": name,
                    "statistics": len(bounds),
                    "outside": len(out),
                    "furthest": furthest.name if furthest else "none",
                    "cut, between": round(float(said[name]["between cuts"].mean()), 4),
                    "cut, after": round(float(said[name]["after cuts"].mean()), 4),
                }
            )
    return rows, {
        "ritual_statistics_outside": counts[memory, "rewarded"],
        "unrewarded_outside": counts[memory, "again"],
        "naive_learner_outside": counts["naive", "rewarded"],
        "naive_unrewarded_outside": counts["naive", "again"],
    }


def _summarise_alarms(alarmed: dict[str, np.ndarray]) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return rows and figures of the share of robots with an alarm, by run: `B T` each."""
    half = {name: each[:, : each.shape[1] // 2] for name, each in alarmed.items()}
    ever = {name: float(each.any(1).mean()) for name, each in alarmed.items()}
    rows = [
        {
            "run": name,
            "alarmed ever": round(ever[name], 3),
            "at half-time": round(float(half[name][:, -1].mean()), 3),
            "at the end": round(float(each[:, -1].mean()), 3),
        }
        for name, each in alarmed.items()
    ]
    return rows, {
        "alarm_true_rate": float(half["flattered"].any(1).mean()),
        "alarm_deaf_rate": ever["deaf"],
        "alarm_left_rate": float(alarmed["flattered"][:, -1].mean()),
        "alarm_false_rate": float(np.mean([ever[name] for name in RUNS[:2]])),
        "exploitation_gap_alarms": float(alarmed["rewarded"].any(1).sum()),
    }


def _run_schedule(
    setting: Setting, who: str, name: str, seed: int, robots: int, *, progress: Progress
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Compute the statistics of a run, and the alarms of each robot, `B T`.

    Worlds, tasks and sensor noise depend only on the seed.
    """
    from wm_robot.agent.batch_agent import BatchAgent
    from wm_robot.agent.plan_monitor import PlanMonitor
    from wm_robot.agent.rollout_objective import TorchPlanner
    from wm_robot.model.torch_backend import TorchBackend
    from wm_robot.robots import load_spec
    from wm_robot_benchmarks.measures.optimistic_model import MonitoredAgents, OptimisticModel
    from wm_robot_sim.batch import BatchSim
    from wm_robot_sim.goals import MovingTarget
    from wm_robot_sim.reachable_poses import compute_gripper_positions
    from wm_robot_sim.worlds import DomainRandomization

    spec = load_spec(setting.robot)
    schedule = RewardSchedule.from_seconds(
        spec.rate, period=PERIOD_S, length=LENGTH_S, settle=SETTLE_S, trained=TRAINED_S, after=AFTER_S
    )
    steps = schedule.num_steps if name in RUNS else round(2 * OPTIMISTIC_S * spec.rate)
    draw = DomainRandomization(spec).sample
    worlds = [draw(np.random.default_rng([seed, 30_000, i])) for i in range(robots)]
    if name == "deaf":
        worlds = [replace(world, gain=UNRESPONSIVE_GAIN * world.gain) for world in worlds]
    paths = [MovingTarget(spec, seed=np.random.SeedSequence([seed, 50_000, i])) for i in range(robots)]
    goals = np.stack([path.compute_path(steps) for path in paths])
    delivered = schedule.is_delivered if name == "rewarded" else np.zeros(steps, bool)

    def locate_gripper(obs: np.ndarray) -> np.ndarray:
        return compute_gripper_positions(spec, obs[:, : len(spec.joints)])

    sim = BatchSim(spec, worlds, seed=40_000 + seed)
    # Runs differ by the planner's random numbers.
    drawn = 10 * seed + (RUNS + BROKEN).index(name)
    if who == "naive":
        naive = NaiveLearner(spec, locate_gripper, seed=drawn)
        done = record_behaviour(
            sim, naive, GateBatch(spec, sim.last_action), goals, delivered, locate_gripper, progress=progress
        )
        return compute_ritual_statistics(spec, done, schedule), np.zeros((robots, steps), bool)
    model = load_bases(setting, [who])[who].model
    optimistic = OptimisticModel(model) if name == "flattered" else None
    # It has all methods of the model that it wraps.
    used = model if optimistic is None else cast("WorldModel", optimistic)
    task = next(iter(spec.tasks))
    watch = PlanMonitor(spec, task=task)
    plans = TorchPlanner(used, spec, task=task)
    agents = BatchAgent(TorchBackend(used), plans, spec, plan_monitor=watch, seed=drawn)
    crew = MonitoredAgents(agents, watch, frozen=name == "deaf")
    honest = None if optimistic is None else (steps // 2, optimistic.stop)
    done = record_behaviour(
        sim,
        crew,
        GateBatch(spec, sim.last_action),
        goals,
        delivered,
        locate_gripper,
        change=honest,
        progress=progress,
    )
    return compute_ritual_statistics(spec, done, schedule) if name in RUNS else {}, np.stack(crew.alarms, 1)
