"""Base graphs: exports the ONNX files of a base and compares them with torch."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from wm_robot.agent.onnx_files import (
    BIRTH,
    CARD,
    FORMAT,
    PLAN,
    PREDICT,
    WRITE,
    Graphs,
    digests,
    graphs_of,
    read_files,
)
from wm_robot.agent.onnx_planner import PlanGraph, objective_of
from wm_robot.errors import GraphError, SnapshotError
from wm_robot.io.durable import remove_file, write_file
from wm_robot.memory.registry import find_family
from wm_robot.model.base import Base
from wm_robot.model.onnx_session import Graph
from wm_robot.planning.mppi import MppiConfig
from wm_robot.spec import RobotSpec
from wm_robot.training.export.plan_iteration import Iteration
from wm_robot.training.export.reference_runtime import Reference, has_reference
from wm_robot.training.export.update_step import UpdateStep

TOLERANCE = 1e-3
"""Largest permitted difference to torch: of an action in its unit, and of a state and an observation. The weights of
the elites amplify rounding of similar scores, to about 1e-5."""
STEPS, FEW = 1000, 20
"""Steps of the comparison of torch with the graphs, each from torch's own state; and with the reference runtime, a
hundred times slower."""
FILES = (PLAN, PREDICT, BIRTH, *WRITE.values())
"""All graph files of a base, besides their card."""


def export_graphs(
    folder: str | Path,
    base: Base,
    spec: RobotSpec,
    *,
    task: str,
    planner: MppiConfig | None = None,
    steps: int = STEPS,
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
    planner, objective = planner or MppiConfig(), objective_of(spec, task)
    contents = {PLAN: Iteration(base.model, spec, task=task, planner=planner).graph()}
    # An oracle needs the true physics at every step: only its planner is exported.
    if not base.told and find_family(base.config["memory"]).memory.exportable:
        step = UpdateStep(base.model)
        contents |= {PREDICT: step.predict_graph(), BIRTH: save(step.born())}
        contents |= {name: step.write_graph(lives) for lives, name in WRITE.items()}
    card: dict[str, Any] = {
        "format": FORMAT,
        "kind": "graphs",
        "base": base.digest,
        "task": task,
        "objective": objective,
        "planner": asdict(planner),
        "sha256": digests(contents),
    }
    try:
        differences = _differences(base, spec, card, graphs_of(card, contents, Graph), steps)
    except GraphError:
        remove_foreign_graphs(folder, base)
        raise
    for name, content in contents.items():
        write_file(Path(folder) / name, content)
    card |= {"difference_to_torch": differences, "steps": steps}
    write_file(Path(folder) / CARD, json.dumps(card, indent=1).encode())
    _remove(Path(folder), {*FILES} - {*contents})
    return differences


def remove_foreign_graphs(folder: str | Path, base: Base) -> None:
    """Remove graphs in a base's folder that are damaged, of another base or of another format."""
    try:
        read_files(Path(folder), base)
    except SnapshotError:
        # The card first: without it there are no graphs.
        _remove(Path(folder), (CARD, *FILES))


def _remove(folder: Path, names: Iterable[str]) -> None:
    for path in (folder / name for name in names):
        if path.exists():
            remove_file(path)


def check_graphs(
    folder: str | Path, base: Base, spec: RobotSpec, *, steps: int = STEPS, few: int = FEW
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
    card, contents = read_files(Path(folder), base)
    if card["objective"] != objective_of(spec, card["task"]):
        raise SnapshotError(
            f"the plan in {folder} is for another task '{card['task']}' than robot '{spec.name}' has now. "
            f"Export it again: wm-robot export {folder}"
        )
    found = _differences(base, spec, card, graphs_of(card, contents, Graph), steps)
    if has_reference():
        by_numpy = _differences(base, spec, card, graphs_of(card, contents, Reference), few)
        found |= {f"{part} by the reference": apart for part, apart in by_numpy.items()}
    return found


def _differences(
    base: Base, spec: RobotSpec, card: Mapping[str, Any], graphs: Graphs, steps: int
) -> dict[str, float]:
    """Compute the largest difference to torch of each graph, and check it."""
    iteration = Iteration(base.model, spec, task=card["task"], planner=graphs.plan.planner)
    found = {"plan": check_plan(iteration, graphs.plan)}
    if graphs.life:
        found["life"] = _checked(
            "life", UpdateStep(base.model).differences(graphs.life, steps, bound=TOLERANCE)
        )
    return found


def check_plan(iteration: Iteration, graph: PlanGraph) -> float:
    """Compute the largest difference of a planner graph to torch.

    Raises:
        GraphError: If it is too large.
    """
    return _checked("plan", iteration.differences(graph, bound=TOLERANCE))


def _checked(part: str, differences: Sequence[float]) -> float:
    # numpy's maximum keeps a NaN, which Python's would drop.
    largest = float(np.max(differences))
    if not largest <= TOLERANCE:
        raise GraphError(
            f"the exported {part} differs from torch by {largest:.2g} where rounding does not explain it; at most "
            f"{TOLERANCE} is allowed. Report this with the versions of torch and onnxruntime"
        )
    return largest
