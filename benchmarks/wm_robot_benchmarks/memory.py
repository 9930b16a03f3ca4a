"""`wm-robot bench memory`: memory families compared on three tasks, and with methods without learned weights."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from wm_robot.progress import Progress
from wm_robot_benchmarks.harness.bench import BasesBench, SeededBench
from wm_robot_benchmarks.harness.result import FAMILIES, Result, Setting
from wm_robot_cli.values import Count, Seed


@dataclass(frozen=True, kw_only=True)
class MemoryFamiliesBench(BasesBench, SeededBench):
    """Comparison of memory families with each other, and with methods without learned weights."""

    task: Literal["linear", "gain", "arm"] = "linear"
    """`linear`: random linear systems that change; the families are trained first, for some ten minutes each. `gain`:
    a gain that lasts over episodes, trained in the same way. `arm`: the existing bases."""
    families: tuple[str, ...] = FAMILIES
    """Memory families to compare."""
    worlds: Count = 128
    """For `arm`: held-out worlds for each seed."""
    updates: Count = 3000
    """Updates of each training; a tenth for `gain`."""
    seeds: tuple[Seed, ...] = (0, 1)
    """Seeds of the test worlds."""
    work: Path = Path("runs/bench")
    """Folder of the trainings, one for each task; finished trainings are reused."""
    bases: Path = Path("bases")
    """For `arm`: folder with the trained bases."""
    figure: Path | None = None
    """For `arm`: SVG file for a plot of the errors."""
    quick: bool = False
    """A fiftieth of the updates (a third for `gain`), a quarter of the worlds, one seed."""

    def make_setting(self) -> Setting:
        return replace(super().make_setting(), robot=self.task)

    def run(self, progress: Progress) -> Result:
        setting, work = self.make_setting(), self.work / self.task
        if self.task == "arm":
            from wm_robot_benchmarks.measures.memory_arm import compare_on_arm

            return compare_on_arm(setting, self.families, self.worlds, self.figure, progress)
        if self.task == "gain":
            from wm_robot_benchmarks.measures.memory_gain import compare_on_gain

            return compare_on_gain(setting, self.families, self.updates // 10, work, progress)
        from wm_robot_benchmarks.measures.memory_linear import compare_on_linear_systems

        return compare_on_linear_systems(setting, self.families, self.updates, work, progress)
