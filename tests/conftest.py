"""Tiers: what each test may import, and what is skipped where an extra is missing.

`pytest` alone runs everything that is installed. `pytest --tier=core` runs the tests without a marker
and hides torch, MuJoCo, ROS and pyarrow from them, so that the core's independence is real; `--tier=sim`,
`--tier=learn` and `--tier=episodes` run the tests with that one marker and hide the rest; `--tier=ros` runs
those that need several extras at once, as every node does.

Tests with the marker `soak` take minutes: `pytest --soak` runs them and no others, everything else leaves them out.
"""

import ast
import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Before numpy and torch are imported: on two busy cores more threads are slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Compiled modules are kept: the tests start some thousand processes, each of which would compile them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Off by default in Jazzy and Kilted; without it a wrong scalar type is published as garbage.
os.environ.setdefault("ROS_PYTHON_CHECK_FIELDS", "1")

import pytest

from tests.shape_checks import check_packages

check_packages(("wm_robot", "wm_robot_cli", "wm_robot_benchmarks"))

EXTRAS = {
    "sim": ("mujoco", "dm_control", "wm_robot_sim"),
    "learn": ("torch", "tensorboard"),
    "episodes": ("pyarrow",),
    "ros": ("rclpy", "wm_robot_ros", "wm_robot_demo"),
}
"""Marker → what its tests may import and the others may not; the first decides whether it is there."""
TIERS = ("core", "sim", "learn", "episodes", "ros")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tier", choices=TIERS, help="run one tier and hide the other extras from it")
    parser.addoption("--soak", action="store_true", help="run the tests that take minutes, and no others")


class Hiding:
    """A finder of modules to which some packages are not installed."""

    def __init__(self, finder: Any, packages: Iterable[str]):
        self.finder, self.packages = finder, frozenset(packages)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return None if name.partition(".")[0] in self.packages else self.finder.find_spec(name, path, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.finder, name)


def pytest_configure(config: pytest.Config) -> None:
    tier = config.getoption("--tier")
    if tier and tier != "ros":
        hidden = [package for extra in EXTRAS if extra != tier for package in EXTRAS[extra]]
        assert not set(hidden) & set(sys.modules), "imported before it could be hidden"
        sys.meta_path[:] = [Hiding(finder, hidden) for finder in sys.meta_path]


def pytest_make_collect_report(collector: pytest.Collector) -> pytest.CollectReport | None:
    """Leave a file alone that another tier runs, or whose extra is missing: its imports would fail."""
    if not isinstance(collector, pytest.Module):
        return None
    needs = file_needs(collector.path)
    tier = collector.config.getoption("--tier")
    if tier and needs and tier_of(needs) != tier:
        return pytest.CollectReport(collector.nodeid, "passed", None, [])
    reason = missing(needs)
    if reason:
        return pytest.CollectReport(collector.nodeid, "skipped", (str(collector.path), 0, reason), [])
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tier, soak = config.getoption("--tier"), config.getoption("--soak")
    others = {
        item
        for item in items
        if (tier and tier_of(needs_of(item)) != tier) or (item.get_closest_marker("soak") is not None) != soak
    }
    config.hook.pytest_deselected(items=list(others))
    items[:] = [item for item in items if item not in others]
    for item in items:
        reason = missing(needs_of(item))
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))
    items.sort(key=lambda item: item.get_closest_marker("first") is None)
    if config.pluginmanager.hasplugin("xdist"):
        group_by_module_fixtures(items)


def group_by_module_fixtures(items: Iterable[pytest.Item]) -> None:
    """Keep the tests that share a fixture of their module in one worker of xdist, which makes it once."""
    for item in (each for each in items if isinstance(each, pytest.Function)):
        shared = any(found[-1].scope == "module" for found in item._fixtureinfo.name2fixturedefs.values())
        if shared and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A tier without its extra has nothing to run, and that is no failure."""
    if session.config.getoption("--tier") and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK


@pytest.fixture(scope="session", autouse=True)
def one_thread(request: pytest.FixtureRequest) -> None:
    """Torch with one thread, where any test of this run uses torch."""
    if any("learn" in needs_of(item) for item in request.session.items):
        torch = pytest.importorskip("torch")
        torch.set_num_threads(1)


def needs_of(item: pytest.Item) -> set[str]:
    return {mark.name for mark in item.iter_markers() if mark.name in EXTRAS}


def file_needs(path: Path) -> set[str]:
    """Extras named by the `pytestmark` of a test file, read without importing it."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets
        ):
            return {n.attr for n in ast.walk(node.value) if isinstance(n, ast.Attribute)} & set(EXTRAS)
    return set()


def tier_of(needs: set[str]) -> str:
    if not needs:
        return "core"
    return next(iter(needs)) if len(needs) == 1 else "ros"


def missing(needs: set[str]) -> str:
    """Why the tests with these markers cannot run here; empty if they can."""
    for extra in sorted(needs):
        module = EXTRAS[extra][0]
        if importlib.util.find_spec(module) is None:
            return f'{module} is not installed: pip install "wm_robot[{extra}]"'
    return ""
