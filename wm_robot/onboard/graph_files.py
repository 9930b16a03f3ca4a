"""The graphs of a base on disk: made by `wm-robot export`, used by every agent that finds them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from safetensors.numpy import save

from wm_robot.errors import SnapshotError
from wm_robot.io.durable import digest, write_file
from wm_robot.io.tensor_file import read_tensors
from wm_robot.models.base import Base
from wm_robot.onboard.graph import Function, Graph
from wm_robot.onboard.life_graph import LifeGraph
from wm_robot.onboard.plan_graph import PlanGraph, objective_of
from wm_robot.planning.mppi import MppiConfig
from wm_robot.spec import RobotSpec

if TYPE_CHECKING:
    from wm_robot.onboard.plan_iteration import Iteration, Loss

FORMAT = 5
CARD, PLAN, PREDICT, WRITE = "graphs.json", "plan.onnx", "predict.onnx", "write.onnx"
BIRTH = "birth.safetensors"
"""The state of one robot that has lived nothing: who has it and the graphs needs no torch."""
PLAN_INT8 = "plan-int8.onnx"
TOLERANCE = 1e-3
"""Largest difference to torch that a graph may have: of an action in its unit, and of a state and an observation.
Rounding of scores that lie close together is amplified by the weights of the elites, to some 1e-5."""
STEPS, FEW = 1000, 20
"""Steps of the life along which torch is compared with graphs; and with their reference, a hundred times slower."""
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
    if not (Path(folder) / CARD).exists():
        return None
    card, contents = _read(Path(folder), base)
    if int8 and PLAN_INT8 not in contents:
        raise SnapshotError(f"{folder} has no {PLAN_INT8}. Make it: wm-robot export {folder} --int8")
    return _graphs(card, contents, Graph, plan=PLAN_INT8 if int8 else PLAN)


def export_graphs(
    folder: str | Path,
    base: Base,
    spec: RobotSpec,
    *,
    task: str,
    planner: MppiConfig | None = None,
    int8: bool = False,
    steps: int = STEPS,
) -> tuple[dict[str, float], "Loss | None"]:
    """Write the graphs of a base beside it.

    Args:
        int8: A plan in eight bits, too.
        steps: Of the life along which they are compared with torch before that.

    Returns:
        Largest difference of each to torch, by its part, and what the plan in eight bits loses, if there is one.

    Raises:
        MissingExtraError: If the exporter is not installed.
        SnapshotError: If the base is another robot's, or a graph does not compute what torch does.
        ConfigError: If the planner shuns risk.
    """
    # Here, since who only loads graphs has no torch.
    from wm_robot.onboard.life_step import Step
    from wm_robot.onboard.plan_iteration import Iteration
    from wm_robot.onboard.quantize import quantized

    base.check_spec(spec)
    planner, objective = planner or MppiConfig(), objective_of(spec, task)
    iteration = Iteration(base.model, spec, task=task, planner=planner)
    contents = {PLAN: iteration.graph()}
    if int8:
        contents[PLAN_INT8] = quantized(contents[PLAN])
    # An oracle is told at every step what no sensor tells: only its plan runs on a robot.
    if not base.told and base.config["memory"] not in Step.IN_TORCH:
        step = Step(base.model)
        contents |= {PREDICT: step.predict_graph(), WRITE: step.write_graph(), BIRTH: save(step.born())}
    card: dict[str, Any] = {
        "format": FORMAT,
        "kind": "graphs",
        "base": base.digest,
        "task": task,
        "objective": objective,
        "planner": asdict(planner),
        "sha256": _digests(contents),
    }
    graphs = _graphs(card, contents, Graph)
    differences = _differences(base, spec, card, graphs, steps)
    loss = None
    if int8:
        loss = checked_loss(iteration, _graphs(card, contents, Graph, plan=PLAN_INT8).plan)
        card["int8_loss"] = asdict(loss)
    for name, content in contents.items():
        write_file(Path(folder) / name, content)
    card |= {"difference_to_torch": differences, "steps": steps}
    write_file(Path(folder) / CARD, json.dumps(card, indent=1).encode())
    return differences, loss


def checked_loss(iteration: "Iteration", graph: PlanGraph) -> "Loss":
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


def check_graphs(
    folder: str | Path, base: Base, spec: RobotSpec, *, steps: int = STEPS, few: int = FEW
) -> dict[str, float]:
    """Compare the graphs beside a base with torch again, as they are on disk.

    Where `onnx` is installed, also with what its reference in numpy makes of them for a few steps: then neither
    runtime has only itself as a witness.

    Returns:
        Largest difference of each, by its part.

    Raises:
        SnapshotError: If there are none, they are of something else, or do not compute what torch does.
    """
    from wm_robot.onboard.reference import Reference, has_reference

    base.check_spec(spec)
    card, contents = _read(Path(folder), base)
    if card["objective"] != objective_of(spec, card["task"]):
        raise SnapshotError(
            f"the plan in {folder} is for another task '{card['task']}' than robot '{spec.name}' has now. "
            f"Make it again: wm-robot export {folder}"
        )
    found = _differences(base, spec, card, _graphs(card, contents, Graph), steps)
    if has_reference():
        by_numpy = _differences(base, spec, card, _graphs(card, contents, Reference), few)
        found |= {f"{part} by the reference": apart for part, apart in by_numpy.items()}
    return found


def _read(folder: Path, base: Base) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Card and files, which are whole and of this base."""
    again = f"Make them again: wm-robot export {folder}"
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
    if found != (FORMAT, base.digest, _digests(contents)):
        raise SnapshotError(f"graphs in {folder} are damaged, or not of base {base.digest[:12]}. {again}")
    return card, contents


def _graphs(
    card: Mapping[str, Any],
    contents: Mapping[str, bytes],
    runs: Callable[[bytes, str], Function],
    plan: str = PLAN,
) -> Graphs:
    """What is in the files.

    Args:
        runs: Makes a function of a graph.
        plan: File of the plan.
    """
    planner = MppiConfig(**card["planner"])
    search = PlanGraph(runs(contents[plan], plan), objective=str(card["objective"]), planner=planner)
    if BIRTH not in contents:
        return Graphs(search, None)
    predict, write = (runs(contents[name], name) for name in (PREDICT, WRITE))
    return Graphs(search, LifeGraph(predict, write, read_tensors(contents[BIRTH], BIRTH)))


def _differences(
    base: Base, spec: RobotSpec, card: Mapping[str, Any], graphs: Graphs, steps: int
) -> dict[str, float]:
    """Largest difference to torch of each part, if none is too large."""
    from wm_robot.onboard.life_step import Step
    from wm_robot.onboard.plan_iteration import Iteration

    iteration = Iteration(base.model, spec, task=card["task"], planner=graphs.plan.planner)
    found = {"plan": _checked("plan", iteration.differences(graphs.plan))}
    if graphs.life:
        found["life"] = _checked("life", Step(base.model).differences(graphs.life, steps))
    return found


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
