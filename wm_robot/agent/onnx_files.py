"""ONNX files of a base: written by `wm_robot.training.export`, used by agents instead of torch."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from wm_robot.agent.onnx_planner import OnnxPlanner
from wm_robot.errors import SnapshotError
from wm_robot.io.base_file import resolve_base_folder
from wm_robot.io.durable import compute_digest
from wm_robot.io.tensor_file import parse_tensors
from wm_robot.model.base import Base
from wm_robot.model.onnx_backend import OnnxBackend
from wm_robot.model.onnx_session import OnnxFunction, StateFunction
from wm_robot.planning.mppi import MppiConfig

GRAPH_FORMAT = 9
CARD_FILE, PLAN_FILE, PREDICT_FILE = "graphs.json", "plan.onnx", "predict.onnx"
UPDATE_FILES = {1: "update.onnx", 2: "update-two.onnx"}
"""Update graphs by the number of states: the shadow evaluation updates two."""
INITIAL_STATE_FILE = "initial_state.safetensors"
"""File of the initial state of one robot: with it and the graphs an agent needs no torch."""


class OnnxFunctions(NamedTuple):
    """ONNX functions of a base."""

    plan: OnnxPlanner
    backend: OnnxBackend | None
    """None where the family is not exportable: torch updates the state."""


def load_functions(folder: str | Path, base: Base) -> OnnxFunctions | None:
    """Load the graphs of a base, if there are any; their bytes are checked before they are parsed.

    Raises:
        SnapshotError: If they are damaged or belong to another base.
    """
    folder = resolve_base_folder(folder)
    if not (folder / CARD_FILE).exists():
        return None
    card, contents = read_graph_files(folder, base)
    return make_functions(card, contents, OnnxFunction)


def read_graph_files(folder: Path, base: Base) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read card and files, and check that they are complete and of this base."""
    again = f"Export them again: wm-robot export {folder}"
    try:
        card = json.loads((folder / CARD_FILE).read_bytes())
        contents = {name: (folder / name).read_bytes() for name in card["sha256"]}
        MppiConfig(**card["planner"])
        card["objective"], card["task"]
        found = (card["format"], card["base"], card["sha256"])
        contents[PLAN_FILE]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SnapshotError(f"graphs in {folder} cannot be read: {error}. {again}") from error
    if card["format"] != GRAPH_FORMAT:
        raise SnapshotError(
            f"graphs in {folder} have format {card['format']}, this version reads {GRAPH_FORMAT}. {again}"
        )
    if found != (GRAPH_FORMAT, base.digest, compute_digests(contents)):
        raise SnapshotError(f"graphs in {folder} are damaged, or not of base {base.digest[:12]}. {again}")
    return card, contents


def make_functions(
    card: Mapping[str, Any],
    contents: Mapping[str, bytes],
    make_function: Callable[[bytes, str], StateFunction],
) -> OnnxFunctions:
    """Make the functions of the files.

    Args:
        make_function: Creates a function from a graph.
    """
    planner = MppiConfig(**card["planner"])
    search = OnnxPlanner(
        make_function(contents[PLAN_FILE], PLAN_FILE), objective=str(card["objective"]), planner=planner
    )
    if INITIAL_STATE_FILE not in contents:
        return OnnxFunctions(search, None)
    predict = make_function(contents[PREDICT_FILE], PREDICT_FILE)
    writes = {lives: make_function(contents[name], name) for lives, name in UPDATE_FILES.items()}
    return OnnxFunctions(
        search, OnnxBackend(predict, writes, parse_tensors(contents[INITIAL_STATE_FILE], INITIAL_STATE_FILE))
    )


def compute_digests(contents: Mapping[str, bytes]) -> dict[str, str]:
    return {name: compute_digest(content) for name, content in contents.items()}
