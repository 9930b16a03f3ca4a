"""The import arrows between rooms, and what a room may not import. Read from the source, without importing it."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "wm_robot": ROOT / "wm_robot",
    "wm_robot_sim": ROOT / "sim/wm_robot_sim",
    "wm_robot_ros": ROOT / "ros_ws/src/wm_robot_ros/wm_robot_ros",
    "wm_robot_demo": ROOT / "examples/wm_robot_demo",
    "wm_robot_cli": ROOT / "cli/wm_robot_cli",
    "wm_robot_benchmarks": ROOT / "benchmarks/wm_robot_benchmarks",
}
HAVE_ROOMS = ("wm_robot", "wm_robot_ros")
"""Packages whose folders are rooms with arrows of their own; each other package is one room."""

WORDS = {"errors", "spec", "types", "math", "tasks", "progress"}
"""Vocabulary that every room may import."""
ON_ROBOT: dict[str, set[str]] = {
    "safety": WORDS - {"tasks"},
    "streams": WORDS,
    "control": WORDS | {"io", "safety", "streams"},
    "memory": WORDS,
    "model": WORDS | {"io", "memory"},
    "adaptation": WORDS | {"io", "streams", "memory", "model"},
    "planning": WORDS - {"tasks"},
    "agent": WORDS
    | {"io", "store", "control", "memory", "model", "adaptation", "planning", "validation_record"},
}
FILES: dict[str, set[str]] = {
    "io": WORDS,
    "robots": WORDS | {"io"},
    "store": WORDS | {"io"},
    "recording": WORDS | {"io", "streams"},
    "validation_record": WORDS | {"io", "store"},
    "sharing": WORDS | {"io", "robots", "store", "memory", "model", "adaptation", "validation_record"},
}
OFF_ROBOT: dict[str, set[str]] = {
    "training": WORDS | {"io", "recording", "memory", "model", "adaptation", "planning", "agent"},
    "evaluation": WORDS
    | {"io", "store", "recording", "sharing", "memory", "model", "adaptation", "agent", "validation_record"},
}
LIBRARY = set(ON_ROBOT) | set(FILES) | set(OFF_ROBOT) | WORDS
SIM, DEMO, CLI, BENCHMARKS = "wm_robot_sim", "wm_robot_demo", "wm_robot_cli", "wm_robot_benchmarks"
NODES = {
    f"wm_robot_ros.{room}" for room in ("middleware", "launching", "state_api", "nodes", "generate_docs")
}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "progress": set(),
    "math": {"errors"},
    "spec": {"errors", "math"},
    "types": {"errors", "spec"},
    "tasks": {"errors", "math", "spec", "types"},
    **ON_ROBOT,
    **FILES,
    **OFF_ROBOT,
    SIM: WORDS | {"io", "safety", "robots"},
    "wm_robot_ros.middleware": WORDS | {"io", "streams", "control"},
    "wm_robot_ros.launching": WORDS | {"io", "memory", "recording", "robots", SIM, "wm_robot_ros.middleware"},
    "wm_robot_ros.state_api": (LIBRARY - {"training"}) | {"wm_robot_ros.middleware"},
    "wm_robot_ros.nodes": (LIBRARY - set(OFF_ROBOT))
    | {SIM, "wm_robot_ros.middleware", "wm_robot_ros.state_api"},
    "wm_robot_ros.generate_docs": {"spec", "streams"} | NODES - {"wm_robot_ros.generate_docs"},
    DEMO: LIBRARY | NODES | {SIM},
    CLI: LIBRARY | NODES | {SIM, DEMO},
    BENCHMARKS: LIBRARY | NODES | {SIM, DEMO, CLI},
}
"""Room → rooms that it may import. `wm_robot_cli` finds the benchmarks by name, where they are installed."""

ONLY = {
    "mujoco": {SIM, BENCHMARKS},
    "dm_control": {SIM},
    "rclpy": {"wm_robot_ros", BENCHMARKS},
    "ray": {CLI},
}
"""Library from outside → packages that may import it."""
OUTSIDE = {*ONLY, "wm_robot_sim", "wm_robot_ros", "wm_robot_hardware"}
NO_TORCH = (WORDS - {"math"}) | {
    *("io", "safety", "streams", "control", "robots", "store", "recording", "validation_record")
}
"""Rooms that a robot without torch needs."""
SLOWEST_START = 0.5


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def module_files() -> dict[str, Path]:
    """Every module of every package by its dotted name."""
    return {
        ".".join([package, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__"): path
        for package, folder in PACKAGES.items()
        for path in sources(folder)
    }


MODULES = module_files()


def room_of(module: str) -> str:
    """The room of a module or of a name in one; empty for a package itself."""
    package, *rest = module.split(".")
    if package not in HAVE_ROOMS:
        return package
    if not rest or rest[0].startswith("__"):
        return ""
    return rest[0] if package == "wm_robot" else ".".join([package, rest[0]])


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere, functions included, as a dotted name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def show(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module)])
def test_imports_between_rooms_run_one_way(module):
    room = room_of(module)
    assert room in MAY_IMPORT, (
        f"{room} is a new room: give it a line in docs/architecture.md and its arrows here"
    )
    for name in imports_of(MODULES[module]):
        if name.partition(".")[0] in PACKAGES and room_of(name) not in ("", room):
            assert room_of(name) in MAY_IMPORT[room], f"{module} imports {name}; {room} may not"


@pytest.mark.parametrize("module", MODULES)
def test_a_library_from_outside_is_imported_by_its_package_alone(module):
    package = module.partition(".")[0]
    for name in imports_of(MODULES[module]):
        owners = ONLY.get(name.partition(".")[0], {package})
        assert package in owners, f"{module} imports {name}; only {sorted(owners)} may"


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module) in NO_TORCH])
def test_words_streams_control_files_and_safety_import_no_torch(module):
    found = {name for name in imports_of(MODULES[module]) if name.partition(".")[0] == "torch"}
    assert not found, f"{module} imports {sorted(found)}; {room_of(module)} runs where torch is not"


def test_an_arrow_that_points_up_is_found():
    assert "agent" not in MAY_IMPORT["memory"] and "wm_robot_sim" not in MAY_IMPORT["agent"]
    assert room_of("wm_robot.agent.agent.Agent") == "agent" and room_of("wm_robot_sim.batch.BatchSim") == SIM
    assert room_of("wm_robot_ros.nodes.agent_node.AgentNode") == "wm_robot_ros.nodes"


def test_only_the_gate_drives_a_plant():
    # Fault injection drives emulated motors past it, to show what then happens.
    may = {"wm_robot.safety.gated_robot", "wm_robot_benchmarks.fault_injection.value_faults"}
    for module, path in MODULES.items():
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        called = {n.func.attr for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)}
        assert "drive" not in called or module in may, f"{module} drives a plant; only GatedRobot may"


def test_only_the_arbiter_makes_a_supervisor():
    for module, path in MODULES.items():
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        made = {n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        may = module == "wm_robot.control.command_arbiter"
        assert "Supervisor" not in made or may, f"{module} decides modes by itself; only CommandArbiter may"


def circle_in(arrows: Mapping[str, set[str]]) -> list[str]:
    """A circle of arrows, as the rooms on the way; empty if there is none."""

    def below(room: str, way: tuple[str, ...]) -> list[str]:
        if room in way:
            return [*way, room]
        return next(filter(None, (below(other, (*way, room)) for other in sorted(arrows[room]))), [])

    # The order in which rooms without arrows fall away is cheaper than every way through them.
    left = {room: set(others) for room, others in arrows.items()}
    while free := [room for room, others in left.items() if not others & set(left)]:
        for room in free:
            del left[room]
    return below(next(iter(left)), ()) if left else []


def test_what_may_be_imported_has_no_circle():
    assert not circle_in(MAY_IMPORT)
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["a", "b", "c", "b"]


HELP = """
import sys; sys.argv = ['wm-robot', *{words}, '--help']
from wm_robot_cli.main import main
try: main()
except SystemExit as end: assert not end.code, end.code
"""


@pytest.mark.parametrize(
    ("code", "slowest"),
    [
        ("import wm_robot", SLOWEST_START),
        ("import wm_robot.sharing.signed_record, wm_robot.sharing.find_record", 2 * SLOWEST_START),
        ("import wm_robot.spec, wm_robot.types, wm_robot.tasks, wm_robot.math.kinematics", SLOWEST_START),
        (HELP.format(words=[]), SLOWEST_START),
        # It lists the benches, and so imports the module of each.
        (HELP.format(words=["bench"]), 2 * SLOWEST_START),
        (HELP.format(words=["bench", "recall"]), SLOWEST_START),
    ],
    ids=["import", "validation record", "words", "help", "help of all benches", "help of a bench"],
)
def test_the_core_starts_fast_and_light(code, slowest):
    report = "import sys; print('LOADED', *sys.modules)"
    seconds = []
    for _ in range(3):
        before = time_of_children()
        done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True)
        seconds.append(time_of_children() - before)
        assert done.returncode == 0, done.stderr
        if seconds[-1] < slowest:
            break
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert not loaded & (OUTSIDE | {"torch", "matplotlib", "onnxruntime"})
    # The processor's time, and the best of three, since other work may share the machine.
    assert min(seconds) < slowest, f"{min(seconds):.2f} s"


def time_of_children() -> float:
    """Processor time of those that ended, in s."""
    used = os.times()
    return used.children_user + used.children_system
