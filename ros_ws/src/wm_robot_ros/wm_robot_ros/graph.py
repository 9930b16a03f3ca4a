"""Which nodes run together: a graph, as YAML says it. Launch files and `wm-robot up` are made of the same one.

::

    about: One line.
    arguments:
      base: {default: bases/arm-ekf, about: folder of the base}
    nodes:
      - {name: agent, executable: agent_node, lifecycle: true, parameters: {base: $(base)}}

A value `$(base)` alone keeps the kind that the argument's default has; inside text it is put in as text. A node may
also have

* `when: {record: true}`: it runs if the argument, as a truth, is so; with text, if the argument is that text;
* `namespace: $(robots)`: one node for each name in the list, by comma; in parameters `$(namespace)` is its own;
* `lifecycle: true`: it is configured and activated, in the order of the file;
* `ends: true`: when it ends, so does the graph, with its exit code. The end of any other node is a failure.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wm_robot.errors import ConfigError

HERE = Path(__file__).resolve()
FOLDERS = (HERE.parents[4] / "launch" / "graphs", HERE.parent / "launch" / "graphs")
"""Of the repository, and of an installed package."""
PARTS = {"name", "executable", "lifecycle", "when", "namespace", "parameters", "ends"}
Value = bool | int | float | str
_KINDS = (bool, int, float, str)


@dataclass(frozen=True, kw_only=True)
class Argument:
    """What may be said of a graph when it is started."""

    name: str
    default: Value
    about: str


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Nodes and arguments of a file."""

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
                Argument(name=name, default=told["default"], about=told["about"])
                for name, told in said["arguments"].items()
            )
            graph = cls(about=said["about"], arguments=arguments, nodes=tuple(said["nodes"]))
        except OSError as error:
            raise ConfigError(f"there is no graph {path}: {error}. Name one of launch/graphs") from error
        except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path} is no graph: {type(error).__name__}: {error}") from error
        graph._check(path)
        return graph

    def _check(self, path: Path) -> None:
        for argument in self.arguments:
            if not isinstance(argument.default, _KINDS):
                raise ConfigError(
                    f"{path}: default of '{argument.name}' is {argument.default!r}; it must be plain"
                )
        for node in self.nodes:
            unknown, lacking = set(node) - PARTS, {"name", "executable"} - set(node)
            if unknown or lacking:
                raise ConfigError(
                    f"{path}: node {dict(node)} has {sorted(unknown)} and lacks {sorted(lacking)}"
                )
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
            ConfigError: If one is unknown, or of another kind than its default.
        """
        known = {argument.name: argument.default for argument in self.arguments}
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ConfigError(f"the graph has no argument {unknown}; it has {sorted(known)}")
        try:
            return known | {name: as_kind(text, known[name]) for name, text in given.items()}
        except ValueError as error:
            raise ConfigError(f"{error}") from error


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
    known = sorted({path.stem for folder in FOLDERS for path in folder.glob("*.yaml")})
    raise ConfigError(f"there is no graph '{name}'; there are {known}, or give a YAML file")


# What follows is copied into every launch file, which may import nothing of ours.


def as_kind(text: str, like: Any) -> Any:
    """What text says, of the kind that a default has."""
    if isinstance(like, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(f"'{text}' is neither true nor false")
        return text.lower() == "true"
    return type(like)(text)


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


def resolver() -> str:
    """Source of what every launch file has in common with this module."""
    return inspect.getsource(as_kind) + "\n\n" + inspect.getsource(resolved)
