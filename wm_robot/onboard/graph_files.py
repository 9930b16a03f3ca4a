"""The graphs of a base on disk: made by `wm-robot export`, used by every agent that finds them."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wm_robot.errors import SnapshotError
from wm_robot.io.durable import digest, write_file
from wm_robot.models.base import Base
from wm_robot.onboard.graph import Graph
from wm_robot.onboard.life_graph import LifeGraph, Step
from wm_robot.onboard.plan_graph import Iteration, Loss, PlanGraph, objective_of
from wm_robot.onboard.quantize import quantized
from wm_robot.planning.mppi import MppiConfig
from wm_robot.spec import RobotSpec

FORMAT = 4
CARD, PLAN, PREDICT, WRITE = "graphs.json", "plan.onnx", "predict.onnx", "write.onnx"
PLAN_INT8 = "plan-int8.onnx"
TOLERANCE = 1e-3
"""Largest difference to torch that an export may have: of an action in its unit, and of a state and an observation.
Rounding of scores that lie close together is amplified by the weights of the elites, to some 1e-5."""

MOST_LOST = 0.01
"""Part of an iteration's gain that a plan in integers may lose. Eight bits lose 0.0001 of `arm-ekf`, five 0.005, four
0.03; one product with the wrong weights loses 0.4."""


class Graphs(NamedTuple):
    """What a base has as graphs."""

    plan: PlanGraph
    life: LifeGraph | None
    """None where torch is the faster one."""


def load_graphs(folder: str | Path, base: Base, *, int8: bool = False) -> Graphs | None:
    """The graphs beside a base, if there are any; their bytes are checked before they are parsed.

    Args:
        int8: Plan by the graph in eight bits.

    Raises:
        SnapshotError: If they are damaged or belong to another base, or none is in eight bits.
    """
    folder = Path(folder)
    if not (folder / CARD).exists():
        return None
    again = f"Make them again: wm-robot export {folder}"
    try:
        card = json.loads((folder / CARD).read_bytes())
        contents = {name: (folder / name).read_bytes() for name in card["sha256"]}
        planner, objective = MppiConfig(**card["planner"]), str(card["objective"])
        found = (card["format"], card["base"], card["sha256"])
        with_life = {PREDICT, WRITE} <= contents.keys()
        contents[PLAN]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SnapshotError(f"graphs in {folder} cannot be read: {error}. {again}") from error
    if card["format"] != FORMAT:
        raise SnapshotError(
            f"graphs in {folder} have format {card['format']}, this version reads {FORMAT}. {again}"
        )
    if found != (FORMAT, base.digest, _digests(contents)):
        raise SnapshotError(f"graphs in {folder} are damaged, or not of base {base.digest[:12]}. {again}")
    if int8 and PLAN_INT8 not in contents:
        raise SnapshotError(f"{folder} has no {PLAN_INT8}. Make it: wm-robot export {folder} --int8")
    return Graphs(
        PlanGraph(Graph(contents[PLAN_INT8 if int8 else PLAN]), objective=objective, planner=planner),
        LifeGraph(Graph(contents[PREDICT]), Graph(contents[WRITE])) if with_life else None,
    )


def export_graphs(
    folder: str | Path,
    base: Base,
    spec: RobotSpec,
    *,
    task: str,
    planner: MppiConfig | None = None,
    int8: bool = False,
) -> tuple[dict[str, float], Loss | None]:
    """Write the graphs of a base beside it.

    Args:
        int8: A plan in eight bits, too.

    Returns:
        Largest difference of each to torch, by its part, and what the plan in eight bits loses, if there is one.

    Raises:
        MissingExtraError: If the exporter is not installed.
        SnapshotError: If the base is another robot's, or a graph does not compute what torch does.
        ConfigError: If the planner shuns risk.
    """
    base.check_spec(spec)
    planner, objective = planner or MppiConfig(), objective_of(spec, task)
    iteration = Iteration(base.model, spec, task=task, planner=planner)
    contents = {PLAN: iteration.graph()}
    plan = PlanGraph(Graph(contents[PLAN]), objective=objective, planner=planner)
    differences = {"plan": _checked("plan", iteration.differences(plan))}
    loss = None
    if int8:
        contents[PLAN_INT8] = quantized(contents[PLAN])
        rounded = PlanGraph(Graph(contents[PLAN_INT8]), objective=objective, planner=planner)
        loss = checked_loss(iteration, rounded)
    # An oracle is told at every step what no sensor tells: only its plan runs on a robot.
    if not base.model.told and base.model.config.memory not in Step.IN_TORCH:
        step = Step(base.model)
        contents |= {PREDICT: step.predict_graph(), WRITE: step.write_graph()}
        life = LifeGraph(Graph(contents[PREDICT]), Graph(contents[WRITE]))
        differences["life"] = _checked("life", step.differences(life))
    card: dict[str, Any] = {
        "format": FORMAT,
        "kind": "graphs",
        "base": base.digest,
        "task": task,
        "objective": objective,
        "planner": asdict(planner),
        "sha256": _digests(contents),
        "difference_to_torch": differences,
    }
    if loss is not None:
        card["int8_loss"] = asdict(loss)
    for name, content in contents.items():
        write_file(Path(folder) / name, content)
    write_file(Path(folder) / CARD, json.dumps(card, indent=1).encode())
    return differences, loss


def checked_loss(iteration: Iteration, graph: PlanGraph) -> Loss:
    """What a plan in integers loses.

    Raises:
        SnapshotError: If that is too much.
    """
    loss = iteration.loss(graph)
    # So that NaN is refused.
    if not loss.gain <= MOST_LOST:
        raise SnapshotError(
            f"the plan in integers loses {100 * loss.gain:.2g} % of what an iteration gains; at most "
            f"{100 * MOST_LOST:.2g} % is allowed. Plan in float32: export without --int8"
        )
    return loss


def _digests(contents: Mapping[str, bytes]) -> dict[str, str]:
    return {name: digest(content) for name, content in contents.items()}


def _checked(part: str, differences: Any) -> float:
    # numpy's maximum keeps a NaN, which Python's would drop.
    largest = float(np.max(differences))
    if not largest <= TOLERANCE:
        raise SnapshotError(
            f"the exported {part} differs from torch by {largest:.2g}; at most {TOLERANCE} is allowed. "
            "Report this with the versions of torch and onnxruntime"
        )
    return largest
