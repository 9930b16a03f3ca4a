"""Launch files and `wm-robot up` start the same nodes, since both come from one description."""

import importlib.util
import shutil
import sys
import types
from pathlib import Path

import pytest

pytestmark = pytest.mark.ros

from wm_robot.errors import ConfigError
from wm_robot_ros.launching.launch_files import files
from wm_robot_ros.launching.launch_graph import DELAYS, LEASE, STEADY, Graph, find, resolved
from wm_robot_ros.middleware.environment import node_command

LAUNCH = Path(__file__).parents[1] / "launch"
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
"""All that the file beside the launch files imports; they themselves import what loads it."""


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
    """A launch file as a module, over a launch that only keeps what it is told."""
    for name, parts in IMPORTED.items():
        module = types.ModuleType(name)
        for part in parts:
            setattr(module, part, type(part, (Said,), {}))
        monkeypatch.setitem(sys.modules, name, module)
        if "." not in name:
            module.__path__ = []
    monkeypatch.setitem(sys.modules, "launch_ros", types.ModuleType("launch_ros"))

    def load(path):
        spec = importlib.util.spec_from_file_location("launched", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def said_by(module, given):
    """Arguments with their defaults, and the nodes that start with some of them given."""
    (description,) = module.generate_launch_description().given
    *declared, begin = description
    defaults = {one.given[0]: one.named["default_value"] for one in declared}
    actions = begin.named["function"](Context(defaults | given))
    nodes = [one for one in [*actions, *late(actions)] if type(one).__name__ in ("Node", "LifecycleNode")]
    return {one.given[0]: one.named for one in declared}, nodes


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
    "multi": {"robots": "one,two,three", "lives": "/lives"},
    "adapt": {"steps": "100", "allowed": "1"},
    "evaluate": {"lives": "main,ten"},
    "replay": {"display": "false"},
}


def test_every_graph_is_tried():
    assert sorted(GIVEN) == [path.stem for path in GRAPHS]


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.stem)
@pytest.mark.parametrize("given", [False, True], ids=["defaults", "given"])
def test_a_launch_file_starts_what_up_starts(path, given, launch):
    graph, asked = Graph.read(path), GIVEN[path.stem] if given else {}
    arguments, nodes = said_by(launch(LAUNCH / f"{path.stem}.launch.py"), asked)
    assert {name: told["description"] for name, told in arguments.items()} == {
        each.name: each.about for each in graph.arguments
    }
    wanted = resolved(graph.nodes, graph.values(asked))
    assert wanted
    found = [plain(node) for node in nodes]
    ends = {node["name"] for node in wanted if node["ends"]}
    for node in wanted:
        # What a launch does with these shows when a node ends.
        del node["ends"], node["policy"], node["restarted_with"]
    # Those that end the graph come last; the others in the order of the file.
    assert found == sorted(wanted, key=lambda node: node["name"] in ends)


def test_launch_files_are_those_that_the_graphs_make():
    made, again = files(LAUNCH), "run: python -m wm_robot_ros.launching.launch_files"
    assert set(made) == set(LAUNCH.glob("*.py"))
    for path, source in made.items():
        assert path.read_text(encoding="utf-8") == source, again


def test_a_launch_file_runs_from_another_folder(launch, tmp_path):
    # As installed: copied, and without anything of ours that could be imported.
    for path in LAUNCH.glob("*.py"):
        shutil.copy(path, tmp_path)
    _, nodes = said_by(launch(tmp_path / "sim.launch.py"), {})
    assert [node.named["name"] for node in nodes] == ["plant", "agent", "display"]


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.stem)
def test_life_cycles_come_up_one_after_another_and_a_failure_ends_all(path, launch):
    module = launch(LAUNCH / f"{path.stem}.launch.py")
    (description,) = module.generate_launch_description().given
    defaults = {one.given[0]: one.named["default_value"] for one in description[:-1]}
    actions = description[-1].named["function"](Context(defaults | GIVEN[path.stem]))
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
            with pytest.raises(RuntimeError, match="could not be brought up"):
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
    _, nodes = said_by(launch(LAUNCH / "replay.launch.py"), {})
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
    _, nodes = said_by(launch(LAUNCH / "sim.launch.py"), {})
    display = next(node for node in nodes if node.named["name"] == "display")
    (told,) = display.named["on_exit"](types.SimpleNamespace(returncode=-9), Context())
    assert type(told).__name__ == "LogInfo"
    assert told.named["msg"] == "display ended with exit code -9. It is optional: the others go on"


def test_a_launch_starts_a_restarted_node_again_and_brings_its_life_cycle_up(launch):
    given = {"robots": "left,right", "lives": "/lives"}
    _, nodes = said_by(launch(LAUNCH / "multi.launch.py"), given)
    agent = next(node for node in nodes if node.named["name"] == "agent")
    context, waits = Context(), []
    while True:
        told, *timers = agent.named["on_exit"](types.SimpleNamespace(returncode=1), context)
        if not timers:
            break
        waits.append(timers[0].named["period"])
        (again,) = timers[0].named["actions"]
        *handlers, agent, configure = again.named["function"](context)
        assert (
            plain(agent)["parameters"]["state"] == "/lives/left"
            and plain(agent)["parameters"]["resume"] is True
        )
        assert (
            type(agent).__name__ == "LifecycleNode" and configure.named["event"].named["transition_id"] == 1
        )
        # It is activated once it is configured. Nothing follows that, and nothing ends where it fails.
        (activate,) = (handler.given[0].named for handler in handlers)
        assert (activate["start_state"], activate["goal_state"]) == ("configuring", "inactive")
        assert activate["entities"][0].named["event"].named["transition_id"] == 3
    assert waits == list(DELAYS)
    assert "7 times. It is not started again; the others go on" in told.named["msg"]
    # One that worked for a minute has the first wait before it again.
    context.now = STEADY + 1
    _, timer = agent.named["on_exit"](types.SimpleNamespace(returncode=1), context)
    assert timer.named["period"] == DELAYS[0]
    # What it refuses at its first start, the user is to mend.
    with pytest.raises(RuntimeError, match="agent ended with exit code 2"):
        said_by(launch(LAUNCH / "multi.launch.py"), given)[1][2].named["on_exit"](
            types.SimpleNamespace(returncode=2), Context()
        )
    # The services of one that was killed seem to be there for a while, and answer nobody.
    _, timer = agent.named["on_exit"](types.SimpleNamespace(returncode=-9), context)
    assert timer.named["period"] == LEASE


def test_every_process_of_a_graph_has_a_policy():
    found = {
        (path.stem, node["executable"]): "ends" if node.get("ends") else node["policy"]
        for path in GRAPHS
        for node in Graph.read(path).nodes
    }
    viewers = {kind for (_, executable), kind in found.items() if executable == "display_node"}
    recorders = {kind for (_, executable), kind in found.items() if executable == "recorder_node"}
    assert viewers == {"optional"} and recorders == {"restarted"}
    # One robot of several never ends the others; a robot that is alone ends with its agent.
    assert found["multi", "plant_node"] == found["multi", "agent_node"] == "restarted"
    for graph in ("sim", "robot"):
        assert found[graph, "plant_node"] == found[graph, "agent_node"] == "required"


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.py")), ids=lambda path: path.name)
def test_a_launch_file_imports_launch_and_launch_ros_alone(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    imports = {line.split()[1] for line in lines if line.strip().startswith(("import ", "from "))}
    if path.name.endswith(".launch.py"):
        assert imports == {"importlib.util", "pathlib"}
    else:
        assert imports == set(IMPORTED)


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.stem)
def test_every_node_is_there_and_has_the_parameters_that_it_is_given(path):
    for node in Graph.read(path).nodes:
        source = (NODES / f"{node['executable']}.py").read_text(encoding="utf-8")
        if "CommandConfig.declare" in source:
            # What every plant has.
            source += (NODES / "command_subscription.py").read_text(encoding="utf-8")
        for name in [*node["parameters"], *node.get("restarted_with", ())]:
            assert f'"{name}"' in source, f"{node['executable']} has no parameter '{name}'"
        setup = (NODES.parents[1] / "setup.py").read_text(encoding="utf-8")
        assert f'"{node["executable"]} = wm_robot_ros.nodes.{node["executable"]}:main"' in setup


def test_text_becomes_what_the_default_is():
    graph = Graph.read(find("sim"))
    values = graph.values({"learning": "False", "seed": "12", "world": '{"payload": 0.2}'})
    assert values["learning"] is False and values["seed"] == 12 and values["world"] == '{"payload": 0.2}'
    (plant, agent, *_) = resolved(graph.nodes, values)
    command = node_command("plant_node", plant["parameters"], namespace="left", name="plant")
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
        ("adapt", "allowed:=nan", "allowed:=0.5"),
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
    found = Graph.read(find(graph))
    with pytest.raises(ConfigError) as refused:
        found.values(dict([given.split(":=")]))
    assert f"{refused.value}".startswith(f"{given}: ") and f"Write {mended}" in f"{refused.value}"
    found.values(dict([mended.split(":=")]))


def test_an_unknown_argument_is_refused_with_the_one_that_is_meant():
    with pytest.raises(ConfigError, match=r"lerning:=true: .*Did you mean 'learning'\?") as refused:
        Graph.read(find("sim")).values({"lerning": "true"})
    assert f"{refused.value}".endswith("See: wm-robot up sim --show-args")


def test_a_graph_without_namespaces_may_have_an_argument_of_that_name():
    graph = Graph.read(find("evaluate"))
    *_, ask = resolved(graph.nodes, graph.values({"namespace": "adaptive"}))
    assert ask["namespace"] == "" and ask["parameters"]["robot"] == "adaptive"


def test_a_recorder_hears_the_robot_in_its_namespace():
    graph = Graph.read(find("sim"))
    *_, recorder = resolved(graph.nodes, graph.values({"namespace": "left", "record": "session.mcap"}))
    assert recorder["executable"] == "recorder_node" and recorder["parameters"]["robots"] == "left"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "about: x\narguments: {}\nnodes: [{name: a, executable: b, parameters: {c: $(d)}}]",
            r"\$\(d\) is no argument",
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
        ("about: [", "is no graph"),
        ("about: x", "is no graph"),
        ("- 1", "is no graph"),
    ],
)
def test_a_file_that_is_no_graph_is_refused(tmp_path, text, told):
    (tmp_path / "graph.yaml").write_text(text)
    with pytest.raises(ConfigError, match=told):
        Graph.read(tmp_path / "graph.yaml")


def test_an_unknown_graph_is_refused_with_those_that_are():
    with pytest.raises(ConfigError, match=r"'simm'\. Did you mean 'sim'\? There are adapt.*sim"):
        find("simm")
