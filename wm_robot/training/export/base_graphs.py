"""Base graphs: exports the ONNX files of a base and compares them with torch."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from wm_robot.agent.onnx_files import (
    CARD_FILE,
    GRAPH_FORMAT,
    INITIAL_STATE_FILE,
    PLAN_FILE,
    PREDICT_FILE,
    UPDATE_FILES,
    OnnxFunctions,
    compute_digests,
    make_functions,
    read_graph_files,
)
from wm_robot.agent.onnx_planner import OnnxPlanner, digest_objective
from wm_robot.errors import OnnxMismatchError, SnapshotError
from wm_robot.io.durable import remove_file, write_file
from wm_robot.memory.registry import find_family
from wm_robot.model.base import Base
from wm_robot.model.onnx_session import OnnxFunction
from wm_robot.planning.mppi import MppiConfig
from wm_robot.spec import RobotSpec
from wm_robot.training.export.plan_iteration import PlanIterationExport
from wm_robot.training.export.reference_runtime import ReferenceFunction, has_reference
from wm_robot.training.export.update_step import UpdateStepExport

MAX_DIFFERENCE = 1e-3
"""Largest permitted difference to torch: of an action in its unit, and of a state and an observation. The weights of
the elites amplify rounding of similar scores, to about 1e-5."""
NUM_CHECK_STEPS, NUM_REFERENCE_STEPS = 1000, 20
"""Steps of the comparison of torch with the graphs, each from torch's own state; and with the reference runtime, a
hundred times slower."""
GRAPH_FILES = (PLAN_FILE, PREDICT_FILE, INITIAL_STATE_FILE, *UPDATE_FILES.values())
"""All graph files of a base, besides their card."""


def export_graphs(
    folder: str | Path,
    base: Base,
    spec: RobotSpec,
    *,
    task: str,
    planner: MppiConfig | None = None,
    num_steps: int = NUM_CHECK_STEPS,
) -> dict[str, float]:
    """Export the graphs of a base into its folder.

    Args:
        num_steps: Number of steps of the comparison with torch before writing.

    Returns:
        Largest difference to torch, by graph.

    Raises:
        MissingExtraError: If the exporter is not installed.
        SnapshotError: If the base is of another robot.
        GraphError: If a graph differs from torch. Then none is written, and graphs of another base in the folder are
            removed: agents of this base use torch.
    """
    base.check_spec(spec)
    planner, objective = planner or MppiConfig(), digest_objective(spec, task)
    contents = {PLAN_FILE: PlanIterationExport(base.model, spec, task=task, planner=planner).export_graph()}
    # An oracle needs the true physics at every step: only its planner is exported.
    if not base.uses_privileged_state and find_family(base.config["memory"]).memory_class.exportable:
        step = UpdateStepExport(base.model)
        contents |= {
            PREDICT_FILE: step.export_predict(),
            INITIAL_STATE_FILE: save(step.make_initial_arrays()),
        }
        contents |= {name: step.export_update(lives) for lives, name in UPDATE_FILES.items()}
    card: dict[str, Any] = {
        "format": GRAPH_FORMAT,
        "kind": "graphs",
        "base": base.digest,
        "task": task,
        "objective": objective,
        "planner": asdict(planner),
        "sha256": compute_digests(contents),
    }
    try:
        differences = _compute_differences(
            base, spec, card, make_functions(card, contents, OnnxFunction), num_steps
        )
    except OnnxMismatchError:
        remove_foreign_graphs(folder, base)
        raise
    for name, content in contents.items():
        write_file(Path(folder) / name, content)
    card |= {"difference_to_torch": differences, "steps": num_steps}
    write_file(Path(folder) / CARD_FILE, json.dumps(card, indent=1).encode())
    _remove_files(Path(folder), {*GRAPH_FILES} - {*contents})
    return differences


def remove_foreign_graphs(folder: str | Path, base: Base) -> None:
    """Remove graphs in a base's folder that are damaged, of another base or of another format."""
    try:
        read_graph_files(Path(folder), base)
    except SnapshotError:
        # The card first: without it there are no graphs.
        _remove_files(Path(folder), (CARD_FILE, *GRAPH_FILES))


def _remove_files(folder: Path, names: Iterable[str]) -> None:
    for path in (folder / name for name in names):
        if path.exists():
            remove_file(path)


def check_graphs(
    folder: str | Path,
    base: Base,
    spec: RobotSpec,
    *,
    num_steps: int = NUM_CHECK_STEPS,
    num_reference_steps: int = NUM_REFERENCE_STEPS,
) -> dict[str, float]:
    """Compare the graphs on disk with torch again.

    Where `onnx` is installed, its NumPy reference also runs them for a few steps, as a runtime independent of
    onnxruntime.

    Returns:
        Largest difference, by graph.

    Raises:
        SnapshotError: If there are none, or they are of another base, robot or task.
        GraphError: If a graph differs from torch.
    """
    base.check_spec(spec)
    card, contents = read_graph_files(Path(folder), base)
    if card["objective"] != digest_objective(spec, card["task"]):
        raise SnapshotError(
            f"the plan in {folder} is for another task '{card['task']}' than robot '{spec.name}' has now. "
            f"Export it again: wm-robot export {folder}"
        )
    found = _compute_differences(base, spec, card, make_functions(card, contents, OnnxFunction), num_steps)
    if has_reference():
        by_numpy = _compute_differences(
            base, spec, card, make_functions(card, contents, ReferenceFunction), num_reference_steps
        )
        found |= {f"{part} by the reference": apart for part, apart in by_numpy.items()}
    return found


def _compute_differences(
    base: Base, spec: RobotSpec, card: Mapping[str, Any], graphs: OnnxFunctions, steps: int
) -> dict[str, float]:
    """Compute the largest difference to torch of each graph, and check it."""
    iteration = PlanIterationExport(base.model, spec, task=card["task"], planner=graphs.plan.planner)
    found = {"plan": check_planner_graph(iteration, graphs.plan)}
    if graphs.backend:
        found["update"] = _check_difference(
            "update",
            UpdateStepExport(base.model).compute_differences(graphs.backend, steps, bound=MAX_DIFFERENCE),
        )
    return found


def check_planner_graph(iteration: PlanIterationExport, graph: OnnxPlanner) -> float:
    """Compute the largest difference of a planner graph to torch.

    Raises:
        GraphError: If it is too large.
    """
    return _check_difference("plan", iteration.compute_differences(graph, bound=MAX_DIFFERENCE))


def _check_difference(part: str, differences: Sequence[float]) -> float:
    # numpy's maximum keeps a NaN, which Python's would drop.
    largest = float(np.max(differences))
    if not largest <= MAX_DIFFERENCE:
        raise OnnxMismatchError(
            f"the exported {part} differs from torch by {largest:.2g} where rounding does not explain it; at most "
            f"{MAX_DIFFERENCE} is allowed. Report this with the versions of torch and onnxruntime"
        )
    return largest
