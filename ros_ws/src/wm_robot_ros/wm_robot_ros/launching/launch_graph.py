"""Launch graphs: YAML files with the nodes that run together, for `wm-robot up` and `ros2 launch`.

::

    about: One line.
    arguments:
      base: {default: bases/arm-semiparametric, names: base, about: folder of the base}
    nodes:
      - {name: agent, executable: agent_node, lifecycle: true, parameters: {base: $(base)}}

An argument has the type of its default. Optional fields of an argument:

* `choices: [sim, hardware]`: the permitted values;
* `least: 0`: the smallest value of a number;
* `names: base`: the kind of thing that the text names, one of `NAMED_KINDS`; it is checked before a process starts.

A value `$(base)` alone keeps the type of the argument's default; inside text it is inserted as text. Optional fields
of a node:

* `when: {record: true}`: run the node if the argument has this truth value, or this text;
* `namespace: $(robots)`: one node for each name in the list, separated by commas; in its parameters, `$(namespace)`
  is its own namespace;
* `lifecycle: true`: configure and activate the node, in the order of the file;
* `policy: optional`: effect of the node's end on the others, one of `POLICIES`;
* `restarted_with: {numbered: true}`: additional parameters of a restarted node;
* `ends: true`: the end of the node ends the graph, with the same exit code.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from wm_robot.errors import ConfigError

THIS_FILE = Path(__file__).resolve()
GRAPH_FOLDERS = (
    THIS_FILE.parents[5] / "launch" / "graphs",
    THIS_FILE.parents[1] / "launch" / "graphs",
    THIS_FILE.parents[5] / "share" / "wm_robot_ros" / "launch" / "graphs",
)
"""Folders of the graphs in the repository, in an installed wheel, and in a workspace built by colcon."""
NODE_FIELDS = {
    "name",
    "executable",
    "lifecycle",
    "when",
    "namespace",
    "parameters",
    "policy",
    "restarted_with",
    "ends",
}
REQUIRED, RESTARTED, OPTIONAL = "required", "restarted", "optional"
POLICIES = {
    REQUIRED: "its end stops all nodes",
    RESTARTED: "it is restarted, and the other nodes continue",
    OPTIONAL: "the other nodes continue without it",
}
"""Effect of a node's end on the others."""
RESTART_DELAYS = (2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""Delays before the restarts of a node, in s; after the last one it is not restarted."""
LEAVE_TIME = 30.0
"""Time after which a killed node has left the ROS graph, in s; by default DDS takes 20 s."""
STEADY_TIME = 60.0
"""Run time after which the delays of a node start from the first one again, in s."""
USER_ERROR_CODE = 2
"""Exit code for an error that the user can fix; at the first start of a node it stops all nodes."""
ARGUMENT_RULES = {"choices", "least", "names"}
NAMED_KINDS = {
    "robot", "base", "plant", "world", "namespace", "namespaces", "recording", "recorded robot", "new file",
}  # fmt: skip
"""Kinds of things that the text of an argument may name."""
ArgumentValue = bool | int | float | str
_VALUE_TYPES = (bool, int, float, str)


@dataclass(frozen=True, kw_only=True)
class GraphArgument:
    """Argument of a graph."""

    name: str
    default: ArgumentValue
    about: str
    rules: Mapping[str, Any]
    """`choices`, `least` and `names`, if the file has them."""


@dataclass(frozen=True, kw_only=True)
class LaunchGraph:
    """Launch graph: nodes and arguments of one file."""

    name: str
    """Name for `wm-robot up`."""
    about: str
    arguments: tuple[GraphArgument, ...]
    nodes: tuple[Mapping[str, Any], ...]

    @classmethod
    def read(cls, path: Path) -> "LaunchGraph":
        """Read a graph from its file.

        Raises:
            ConfigError: If the file is missing or is not a valid graph.
        """
        try:
            said = yaml.safe_load(path.read_text(encoding="utf-8"))
            arguments = tuple(
                GraphArgument(
                    name=name,
                    default=told["default"],
                    about=told["about"],
                    rules={key: told[key] for key in told if key not in ("default", "about")},
                )
                for name, told in said["arguments"].items()
            )
            name = path.stem if path.parent in GRAPH_FOLDERS else str(path)
            graph = cls(name=name, about=said["about"], arguments=arguments, nodes=tuple(said["nodes"]))
        except OSError as error:
            raise ConfigError(f"there is no graph {path}: {error}. Name one of {list_graphs()}") from error
        except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path} is not a launch graph: {type(error).__name__}: {error}") from error
        graph._check_graph(path)
        return graph

    def _check_graph(self, path: Path) -> None:
        for argument in self.arguments:
            _check_argument(path, argument)
        for node in self.nodes:
            _check_node(path, node)
        names = {argument.name: argument.default for argument in self.arguments}
        try:
            resolve_nodes(self.nodes, names)
        except KeyError as error:
            raise ConfigError(
                f"{path}: $({error.args[0]}) is not an argument; the arguments are {sorted(names)}"
            ) from error

    def parse_values(self, given: Mapping[str, str]) -> dict[str, ArgumentValue]:
        """Return the values of all arguments, from their defaults and from given texts.

        Raises:
            ConfigError: If an argument is unknown, or its value is invalid.
        """
        known = {argument.name: argument for argument in self.arguments}
        for name, text in given.items():
            if name not in known:
                raise ConfigError(
                    f"{name}:={text}: graph '{self.name}' has no argument '{name}'. {suggest_word(name, known)}"
                    f"It has {', '.join(known)}. See: wm-robot up {self.name} --show-args"
                )
        try:
            return {
                name: parse_value(name, given[name], each.default, each.rules)
                if name in given
                else each.default
                for name, each in known.items()
            }
        except ValueError as error:
            raise ConfigError(f"{error}") from error


def _check_argument(path: Path, argument: GraphArgument) -> None:
    name, rules = f"{path}: argument '{argument.name}'", argument.rules
    if not isinstance(argument.default, _VALUE_TYPES):
        raise ConfigError(f"{name}: its default is {argument.default!r}; it must be a bool, a number or text")
    if set(rules) - ARGUMENT_RULES:
        raise ConfigError(
            f"{name} has {sorted(set(rules) - ARGUMENT_RULES)}; it may have {sorted(ARGUMENT_RULES)}"
        )
    if rules.get("names", "base") not in NAMED_KINDS:
        raise ConfigError(f"{name} names '{rules['names']}'; it must be one of {sorted(NAMED_KINDS)}")


def _check_node(path: Path, node: Mapping[str, Any]) -> None:
    unknown, lacking = set(node) - NODE_FIELDS, {"name", "executable"} - set(node)
    if unknown or lacking:
        raise ConfigError(
            f"{path}: node {dict(node)} has unknown {sorted(unknown)} and lacks {sorted(lacking)}"
        )
    policy = node.get("policy", REQUIRED)
    if policy not in POLICIES:
        raise ConfigError(
            f"{path}: node '{node['name']}' has policy '{policy}'; it must be one of {', '.join(POLICIES)}"
        )
    if node.get("ends") and policy != REQUIRED:
        raise ConfigError(f"{path}: node '{node['name']}' ends the graph, so it cannot be {policy}")
    if "restarted_with" in node and policy != RESTARTED:
        raise ConfigError(
            f"{path}: node '{node['name']}' has restarted_with and is {policy}. Add policy: restarted"
        )


def find_graph(name: str) -> Path:
    """Find the file of a graph by name or path.

    Raises:
        ConfigError: If there is no such graph.
    """
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    for folder in GRAPH_FOLDERS:
        path = folder / f"{name}.yaml"
        if path.exists():
            return path
    known = list_graphs()
    raise ConfigError(
        f"there is no graph '{name}'. {suggest_word(name, known)}There are {', '.join(known)}, or name a YAML file"
    )


def suggest_word(word: str, words: Iterable[str]) -> str:
    """Return a question with the most similar correct word, and a space; empty if none is similar."""
    close = get_close_matches(word, list(words), n=1)
    return f"Did you mean '{close[0]}'? " if close else ""


def full_node_name(node: Mapping[str, Any]) -> str:
    """Return the full name of a node, with its namespace."""
    return f"/{node['namespace']}/{node['name']}".replace("//", "/")


def format_value(value: ArgumentValue) -> str:
    """Format a value for the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def list_graphs() -> list[str]:
    """Return the names of the graphs that ship."""
    return sorted({path.stem for folder in GRAPH_FOLDERS for path in folder.glob("*.yaml")})


def parse_value(name: str, text: str, default: Any, rules: Any) -> Any:
    """Parse the text of an argument to the type of its default, and check it by the rules of the argument.

    Raises:
        ValueError: If the text is not a permitted value.
    """
    said = f"{name}:={text}"
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{said}: it must be true or false. Write {name}:={str(default).lower()}")
        return text.lower() == "true"
    try:
        value = type(default)(text)
    except ValueError:
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise ValueError(f"{said}: it must be {kind}. Write {name}:={default}") from None
    if not isinstance(value, str):
        least = rules.get("least", -(2**63))
        if not least <= value < 2**63:
            at_least = f"at least {least}" if "least" in rules else "a number of 64 bits"
            raise ValueError(f"{said}: it must be {at_least}. Write {name}:={default}")
    if value not in rules.get("choices", [value]):
        allowed = " or ".join(f"{name}:={choice}" for choice in rules["choices"])
        raise ValueError(f"{said}: this value is not permitted. Write {allowed}")
    if rules.get("names") in ("namespace", "namespaces", "recorded robot"):
        several = rules["names"] == "namespaces"
        parts = [part.strip(" /") for part in text.split(",")] if several else [text.strip("/")]
        mended = ",".join(correct_namespace(part) for part in parts)
        if text and mended != ",".join(parts):
            raise ValueError(
                f"{said}: a ROS name has letters, digits and '_', and does not start with a digit; '/' separates "
                f"names. Write {name}:={mended}"
            )
        if len(set(parts)) < len(parts):
            apart = ",".join(f"{part}{1 + parts[:i].count(part)}" for i, part in enumerate(parts))
            raise ValueError(f"{said}: two robots have the same name. Write {name}:={apart}")
    return value


def correct_namespace(space: str) -> str:
    """Correct a namespace for ROS; a valid one is returned unchanged."""
    fits = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
    tokens = ["".join(c if c in fits else "_" for c in token) or "robot" for token in space.split("/")]
    return "/".join(f"_{token}" if token[0] in "0123456789" else token for token in tokens)


def resolve_nodes(nodes: Any, values: Any) -> list[dict[str, Any]]:
    """Return the nodes that run, with the values of their parameters, in the order of the file."""

    def substitute(value: Any, known: Any) -> Any:
        if not isinstance(value, str) or "$(" not in value:
            return value
        if value.startswith("$(") and value.find(")") == len(value) - 1:
            return known[value[2:-1]]
        head, _, rest = value.partition("$(")
        name, _, tail = rest.partition(")")
        return head + str(known[name]) + str(substitute(tail, known))

    running = []
    for node in nodes:
        wanted = node.get("when", {})
        if any((values[k] if isinstance(v, str) else bool(values[k])) != v for k, v in wanted.items()):
            continue
        spaces = str(substitute(node.get("namespace", ""), values)).split(",")
        for space in (each.strip(" /") for each in spaces):
            # A node without a namespace may use an argument called namespace.
            own = {**values, "namespace": space} if "namespace" in node else values
            running.append(
                {
                    "name": node["name"],
                    "namespace": space,
                    "executable": node["executable"],
                    "lifecycle": node.get("lifecycle", False),
                    "policy": node.get("policy", "required"),
                    "ends": node.get("ends", False),
                    "parameters": {k: substitute(v, own) for k, v in node.get("parameters", {}).items()},
                    "restarted_with": {
                        k: substitute(v, own) for k, v in node.get("restarted_with", {}).items()
                    },
                }
            )
    return running
