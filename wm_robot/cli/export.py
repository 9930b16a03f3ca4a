"""`wm-robot export`: a base as graphs that a robot runs without torch's overhead."""

from pathlib import Path
from typing import Annotated

import tyro

from wm_robot.cli.values import Count
from wm_robot.errors import MissingExtraError


def export(
    base: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    robot: str | None = None,
    task: str | None = None,
    samples: Count | None = None,
    horizon: Count | None = None,
    int8: bool = False,
    check: bool = False,
) -> None:
    """Write a base's plan, `predict` and `write` beside it as graphs; its agents use them from then on.

    The plan is of one task and search: agents with another plan in torch. Before anything is written, graphs are
    compared with torch along a thousand steps from birth.

    Args:
        base: Folder of the base.
        robot: Name of the robot, or the path of its spec; the one that the base names by default.
        task: Task to plan for; the robot's first by default.
        samples: Plans imagined in each iteration; the planner's own number by default.
        horizon: Steps that each looks ahead; the planner's own number by default.
        int8: Write `plan-int8.onnx`, too: faster for large models. Agents use it where their `int8` is true.
        check: Write nothing; compare the graphs that are there with torch again, and with what the reference of the
            format makes of them in numpy.
    """
    from wm_robot.io.base_file import find_base

    try:
        from wm_robot.models.base import load_base
        from wm_robot.onboard.export.files import check_graphs, export_graphs
        from wm_robot.planning.mppi import MppiConfig
        from wm_robot_sim import load_spec
    except ImportError as error:
        raise MissingExtraError("wm-robot export", "learn,sim") from error
    base = find_base(base)
    loaded = load_base(base)
    spec = load_spec(robot or loaded.manifest["robot"])
    if check:
        _told(f"graphs in {base} are those of its base", check_graphs(base, loaded, spec))
        return
    given = {"samples": samples, "horizon": horizon}
    planner = MppiConfig(**{name: size for name, size in given.items() if size is not None})
    task = task or next(iter(spec.tasks))
    differences, loss = export_graphs(base, loaded, spec, task=task, planner=planner, int8=int8)
    _told(f"graphs in {base}: {planner.samples} plans of {planner.horizon} steps", differences)
    if loss is not None:
        print(
            f"  plan in int8: {loss.action:.1g} from torch; loses {100 * loss.gain:.2g} % of an iteration's gain"
        )


def _told(what: str, differences: dict[str, float]) -> None:
    print(what)
    for part, difference in differences.items():
        print(f"  {part}: at most {difference:.1g} from torch")
