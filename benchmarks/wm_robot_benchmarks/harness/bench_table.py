"""Bench table: maps the name of each module of the package `wm_robot_benchmarks` to its bench, with hyphens.

The folders of the package hold shared code."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

from wm_robot_benchmarks.harness.bench import Bench

PACKAGE = "wm_robot_benchmarks"
FOLDER = Path(__file__).resolve().parents[1]


class BenchTable(Mapping[str, type[Bench]]):
    """Bench classes by name. A module is imported on access only: listing the names imports nothing."""

    def __init__(self) -> None:
        self._names = sorted(
            path.stem.replace("_", "-") for path in FOLDER.glob("*.py") if path.stem != "__init__"
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> type[Bench]:
        if name not in self:
            raise KeyError(name)
        return find_bench(f"{PACKAGE}.{name.replace('-', '_')}")


def find_bench(module: str) -> type[Bench]:
    """Import a module and return the one bench that it defines."""
    (bench,) = (
        each
        for each in vars(import_module(module)).values()
        if isinstance(each, type) and issubclass(each, Bench) and each.__module__ == module
    )
    return bench


BENCHES = BenchTable()
