"""`wm-robot bench thesis`: what weights should contain at the start of a rollout, at equal parameters and data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wm_robot.progress import Progress
from wm_robot_benchmarks.harness.bench import BasesBench, RobotBench, SeededBench
from wm_robot_benchmarks.harness.result import Result, describe_seed_count, load_bases, require
from wm_robot_benchmarks.undeclared import DECLARED, NOMINAL
from wm_robot_cli.values import Count, Seed
from wm_robot_cli.worker_processes import in_processes

if TYPE_CHECKING:
    from wm_robot.model.base import Base
    from wm_robot_benchmarks.measures.thesis_training import ThesisTraining
    from wm_robot_benchmarks.measures.thesis_variants import TrainingRun


@dataclass(frozen=True, kw_only=True)
class ThesisBench(RobotBench, BasesBench, SeededBench):
    """What weights should contain at the start of a rollout: all variants at equal parameters and data."""

    train: bool = False
    """Train what is missing in the work folder first, one variant after another. A killed run continues."""
    work: Path = Path("runs/thesis")
    """Folder of the trainings. Variants without a base there are taken from `bases`, if it has one."""
    training_seeds: tuple[Seed, ...] = (0, 1, 2)
    """Seeds of weights and training data, of robust, ekf, gru and semiparametric; other variants have the first."""
    families: tuple[str, ...] = ("gru", "delta")
    """Learned memories."""
    updates: Count = 4500
    """Gradient steps of each network."""
    correction_updates: Count = 400
    """Gradient steps of the semiparametric memory's correction, in each of two rounds."""
    random_trajectories: Count | None = None
    """Trajectories of a training; as many as `wm-robot train` has by default."""
    tuning_lives: Count = 4
    """Robots of each kind of training world by which settings are chosen for learners without training."""
    lives: Count = 32
    """Robots for each row and seed."""
    seeds: tuple[Seed, ...] = (0,)
    """Seeds of effects, motion and noise."""
    kinds: tuple[str, ...] = ()
    """Kinds of undeclared effects; by default all that are for tests only."""
    figure: Path | None = None
    """SVG file for the figure."""
    quick: bool = False
    """A quarter of the robots, one seed, one training seed."""

    def run(self, progress: Progress) -> Result:
        from wm_robot.robots import load_spec
        from wm_robot_benchmarks.measures.effect_strength import get_strengths
        from wm_robot_benchmarks.measures.online_tuning import FILE, choose_online_config
        from wm_robot_benchmarks.measures.thesis_errors import RETURNED, ErrorJob, measure_errors
        from wm_robot_benchmarks.measures.thesis_figure import draw_thesis_figure
        from wm_robot_benchmarks.measures.thesis_table import ThesisTable
        from wm_robot_benchmarks.measures.thesis_variants import FROZEN, find_training_runs
        from wm_robot_sim.effects.effect import check_kinds, list_kinds

        setting, spec = self.make_setting(), load_spec(self.robot)
        kinds = self.kinds or list_kinds(spec, "test")
        check_kinds(spec, kinds)
        require(len(self.training_seeds) > 0, "training-seeds is empty; it must have at least one")
        require(self.lives >= 2, f"lives is {self.lives}; it must be at least 2")
        lives = max(2, self.lives // 4) if self.quick else self.lives
        training_seeds = self.training_seeds[:1] if self.quick else self.training_seeds
        if self.train:
            self.make_training(training_seeds).train_missing()
        runs = find_training_runs(setting, self.work, training_seeds, self.families)
        online_file = self.work / FILE
        if self.train:
            frozen = load_bases(runs[0].setting, [FROZEN])[FROZEN].model
            choose_online_config(setting, frozen, online_file, self.tuning_lives, progress)
        strengths = get_strengths(setting, kinds)
        jobs = [
            # Another robot's life is no control in the nominal world: it is the same robot.
            ErrorJob(
                setting,
                run,
                online_file,
                row,
                strengths,
                lives,
                seed,
                has_controls=run is runs[0] and row != NOMINAL,
            )
            for row in (NOMINAL, DECLARED, *kinds, *RETURNED.values())
            for run in runs
            for seed in setting.seeds
        ]
        found = in_processes(measure_errors, [(job,) for job in jobs], progress)
        names = [(job.row, job.run.label, job.seed) for job in jobs]
        table = ThesisTable(runs, self.families, kinds, setting.seeds, dict(zip(names, found, strict=True)))
        if self.figure is not None:
            draw_thesis_figure(table.make_panels(), self.figure)
        bases = dict(_load_own_bases(runs))
        return Result(
            setting=setting,
            figures=table.compute_figures(),
            table=[*table.make_rows(), *(_describe_training(*each) for each in bases.items())],
            bases={name: base.digest for name, base in bases.items()},
            notes=(
                f"{lives} robots a row and seed, {describe_seed_count(setting.seeds)}; error: mean square 8 steps "
                "ahead, over that of robust of the same training on the same robots, with 95 % intervals over robots "
                "and trainings; undeclared: geometric mean over kinds",
                "trainings: " + "; ".join(f"{run.label}: {', '.join(run.variants)}" for run in runs),
                "learners without training: "
                + (f"settings of {online_file}" if online_file.exists() else "default settings"),
            ),
        )

    def make_training(self, seeds: Sequence[int]) -> "ThesisTraining":
        """Return the trainings of these options."""
        from wm_robot.robots import load_spec
        from wm_robot_benchmarks.measures.thesis_training import ThesisTraining

        return ThesisTraining(
            spec=load_spec(self.robot),
            work=self.work,
            updates=self.updates,
            correction_updates=self.correction_updates,
            seeds=seeds,
            families=self.families,
            num_trajectories=self.random_trajectories,
        )


def _load_own_bases(runs: "Sequence[TrainingRun]") -> "Iterator[tuple[str, Base]]":
    """Yield the trained bases of all runs, by variant and run."""
    from wm_robot_benchmarks.measures.thesis_variants import ONLINE

    for run in runs:
        trained = [name for name in run.variants if name not in ONLINE]
        for name, base in load_bases(run.setting, trained).items():
            yield f"{name}, training {run.label}", base


def _describe_training(name: str, base: "Base") -> dict[str, Any]:
    """Return how a base was trained."""
    from wm_robot_benchmarks.measures.thesis_training import count_parameters

    card = base.manifest["card"]
    return {
        "base": name,
        "memory": base.config["memory"],
        "width": base.config["width"],
        "parameters": count_parameters(base.model),
        "updates": card.get("train", {}).get("updates"),
        "minutes of one core": card.get("cpu_minutes"),
    }
