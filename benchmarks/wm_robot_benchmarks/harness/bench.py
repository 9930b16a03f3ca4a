"""Options that benches share. A bench is one of these dataclasses with its own options, in a module of its own.

::

    @dataclass(frozen=True, kw_only=True)
    class RecallBench(MemoryBench, SeededBench):
        '''Help of `wm-robot bench recall`.'''

        lives: Count = 48
        '''Help of its option `--lives`.'''

        def run(self, setting: Setting, *, progress: Progress) -> Result: ...
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from wm_robot.progress import Progress
from wm_robot_benchmarks.harness.result import Result, Setting, measure
from wm_robot_cli.values import Seed

BASES = Path("bases")
JsonFlag = Annotated[bool, tyro.conf.arg(name="json")]


@dataclass(frozen=True, kw_only=True)
class Bench(ABC):
    """A measurement and its options. Its name on the command line is the name of its module."""

    quick: bool = False
    """A smaller sample of the same."""
    as_json: JsonFlag = False
    """Print one JSON object as the last line."""

    def measure(self) -> None:
        """Run while progress is shown, and print the result."""
        measure(self.run, self.setting(), as_json=self.as_json)

    def setting(self) -> Setting:
        """What results name of the options."""
        name = type(self).__module__.rpartition(".")[2]
        return Setting(name, "none", (0,), self.quick, BASES)

    @abstractmethod
    def run(self, setting: Setting, *, progress: Progress) -> Result:
        """Measure. Large libraries are imported here and not by the module, so that help answers at once."""


@dataclass(frozen=True, kw_only=True)
class RobotBench(Bench):
    """A bench of one robot."""

    robot: str = "arm"
    """Name of the robot."""

    def setting(self) -> Setting:
        return replace(super().setting(), robot=self.robot)


@dataclass(frozen=True, kw_only=True)
class BasesBench(Bench):
    """A bench that loads trained bases."""

    bases: Path = BASES
    """Folder with the trained bases."""

    def setting(self) -> Setting:
        return replace(super().setting(), bases=self.bases)


@dataclass(frozen=True, kw_only=True)
class MemoryBench(RobotBench, BasesBench):
    """A bench of a robot that has a memory."""

    memory: str = "ekf"
    """Family of memory that the figures are of."""


@dataclass(frozen=True, kw_only=True)
class SeededBench(Bench):
    """A bench that is repeated for several seeds."""

    seeds: tuple[Seed, ...] = (0, 1)
    """Of worlds, motion and noise."""

    def setting(self) -> Setting:
        return replace(super().setting(), asked=self.seeds)


@dataclass(frozen=True, kw_only=True)
class FirstSeedBench(Bench):
    """A bench that takes one seed. It accepts several, as the others do, and uses the first."""

    seeds: tuple[Seed, ...] = (0,)
    """The first is used."""

    def setting(self) -> Setting:
        return replace(super().setting(), asked=self.seeds[:1])
