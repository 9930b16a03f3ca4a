"""What every launch file here does with its table: arguments, nodes, and life cycles one after another.

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


def as_kind(text: str, like):
    """What text says, of the kind that a default has."""
    if isinstance(like, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(f"'{text}' is neither true nor false")
        return text.lower() == "true"
    return type(like)(text)


def resolved(nodes, values):
    """The nodes that run, with their parameters, in order."""

    def put(value, known):
        if not isinstance(value, str) or "$(" not in value:
            return value
        if value.startswith("$(") and value.find(")") == len(value) - 1:
            return known[value[2:-1]]
        head, _, rest = value.partition("$(")
        name, _, tail = rest.partition(")")
        return head + str(known[name]) + str(put(tail, known))

    running = []
    for node in nodes:
        wanted = node.get("when", {})
        if any((values[k] if isinstance(v, str) else bool(values[k])) != v for k, v in wanted.items()):
            continue
        spaces = str(put(node.get("namespace", ""), values)).split(",")
        for space in (each.strip(" /") for each in spaces):
            own = {**values, "namespace": space}
            running.append(
                {
                    "name": node["name"],
                    "namespace": space,
                    "executable": node["executable"],
                    "lifecycle": node.get("lifecycle", False),
                    "ends": node.get("ends", False),
                    "parameters": {k: put(v, own) for k, v in node.get("parameters", {}).items()},
                }
            )
    return running


def action_of(node):
    """A node as launch starts it."""
    kind = LifecycleNode if node["lifecycle"] else Node
    return kind(
        package="wm_robot_ros",
        executable=node["executable"],
        name=node["name"],
        namespace=node["namespace"],
        parameters=[{name: as_parameter(value) for name, value in node["parameters"].items()}],
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
        return [Shutdown(reason=f"{node['name']} is done")]
    fail(context, f"{node['name']} ended with exit code {event.returncode}")


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
    values = {name: as_kind(LaunchConfiguration(name).perform(context), like) for name, like, _ in arguments}
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
