"""Base graphs: exports the ONNX files of a base and compares them with torch."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
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
    STATE_FILES,
    UPDATE_FILES,
    OnnxFunctions,
    PlanRecord,
    compute_digests,
    is_plan_file,
    make_functions,
    name_plan_file,
    read_graph_files,
    read_plans,
)
from wm_robot.agent.onnx_planner import OnnxPlanner, digest_objective
from wm_robot.errors import OnnxMismatchError, SnapshotError
from wm_robot.io.durable import remove_file, write_file
from wm_robot.memory.registry import find_family
from wm_robot.model.base import Base
from wm_robot.model.graph_weights import BaseWeights
from wm_robot.model.onnx_session import OnnxFunction, StateFunction
from wm_robot.planning.goal_postures import make_posture_config
from wm_robot.planning.mppi import MppiConfig
from wm_robot.spec import RobotSpec
from wm_robot.tasks import is_reward_available
from wm_robot.tasks.goal_postures import add_posture_task, name_posture_task
from wm_robot.training.export.plan_iteration import PlanIterationExport
from wm_robot.training.export.reference_runtime import ReferenceFunction, has_reference
from wm_robot.training.export.update_step import UpdateStepExport
from wm_robot.training.export.weight_sharing import share_weights

MAX_DIFFERENCE = 1e-3
"""Largest permitted difference to torch: of an action in its unit, and of a state and an observation. The weights of
the elites amplify rounding of similar scores, to about 1e-5."""
NUM_CHECK_STEPS, NUM_REFERENCE_STEPS = 1000, 20
"""Steps of the comparison of torch with the graphs, each from torch's own state; and with the reference runtime, a
hundred times slower."""


def export_graphs(
    folder: str | Path,
    base: Base,
    spec: RobotSpec,
    *,
    task: str,
    planner: MppiConfig | None = None,
    num_steps: int = NUM_CHECK_STEPS,
    plan_only: bool = False,
) -> dict[str, float]:
    """Export the graphs of a base into its folder: the plan of a task, and the graphs of the state.

    Plans of other tasks in the folder stay, if they are of this base.

    Args:
        num_steps: Number of steps of the comparison with torch before writing.
        plan_only: Keep the graphs of the state that are there, if they are of this base.

    Returns:
        Largest difference to torch, by graph.

    Raises:
        MissingExtraError: If the exporter is not installed.
        SnapshotError: If the base is of another robot.
        SpecError: If the robot has no such task, or lacks what its reward needs.
        GraphError: If a graph differs from torch. Then none is written, and graphs of another base in the folder are
            removed: agents of this base use torch.
    """
    base.check_spec(spec)
    folder, planner = Path(folder), planner or MppiConfig()
    card, kept = _read_kept_files(folder, base)
    plans = read_plans(card)
    if task in plans:
        file = plans[task].file
    else:
        file = name_plan_file(task) if any(each.file == PLAN_FILE for each in plans.values()) else PLAN_FILE
    record = PlanRecord(
        file=file, task=spec.find_task(task), objective=digest_objective(spec, task), planner=planner
    )
    iteration = PlanIterationExport(base.model, spec, task=task, planner=planner)
    weights = BaseWeights(base.weights)
    contents = {file: share_weights(iteration.export_graph(), weights)}
    keeps_state = plan_only and bool(plans)
    if not keeps_state:
        contents |= _export_state_graphs(base, weights)
    try:
        fresh = {"plans": {task: record.to_dict()}}
        functions = make_functions(fresh, contents, partial(OnnxFunction, weights=weights))
        differences = _compute_differences(base, spec, functions, num_steps, task=task)
    except OnnxMismatchError:
        remove_foreign_graphs(folder, base)
        raise
    record = replace(record, difference_to_torch=differences["plan"])
    plans[task] = record
    files = {each.file for each in plans.values()}
    kept = {name: kept[name] for name in kept if name in files or keeps_state}
    for name, content in contents.items():
        write_file(folder / name, content)
    of_state = {part: apart for part, apart in differences.items() if part != "plan"}
    new_card = {
        "format": GRAPH_FORMAT,
        "kind": "graphs",
        "base": base.digest,
        "plans": {name: each.to_dict() for name, each in plans.items()},
        "sha256": compute_digests(kept | contents),
        "difference_to_torch": card["difference_to_torch"] if keeps_state else of_state,
        "steps": card["steps"] if keeps_state else num_steps,
    }
    write_file(folder / CARD_FILE, json.dumps(new_card, indent=1).encode())
    _remove_files(folder, _list_graph_files(folder) - {*kept, *contents})
    return differences


def export_posture_plan(
    folder: str | Path, base: Base, spec: RobotSpec, *, task: str, planner: MppiConfig | None = None
) -> dict[str, float]:
    """Export the plan that tracks goal postures of a task, beside the plan of the task itself.

    Returns:
        Largest difference to torch; empty for a task without goal postures.

    Raises:
        GraphError: See `export_graphs`.
    """
    own, name = add_posture_task(spec, task), name_posture_task(task)
    if own is None:
        return {}
    config = make_posture_config(planner or MppiConfig())
    found = export_graphs(folder, base, own, task=name, planner=config, plan_only=True)
    return {"posture plan": found["plan"]}


def _read_kept_files(folder: Path, base: Base) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read the card and the files of this base that are there; a card without plans otherwise."""
    try:
        return read_graph_files(folder, base)
    except SnapshotError:
        return {"plans": {}}, {}


def _export_state_graphs(base: Base, weights: BaseWeights) -> dict[str, bytes]:
    """Export the graphs of the state's update; none where torch must update it."""
    # An oracle needs the true physics at every step: only its planner is exported.
    if base.uses_privileged_state or not find_family(base.config["memory"]).memory_class.exportable:
        return {}
    step = UpdateStepExport(base.model)
    return {
        PREDICT_FILE: share_weights(step.export_predict(), weights),
        INITIAL_STATE_FILE: save(step.make_initial_arrays()),
        **{name: share_weights(step.export_update(lives), weights) for lives, name in UPDATE_FILES.items()},
    }


def remove_foreign_graphs(folder: str | Path, base: Base) -> None:
    """Remove graphs in a base's folder that are damaged, of another base or of another format."""
    folder = Path(folder)
    try:
        read_graph_files(folder, base)
    except SnapshotError:
        # The card first: without it there are no graphs.
        _remove_files(folder, (CARD_FILE, *sorted(_list_graph_files(folder))))


def _list_graph_files(folder: Path) -> set[str]:
    """List the graph files in a base's folder, besides their card."""
    plans = {path.name for path in folder.glob("plan*.onnx") if is_plan_file(path.name)}
    return plans | {name for name in STATE_FILES if (folder / name).exists()}


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
    """Compare the graphs on disk with torch again: the plan of each task whose reward is available, and the others.

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
    plans, weights = read_plans(card), BaseWeights(base.weights)
    spec = replace(spec, tasks={**{name: each.task for name, each in plans.items()}, **spec.tasks})
    found: dict[str, float] = {}
    for number, (task, record) in enumerate(plans.items()):
        if not is_reward_available(spec.find_task(task)):
            continue
        if record.objective != digest_objective(spec, task):
            raise SnapshotError(
                f"the plan in {folder} is for another task '{task}' than robot '{spec.name}' has now. "
                f"Export it again: wm-robot export {folder} --task {task}"
            )
        # The graphs of the state are compared once.
        compared = contents if not number else {record.file: contents[record.file]}
        runs: list[tuple[str, Callable[..., StateFunction], int]] = [("", OnnxFunction, num_steps)]
        if has_reference():
            runs.append((" by the reference", ReferenceFunction, num_reference_steps))
        for suffix, make_function, steps in runs:
            functions = make_functions(card, compared, partial(make_function, weights=weights), task)
            apart = _compute_differences(base, spec, functions, steps, task=task)
            of_task = f" of {task}" if number else ""
            found |= {f"{part}{of_task}{suffix}": difference for part, difference in apart.items()}
    return found


def _compute_differences(
    base: Base, spec: RobotSpec, graphs: OnnxFunctions, steps: int, *, task: str
) -> dict[str, float]:
    """Compute the largest difference to torch of each graph, and check it."""
    assert graphs.plan is not None
    iteration = PlanIterationExport(base.model, spec, task=task, planner=graphs.plan.planner)
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
