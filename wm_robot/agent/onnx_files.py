"""ONNX files of a base: written by `wm_robot.training.export`, used by agents instead of torch.

The card `graphs.json` lists the plans by task, each with its file: `plan.onnx` for the first task, and
`plan-TASK.onnx` for each further one. The other graphs are of the base alone. Large weights are in the weight file
only: the graphs refer to them (`wm_robot.model.graph_weights`).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from wm_robot.agent.onnx_planner import OnnxPlanner
from wm_robot.errors import SnapshotError
from wm_robot.io.base_file import resolve_base_folder
from wm_robot.io.durable import compute_digest
from wm_robot.io.tensor_file import parse_tensors
from wm_robot.model.base import Base
from wm_robot.model.graph_weights import BaseWeights
from wm_robot.model.onnx_backend import OnnxBackend
from wm_robot.model.onnx_session import OnnxFunction, StateFunction
from wm_robot.planning.mppi import MppiConfig
from wm_robot.spec import RobotSpec, Task
from wm_robot.tasks.goal_postures import name_posture_task

GRAPH_FORMAT = 10
CARD_FILE, PLAN_FILE, PREDICT_FILE = "graphs.json", "plan.onnx", "predict.onnx"
UPDATE_FILES = {1: "update.onnx", 2: "update-two.onnx"}
"""Update graphs by the number of states: the shadow evaluation updates two."""
INITIAL_STATE_FILE = "initial_state.safetensors"
"""File of the initial state of one robot: with it and the graphs an agent needs no torch."""
STATE_FILES = (PREDICT_FILE, INITIAL_STATE_FILE, *UPDATE_FILES.values())
"""Graph files of a base that are of no task."""


class OnnxFunctions(NamedTuple):
    """ONNX functions of a base."""

    plan: OnnxPlanner | None
    """None where no plan was exported for the task: torch plans."""
    backend: OnnxBackend | None
    """None where the family is not exportable: torch updates the state."""
    posture_plan: OnnxPlanner | None = None
    """Plan that tracks the goal postures of the task; None where none was exported."""


@dataclass(frozen=True, kw_only=True)
class PlanRecord:
    """Record of an exported plan in the card."""

    file: str
    task: Task
    objective: str
    """See `digest_objective`."""
    planner: MppiConfig
    difference_to_torch: float | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "PlanRecord":
        """Build a record from plain values.

        Raises:
            KeyError, TypeError, ValueError: If a value is missing or of the wrong kind.
        """
        if not (is_plan_file(values["file"]) and isinstance(values["objective"], str)):
            raise ValueError(f"{values['file']!r} is no file of a plan")
        return cls(**{**values, "task": Task(**values["task"]), "planner": MppiConfig(**values["planner"])})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for `from_dict`."""
        return asdict(self)


def name_plan_file(task: str) -> str:
    """Return the name of the plan file of a further task."""
    return f"plan-{task}.onnx"


def is_plan_file(name: str) -> bool:
    """Whether a file name in a base's folder is that of a plan."""
    return name == PLAN_FILE or (
        Path(name).name == name and name.startswith("plan-") and name.endswith(".onnx")
    )


def load_functions(folder: str | Path, base: Base, task: str | None = None) -> OnnxFunctions | None:
    """Load the graphs of a base, if there are any; their bytes are checked before they are parsed.

    Args:
        task: Task of the plan; the first exported one by default.

    Raises:
        SnapshotError: If they are damaged or belong to another base.
    """
    folder = resolve_base_folder(folder)
    if not (folder / CARD_FILE).exists():
        return None
    card, contents = read_graph_files(folder, base)
    return make_functions(card, contents, partial(OnnxFunction, weights=BaseWeights(base.weights)), task)


def add_exported_task(spec: RobotSpec, folder: str | Path, base: Base, task: str) -> RobotSpec:
    """Add a task that the spec lacks, and that a plan of the base was exported for.

    So a robot can be given a task that a file made elsewhere: its reward is in the plan.

    Raises:
        SnapshotError: If the graphs are damaged or belong to another base.
    """
    folder = resolve_base_folder(folder)
    if task in spec.tasks or not (folder / CARD_FILE).exists():
        return spec
    record = read_plans(read_graph_files(folder, base)[0]).get(task)
    return spec if record is None else replace(spec, tasks={**spec.tasks, task: record.task})


def read_graph_files(folder: Path, base: Base) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read card and files, and check that they are complete and of this base."""
    again = f"Export them again: wm-robot export {folder}"
    try:
        card = json.loads((folder / CARD_FILE).read_bytes())
        if card["format"] != GRAPH_FORMAT:
            raise SnapshotError(
                f"graphs in {folder} have format {card['format']}, this version reads {GRAPH_FORMAT}. {again}"
            )
        contents = {name: (folder / name).read_bytes() for name in card["sha256"]}
        found = card["base"], card["sha256"]
        plans = read_plans(card)
        for record in plans.values():
            contents[record.file]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SnapshotError(f"graphs in {folder} cannot be read: {error}. {again}") from error
    if found != (base.digest, compute_digests(contents)) or not plans:
        raise SnapshotError(f"graphs in {folder} are damaged, or not of base {base.digest[:12]}. {again}")
    return card, contents


def read_plans(card: Mapping[str, Any]) -> dict[str, PlanRecord]:
    """Return the records of the exported plans by task, the first one first."""
    return {task: PlanRecord.from_dict(values) for task, values in card["plans"].items()}


def make_functions(
    card: Mapping[str, Any],
    contents: Mapping[str, bytes],
    make_function: Callable[[bytes, str], StateFunction],
    task: str | None = None,
) -> OnnxFunctions:
    """Make the functions of the files.

    Args:
        make_function: Creates a function from a graph.
        task: See `load_functions`.
    """
    plans = read_plans(card)
    task = next(iter(plans)) if task is None else task

    def make_planner(record: PlanRecord | None) -> OnnxPlanner | None:
        if record is None or record.file not in contents:
            return None
        plan = make_function(contents[record.file], record.file)
        return OnnxPlanner(plan, objective=record.objective, planner=record.planner)

    search, posture_plan = (make_planner(plans.get(name)) for name in (task, name_posture_task(task)))
    if INITIAL_STATE_FILE not in contents:
        return OnnxFunctions(search, None, posture_plan)
    predict = make_function(contents[PREDICT_FILE], PREDICT_FILE)
    writes = {lives: make_function(contents[name], name) for lives, name in UPDATE_FILES.items()}
    born = parse_tensors(contents[INITIAL_STATE_FILE], INITIAL_STATE_FILE)
    return OnnxFunctions(search, OnnxBackend(predict, writes, born), posture_plan)


def compute_digests(contents: Mapping[str, bytes]) -> dict[str, str]:
    return {name: compute_digest(content) for name, content in contents.items()}
