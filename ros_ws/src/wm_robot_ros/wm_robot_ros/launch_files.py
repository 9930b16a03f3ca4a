"""`python -m wm_robot_ros.launch_files`: write launch/*.launch.py anew, from launch/graphs/*.yaml.

What runs together is said once, in the graph. A launch file holds it as a table, and loads what reads it from the
file beside it, which imports nothing but launch and launch_ros: so it runs from a checkout and installed, and its
arguments are listed at once.
"""

import sys
from functools import reduce
from pathlib import Path
from pprint import pformat
from typing import Any

from wm_robot_ros.graph import FOLDERS, Graph, resolver

PACKAGE = "wm_robot_ros"
BESIDE = "bring_up"
"""Module that all launch files load."""
WIDTH = 108

FILE = '''"""{about}

Made from graphs/{name}.yaml by `python -m wm_robot_ros.launch_files`: change it there.
"""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

ARGUMENTS = {arguments}
NODES = {nodes}


def generate_launch_description():
    # The file beside this one, from a checkout as from an installed package.
    spec = spec_from_file_location("{shared}", Path(__file__).with_name("{shared}.py"))
    {shared} = module_from_spec(spec)
    spec.loader.exec_module({shared})
    return {shared}.description_of(ARGUMENTS, NODES)
'''
SHARED = '''"""What every launch file here does with its table: arguments, nodes, and life cycles one after another.

Made by `python -m wm_robot_ros.launch_files`: change it there.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler, Shutdown
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue

CONFIGURE, ACTIVATE = 1, 3
"""Numbers of lifecycle_msgs/msg/Transition."""


def description_of(arguments, nodes):
    """What launch runs: arguments as (name, default, what it is), nodes as the graph has them."""
    declared = [DeclareLaunchArgument(n, default_value=text(d), description=a) for n, d, a in arguments]
    begin = OpaqueFunction(function=lambda context: start(context, arguments, nodes))
    return LaunchDescription([*declared, begin])


def text(default):
    return str(default).lower() if isinstance(default, bool) else str(default)


{resolver}

def action_of(node):
    """A node as launch starts it."""
    kind = LifecycleNode if node["lifecycle"] else Node
    return kind(
        package="{package}",
        executable=node["executable"],
        name=node["name"],
        namespace=node["namespace"],
        parameters=[{{name: as_parameter(value) for name, value in node["parameters"].items()}}],
        output="screen",
        # An agent saves its life before it ends.
        sigterm_timeout="15",
        on_exit=lambda event, context: ended(node, event, context),
    )


def ended(node, event, context):
    """A node that ends by itself ends all, as a failure unless it is the one that may and did it well."""
    if context.is_shutdown:
        return []
    if node["ends"] and event.returncode == 0:
        return [Shutdown(reason=f"{{node['name']}} is done")]
    fail(context, f"{{node['name']}} ended with exit code {{event.returncode}}")


def fail(context, reason):
    """What it catches launch shuts down for, and exits with 1; after a mere `Shutdown` it would be a success."""
    raise RuntimeError(reason)


def as_parameter(value):
    """Text stays text, whatever it looks like: a world in JSON is no mapping."""
    return ParameterValue(value, value_type=str) if isinstance(value, str) else value


def transition(action, number):
    return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(action), transition_id=number))


def start(context, arguments, table):
    """Start all, bring life cycles up one after another, and then start what ends the graph."""
    values = {{name: as_kind(LaunchConfiguration(name).perform(context), like) for name, like, _ in arguments}}
    nodes = [(node, action_of(node)) for node in resolved(table, values)]
    first = [action for node, action in nodes if not node["ends"]]
    last = [action for node, action in nodes if node["ends"]]
    cycles = [action for node, action in nodes if node["lifecycle"]]
    handlers = []
    for action, following in zip(cycles, [*cycles[1:], None]):
        after = last if following is None else [transition(following, CONFIGURE)]
        failed = OpaqueFunction(function=fail, args=["a node could not be brought up; its log says why"])
        steps = (
            # Named by both ends, or a node that is deactivated would be activated again.
            ("configuring", "inactive", [transition(action, ACTIVATE)]),
            ("activating", "active", after),
            ("configuring", "unconfigured", [failed]),
            ("activating", "inactive", [failed]),
        )
        for before, goal, then in steps:
            if then:
                watched = dict(target_lifecycle_node=action, start_state=before, goal_state=goal, entities=then)
                handlers.append(RegisterEventHandler(OnStateTransition(**watched)))
    begin = [transition(cycles[0], CONFIGURE)] if cycles else last
    return [*handlers, *first, *begin]
'''


def launch_file(name: str, graph: Graph) -> str:
    """The launch file of a graph."""
    arguments = [(each.name, each.default, each.about) for each in graph.arguments]
    return FILE.format(
        about=graph.about,
        name=name,
        arguments=_literal(arguments),
        nodes=_literal([dict(node) for node in graph.nodes]),
        shared=BESIDE,
    )


def shared_file() -> str:
    """What launch files have in common."""
    untyped = (" -> Any", " -> list[dict[str, Any]]", ": Any")
    return SHARED.format(
        package=PACKAGE, resolver=reduce(lambda source, hint: source.replace(hint, ""), untyped, resolver())
    )


def files(folder: Path) -> dict[Path, str]:
    """Each file of a folder of launch files, as it should be."""
    return {folder / f"{BESIDE}.py": shared_file()} | {
        folder / f"{path.stem}.launch.py": launch_file(path.stem, Graph.read(path))
        for path in sorted((folder / "graphs").glob("*.yaml"))
    }


def _literal(value: Any) -> str:
    return pformat(value, width=WIDTH, sort_dicts=False)


def main() -> None:
    for path, source in files(FOLDERS[0].parent).items():
        path.write_text(source, encoding="utf-8")
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
