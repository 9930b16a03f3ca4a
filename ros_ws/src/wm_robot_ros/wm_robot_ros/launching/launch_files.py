"""`python -m wm_robot_ros.launching.launch_files`: write launch/*.launch.py anew, from launch/graphs/*.yaml.

What runs together is said once, in the graph. A launch file holds it as a table, and loads what reads it from the
file beside it, which imports nothing but launch and launch_ros: so it runs from a checkout and installed, and its
arguments are listed at once.
"""

import sys
from functools import reduce
from pathlib import Path
from pprint import pformat
from typing import Any

from wm_robot_ros.launching.launch_graph import DELAYS, FOLDERS, LEASE, STEADY, Graph, resolver

PACKAGE = "wm_robot_ros"
BESIDE = "bring_up"
"""Module that all launch files load."""
WIDTH = 108

FILE = '''"""{about}

Made from graphs/{name}.yaml by `python -m wm_robot_ros.launching.launch_files`: change it there.
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

Made by `python -m wm_robot_ros.launching.launch_files`: change it there.
"""

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
    TimerAction,
)
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue

CONFIGURE, ACTIVATE = 1, 3
"""Numbers of lifecycle_msgs/msg/Transition."""
MISTAKE = 2
"""Exit code of a node that ended for what the user can mend: at its first start that ends all."""
DELAYS = {delays}
"""Waits before a node is started again, in s; each end of it takes the next, and after the last it stays down."""
LEASE = {lease}
"""Time after which a node that was killed has left the ROS graph, in s: until then its services seem to be there."""
STEADY = {steady}
"""A node that ran for so long, in s, has the first of these waits before it again."""


def description_of(arguments, nodes):
    """What launch runs: arguments as (name, default, what it is, rules), nodes as the graph has them."""
    declared = [DeclareLaunchArgument(n, default_value=text(d), description=a) for n, d, a, _ in arguments]
    begin = OpaqueFunction(function=lambda context: start(context, arguments, nodes))
    return LaunchDescription([*declared, begin])


def text(default):
    return str(default).lower() if isinstance(default, bool) else str(default)


{resolver}

def action_of(context, node, failures=0):
    """A node as launch starts it; `failures`: how often in a row it has ended before."""
    began = context.asyncio_loop.time()
    kind = LifecycleNode if node["lifecycle"] else Node
    extra = node["restarted_with"] if failures else {{}}
    return kind(
        package="{package}",
        executable=node["executable"],
        name=node["name"],
        namespace=node["namespace"],
        parameters=[{{name: as_parameter(value) for name, value in {{**node["parameters"], **extra}}.items()}}],
        output="screen",
        # An agent saves its life before it ends.
        sigterm_timeout="15",
        on_exit=lambda event, context: ended(node, event, context, failures, began),
    )


def ended(node, event, context, failures, began):
    """What the end of a node means: all end, or it is started again, or the others go on without it."""
    if context.is_shutdown:
        return []
    if node["ends"] and event.returncode == 0:
        return [Shutdown(reason=f"{{node['name']}} is done")]
    told = f"{{node['name']}} ended with exit code {{event.returncode}}"
    if node["policy"] == "optional":
        return [LogInfo(msg=f"{{told}}. It is optional: the others go on")]
    if context.asyncio_loop.time() - began > STEADY:
        failures = 0
    elif node["policy"] == "restarted" and not failures and event.returncode == MISTAKE:
        fail(context, told)
    if node["policy"] == "restarted" and failures < len(DELAYS):
        again = OpaqueFunction(function=lambda context: restart(context, node, failures + 1))
        killed = node["lifecycle"] and event.returncode < 0
        delay = max(DELAYS[failures], LEASE) if killed else DELAYS[failures]
        said = LogInfo(msg=f"{{told}}. It is started again in {{delay:g}} s; the others go on")
        return [said, TimerAction(period=delay, actions=[again])]
    if node["policy"] == "restarted":
        return [LogInfo(msg=f"{{told}}, {{failures + 1}} times. It is not started again; the others go on")]
    fail(context, told)


def restart(context, node, failures):
    """A node that ended, once more, with its life cycle."""
    action = action_of(context, node, failures)
    if not node["lifecycle"]:
        return [action]
    return [*bring_up(action, []), action, transition(action, CONFIGURE)]


def fail(context, reason):
    """What it catches launch shuts down for, and exits with 1; after a mere `Shutdown` it would be a success."""
    raise RuntimeError(reason)


def fail_first(context, action):
    """A node was not brought up; but it may be one that was started in its place."""
    if action.return_code is None:
        fail(context, "a node could not be brought up; its log says why")
    return []


def as_parameter(value):
    """Text stays text, whatever it looks like: a world in JSON is no mapping."""
    return ParameterValue(value, value_type=str) if isinstance(value, str) else value


def transition(action, number):
    return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(action), transition_id=number))


def bring_up(action, after, *failed):
    """What follows a node's transitions: it is activated, and then comes what is to come after it."""
    steps = (
        # Named by both ends, or a node that is deactivated would be activated again.
        ("configuring", "inactive", [transition(action, ACTIVATE)]),
        ("activating", "active", after),
        ("configuring", "unconfigured", failed),
        ("activating", "inactive", failed),
    )
    handlers = []
    for before, goal, then in steps:
        if then:
            watched = dict(target_lifecycle_node=action, start_state=before, goal_state=goal, entities=[*then])
            # Once: who is started in its place has its name, and handlers of its own.
            handlers.append(RegisterEventHandler(OnStateTransition(**watched, handle_once=True)))
    return handlers


def start(context, arguments, table):
    """Start all, bring life cycles up one after another, and then start what ends the graph."""
    values = {{n: value_of(n, LaunchConfiguration(n).perform(context), d, rules) for n, d, _, rules in arguments}}
    nodes = [(node, action_of(context, node)) for node in resolved(table, values)]
    first = [action for node, action in nodes if not node["ends"]]
    last = [action for node, action in nodes if node["ends"]]
    cycles = [action for node, action in nodes if node["lifecycle"]]
    handlers = []
    for action, following in zip(cycles, [*cycles[1:], None]):
        after = last if following is None else [transition(following, CONFIGURE)]
        failed = OpaqueFunction(function=fail_first, args=[action])
        handlers += bring_up(action, after, failed)
    begin = [transition(cycles[0], CONFIGURE)] if cycles else last
    return [*handlers, *first, *begin]
'''


def launch_file(name: str, graph: Graph) -> str:
    """The launch file of a graph."""
    arguments = [(each.name, each.default, each.about, dict(each.rules)) for each in graph.arguments]
    return FILE.format(
        about=graph.about,
        name=name,
        arguments=_literal(arguments),
        nodes=_literal([dict(node) for node in graph.nodes]),
        shared=BESIDE,
    )


def shared_file() -> str:
    """What launch files have in common."""
    untyped = (" -> Any", " -> None", " -> list[dict[str, Any]]", ": Any", ": str")
    return SHARED.format(
        package=PACKAGE,
        delays=DELAYS,
        lease=LEASE,
        steady=STEADY,
        resolver=reduce(lambda source, hint: source.replace(hint, ""), untyped, resolver()),
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
