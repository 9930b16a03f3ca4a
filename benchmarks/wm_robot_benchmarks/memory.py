"""`wm-robot bench memory`: families of memory compared on three tasks, and with what learns in no weights."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from wm_robot.progress import Progress
from wm_robot_benchmarks.harness.bench import BasesBench, SeededBench
from wm_robot_benchmarks.harness.result import FAMILIES, Result, Setting
from wm_robot_cli.values import Count, Seed


@dataclass(frozen=True, kw_only=True)
class MemoryFamiliesBench(BasesBench, SeededBench):
    """Families of lifetime state side by side, and beside what needs no learning in weights."""

    task: Literal["linear", "gain", "arm"] = "linear"
    """`linear`: random linear systems that change; the families are trained first, for some ten minutes each. `gain`:
    a gain that lasts over episodes, trained likewise. `arm`: the bases that are there."""
    families: tuple[str, ...] = FAMILIES
    """Those to compare."""
    worlds: Count = 128
    """Of `arm`: held-out worlds for each seed."""
    updates: Count = 3000
    """Of each training; those of `gain` are a tenth."""
    seeds: tuple[Seed, ...] = (0, 1)
    """Of the worlds that they are tested on."""
    work: Path = Path("runs/bench")
    """Folder of the trainings, one for each task; what is trained there already is taken."""
    bases: Path = Path("bases")
    """Of `arm`: folder with the trained bases."""
    figure: Path | None = None
    """Of `arm`: SVG file to draw the errors in."""
    quick: bool = False
    """A fiftieth of the updates (a third for `gain`), a quarter of the worlds, one seed."""

    def setting(self) -> Setting:
        return replace(super().setting(), robot=self.task)

    def run(self, setting: Setting, *, progress: Progress) -> Result:
        work = self.work / self.task
        if self.task == "arm":
            from wm_robot_benchmarks.measures import memory_arm

            return memory_arm.run(setting, self.families, self.worlds, self.figure, progress=progress)
        if self.task == "gain":
            from wm_robot_benchmarks.measures import memory_gain

            return memory_gain.run(setting, self.families, self.updates // 10, work, progress=progress)
        from wm_robot_benchmarks.measures import memory_linear

        return memory_linear.run(setting, self.families, self.updates, work, progress=progress)
