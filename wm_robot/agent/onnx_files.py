"""ONNX files of a base: written by `wm_robot.training.export`, used by agents instead of torch."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from wm_robot.agent.onnx_planner import PlanGraph
from wm_robot.errors import SnapshotError
from wm_robot.io.base_file import beside_base
from wm_robot.io.durable import digest
from wm_robot.io.tensor_file import read_tensors
from wm_robot.model.base import Base
from wm_robot.model.onnx_backend import LifeGraph
from wm_robot.model.onnx_session import Function, Graph
from wm_robot.planning.mppi import MppiConfig

FORMAT = 8
CARD, PLAN, PREDICT = "graphs.json", "plan.onnx", "predict.onnx"
WRITE = {1: "write.onnx", 2: "write-two.onnx"}
"""Update graphs by the number of states: the shadow evaluation updates two."""
BIRTH = "birth.safetensors"
"""File of the initial state of one robot: with it and the graphs an agent needs no torch."""


class Graphs(NamedTuple):
    """ONNX functions of a base."""

    plan: PlanGraph
    life: LifeGraph | None
    """None where the family is not exportable: torch updates the state."""


def load_graphs(folder: str | Path, base: Base) -> Graphs | None:
    """Load the graphs of a base, if there are any; their bytes are checked before they are parsed.

    Raises:
        SnapshotError: If they are damaged or belong to another base.
    """
    folder = beside_base(folder)
    if not (folder / CARD).exists():
        return None
    card, contents = read_files(folder, base)
    return graphs_of(card, contents, Graph)


def read_files(folder: Path, base: Base) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read card and files, and check that they are complete and of this base."""
    again = f"Export them again: wm-robot export {folder}"
    try:
        card = json.loads((folder / CARD).read_bytes())
        contents = {name: (folder / name).read_bytes() for name in card["sha256"]}
        MppiConfig(**card["planner"])
        card["objective"], card["task"]
        found = (card["format"], card["base"], card["sha256"])
        contents[PLAN]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SnapshotError(f"graphs in {folder} cannot be read: {error}. {again}") from error
    if card["format"] != FORMAT:
        raise SnapshotError(
            f"graphs in {folder} have format {card['format']}, this version reads {FORMAT}. {again}"
        )
    if found != (FORMAT, base.digest, digests(contents)):
        raise SnapshotError(f"graphs in {folder} are damaged, or not of base {base.digest[:12]}. {again}")
    return card, contents


def graphs_of(
    card: Mapping[str, Any],
    contents: Mapping[str, bytes],
    runs: Callable[[bytes, str], Function],
) -> Graphs:
    """Make the functions of the files.

    Args:
        make_function: Creates a function from a graph.
    """
    planner = MppiConfig(**card["planner"])
    search = PlanGraph(runs(contents[PLAN], PLAN), objective=str(card["objective"]), planner=planner)
    if BIRTH not in contents:
        return Graphs(search, None)
    predict = runs(contents[PREDICT], PREDICT)
    writes = {lives: runs(contents[name], name) for lives, name in WRITE.items()}
    return Graphs(search, LifeGraph(predict, writes, read_tensors(contents[BIRTH], BIRTH)))


def digests(contents: Mapping[str, bytes]) -> dict[str, str]:
    return {name: digest(content) for name, content in contents.items()}
