"""Launch file of every graph: `ros2 launch wm_robot_bringup wm_robot.launch.py graph:=sim`.

The nodes and arguments of a graph are in `graphs/NAME.yaml`, which `wm-robot up NAME` reads too. To list the
arguments of a graph: `ros2 launch wm_robot_bringup wm_robot.launch.py graph:=sim --show-args`.
"""

import sys
from pathlib import Path

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

from launch import LaunchDescription
from wm_robot_ros.launching.launch_graph import (
    LEAVE_TIME,
    OPTIONAL,
    REQUIRED,
    RESTART_DELAYS,
    RESTARTED,
    STEADY_TIME,
    USER_ERROR_CODE,
    LaunchGraph,
    find_graph,
    format_value,
    list_graphs,
    resolve_nodes,
)

GRAPH = "graph"
"""Argument that names the graph."""
PACKAGE = "wm_robot_ros"
CONFIGURE, ACTIVATE = 1, 3
"""Numbers of lifecycle_msgs/msg/Transition."""
TERMINATE_S = "15"
"""Time from SIGINT to SIGTERM, in s, in which an agent saves its state."""


def generate_launch_description():
    """Declare the arguments of the graph on the command line; the nodes start with the launch context."""
    about = (
        f"one of {', '.join(list_graphs())}, or path of a YAML file. To list its arguments, set {GRAPH}:=NAME"
    )
    given = command_line_arguments(sys.argv)
    declared = declare_arguments(read_graph(given)) if GRAPH in given else []
    choice = DeclareLaunchArgument(GRAPH, description=about)
    return LaunchDescription([choice, *declared, OpaqueFunction(function=open_graph)])


def command_line_arguments(words):
    """Return the arguments `name:=value` of a command line that launches this file; none for another file."""
    # When arguments are listed there is no launch context yet, so the command line is the only source.
    if not any(Path(word).name == Path(__file__).name for word in words):
        return {}
    return dict(word.split(":=", 1) for word in words if ":=" in word)


def read_graph(given):
    """Read the graph of a command line, and reject unknown arguments."""
    graph = LaunchGraph.read(find_graph(given[GRAPH]))
    graph.parse_values({name: value for name, value in given.items() if name != GRAPH})
    return graph


def declare_arguments(graph):
    return [
        DeclareLaunchArgument(each.name, default_value=format_value(each.default), description=each.about)
        for each in graph.arguments
    ]


def open_graph(context):
    """Declare the arguments of the graph, then start its nodes. Another launch file may have named the graph."""
    graph = LaunchGraph.read(find_graph(LaunchConfiguration(GRAPH).perform(context)))
    return [*declare_arguments(graph), OpaqueFunction(function=start_nodes, args=[graph])]


def start_nodes(context, graph):
    """Start all nodes, activate lifecycle nodes one after another, then start the nodes that end the graph."""
    values = graph.parse_values(
        {each.name: LaunchConfiguration(each.name).perform(context) for each in graph.arguments}
    )
    nodes = [(node, create_action(context, node)) for node in resolve_nodes(graph.nodes, values)]
    first = [action for node, action in nodes if not node["ends"]]
    last = [action for node, action in nodes if node["ends"]]
    cycles = [action for node, action in nodes if node["lifecycle"]]
    handlers = []
    for action, following in zip(cycles, [*cycles[1:], None], strict=True):
        after = last if following is None else [request_transition(following, CONFIGURE)]
        failed = OpaqueFunction(function=shut_down_if_running, args=[action])
        handlers += bring_up_handlers(action, after, failed)
    begin = [request_transition(cycles[0], CONFIGURE)] if cycles else last
    return [*handlers, *first, *begin]


def create_action(context, node, failures=0):
    """Create the action that starts a node after `failures` ends in a row."""
    began = context.asyncio_loop.time()
    kind = LifecycleNode if node["lifecycle"] else Node
    parameters = {**node["parameters"], **(node["restarted_with"] if failures else {})}
    return kind(
        package=PACKAGE,
        executable=node["executable"],
        name=node["name"],
        namespace=node["namespace"],
        parameters=[{name: keep_type(value) for name, value in parameters.items()}],
        output="screen",
        sigterm_timeout=TERMINATE_S,
        on_exit=lambda event, context: handle_exit(node, event, context, failures, began),
    )


def keep_type(value):
    """Keep text as text: a world in JSON must not become a mapping."""
    return ParameterValue(value, value_type=str) if isinstance(value, str) else value


def handle_exit(node, event, context, failures, began):
    """Apply the policy of a node after its end: shut down, restart the node, or continue without it."""
    if context.is_shutdown:
        return []
    if node["ends"] and event.returncode == 0:
        return [Shutdown(reason=f"{node['name']} is done")]
    message = f"{node['name']} ended with exit code {event.returncode}"
    if node["policy"] == OPTIONAL:
        return [LogInfo(msg=f"{message}. It is optional: the other nodes continue")]
    if context.asyncio_loop.time() - began > STEADY_TIME:
        failures = 0
    elif node["policy"] == RESTARTED and not failures and event.returncode == USER_ERROR_CODE:
        shut_down(message)
    if node["policy"] == REQUIRED:
        shut_down(message)
    if failures >= len(RESTART_DELAYS):
        return [
            LogInfo(msg=f"{message}, {failures + 1} times. It is not restarted; the other nodes continue")
        ]
    killed = node["lifecycle"] and event.returncode < 0
    delay = max(RESTART_DELAYS[failures], LEAVE_TIME) if killed else RESTART_DELAYS[failures]
    again = OpaqueFunction(function=restart_node, args=[node, failures + 1])
    log = LogInfo(msg=f"{message}. It is restarted in {delay:g} s; the other nodes continue")
    return [log, TimerAction(period=delay, actions=[again])]


def restart_node(context, node, failures):
    """Restart a node, and configure and activate it."""
    action = create_action(context, node, failures)
    if not node["lifecycle"]:
        return [action]
    return [*bring_up_handlers(action, []), action, request_transition(action, CONFIGURE)]


def shut_down(reason):
    """Raise an error that ends the launch with exit code 1; a plain `Shutdown` would give 0."""
    raise RuntimeError(reason)


def shut_down_if_running(context, action):
    """Shut down after a failed transition of a running node; an ended node has its own policy."""
    if action.return_code is None:
        shut_down("a node could not be configured or activated. See its log for the reason")
    return []


def request_transition(action, number):
    return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(action), transition_id=number))


def bring_up_handlers(action, after, *failed):
    """Create the handlers of a node's transitions: activate it, then run the actions after success or failure."""
    steps = (
        # With both states, because otherwise a deactivated node would be activated again.
        ("configuring", "inactive", [request_transition(action, ACTIVATE)]),
        ("activating", "active", after),
        ("configuring", "unconfigured", failed),
        ("activating", "inactive", failed),
    )
    # Once, because a restarted node has the same name and its own handlers.
    return [
        RegisterEventHandler(
            OnStateTransition(
                target_lifecycle_node=action,
                start_state=start,
                goal_state=goal,
                entities=[*entities],
                handle_once=True,
            )
        )
        for start, goal, entities in steps
        if entities
    ]
