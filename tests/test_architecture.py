"""The arrows between the parts, and what no part may do. Read from the source, without importing it."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "wm_robot"
PACKAGES = {
    "wm_robot": LIBRARY,
    "wm_robot_sim": ROOT / "sim" / "wm_robot_sim",
    "wm_robot_ros": ROOT / "ros_ws" / "src" / "wm_robot_ros" / "wm_robot_ros",
}

WORDS = {"errors", "spec", "types", "ops", "tasks"}
"""What every part may speak of."""
MAY_IMPORT = {
    "errors": set(),
    "ops": {"errors"},
    "spec": {"errors", "ops"},
    "types": {"errors", "spec"},
    "tasks": {"errors", "ops", "spec", "types"},
    "io": WORDS,
    "safety": WORDS - {"tasks"},
    "planning": WORDS - {"tasks"},
    "lifetime": WORDS | {"io"},
    "models": WORDS | {"io", "lifetime"},
    "learning": WORDS | {"io", "lifetime", "models", "planning"},
    "onboard": WORDS | {"io", "lifetime", "models", "learning", "planning", "safety"},
    "evaluation": WORDS | {"io", "lifetime", "models", "planning", "safety", "onboard"},
    "fleet": WORDS | {"io", "lifetime", "models", "learning", "evaluation"},
}
"""Part of wm_robot → parts that it may import. `cli` may import all."""

OUTSIDE = {"mujoco", "dm_control", "rclpy", "wm_robot_sim", "wm_robot_ros", "wm_robot_hardware"}
"""Leaves of the map and what they stand on; only `cli` knows them."""
NO_TORCH = {"errors", "spec", "types", "tasks", "io", "safety"}
"""Parts that a robot without torch needs."""
SLOWEST_START = 0.5


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def part_of(path: Path) -> str:
    first = path.relative_to(LIBRARY).parts[0]
    return first.removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere, functions included, as a dotted name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def library_files() -> list[Path]:
    return [path for path in sources(LIBRARY) if path != LIBRARY / "__init__.py"]


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", library_files(), ids=shown)
def test_imports_between_parts_run_one_way(path):
    part = part_of(path)
    if part in {"cli", "__main__"}:
        return
    assert part in MAY_IMPORT, f"{part} is a new part: give it a line in design.md and its arrows here"
    for name in imported(path):
        package, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if package == "wm_robot" and other not in ("__version__", part):
            assert other in MAY_IMPORT[part], f"{shown(path)} imports {name}; {part} may not know {other}"


@pytest.mark.parametrize("path", library_files(), ids=shown)
def test_the_library_knows_no_simulator_and_no_ros(path):
    if part_of(path) == "cli":
        return
    found = {name for name in imported(path) if name.partition(".")[0] in OUTSIDE}
    assert not found, f"{shown(path)} imports {sorted(found)}; only cli builds with these"


@pytest.mark.parametrize("path", library_files(), ids=shown)
def test_words_files_and_safety_do_without_torch(path):
    if part_of(path) not in NO_TORCH:
        return
    found = {name for name in imported(path) if name.partition(".")[0] == "torch"}
    assert not found, f"{shown(path)} imports {sorted(found)}; {part_of(path)} runs where torch is not"


def test_only_the_nodes_know_ros_and_only_the_simulator_knows_mujoco():
    for package, only in (("rclpy", "wm_robot_ros"), ("mujoco", "wm_robot_sim")):
        for owner, folder in PACKAGES.items():
            if owner == only:
                continue
            for path in sources(folder):
                if path.is_relative_to(LIBRARY / "cli"):
                    continue
                names = {name.partition(".")[0] for name in imported(path)}
                assert package not in names, f"{shown(path)} imports {package}; {only} alone may"


def test_the_simulator_knows_no_model_and_no_ros():
    for path in sources(PACKAGES["wm_robot_sim"]):
        for name in imported(path):
            package, _, rest = name.partition(".")
            assert package not in ("torch", "wm_robot_ros"), f"{shown(path)} imports {name}"
            if package == "wm_robot":
                assert rest.partition(".")[0] in WORDS | {"io", "safety"}, f"{shown(path)} imports {name}"


def test_only_the_gate_drives_a_plant():
    # The hazards' control drives emulated motors past it, to show what then happens.
    may = {LIBRARY / "safety/gated_robot.py", LIBRARY / "evaluation/hazards/faults.py"}
    for path in [path for folder in PACKAGES.values() for path in sources(folder)]:
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        called = {n.func.attr for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)}
        assert "drive" not in called or path in may, f"{shown(path)} drives a plant; only GatedRobot may"


def test_what_may_be_imported_has_no_circle():
    def below(part: str, seen: tuple[str, ...] = ()) -> None:
        assert part not in seen, f"{' → '.join((*seen, part))} is a circle"
        for other in MAY_IMPORT[part]:
            below(other, (*seen, part))

    for part in MAY_IMPORT:
        below(part)


@pytest.mark.parametrize(
    "code",
    [
        "import wm_robot",
        "import wm_robot.spec, wm_robot.types, wm_robot.tasks, wm_robot.ops.kinematics",
        "import sys; sys.argv = ['wm-robot', '--help']\n"
        "from wm_robot.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code",
    ],
    ids=["import", "words", "help"],
)
def test_the_core_starts_fast_and_light(code):
    report = "import sys; print('LOADED', *sys.modules)"
    seconds = []
    for _ in range(3):
        before = time_of_children()
        done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True)
        seconds.append(time_of_children() - before)
        assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert not loaded & (OUTSIDE | {"torch", "matplotlib", "onnxruntime"})
    # The processor's time, and the best of three, since other work may share the machine.
    assert min(seconds) < SLOWEST_START, f"{min(seconds):.2f} s"


def time_of_children() -> float:
    """Processor time of those that ended, in s."""
    used = os.times()
    return used.children_user + used.children_system
