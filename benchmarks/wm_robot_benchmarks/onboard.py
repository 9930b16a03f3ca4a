"""`wm-robot bench onboard`: run time of a plan on one thread, and its quality; by joints, that of plan and update."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_robot.errors import ConfigError, OnnxMismatchError
from wm_robot.progress import Progress, make_part_progress
from wm_robot_benchmarks.harness.bench import MemoryBench, SeededBench
from wm_robot_benchmarks.harness.result import (
    Result,
    Setting,
    find_base_folder,
    load_bases,
    require,
    require_gripper,
)
from wm_robot_benchmarks.measures.corrupted_weights import BITS, change_weights, round_weights, shuffle_rows
from wm_robot_benchmarks.measures.growth import JointCost, measure_joint_cost
from wm_robot_benchmarks.measures.plan_timing import (
    SizeTimes,
    make_iteration_export,
    make_large_model,
    make_large_planner,
    time_control_steps,
    time_plans,
)
from wm_robot_benchmarks.measures.planner_quality import (
    AFTER_S,
    BEFORE_S,
    compute_settled_target_error,
    count_episodes_off_target,
    describe_ratio_interval,
    measure_planner_errors,
)
from wm_robot_benchmarks.measures.timing import RunTimes
from wm_robot_cli.values import Count, Seed

if TYPE_CHECKING:
    from wm_robot.model.base import Base

SHARES = ((0, 10), (10, 10), (20, 80))
"""Start and size of the progress of plans of both sizes and of episodes, in percent."""


@dataclass(frozen=True, kw_only=True)
class OnboardBench(MemoryBench, SeededBench):
    """Run time of a plan in ONNX, compared with torch and with its matrix products; quality with few samples.

    With `--joints` only run times and state size of untrained models, for chains of so many joints.
    """

    joints: tuple[Count, ...] = ()
    """Numbers of joints of chains; none: the robot's trained base."""

    repetitions: Count = 200
    """Plans of each kind at the default size; an eighth at that of TD-MPC2."""
    episodes: Count = 24
    """Episodes of each planner and seed."""
    seeds: tuple[Seed, ...] = (0, 1)
    """Seeds of worlds, targets and noise."""
    quick: bool = False
    """A quarter of the repetitions and episodes, one seed."""

    def run(self, progress: Progress) -> Result:
        return self._measure_chains(progress) if self.joints else self._measure_base(progress)

    def _measure_chains(self, progress: Progress) -> Result:
        """Measure the cost of a control step by the number of joints."""
        setting = replace(self.make_setting(), robot="chains of joints")
        repetitions = self.repetitions // 4 if self.quick else self.repetitions
        share = 100 // len(self.joints)
        costs = {
            joints: measure_joint_cost(
                joints, self.memory, max(1, repetitions), make_part_progress(progress, i * share, share, 100)
            )
            for i, joints in enumerate(self.joints)
        }
        return Result(
            setting=setting,
            figures={
                **{f"update_plan_p50_ms_{joints}": cost.both.median for joints, cost in costs.items()},
                **{f"state_mib_{joints}": cost.state_bytes / 2**20 for joints, cost in costs.items()},
            },
            table=[_make_joints_row(joints, cost) for joints, cost in costs.items()],
            notes=(
                f"memory {self.memory}, untrained; ms of the core, one thread, ONNX graphs; plan and update in turn",
            ),
        )

    def _measure_base(self, progress: Progress) -> Result:
        """Measure the plans of a trained base."""
        setting = self.make_setting()
        require_gripper(setting)
        require(self.repetitions >= 40, f"repetitions is {self.repetitions}; it must be at least 40")
        require(self.episodes >= 4, f"episodes is {self.episodes}; it must be at least 4")
        repetitions, episodes = self.repetitions, self.episodes
        if self.quick:
            repetitions, episodes = repetitions // 4, max(4, episodes // 4)
        from wm_robot.agent.onnx_files import PLAN_FILE, load_functions
        from wm_robot.model.graph_weights import BaseWeights
        from wm_robot.planning.mppi import MppiConfig
        from wm_robot.training.export.weight_sharing import inline_weights

        base, folder = load_bases(setting, [self.memory])[self.memory], find_base_folder(setting, self.memory)
        graphs = load_functions(folder, base)
        if graphs is None:
            raise ConfigError(f"{folder} has no graphs; make them: wm-robot export {folder}")
        shipped = inline_weights((folder / PLAN_FILE).read_bytes(), BaseWeights(base.weights))
        large = make_large_model(base.model)
        first, second, third = (make_part_progress(progress, start, size, 100) for start, size in SHARES)
        sizes = {
            "default": time_plans(setting, base.model, MppiConfig(), shipped, repetitions, first),
            "TD-MPC2": time_plans(setting, large, make_large_planner(), None, repetitions // 8, second),
        }
        cycle = time_control_steps(setting, base, graphs, repetitions)
        refused = _check_rejections(setting, base, shipped)
        errors = measure_planner_errors(setting, self.memory, episodes, shipped, third)
        settled = {arm: compute_settled_target_error(error) for arm, error in errors.items()}
        # Same worlds and targets.
        default, reference = settled["float32"].ravel(), settled["large"].ravel()
        return Result(
            setting=setting,
            figures={
                **_compute_ratios(sizes["default"], ""),
                **_compute_ratios(sizes["TD-MPC2"], "_tdmpc2"),
                "plan_write_ms": cycle["plan + write"].median,
                "plan_write_p99_ms": float(np.quantile(cycle["plan + write"].wall, 0.99)),
                "quality_vs_large_planner": float(default.mean() / reference.mean()),
                "control_small_planner": float(settled["small"].mean() / reference.mean()),
                "control_wrong_graphs_refused": sum(refused.values()) / len(refused),
            },
            table=[
                *(
                    _make_times_row(size, part, t)
                    for size, timed in sizes.items()
                    for part, t in timed.times.items()
                ),
                *(_make_times_row("default", part, t) for part, t in cycle.items()),
                *(_make_error_row(arm, error) for arm, error in errors.items()),
            ],
            bases={self.memory: base.digest},
            notes=(
                "core: time that the one thread had a core; ratios are of its medians, measured in turn in one "
                "process",
                "; ".join(
                    f"{size}: {timed.mflop:.0f} MFLOP of products a plan" for size, timed in sizes.items()
                ),
                f"{len(reference)} episodes of {BEFORE_S + AFTER_S:.0f} s with a hidden change; 95 % of their "
                f"resamples: quality_vs_large_planner {describe_ratio_interval(default, reference)}",
                f"of the graph {count_episodes_off_target(default)} stayed away, "
                f"of the large planner {count_episodes_off_target(reference)}",
                "rejected by the export check: "
                + ", ".join(f"{name} {'yes' if yes else 'NO'}" for name, yes in refused.items()),
            ),
        )


def _compute_ratios(timed: SizeTimes, suffix: str) -> dict[str, float]:
    torch, graph = (timed.times[name].median for name in ("torch", "float32"))
    return {
        f"ratio_to_floor{suffix}": graph / timed.fastest_products,
        f"speedup_vs_torch{suffix}": torch / graph,
    }


def _check_rejections(setting: Setting, base: "Base", content: bytes) -> dict[str, bool]:
    """Check that the export check rejects wrong ONNX models, and accepts the right one."""
    from wm_robot.planning.mppi import MppiConfig
    from wm_robot.training.export.base_graphs import check_planner_graph

    iteration, graph_of = make_iteration_export(setting, base.model, MppiConfig())
    check_planner_graph(iteration, graph_of(content))
    refused = {}
    for name, change in ((f"{BITS} bits", round_weights), ("shuffled", shuffle_rows)):
        try:
            check_planner_graph(iteration, graph_of(change_weights(content, change)))
            refused[name] = False
        except OnnxMismatchError:
            refused[name] = True
    return refused


def _make_times_row(size: str, part: str, times: RunTimes) -> dict[str, Any]:
    return {
        "size": size,
        "part": part,
        "core ms": round(times.median, 3),
        "core p99": round(float(np.quantile(times.core, 0.99)), 3),
        "wall ms": round(float(np.median(times.wall)), 3),
        "wall p99": round(float(np.quantile(times.wall, 0.99)), 3),
    }


def _make_joints_row(joints: int, cost: JointCost) -> dict[str, Any]:
    row: dict[str, Any] = {"joints": joints}
    for part, times in (("update", cost.update), ("plan", cost.plan), ("both", cost.both)):
        row[f"{part} p50"] = round(times.median, 2)
        row[f"{part} p99"] = round(float(np.quantile(times.core, 0.99)), 2)
    return row | {"state MiB": round(cost.state_bytes / 2**20, 2)}


def _make_error_row(arm: str, error: np.ndarray) -> dict[str, Any]:
    settled = compute_settled_target_error(error)
    return {
        "planner": arm,
        "error mm": round(1000 * float(error.mean()), 2),
        "settled mm": round(1000 * float(settled.mean()), 2),
        "settled median": round(1000 * float(np.median(settled)), 2),
    }
