"""`wm-robot export`: the planner's iteration of a base as a graph that a robot runs without torch's overhead."""

from pathlib import Path
from typing import Annotated

import tyro

from wm_robot.errors import MissingExtraError


def export(
    base: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    robot: str | None = None,
    task: str | None = None,
    samples: int | None = None,
    horizon: int | None = None,
) -> None:
    """Write `plan.onnx` beside a base; agents with this base, task and search use it from then on.

    Args:
        base: Folder of the base.
        robot: Name of the robot, or the path of its spec; the one that the base names by default.
        task: Task to plan for; the robot's first by default.
        samples: Plans imagined in each iteration; the planner's own number by default.
        horizon: Steps that each looks ahead; the planner's own number by default.
    """
    try:
        from wm_robot.models.base import load_base
        from wm_robot.onboard.plan_graph import GRAPH, export_plan
        from wm_robot.planning.mppi import MppiConfig
        from wm_robot_sim import load_spec
    except ImportError as error:
        raise MissingExtraError("wm-robot export", "learn,sim") from error
    loaded = load_base(base)
    spec = load_spec(robot or loaded.manifest["robot"])
    given = {"samples": samples, "horizon": horizon}
    planner = MppiConfig(**{name: size for name, size in given.items() if size is not None})
    difference = export_plan(base, loaded, spec, task=task or next(iter(spec.tasks)), planner=planner)
    print(f"{base / GRAPH}: {planner.samples} plans of {planner.horizon} steps, {difference:.1g} from torch")
