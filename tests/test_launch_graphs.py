"""The launch file and `wm-robot up` start the same nodes, since both read one graph."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

pytestmark = pytest.mark.ros

from wm_robot.errors import ConfigError
from wm_robot_ros.launching import launch_graph
from wm_robot_ros.launching.launch_graph import (
    LEAVE_TIME,
    RESTART_DELAYS,
    STEADY_TIME,
    LaunchGraph,
    find_graph,
    resolve_nodes,
)
from wm_robot_ros.middleware.environment import make_node_command

LAUNCH = Path(__file__).parents[1] / "launch"
LAUNCH_FILE = LAUNCH / "wm_robot.launch.py"
GRAPHS = sorted((LAUNCH / "graphs").glob("*.yaml"))
NODES = Path(__file__).parents[1] / "ros_ws/src/wm_robot_ros/wm_robot_ros/nodes"
IMPORTED = {
    "launch": ["LaunchDescription"],
    "launch.actions": [
        "DeclareLaunchArgument",
        "EmitEvent",
        "LogInfo",
        "OpaqueFunction",
        "RegisterEventHandler",
        "Shutdown",
        "TimerAction",
    ],
    "launch.events": ["matches_action"],
    "launch.substitutions": ["LaunchConfiguration"],
    "launch_ros.actions": ["LifecycleNode", "Node"],
    "launch_ros.event_handlers": ["OnStateTransition"],
    "launch_ros.events.lifecycle": ["ChangeState"],
    "launch_ros.parameter_descriptions": ["ParameterValue"],
}
"""All that the launch file imports from outside."""


class Said:
    """Stands for anything of launch, and keeps what it was made of."""

    return_code = None
    """Of a process: it runs."""

    def __init__(self, *given, **named):
        self.given, self.named = given, named

    def perform(self, context):
        return context[self.given[0]]


class Context(dict):
    """Arguments of a launch by name, and its clock."""

    def __init__(self, values=(), *, is_shutdown=False):
        super().__init__(values)
        self.is_shutdown, self.now = is_shutdown, 0.0
        self.asyncio_loop = types.SimpleNamespace(time=lambda: self.now)


@pytest.fixture
def launch(monkeypatch):
    """The launch file as a module, over a launch that only keeps what it is told."""
    for name, parts in IMPORTED.items():
        module = types.ModuleType(name)
        for part in parts:
            setattr(module, part, type(part, (Said,), {}))
        monkeypatch.setitem(sys.modules, name, module)
        if "." not in name:
            module.__path__ = []
    monkeypatch.setitem(sys.modules, "launch_ros", types.ModuleType("launch_ros"))

    def load(path=LAUNCH_FILE):
        spec = importlib.util.spec_from_file_location("launched", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def called(opaque, context):
    """What an `OpaqueFunction` returns."""
    return opaque.named["function"](context, *opaque.named.get("args", ()))


def described(module, *words):
    """What the launch file describes for a command line: declared arguments by name, and what opens the graph."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ros2", "launch", "wm_robot_bringup", LAUNCH_FILE.name, *words])
        (description,) = module.generate_launch_description().given
    *declared, opened = description
    return {one.given[0]: one.named for one in declared}, opened


def actions_of(module, graph, given):
    """What launch runs of a graph with arguments that another launch file or the command line gave."""
    *declared, begin = called(described(module)[1], Context({"graph": graph}))
    defaults = {one.given[0]: one.named["default_value"] for one in declared}
    return called(begin, Context(defaults | given))


def nodes_of(module, graph, given):
    """The nodes that start, with some arguments given."""
    actions = actions_of(module, graph, given)
    return [one for one in [*actions, *late(actions)] if type(one).__name__ in ("Node", "LifecycleNode")]


def late(actions):
    """What is started once all life cycles are up."""
    handlers = [one.given[0].named for one in actions if type(one).__name__ == "RegisterEventHandler"]
    return [
        entity for handler in handlers if handler["goal_state"] == "active" for entity in handler["entities"]
    ]


def plain(node):
    """A node of a launch file as `wm-robot up` would name it."""
    told = node.named
    (parameters,) = told["parameters"]
    return {
        "name": told["name"],
        "namespace": told["namespace"],
        "executable": told["executable"],
        "lifecycle": type(node).__name__ == "LifecycleNode",
        "parameters": {k: v.given[0] if isinstance(v, Said) else v for k, v in parameters.items()},
    }


GIVEN = {
    "sim": {"record": "session.mcap", "learning": "false", "seed": "7"},
    "robot": {"plant": "hardware", "namespace": "left"},
    "multi": {"robots": "one,two,three", "state_stores": "/states"},
    "adapt": {"steps": "100", "max_surprise_increase": "1"},
    "evaluate": {"references": "main,ten"},
    "replay": {"display": "false"},
    "shadow": {"namespace": "left", "seconds": "5", "record": "session.mcap"},
}


def test_every_graph_is_tried():
    assert sorted(GIVEN) == [path.stem for path in GRAPHS]


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.stem)
@pytest.mark.parametrize("given", [False, True], ids=["defaults", "given"])
def test_the_launch_file_starts_what_up_starts(path, given, launch):
    graph, asked = LaunchGraph.read(path), GIVEN[path.stem] if given else {}
    wanted = resolve_nodes(graph.nodes, graph.parse_values(asked))
    assert wanted
    found = [plain(node) for node in nodes_of(launch(), path.stem, asked)]
    ends = {node["name"] for node in wanted if node["ends"]}
    for node in wanted:
        # What a launch does with these shows when a node ends.
        del node["ends"], node["policy"], node["restarted_with"]
    # Those that end the graph come last; the others in the order of the file.
    assert found == sorted(wanted, key=lambda node: node["name"] in ends)


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.stem)
def test_the_arguments_of_the_graph_on_the_command_line_are_declared(path, launch):
    # `ros2 launch --show-args` lists what is declared, and runs nothing.
    declared, _ = described(launch(), f"graph:={path.stem}", "--show-args")
    assert "default_value" not in declared["graph"] and path.stem in declared.pop("graph")["description"]
    graph = LaunchGraph.read(path)
    assert {name: told["description"] for name, told in declared.items()} == {
        each.name: each.about for each in graph.arguments
    }
    texts = {name: told["default_value"] for name, told in declared.items()}
    assert graph.parse_values(texts) == {each.name: each.default for each in graph.arguments}


def test_without_a_graph_on_the_command_line_its_argument_alone_is_declared(launch, monkeypatch):
    module = launch()
    declared, opened = described(module)
    assert set(declared) == {"graph"} and all(
        path.stem in declared["graph"]["description"] for path in GRAPHS
    )
    # A launch file that includes this one names the graph in the context; the command line is its own.
    monkeypatch.setattr(sys, "argv", ["ros2", "launch", "mine", "mine.launch.py", "graph:=none", "x:=1"])
    (description,) = module.generate_launch_description().given
    assert len(description) == 2
    *declared, _ = called(opened, Context({"graph": "sim"}))
    assert [one.given[0] for one in declared] == [
        each.name for each in LaunchGraph.read(find_graph("sim")).arguments
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["graph:=simm"], r"no graph 'simm'. Did you mean 'sim'\?"),
        (["graph:=sim", "lerning:=true"], r"lerning:=true: .*Did you mean 'learning'\?"),
        (["graph:=sim", "seed:=many"], "seed:=many: .* Write seed:=0"),
    ],
)
def test_what_cannot_be_launched_is_refused_before_anything_starts(words, told, launch):
    with pytest.raises(ConfigError, match=told):
        described(launch(), *words)


def test_a_graph_may_be_a_file(launch, tmp_path):
    shutil.copy(find_graph("adapt"), tmp_path / "mine.yaml")
    nodes = nodes_of(launch(), f"{tmp_path / 'mine.yaml'}", {})
    assert [node.named["name"] for node in nodes] == ["plant", "agent", "action_client"]


def test_the_launch_file_runs_from_another_folder(launch, tmp_path):
    # As installed: in a package that has no graphs of its own.
    shutil.copy(LAUNCH_FILE, tmp_path)
    nodes = nodes_of(launch(tmp_path / LAUNCH_FILE.name), "sim", {})
    assert [node.named["name"] for node in nodes] == ["plant", "agent", "display"]


def test_the_launch_file_is_the_only_one():
    assert list(LAUNCH.rglob("*.py")) == [LAUNCH_FILE]


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.stem)
def test_life_cycles_come_up_one_after_another_and_a_failure_ends_all(path, launch):
    actions = actions_of(launch(), path.stem, GIVEN[path.stem])
    cycles = [one for one in actions if type(one).__name__ == "LifecycleNode"]
    handlers = [one.given[0].named for one in actions if type(one).__name__ == "RegisterEventHandler"]
    asked = [
        one.named["event"].named["transition_id"] for one in actions if type(one).__name__ == "EmitEvent"
    ]
    # At the beginning one is configured, the first.
    assert asked == [1] and cycles
    for cycle in cycles:
        own = {
            (h["start_state"], h["goal_state"]): h["entities"]
            for h in handlers
            if h["target_lifecycle_node"] is cycle
        }
        (activate,) = own["configuring", "inactive"]
        assert activate.named["event"].named["transition_id"] == 3
        for failure in (("configuring", "unconfigured"), ("activating", "inactive")):
            (failed,) = own[failure]
            with pytest.raises(RuntimeError, match="could not be configured or activated"):
                failed.named["function"](None, *failed.named["args"])
            # What is started in its place may fail alone.
            cycle.return_code = -9
            assert failed.named["function"](None, *failed.named["args"]) == []
            cycle.return_code = None
    for cycle, following in zip(cycles, cycles[1:], strict=False):
        (configure,) = next(
            h["entities"]
            for h in handlers
            if h["target_lifecycle_node"] is cycle and h["goal_state"] == "active"
        )
        assert configure.named["event"].named["transition_id"] == 1
        assert configure.named["event"].named["lifecycle_node_matcher"].given == (following,)


def test_only_who_may_end_ends_a_launch_well(launch):
    nodes = nodes_of(launch(), "replay", {})
    exits = {node.named["name"]: node.named["on_exit"] for node in nodes}

    def end(name, code, *, ending=False):
        return exits[name](types.SimpleNamespace(returncode=code), Context(is_shutdown=ending))

    (done,) = end("replay", 0)
    assert type(done).__name__ == "Shutdown" and done.named["reason"] == "replay is done"
    for name, code in (("replay", 1), ("agent", 0), ("agent", -9)):
        with pytest.raises(RuntimeError, match=f"{name} ended with exit code {code}"):
            end(name, code)
        # Two ends of one launch would be an error of their own.
        assert end(name, code, ending=True) == []


def test_without_an_optional_node_a_launch_goes_on(launch):
    nodes = nodes_of(launch(), "sim", {})
    display = next(node for node in nodes if node.named["name"] == "display")
    (told,) = display.named["on_exit"](types.SimpleNamespace(returncode=-9), Context())
    assert type(told).__name__ == "LogInfo"
    assert told.named["msg"] == "display ended with exit code -9. It is optional: the other nodes continue"


def test_a_launch_starts_a_restarted_node_again_and_brings_its_life_cycle_up(launch):
    given = {"robots": "left,right", "state_stores": "/states"}
    nodes = nodes_of(launch(), "multi", given)
    agent = next(node for node in nodes if node.named["name"] == "agent")
    context, waits = Context(), []
    while True:
        told, *timers = agent.named["on_exit"](types.SimpleNamespace(returncode=1), context)
        if not timers:
            break
        waits.append(timers[0].named["period"])
        (again,) = timers[0].named["actions"]
        *handlers, agent, configure = called(again, context)
        assert (
            plain(agent)["parameters"]["save_to"] == "/states/left"
            and plain(agent)["parameters"]["resume"] is True
        )
        assert (
            type(agent).__name__ == "LifecycleNode" and configure.named["event"].named["transition_id"] == 1
        )
        # It is activated once it is configured. Nothing follows that, and nothing ends where it fails.
        (activate,) = (handler.given[0].named for handler in handlers)
        assert (activate["start_state"], activate["goal_state"]) == ("configuring", "inactive")
        assert activate["entities"][0].named["event"].named["transition_id"] == 3
    assert waits == list(RESTART_DELAYS)
    assert "7 times. It is not restarted; the other nodes continue" in told.named["msg"]
    # One that worked for a minute has the first wait before it again.
    context.now = STEADY_TIME + 1
    _, timer = agent.named["on_exit"](types.SimpleNamespace(returncode=1), context)
    assert timer.named["period"] == RESTART_DELAYS[0]
    # What it refuses at its first start, the user is to mend.
    with pytest.raises(RuntimeError, match="agent ended with exit code 2"):
        nodes_of(launch(), "multi", given)[2].named["on_exit"](types.SimpleNamespace(returncode=2), Context())
    # The services of one that was killed seem to be there for a while, and answer nobody.
    _, timer = agent.named["on_exit"](types.SimpleNamespace(returncode=-9), context)
    assert timer.named["period"] == LEAVE_TIME


def test_every_process_of_a_graph_has_a_policy():
    found = {
        (path.stem, node["executable"]): "ends" if node.get("ends") else node["policy"]
        for path in GRAPHS
        for node in LaunchGraph.read(path).nodes
    }
    viewers = {kind for (_, executable), kind in found.items() if executable == "display_node"}
    recorders = {kind for (_, executable), kind in found.items() if executable == "recorder_node"}
    assert viewers == {"optional"} and recorders == {"restarted"}
    # One robot of several never ends the others; a robot that is alone ends with its agent.
    assert found["multi", "plant_node"] == found["multi", "agent_node"] == "restarted"
    for graph in ("sim", "robot"):
        assert found[graph, "plant_node"] == found[graph, "agent_node"] == "required"


def test_the_launch_file_imports_launch_and_the_reader_of_graphs_alone():
    lines = LAUNCH_FILE.read_text(encoding="utf-8").splitlines()
    imports = {line.split()[1] for line in lines if line.startswith(("import ", "from "))}
    assert imports == {*IMPORTED, "sys", "pathlib", "wm_robot_ros.launching.launch_graph"}


def test_the_reader_of_graphs_is_light():
    # Arguments are listed at once, and where neither simulator nor torch is installed.
    code = "import sys, wm_robot_ros.launching.launch_graph; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"numpy", "torch", "mujoco", "rclpy", "onnxruntime", "wm_robot_sim"}
    assert not heavy & set(done.stdout.split())


def test_the_ros_packages_install_the_launch_file_and_the_graphs(monkeypatch):
    installed = {}
    monkeypatch.setattr("setuptools.setup", lambda **told: installed.update(told["data_files"]))
    for package in ("wm_robot_bringup", "wm_robot_ros"):
        monkeypatch.chdir(LAUNCH.parent / "ros_ws/src" / package)
        spec = importlib.util.spec_from_file_location(f"setup_of_{package}", "setup.py")
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    (launched,) = installed["share/wm_robot_bringup/launch"]
    assert Path(launched).name == LAUNCH_FILE.name
    graphs = installed["share/wm_robot_ros/launch/graphs"]
    assert sorted(Path(path).name for path in graphs) == [path.name for path in GRAPHS]


def test_graphs_are_found_in_a_workspace_that_colcon_built(tmp_path):
    module = Path(launch_graph.__file__)
    package = tmp_path / "lib/python3.12/site-packages/wm_robot_ros"
    shutil.copytree(module.parents[1], package, ignore=shutil.ignore_patterns("__pycache__"))
    # Where the setup.py of the package puts them.
    shutil.copytree(LAUNCH / "graphs", tmp_path / "share/wm_robot_ros/launch/graphs")
    code = "from wm_robot_ros.launching.launch_graph import find_graph; print(find_graph('sim'))"
    path = os.pathsep.join([f"{package.parent}", *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == f"{tmp_path}/share/wm_robot_ros/launch/graphs/sim.yaml"


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.stem)
def test_every_node_is_there_and_has_the_parameters_that_it_is_given(path):
    setup = (NODES.parents[1] / "setup.py").read_text(encoding="utf-8")
    modules = dict(re.findall(r'"(\w+) = wm_robot_ros\.nodes\.(\w+):main"', setup))
    for node in LaunchGraph.read(path).nodes:
        source = (NODES / f"{modules[node['executable']]}.py").read_text(encoding="utf-8")
        for part in ("command_subscription", "agent_parameters", "learned_mode_check"):
            if f"nodes.{part} import" in source:
                source += (NODES / f"{part}.py").read_text(encoding="utf-8")
        for name in [*node["parameters"], *node.get("restarted_with", ())]:
            assert f'"{name}"' in source, f"{node['executable']} has no parameter '{name}'"


def test_text_becomes_what_the_default_is():
    graph = LaunchGraph.read(find_graph("sim"))
    values = graph.parse_values({"learning": "False", "seed": "12", "world": '{"payload": 0.2}'})
    assert values["learning"] is False and values["seed"] == 12 and values["world"] == '{"payload": 0.2}'
    (plant, agent, *_) = resolve_nodes(graph.nodes, values)
    command = make_node_command("plant_node", plant["parameters"], namespace="left", name="plant")
    assert "seed:=12" in command and r'world:="{\"payload\": 0.2}"' in command and "__node:=plant" in command
    assert agent["parameters"]["learning"] is False


@pytest.mark.parametrize(
    ("graph", "given", "mended"),
    [
        ("sim", "learning:=maybe", "learning:=true"),
        ("sim", "seed:=many", "seed:=0"),
        ("sim", "seed:=1.5", "seed:=0"),
        ("sim", "seed:=-1", "seed:=0"),
        ("sim", "seed:=99999999999999999999", "seed:=0"),
        ("adapt", "max_surprise_increase:=nan", "max_surprise_increase:=0.5"),
        ("adapt", "steps:=0", "steps:=1500"),
        ("robot", "plant:=real", "plant:=sim"),
        ("robot", "command:=", "command:=joint_trajectory"),
        ("sim", "namespace:=my robot", "namespace:=my_robot"),
        ("sim", "namespace:=left,right", "namespace:=left_right"),
        ("sim", "namespace:=7of9/größe", "namespace:=_7of9/gr__e"),
        ("multi", "robots:=left,2nd", "robots:=left,_2nd"),
        ("multi", "robots:=left,,right", "robots:=left,robot,right"),
        ("multi", "robots:=left,left", "robots:=left1,left2"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_one_that_can(graph, given, mended):
    found = LaunchGraph.read(find_graph(graph))
    with pytest.raises(ConfigError) as refused:
        found.parse_values(dict([given.split(":=")]))
    assert f"{refused.value}".startswith(f"{given}: ") and f"Write {mended}" in f"{refused.value}"
    found.parse_values(dict([mended.split(":=")]))


def test_an_unknown_argument_is_refused_with_the_one_that_is_meant():
    with pytest.raises(ConfigError, match=r"lerning:=true: .*Did you mean 'learning'\?") as refused:
        LaunchGraph.read(find_graph("sim")).parse_values({"lerning": "true"})
    assert f"{refused.value}".endswith("See: wm-robot up sim --show-args")


def test_a_graph_without_namespaces_may_have_an_argument_of_that_name():
    graph = LaunchGraph.read(find_graph("evaluate"))
    *_, ask = resolve_nodes(graph.nodes, graph.parse_values({"namespace": "adaptive"}))
    assert ask["namespace"] == "" and ask["parameters"]["robot"] == "adaptive"


def test_a_recorder_hears_the_robot_in_its_namespace():
    graph = LaunchGraph.read(find_graph("sim"))
    *_, recorder = resolve_nodes(
        graph.nodes, graph.parse_values({"namespace": "left", "record": "session.mcap"})
    )
    assert recorder["executable"] == "recorder_node" and recorder["parameters"]["robots"] == "left"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "about: x\narguments: {}\nnodes: [{name: a, executable: b, parameters: {c: $(d)}}]",
            r"\$\(d\) is not an argument",
        ),
        ("about: x\narguments: {}\nnodes: [{name: a, executable: b, colour: red}]", "colour"),
        ("about: x\narguments: {}\nnodes: [{name: a}]", "lacks"),
        ("about: x\narguments: {}\nnodes: [{name: a, executable: b, policy: maybe}]", "policy 'maybe'"),
        (
            "about: x\narguments: {}\nnodes: [{name: a, executable: b, policy: optional, ends: true}]",
            "ends the graph",
        ),
        (
            "about: x\narguments: {}\nnodes: [{name: a, executable: b, restarted_with: {c: 1}}]",
            "Add policy: restarted",
        ),
        ("about: x\narguments: {a: {default: 1, about: y, most: 3}}\nnodes: []", "has \\['most'\\]"),
        ("about: x\narguments: {a: {default: b, about: y, names: cat}}\nnodes: []", "names 'cat'"),
        ("about: [", "is not a launch graph"),
        ("about: x", "is not a launch graph"),
        ("- 1", "is not a launch graph"),
    ],
)
def test_a_file_that_is_no_graph_is_refused(tmp_path, text, told):
    (tmp_path / "graph.yaml").write_text(text)
    with pytest.raises(ConfigError, match=told):
        LaunchGraph.read(tmp_path / "graph.yaml")


def test_an_unknown_graph_is_refused_with_those_that_are():
    with pytest.raises(ConfigError, match=r"'simm'\. Did you mean 'sim'\? There are adapt.*sim"):
        find_graph("simm")
