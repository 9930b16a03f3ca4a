"""Launch graphs: which nodes run together, as YAML files that `wm-robot up` and `ros2 launch` both read.

::

    about: One line.
    arguments:
      base: {default: bases/arm-ekf, names: base, about: folder of the base}
    nodes:
      - {name: agent, executable: agent_node, lifecycle: true, parameters: {base: $(base)}}

An argument has the kind of its default. It may also have

* `choices: [sim, hardware]`: the values that it may have;
* `least: 0`: the smallest value of a number;
* `names: base`: what its text names, which is looked for before a process starts; one of `NAMED`.

A value `$(base)` alone keeps the kind that the argument's default has; inside text it is put in as text. A node may
also have

* `when: {record: true}`: it runs if the argument, as a truth, is so; with text, if the argument is that text;
* `namespace: $(robots)`: one node for each name in the list, by comma; in its parameters `$(namespace)` is its own;
* `lifecycle: true`: it is configured and activated, in the order of the file;
* `policy: optional`: what its end means for the others, one of `POLICIES`;
* `restarted_with: {numbered: true}`: parameters that it has besides when it is started again;
* `ends: true`: when it ends, so does the graph, with its exit code.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from wm_robot.errors import ConfigError

HERE = Path(__file__).resolve()
FOLDERS = (
    HERE.parents[5] / "launch" / "graphs",
    HERE.parents[1] / "launch" / "graphs",
    HERE.parents[5] / "share" / "wm_robot_ros" / "launch" / "graphs",
)
"""Of the repository, of an installed wheel, and of a workspace that colcon built."""
PARTS = {
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
    REQUIRED: "its end ends all",
    RESTARTED: "it is started again, and the others go on",
    OPTIONAL: "the others go on without it",
}
"""What the end of a node means for the others."""
DELAYS = (2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""Waits before a restarted node is started again, in s; after the last it stays down."""
LEASE = 30.0
"""Time after which a node that was killed has left the ROS graph, in s; by default it takes DDS 20."""
STEADY = 60.0
"""A node that ran for so long, in s, has the first of these waits before it again."""
MISTAKE = 2
"""Exit code of a process that ended for what the user can mend: at its first start that ends all."""
RULES = {"choices", "least", "names"}
NAMED = {"robot", "base", "world", "namespace", "namespaces", "recording", "recorded robot", "new file"}
"""What the text of an argument may name."""
Value = bool | int | float | str
_KINDS = (bool, int, float, str)


@dataclass(frozen=True, kw_only=True)
class Argument:
    """What may be said of a graph when it is started."""

    name: str
    default: Value
    about: str
    rules: Mapping[str, Any]
    """`choices`, `least` and `names`, as far as the file has them."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Nodes and arguments of a file."""

    name: str
    """As `wm-robot up` takes it."""
    about: str
    arguments: tuple[Argument, ...]
    nodes: tuple[Mapping[str, Any], ...]

    @classmethod
    def read(cls, path: Path) -> "Graph":
        """A graph from its file.

        Raises:
            ConfigError: If it is none.
        """
        try:
            said = yaml.safe_load(path.read_text(encoding="utf-8"))
            arguments = tuple(
                Argument(
                    name=name,
                    default=told["default"],
                    about=told["about"],
                    rules={key: told[key] for key in told if key not in ("default", "about")},
                )
                for name, told in said["arguments"].items()
            )
            name = path.stem if path.parent in FOLDERS else str(path)
            graph = cls(name=name, about=said["about"], arguments=arguments, nodes=tuple(said["nodes"]))
        except OSError as error:
            raise ConfigError(f"there is no graph {path}: {error}. Name one of {known_graphs()}") from error
        except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path} is no graph: {type(error).__name__}: {error}") from error
        graph._check(path)
        return graph

    def _check(self, path: Path) -> None:
        for argument in self.arguments:
            _check_argument(path, argument)
        for node in self.nodes:
            _check_node(path, node)
        names = {argument.name: argument.default for argument in self.arguments}
        try:
            resolved(self.nodes, names)
        except KeyError as error:
            raise ConfigError(
                f"{path}: $({error.args[0]}) is no argument; there are {sorted(names)}"
            ) from error

    def values(self, given: Mapping[str, str]) -> dict[str, Value]:
        """Arguments with those that were given as text.

        Raises:
            ConfigError: If one is unknown, or has a value that it cannot have.
        """
        known = {argument.name: argument for argument in self.arguments}
        for name, text in given.items():
            if name not in known:
                raise ConfigError(
                    f"{name}:={text}: graph '{self.name}' has no argument '{name}'. {guess(name, known)}"
                    f"It has {', '.join(known)}. See: wm-robot up {self.name} --show-args"
                )
        try:
            return {
                name: value_of(name, given[name], each.default, each.rules) if name in given else each.default
                for name, each in known.items()
            }
        except ValueError as error:
            raise ConfigError(f"{error}") from error


def _check_argument(path: Path, argument: Argument) -> None:
    name, rules = f"{path}: argument '{argument.name}'", argument.rules
    if not isinstance(argument.default, _KINDS):
        raise ConfigError(f"{name}: its default is {argument.default!r}; it must be plain")
    if set(rules) - RULES:
        raise ConfigError(f"{name} has {sorted(set(rules) - RULES)}; it may have {sorted(RULES)}")
    if rules.get("names", "base") not in NAMED:
        raise ConfigError(f"{name} names '{rules['names']}'; it must be one of {sorted(NAMED)}")


def _check_node(path: Path, node: Mapping[str, Any]) -> None:
    unknown, lacking = set(node) - PARTS, {"name", "executable"} - set(node)
    if unknown or lacking:
        raise ConfigError(f"{path}: node {dict(node)} has {sorted(unknown)} and lacks {sorted(lacking)}")
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


def find(name: str) -> Path:
    """The file of a graph, by name or path.

    Raises:
        ConfigError: If there is none.
    """
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    for folder in FOLDERS:
        path = folder / f"{name}.yaml"
        if path.exists():
            return path
    known = known_graphs()
    raise ConfigError(
        f"there is no graph '{name}'. {guess(name, known)}There are {', '.join(known)}, or give a YAML file"
    )


def guess(word: str, known: Iterable[str]) -> str:
    """A question that names the known word which is most like a wrong one, and a space; empty if none is."""
    close = get_close_matches(word, list(known), n=1)
    return f"Did you mean '{close[0]}'? " if close else ""


def path_of(node: Mapping[str, Any]) -> str:
    """A node's name with its namespace."""
    return f"/{node['namespace']}/{node['name']}".replace("//", "/")


def spelt(value: Value) -> str:
    """A value as it is written on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def known_graphs() -> list[str]:
    """Names of the graphs that ship."""
    return sorted({path.stem for folder in FOLDERS for path in folder.glob("*.yaml")})


def value_of(name: str, text: str, like: Any, rules: Any) -> Any:
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


def mend_namespace(space: str) -> str:
    """A namespace that ROS takes; the same where it takes this one."""
    fits = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
    tokens = ["".join(c if c in fits else "_" for c in token) or "robot" for token in space.split("/")]
    return "/".join(f"_{token}" if token[0] in "0123456789" else token for token in tokens)


def resolved(nodes: Any, values: Any) -> list[dict[str, Any]]:
    """The nodes that run, with their parameters, in order."""

    def put(value: Any, known: Any) -> Any:
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
