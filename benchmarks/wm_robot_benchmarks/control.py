"""`wm-robot bench control`: settled error of a task after a hidden change, by variant."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from wm_robot.evaluation.control import HiddenChange, measure_task_error
from wm_robot.evaluation.gap import Comparison, require_gap
from wm_robot.progress import Progress
from wm_robot.robots import load_spec
from wm_robot.spec import RobotSpec
from wm_robot.tasks import ErrorScale, TaskError
from wm_robot.tasks.reach import TOLERANCE
from wm_robot_benchmarks.harness.bench import MemoryBench, SeededBench
from wm_robot_benchmarks.harness.result import (
    Result,
    Setting,
    describe_seed_count,
    describe_spread,
    load_bases,
    require,
)
from wm_robot_cli.values import Count, CountOrZero, Seed
from wm_robot_cli.worker_processes import in_processes

if TYPE_CHECKING:
    from wm_robot_sim.batch import BatchSim

BEFORE_S, AFTER_S = 4.0, 10.0
"""Time before the change, and after it, in s."""
SETTLED_S = 1.0
"""Time after the change from which the error counts as settled, in s."""
ARRIVED = TOLERANCE
"""Settled error above which a robot stayed away from its goal, in m."""
EXAMINED_S = 0.2
"""Time between the goals of an episode that are examined for reachability, in s."""
TOGETHER = 64
"""Episodes in a batch: more do not fit in the cache."""
AWAY_NOTE = (
    f"stayed_away: settled more than {1000 * ARRIVED:.0f} mm from goals that are reachable; unreachable: settled as "
    "far away with a goal that no posture of the robot in its world holds"
)


@dataclass(frozen=True, kw_only=True)
class ControlBench(MemoryBench, SeededBench):
    """Settled error of a task after a hidden change, with one planner for each variant.

    Of `reach` it is the distance of the true gripper to its target; see docs/add_a_task.md for other rewards.
    """

    task: str | None = None
    """Task of the robot; its first by default."""
    episodes: Count | None = None
    """Episodes for each variant and seed, by default 100; with undeclared effects of each kind, by default 64."""
    undeclared: bool = False
    """Measure undeclared effects in place of declared worlds: each begins in mid-episode, and ends again."""
    kinds: tuple[str, ...] = ()
    """Kinds of undeclared effects; by default all that are for tests only."""
    simulated_episodes: CountOrZero = 8
    """Episodes for each kind and seed in which MuJoCo itself plans, with undeclared effects: it is slow."""
    seeds: tuple[Seed, ...] = ()
    """Seeds of worlds, targets and noise; by default 0 1, and 0 1 2 with undeclared effects."""
    quick: bool = False
    """A fifth of the episodes, one seed."""

    def select_seeds(self) -> tuple[Seed, ...]:
        return self.seeds or ((0, 1, 2) if self.undeclared else (0, 1))

    def run(self, progress: Progress) -> Result:
        setting = self.make_setting()
        spec = load_spec(self.robot)
        task = select_measured_task(spec, self.task)
        episodes = self.episodes or (64 if self.undeclared else 100)
        require(episodes >= 2, f"episodes is {episodes}; it must be at least 2")
        episodes = min(episodes, max(10, episodes // 5)) if self.quick else episodes
        if self.undeclared:
            from wm_robot_benchmarks.measures.undeclared_control import measure_undeclared_control

            simulated = min(self.simulated_episodes, 2) if self.quick else self.simulated_episodes
            counts = {"episodes": episodes, "simulated": min(simulated, episodes)}
            return measure_undeclared_control(
                setting, self.memory, task, self.kinds, **counts, progress=progress
            )
        require(not self.kinds, "kinds needs undeclared effects. Add --undeclared")
        return self._measure_declared(setting, spec, task, episodes, progress)

    def _measure_declared(
        self, setting: Setting, spec: RobotSpec, task: str, episodes: int, progress: Progress
    ) -> Result:
        error_of_task = TaskError(spec, spec.find_task(task))
        seeds = setting.seeds
        arms = ("robust", self.memory, "oracle")
        bases = load_bases(setting, arms)
        measured = _measure_variants(setting, task, arms, seeds, episodes, progress)
        errors = {name: [part.error for part in parts] for name, parts in measured.items()}
        away = {
            name: _count_away([episode for part in parts for episode in part.away])
            for name, parts in measured.items()
        }
        by_arm = {name: np.concatenate(parts) for name, parts in errors.items()}
        settled = {name: _compute_settled_error(error) for name, error in by_arm.items()}
        figures = _compute_figures(settled, self.memory, error_of_task.tolerance)
        if error_of_task.uses_gripper:
            figures |= {
                name: count / len(settled[self.memory]) for name, count in away[self.memory]._asdict().items()
            }
        spread = [
            _compute_figures(
                {n: _compute_settled_error(e[i]) for n, e in errors.items()},
                self.memory,
                error_of_task.tolerance,
            )
            for i in range(len(seeds))
        ]
        scale = error_of_task.scale
        return Result(
            setting=setting,
            figures=figures,
            table=[
                _make_row(name, by_arm[name], settled["oracle"], scale)
                | (away[name]._asdict() if error_of_task.uses_gripper else {})
                for name in arms
            ],
            bases={name: base.digest for name, base in bases.items()},
            notes=(
                f"{episodes} episodes a variant and seed, {describe_seed_count(seeds)}; {scale.label}",
                f"solved: settled error of an episode at most {scale.format(error_of_task.tolerance)}",
                describe_spread({name: [_read_value(of[name]) for of in spread] for name in spread[0]}),
                *([AWAY_NOTE] if error_of_task.uses_gripper else []),
            ),
        )


def select_measured_task(spec: RobotSpec, task: str | None = None) -> str:
    """Return a task of a robot, by default its first.

    Raises:
        ConfigError: If the robot has no task.
    """
    require(bool(spec.tasks), f"robot '{spec.name}' has no task. Add one to its spec; see docs/add_a_task.md")
    return next(iter(spec.tasks)) if task is None else task


class AwayEpisode(NamedTuple):
    """Episode that settled away from its goal."""

    error: float
    """Mean error over the settled steps whose goals were reachable for `SETTLED_S`, in m; NaN without any."""
    has_unreachable_goal: bool


class AwayCounts(NamedTuple):
    """Numbers of episodes that settled away from their goals."""

    stayed_away: int
    """Away from goals that are reachable."""
    unreachable: int
    """Away with a goal that is not reachable, and not from the others."""


class Episodes(NamedTuple):
    """Measured episodes."""

    error: np.ndarray
    """Target error, `B T`, in m."""
    away: list[AwayEpisode]


def _count_away(episodes: Sequence[AwayEpisode]) -> AwayCounts:
    stayed = [episode.error > ARRIVED for episode in episodes]
    unreachable = [
        episode.has_unreachable_goal and not stays for episode, stays in zip(episodes, stayed, strict=True)
    ]
    return AwayCounts(sum(stayed), sum(unreachable))


def judge_away_episode(error: np.ndarray, reachable: np.ndarray, rate: float) -> AwayEpisode:
    """Judge an episode that settled away from its goal.

    Args:
        error: Error of the settled steps, `T`, in m.
        reachable: Whether the goal of each of them is reachable.
        rate: Steps per second.
    """
    span = round(SETTLED_S * rate)
    # After an unreachable goal the robot has as long to come back as after the change.
    recent = np.array([reachable[max(0, t - span) : t + 1].all() for t in range(len(reachable))])
    return AwayEpisode(float(error[recent].mean()) if recent.any() else np.nan, bool((~reachable).any()))


def _measure_variants(
    setting: Setting, task: str, arms: Sequence[str], seeds: Sequence[int], episodes: int, progress: Progress
) -> dict[str, list[Episodes]]:
    """Measure the episodes by variant and seed."""
    parts = range(0, episodes, TOGETHER)
    keys = [(name, seed, first) for seed in seeds for name in arms for first in parts]
    jobs = [(setting, task, name, min(TOGETHER, episodes - first), seed, first) for name, seed, first in keys]
    found = dict(zip(keys, in_processes(_run_episodes, jobs, progress), strict=True))
    return {
        name: [
            Episodes(
                np.concatenate([found[name, seed, first].error for first in parts]),
                [episode for first in parts for episode in found[name, seed, first].away],
            )
            for seed in seeds
        ]
        for name in arms
    }


def _run_episodes(
    setting: Setting, task: str, arm: str, count: int, seed: int, first: int, *, progress: Progress
) -> Episodes:
    """Measure `count` episodes."""
    from wm_robot.agent.batch_agent import BatchAgent
    from wm_robot.agent.rollout_objective import TorchPlanner, make_posture_planner
    from wm_robot.model.torch_backend import TorchBackend

    base = load_bases(setting, [arm])[arm]
    spec = load_spec(setting.robot)
    plans = TorchPlanner(base.model, spec, task=task)
    postures = make_posture_planner(base.model, spec, task=task)
    crew = BatchAgent(TorchBackend(base.model), plans, spec, posture_backend=postures, seed=seed)
    sim, goals, change = make_scene(spec, task, count, seed, first)
    plants, task_error = RecordedPlants(sim), TaskError(spec, spec.find_task(task))
    error = measure_task_error(plants, crew, goals, change, task_error, progress=progress)
    is_point = task_error.uses_gripper
    away = _judge_away_episodes(sim, np.stack(plants.positions, 1), goals, error) if is_point else []
    return Episodes(error, away)


class RecordedPlants:
    """Plants that record the true joint positions after each step."""

    def __init__(self, sim: "BatchSim"):
        self._sim = sim
        self.positions: list[np.ndarray] = []

    @property
    def obs(self) -> np.ndarray:
        return self._sim.obs

    @property
    def last_action(self) -> np.ndarray:
        return self._sim.last_action

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = self._sim.step(action)
        self.positions.append(self._sim.true_joint_positions().copy())
        return found

    def compute_true_obs(self) -> np.ndarray:
        return self._sim.compute_true_obs()


def _judge_away_episodes(
    sim: "BatchSim", positions: np.ndarray, goals: np.ndarray, error: np.ndarray
) -> list[AwayEpisode]:
    """Judge the episodes that settled away from their goals.

    Args:
        positions: True joint positions after each step, `B T J`.
        goals: `B T+1 G`.
    """
    from wm_robot_sim.reachability import find_reachable_steps

    rate = sim.spec.rate
    start, found = round((BEFORE_S + SETTLED_S) * rate), []
    for row in np.flatnonzero(_compute_settled_error(error) > ARRIVED):
        reachable = find_reachable_steps(
            sim.plant,
            sim.worlds[row],
            goals[row, start + 1 :, :3],
            positions[row, start:],
            every=round(EXAMINED_S * rate),
        )
        found.append(judge_away_episode(error[row, start:], reachable, rate))
    return found


def make_scene(
    spec: RobotSpec,
    task: str,
    count: int,
    seed: int,
    first: int,
    *,
    before: float = BEFORE_S,
    after: float = AFTER_S,
) -> tuple["BatchSim", np.ndarray, HiddenChange]:
    """Make robots, goals `B T+1 G` and the hidden change; worlds and targets depend only on seed and episode.

    Args:
        first: Number of the first episode.
        before: Time before the change, in s.
        after: Time after it.
    """
    from wm_robot_sim.batch import BatchSim
    from wm_robot_sim.worlds import DomainRandomization

    draw = DomainRandomization(spec).sample
    own = range(first, first + count)
    rngs = [np.random.default_rng([seed, 30_000, i]) for i in own]
    old, new = [draw(rng) for rng in rngs], [draw(rng) for rng in rngs]
    sim = BatchSim(spec, old, seed=40_000 + seed, task=task, first_row=first)
    steps = round((before + after) * spec.rate)
    goals = draw_goal_paths(spec, task, own, seed, steps)
    change = HiddenChange(
        step=round(before * spec.rate),
        apply=lambda: sim.set_worlds(range(count), new),
        truth_before=np.stack([world.to_vector() for world in old]),
        truth_after=np.stack([world.to_vector() for world in new]),
    )
    return sim, goals, change


def draw_goal_paths(spec: RobotSpec, task: str, episodes: Sequence[int], seed: int, steps: int) -> np.ndarray:
    """Draw the goals of some episodes, `B T+1 G`; they depend only on seed and episode."""
    from wm_robot_sim.task_goals import TaskGoals

    named = spec.find_task(task)
    seeds = [np.random.SeedSequence([seed, 50_000, i]) for i in episodes]
    return np.stack([TaskGoals(spec, named, seed=each).compute_path(steps + 1) for each in seeds])


def _compute_settled_error(error: np.ndarray) -> np.ndarray:
    """Compute the settled mean error of each episode after the change, `B`."""
    rate = error.shape[1] / (BEFORE_S + AFTER_S)
    return error[:, round((BEFORE_S + SETTLED_S) * rate) :].mean(1)


def _compute_figures(
    settled: dict[str, np.ndarray], memory: str, tolerance: float
) -> dict[str, float | Comparison]:
    arms = (settled[memory], settled["robust"], settled["oracle"])
    own, robust, oracle = (float(arm.mean()) for arm in arms)
    own_median, robust_median, oracle_median = (float(np.median(arm)) for arm in arms)
    return {
        "error_vs_robust": own / robust,
        "median_vs_robust": own_median / robust_median,
        "error_vs_oracle": require_gap(own / oracle, robust, oracle),
        "median_vs_oracle": require_gap(own_median / oracle_median, robust_median, oracle_median),
        "solved": _compute_solved_share(settled[memory], tolerance),
        "solved_by_robust": _compute_solved_share(settled["robust"], tolerance),
        "solved_by_oracle": _compute_solved_share(settled["oracle"], tolerance),
    }


def _compute_solved_share(settled: np.ndarray, tolerance: float) -> float:
    return float((settled <= tolerance).mean())


def _read_value(figure: float | Comparison) -> float | None:
    return figure.value if isinstance(figure, Comparison) else figure


def _make_row(name: str, error: np.ndarray, oracle: np.ndarray, scale: ErrorScale) -> dict[str, Any]:
    """Make a row of the table, in the unit of the scale.

    Args:
        error: Error of each episode, `B T`.
        oracle: Settled error of the oracle in each episode, `B`.
    """
    second = round(error.shape[1] / (BEFORE_S + AFTER_S))
    change = round(BEFORE_S * second)
    settled = _compute_settled_error(error)
    values = {
        "before": error[:, change - second : change].mean(),
        "second 0-1": error[:, change : change + second].mean(),
        "second 1-2": error[:, change + second : change + 2 * second].mean(),
        "settled mean": settled.mean(),
        "settled median": np.median(settled),
        "worst tenth": np.quantile(settled, 0.9),
        "above oracle": np.median(settled - oracle),
    }
    return {
        "arm": name,
        **{key: float(scale.format_number(float(value), more_decimals=1)) for key, value in values.items()},
    }
