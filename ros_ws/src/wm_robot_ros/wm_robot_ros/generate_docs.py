"""Documentation generator: `python -m wm_robot_ros.generate_docs` writes the tables of docs/ros.md from the nodes.

It creates each node, configures the agent, and reads their parameters, topics, services and actions.
"""

import random
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import rclpy
from rclpy.action import get_action_server_names_and_types_by_node
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from wm_robot.spec import SENSOR_KINDS
from wm_robot.streams.sensor_message import BASE_TOPIC, HEADERLESS_KINDS, WORLD_KINDS
from wm_robot_ros.launching.launch_graph import GRAPH_FOLDERS, REQUIRED, LaunchGraph
from wm_robot_ros.middleware.environment import FREE_DOMAINS
from wm_robot_ros.middleware.message_reader import list_subscriptions
from wm_robot_ros.state_api import interfaces

THIS_FILE = Path(__file__).resolve()
DOCUMENT = THIS_FILE.parents[4] / "docs" / "ros.md"
MESSAGES = THIS_FILE.parents[2] / "wm_robot_msgs"
ROS_TOPICS = ("/parameter_events", "/rosout", "/clock", "transition_event", "get_type_description")
DOCUMENT_PARTS = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
COLUMNS = {
    "topics": ("node", "", "topic", "type", "reliability", "durability", "depth"),
    "services": ("node", "service", "type"),
    "actions": ("node", "action", "type"),
    "parameters": ("node", "parameter", "type", "default", "range", "what it is"),
}
NAMESPACE = "/robot"
PARAMETER_TYPES = {1: "bool", 2: "int", 3: "double", 4: "string"}
Row = tuple[str, ...]


class IdleAgent:
    """Agent without function, for an agent node that is only inspected."""

    counters = {"num_steps": 0, "num_valid": 0, "num_invalid": 0}
    lineage = None

    def __init__(self, config: Any, spec: Any):
        self._spec, self.agent = spec, self

    def begin(self, last_action: np.ndarray, restore: str | None = None) -> None:
        pass

    def act(self, obs: np.ndarray, goal: np.ndarray, *, applied: np.ndarray | None = None) -> np.ndarray:
        return self._spec.home_action

    def observe(self, obs: np.ndarray, applied: np.ndarray, next_obs: np.ndarray, **told: object) -> Any:
        return SimpleNamespace(nll=0.0, mean=obs, deviation=obs, error=obs)

    def find_faults(self, obs: np.ndarray) -> dict[str, str]:
        return {}

    def predict_plan(self) -> None:
        return None

    def save(self, place: str, *, note: str = "") -> str:
        raise AssertionError("this agent has no state to save")

    def rescue(self, place: str) -> str:
        raise AssertionError("this agent has no state to save")

    def report(self) -> dict[str, object]:
        return {}

    def close(self) -> None:
        pass


@contextmanager
def _create_node(make: Callable[[], Node], folder: Path) -> Iterator[Node]:
    """Create a node on a random domain, with paths that it may write to, and destroy it after the block."""
    (folder / "session.mcap").touch()
    given = {"path": folder / "new.mcap", "recording": folder / "session.mcap"}
    # In a namespace, to separate relative names from absolute ones.
    arguments = ["--ros-args", "--log-level", "error", "-r", f"__ns:={NAMESPACE}"]
    for name, value in given.items():
        arguments += ["-p", f"{name}:={value}"]
    rclpy.init(args=arguments, domain_id=random.SystemRandom().choice(FREE_DOMAINS))
    node = None
    try:
        node = make()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        if hasattr(node, "trigger_configure"):
            node.trigger_configure()
        yield node
        if hasattr(node, "trigger_cleanup"):
            node.trigger_cleanup()
    finally:
        if node is not None:
            scribe = getattr(node, "scribe", None)
            node.destroy_node()
            if scribe:
                scribe.close_session()
        rclpy.try_shutdown()
        (folder / "new.mcap").unlink(missing_ok=True)


def list_node_makers() -> dict[str, Callable[[], Node]]:
    """Return the constructor of each node, by its executable."""
    from wm_robot_ros.nodes.action_client_node import ActionClientNode
    from wm_robot_ros.nodes.agent_node import AgentNode
    from wm_robot_ros.nodes.control_node import ControlNode
    from wm_robot_ros.nodes.display_node import DisplayNode
    from wm_robot_ros.nodes.plant_node import PlantNode
    from wm_robot_ros.nodes.recorder_node import RecorderNode
    from wm_robot_ros.nodes.replay_node import ReplayNode

    return {
        "plant_node": PlantNode,
        "control_node": ControlNode,
        "agent_node": lambda: AgentNode(cast(Any, IdleAgent)),
        "display_node": DisplayNode,
        "recorder_node": RecorderNode,
        "replay_node": ReplayNode,
        "action_client_node": ActionClientNode,
    }


def generate_tables() -> dict[str, str]:
    """Generate each part of the document, by name."""
    missing = interfaces.interfaces_unavailable()
    if missing:
        raise SystemExit(missing)
    rows: dict[str, list[Row]] = {name: [] for name in COLUMNS}
    said: dict[str, dict[str, set[str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, make in list_node_makers().items():
            with _create_node(make, Path(folder)) as node:
                rows["parameters"] += _list_parameters(name, node, folder)
                rows["topics"] += (topics := list(_list_topics(name, node)))
                rows["services"] += _list_services(name, node)
                rows["actions"] += _list_actions(name, node)
                said[name] = {
                    way: {t[2] for t in topics if t[1] == way} for way in ("publishes", "subscribes")
                }
    made = {name: _format_table(COLUMNS[name], found) for name, found in rows.items()}
    return made | {
        "nodes": _draw_graph(said),
        "interfaces": _list_interfaces(),
        "graphs": _list_graphs(),
        "sensors": _list_sensors(),
    }


def _list_topics(name: str, node: Node) -> Iterator[Row]:
    for way, ends in (("publishes", node.publishers), ("subscribes", list_subscriptions(node))):
        found = set()
        for each in ends:
            topic = each.topic_name if way == "subscribes" else each.topic
            if topic.endswith(ROS_TOPICS):
                continue
            qos = each.qos_profile
            kind = _format_type(each.msg_type)
            live = " †" if qos.liveliness.name == "MANUAL_BY_TOPIC" else ""
            found.add(
                (
                    f"`{name}`",
                    way,
                    f"`{_relative_name(topic, node)}`",
                    f"{kind}{live}",
                    qos.reliability.name.lower().replace("_", " "),
                    qos.durability.name.lower().replace("_", " "),
                    str(qos.depth),
                )
            )
        yield from sorted(found)


def _list_services(name: str, node: Node) -> list[Row]:
    found = []
    for service in node.services:
        kind = _format_type(service.srv_type)
        if kind.startswith(("rcl_interfaces/", "lifecycle_msgs/", "type_description_interfaces/")):
            continue
        found.append((f"`{name}`", f"`{_relative_name(service.service_name, node)}`", kind))
    return sorted(found)


def _list_actions(name: str, node: Node) -> list[Row]:
    offered = get_action_server_names_and_types_by_node(node, node.get_name(), NAMESPACE)
    return sorted((f"`{name}`", f"`{_relative_name(action, node)}`", kinds[0]) for action, kinds in offered)


def _list_parameters(name: str, node: Node, folder: str) -> list[Row]:
    found: list[Row] = []
    for key in node._parameters:
        if key == "use_sim_time" or key.startswith(("qos_overrides.", "start_type_description")):
            continue
        told, value = node.describe_parameter(key), node.get_parameter(key).value
        spans = [*told.floating_point_range, *told.integer_range]
        span = f"{spans[0].from_value:g} to {spans[0].to_value:g}" if spans else ""
        # For a path of the temporary folder, show the default of the source instead.
        shown = (
            "`session.mcap`"
            if str(value).startswith(folder)
            else f"`{_format_value(value)}`"
            if value != ""
            else ""
        )
        found.append((f"`{name}`", f"`{key}`", PARAMETER_TYPES[told.type], shown, span, told.description))
    return found


def _format_value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _format_type(kind: type) -> str:
    package, folder = kind.__module__.split(".")[:2]
    return f"{package}/{folder}/{kind.__name__}"


def _relative_name(name: str, node: Node) -> str:
    own = f"{NAMESPACE}/{node.get_name()}/"
    return "~/" + name.removeprefix(own) if name.startswith(own) else name.removeprefix(f"{NAMESPACE}/")


def _draw_graph(topics_by_node: dict[str, dict[str, set[str]]]) -> str:
    """Draw publishers and subscribers as a mermaid graph, without the recorder, which subscribes to all topics."""
    shown = {"plant_node": "plant", "agent_node": "agent", "display_node": "display"}
    lines = ["```mermaid", "flowchart LR"]
    lines += [f'  {executable}(["{name}"])' for executable, name in shown.items()]
    for speaker, own in shown.items():
        for listener in shown:
            common = {
                topic.strip("`").replace("~", own) for topic in topics_by_node[speaker]["publishes"]
            } & {
                topic.strip("`").replace("~", shown[listener])
                for topic in topics_by_node[listener]["subscribes"]
            }
            if common and speaker != listener:
                lines.append(f"  {speaker} -- {'<br/>'.join(sorted(common))} --> {listener}")
    return "\n".join([*lines, "```"])


def _list_interfaces() -> str:
    rows = []
    for kind in ("msg", "srv", "action"):
        for path in sorted((MESSAGES / kind).glob(f"*.{kind}")):
            lines = path.read_text(encoding="utf-8").splitlines()
            told = []
            for line in lines:
                if not line.startswith("# "):
                    break
                told.append(line[2:])
            rows.append(
                (f"[`{path.stem}`](../ros_ws/src/wm_robot_msgs/{kind}/{path.name})", kind, " ".join(told))
            )
    return _format_table(("", "kind", "what it is"), rows)


def _list_sensors() -> str:
    """List the message of each kind of sensor, and of a floating base."""
    rows = [
        (
            f"`{name}`",
            kind.message.replace("/", "/msg/"),
            ", ".join(f"`{field}`" for field in kind.fields),
            "arrival" if name in HEADERLESS_KINDS else "its stamp",
            _describe_frame(name, has_frame=kind.has_frame),
        )
        for name, kind in SENSOR_KINDS.items()
    ]
    base = (f"floating base, on `{BASE_TOPIC}`", *rows[list(SENSOR_KINDS).index("odometry")][1:])
    return _format_table(
        ("kind", "type", "fields", "time of measurement", "frame of the sensor"), [*rows, base]
    )


def _describe_frame(kind: str, *, has_frame: bool) -> str:
    """Return where messages of a kind of sensor name its frame."""
    if kind == "odometry":
        return "`child_frame_id`"
    return (
        "`frame_id`" if has_frame and kind not in (*HEADERLESS_KINDS, *WORLD_KINDS) else "not in the message"
    )


def _list_graphs() -> str:
    parts = []
    for path in sorted(GRAPH_FOLDERS[0].glob("*.yaml")):
        graph = LaunchGraph.read(path)
        rows = [
            (f"`{each.name}`", f"`{_format_value(each.default)}`" if each.default != "" else "", each.about)
            for each in graph.arguments
        ]
        head = f"**`{path.stem}`**: {graph.about}"
        nodes = [
            (
                f"`{node['name']}`",
                f"`{node['executable']}`",
                "ends all" if node.get("ends") else f"{node.get('policy', REQUIRED)}",
            )
            for node in graph.nodes
        ]
        # A node with two variants, such as with and without a state, has one line.
        parts += [
            f"{head}\n\n" + _format_table(("argument", "default", "what it is"), rows),
            _format_table(("node", "executable", "policy"), list(dict.fromkeys(nodes))),
        ]
    return "\n\n".join(parts)


def _format_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)


def update_document(document: str) -> str:
    """Return the document with every table generated from the nodes."""
    made = generate_tables()
    names = [name for _, name, _ in DOCUMENT_PARTS.findall(document)]
    assert sorted(names) == sorted(made), f"the document has {sorted(names)}, there are {sorted(made)}"
    return DOCUMENT_PARTS.sub(lambda part: f"{part[1]}{made[part[2]]}\n{part[3]}", document)


def main() -> None:
    DOCUMENT.write_text(update_document(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{DOCUMENT}\n")


if __name__ == "__main__":
    main()
