"""`wm-robot export`: a base as graphs that a robot runs without torch's overhead."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import tyro

from wm_robot.errors import GraphError, MissingExtraError
from wm_robot_cli.output_folder import check_writable
from wm_robot_cli.values import Count

if TYPE_CHECKING:
    from wm_robot.planning.mppi import MppiConfig

GRAPHS_DIFFER = 3
"""Exit code where graphs do not compute what torch does. The base is usable without them."""


def export(
    base: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    robot: str | None = None,
    task: str | None = None,
    samples: Count | None = None,
    horizon: Count | None = None,
    check: bool = False,
) -> None:
    """Write a base's plan, `predict` and `write` beside it as graphs; its agents use them from then on.

    The plan is of one task and search: agents with another plan in torch. Before anything is written, graphs are
    compared with torch: in a thousand steps that each begin where torch is, and in short runs. Exit code 3: they do
    not compute what torch does. Then agents compute in torch.

    Args:
        base: Folder of the base.
        robot: Name of the robot, or the path of its spec; the one that the base names by default.
        task: Task to plan for; the robot's first by default.
        samples: Plans imagined in each iteration; the planner's own number by default.
        horizon: Steps that each looks ahead; the planner's own number by default.
        check: Write nothing; compare the graphs that are there with torch again, and with what the reference of the
            format makes of them in numpy.
    """
    from wm_robot.io.base_file import find_base
    from wm_robot.robots import load_spec

    try:
        from wm_robot.model.base import load_base
        from wm_robot.planning.mppi import MppiConfig
        from wm_robot.training.export.base_graphs import check_graphs, export_graphs
    except ImportError as error:
        raise MissingExtraError("wm-robot export", "learn") from error
    base = find_base(base)
    if not check:
        check_writable(base, "BASE")
    loaded = load_base(base)
    spec = load_spec(robot or loaded.manifest["robot"])
    given = {"samples": samples, "horizon": horizon}
    planner = MppiConfig(**{name: size for name, size in given.items() if size is not None})
    try:
        if check:
            differences = check_graphs(base, loaded, spec)
        else:
            task = task or next(iter(spec.tasks))
            differences = export_graphs(base, loaded, spec, task=task, planner=planner)
    except GraphError as error:
        end_without_graphs(str(error))
    print(graphs_in_words(base, None if check else planner, differences))


def graphs_in_words(folder: Path, planner: "MppiConfig | None", differences: Mapping[str, float]) -> str:
    """One line about graphs that compute what torch does.

    Args:
        planner: Whose plan was exported; None: graphs that were there are those of their base.
    """
    what = f"{planner.samples} plans of {planner.horizon} steps" if planner else "those of its base"
    apart = ", ".join(f"{part} {difference:.1g}" for part, difference in differences.items())
    return f"graphs in {folder}: {what}; largest difference to torch: {apart}"


def end_without_graphs(sentence: str) -> NoReturn:
    """End the program with the exit code of graphs that do not compute what torch does."""
    print(f"{GraphError.__name__}: {sentence}", file=sys.stderr)
    sys.exit(GRAPHS_DIFFER)
