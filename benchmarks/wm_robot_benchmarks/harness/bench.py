"""Bench base classes: the options that benches share.

A bench is a dataclass in its own module. Its fields are its only list of options, and its method `run` measures::

    @dataclass(frozen=True, kw_only=True)
    class RecallBench(MemoryBench, SeededBench):
        '''Help of `wm-robot bench recall`.'''

        lives: Count = 48
        '''Help of its option `--lives`.'''

        def run(self, progress: Progress) -> Result: ...
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path

from wm_robot.memory.registry import DEFAULT_MEMORY
from wm_robot.progress import Progress
from wm_robot_benchmarks.harness.result import Result, Setting, print_result
from wm_robot_cli.progress import ProgressMeter
from wm_robot_cli.values import JsonFlag, Seed

BASES = Path("bases")


@dataclass(frozen=True, kw_only=True)
class Bench(ABC):
    """Bench: a measurement and its options. Its name on the command line is that of its module, with hyphens."""

    quick: bool = False
    """A smaller sample of the same."""
    as_json: JsonFlag = False
    """Print one JSON object as the last line."""

    def measure(self) -> None:
        """Run the bench with a progress meter, and print the result."""
        with ProgressMeter(f"bench {self.make_setting().bench}") as progress:
            result = self.run(progress)
        print_result(result, self.as_json)

    def make_setting(self) -> Setting:
        """Return the options that every result reports. The measured time of the result starts now."""
        name = type(self).__module__.rpartition(".")[2].replace("_", "-")
        return Setting(name, "none", (0,), self.quick, BASES)

    @abstractmethod
    def run(self, progress: Progress) -> Result:
        """Run the measurement. It imports large libraries here and not in the module, so that help is fast."""


@dataclass(frozen=True, kw_only=True)
class RobotBench(Bench):
    """Bench of one robot."""

    robot: str = "arm"
    """Name of the robot."""

    def make_setting(self) -> Setting:
        return replace(super().make_setting(), robot=self.robot)


@dataclass(frozen=True, kw_only=True)
class BasesBench(Bench):
    """Bench that loads trained bases."""

    bases: Path = BASES
    """Folder with the trained bases."""

    def make_setting(self) -> Setting:
        return replace(super().make_setting(), bases=self.bases)


@dataclass(frozen=True, kw_only=True)
class MemoryBench(RobotBench, BasesBench):
    """Bench of a robot with a memory."""

    memory: str = DEFAULT_MEMORY
    """Memory family of the figures."""


@dataclass(frozen=True, kw_only=True)
class SeededBench(Bench):
    """Bench that is repeated for several seeds."""

    seeds: tuple[Seed, ...] = (0, 1)
    """Seeds of worlds, motion and noise."""

    def make_setting(self) -> Setting:
        return replace(super().make_setting(), asked=self.select_seeds())

    def select_seeds(self) -> tuple[Seed, ...]:
        """Select the seeds, where their default depends on other options."""
        return self.seeds


@dataclass(frozen=True, kw_only=True)
class FirstSeedBench(Bench):
    """Bench with one seed. It accepts several, like the others, and uses the first."""

    seeds: tuple[Seed, ...] = (0,)
    """Seeds; the first is used."""

    def make_setting(self) -> Setting:
        return replace(super().make_setting(), asked=self.seeds[:1])
