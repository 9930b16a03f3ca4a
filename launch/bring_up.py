"""What every launch file here does with its table: arguments, nodes, and life cycles one after another.

Made by `python -m wm_robot_ros.launching.launch_files`: change it there.
"""

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

CONFIGURE, ACTIVATE = 1, 3
"""Numbers of lifecycle_msgs/msg/Transition."""
MISTAKE = 2
"""Exit code of a node that ended for what the user can mend: at its first start that ends all."""
DELAYS = (2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""Waits before a node is started again, in s; each end of it takes the next, and after the last it stays down."""
LEASE = 30.0
"""Time after which a node that was killed has left the ROS graph, in s: until then its services seem to be there."""
STEADY = 60.0
"""A node that ran for so long, in s, has the first of these waits before it again."""


def description_of(arguments, nodes):
    """What launch runs: arguments as (name, default, what it is, rules), nodes as the graph has them."""
    declared = [DeclareLaunchArgument(n, default_value=text(d), description=a) for n, d, a, _ in arguments]
    begin = OpaqueFunction(function=lambda context: start(context, arguments, nodes))
    return LaunchDescription([*declared, begin])


def text(default):
    return str(default).lower() if isinstance(default, bool) else str(default)


def value_of(name, text, like, rules):
    """What text says, of the kind that a default has, if the rules of its argument allow it."""
    said = f"{name}:={text}"
    if isinstance(like, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{said}: it must be true or false. Write {name}:={str(like).lower()}")
        return text.lower() == "true"
    try:
        value = type(like)(text)
    except ValueError:
        kind = "a whole number" if isinstance(like, int) else "a number"
        raise ValueError(f"{said}: it must be {kind}. Write {name}:={like}") from None
    if not isinstance(value, str):
        least = rules.get("least", -(2**63))
        if not least <= value < 2**63:
            at_least = f"at least {least}" if "least" in rules else "a number of 64 bits"
            raise ValueError(f"{said}: it must be {at_least}. Write {name}:={like}")
    if value not in rules.get("choices", [value]):
        allowed = " or ".join(f"{name}:={choice}" for choice in rules["choices"])
        raise ValueError(f"{said}: there is no such choice. Write {allowed}")
    if rules.get("names") in ("namespace", "namespaces", "recorded robot"):
        several = rules["names"] == "namespaces"
        parts = [part.strip(" /") for part in text.split(",")] if several else [text.strip("/")]
        mended = ",".join(mend_namespace(part) for part in parts)
        if text and mended != ",".join(parts):
            raise ValueError(
                f"{said}: a name in ROS has letters, digits and '_', and begins with no digit; '/' is between "
                f"names. Write {name}:={mended}"
            )
        if len(set(parts)) < len(parts):
            apart = ",".join(f"{part}{1 + parts[:i].count(part)}" for i, part in enumerate(parts))
            raise ValueError(f"{said}: two robots have one name. Write {name}:={apart}")
    return value


def mend_namespace(space) -> str:
    """A namespace that ROS takes; the same where it takes this one."""
    fits = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
    tokens = ["".join(c if c in fits else "_" for c in token) or "robot" for token in space.split("/")]
    return "/".join(f"_{token}" if token[0] in "0123456789" else token for token in tokens)


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
            # A node without a namespace may have an argument of that name.
            own = {**values, "namespace": space} if "namespace" in node else values
            running.append(
                {
                    "name": node["name"],
                    "namespace": space,
                    "executable": node["executable"],
                    "lifecycle": node.get("lifecycle", False),
                    "policy": node.get("policy", "required"),
                    "ends": node.get("ends", False),
                    "parameters": {k: put(v, own) for k, v in node.get("parameters", {}).items()},
                    "restarted_with": {k: put(v, own) for k, v in node.get("restarted_with", {}).items()},
                }
            )
    return running


def action_of(context, node, failures=0):
    """A node as launch starts it; `failures`: how often in a row it has ended before."""
    began = context.asyncio_loop.time()
    kind = LifecycleNode if node["lifecycle"] else Node
    extra = node["restarted_with"] if failures else {}
    return kind(
        package="wm_robot_ros",
        executable=node["executable"],
        name=node["name"],
        namespace=node["namespace"],
        parameters=[{name: as_parameter(value) for name, value in {**node["parameters"], **extra}.items()}],
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
        return [Shutdown(reason=f"{node['name']} is done")]
    told = f"{node['name']} ended with exit code {event.returncode}"
    if node["policy"] == "optional":
        return [LogInfo(msg=f"{told}. It is optional: the others go on")]
    if context.asyncio_loop.time() - began > STEADY:
        failures = 0
    elif node["policy"] == "restarted" and not failures and event.returncode == MISTAKE:
        fail(context, told)
    if node["policy"] == "restarted" and failures < len(DELAYS):
        again = OpaqueFunction(function=lambda context: restart(context, node, failures + 1))
        killed = node["lifecycle"] and event.returncode < 0
        delay = max(DELAYS[failures], LEASE) if killed else DELAYS[failures]
        said = LogInfo(msg=f"{told}. It is started again in {delay:g} s; the others go on")
        return [said, TimerAction(period=delay, actions=[again])]
    if node["policy"] == "restarted":
        return [LogInfo(msg=f"{told}, {failures + 1} times. It is not started again; the others go on")]
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
    values = {n: value_of(n, LaunchConfiguration(n).perform(context), d, rules) for n, d, _, rules in arguments}
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
