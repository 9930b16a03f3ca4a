"""Verb `wm-robot export`: exports a base as ONNX models, which run faster than torch."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import tyro

from wm_robot.errors import MissingExtraError, OnnxMismatchError
from wm_robot_cli.output_folder import check_writable
from wm_robot_cli.task_choice import choose_task
from wm_robot_cli.values import Count, CountOrZero

if TYPE_CHECKING:
    from wm_robot.planning.mppi import MppiConfig

EXIT_MODELS_DIFFER = 3
"""Exit code if the ONNX models compute other values than torch. The base is usable without them."""


def export_base(
    base: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    robot: str | None = None,
    task: str | None = None,
    reward: str | None = None,
    goal_size: CountOrZero | None = None,
    samples: Count | None = None,
    horizon: Count | None = None,
    check: bool = False,
) -> None:
    """Export a base's plan, `predict` and `write` as ONNX models into its folder; its agents then use them.

    A plan is exported for one task and one planner setting; agents with others plan in torch. A base may have plans
    of several tasks. Before the export, the models are compared with torch: in a thousand single steps, and in short
    runs. Exit code 3: they compute other values than torch. Then agents use torch.

    Args:
        base: Folder of the base.
        robot: Name of the robot, or the path of its spec; the robot of the base by default.
        task: Task of the plan; the robot's first by default. With it, only the plan of this task is exported, beside
            those of other tasks.
        reward: Reward in place of that in the spec, for this command alone: FILE.py:FUNCTION, PACKAGE:NAME of an
            installed package, or a built-in name. The task is then named by --task, or by the function.
        goal_size: Number of goal values of a task with --reward; that of the spec's task by default, or 0.
        samples: Number of plans predicted in each iteration; the planner's default otherwise.
        horizon: Number of steps of each plan; the planner's default otherwise.
        check: Write nothing; compare the existing models with torch again, and with the format's reference in numpy.
    """
    from wm_robot.io.base_file import find_base
    from wm_robot.robots import load_spec

    try:
        from wm_robot.model.base import load_base
        from wm_robot.planning.mppi import MppiConfig
        from wm_robot.training.export.base_graphs import check_graphs, export_graphs, export_posture_plan
    except ImportError as error:
        raise MissingExtraError("wm-robot export", "learn") from error
    base = find_base(base)
    if not check:
        check_writable(base, "BASE")
    loaded = load_base(base)
    spec = load_spec(robot or loaded.manifest["robot"])
    default = MppiConfig()
    planner = replace(
        default,
        num_samples=default.num_samples if samples is None else samples,
        horizon=default.horizon if horizon is None else horizon,
    )
    plan_only = task is not None or reward is not None
    if not check or plan_only:
        spec, task = choose_task(spec, task, reward, goal_size)
    try:
        if check:
            differences = check_graphs(base, loaded, spec)
        else:
            assert task is not None
            differences = export_graphs(base, loaded, spec, task=task, planner=planner, plan_only=plan_only)
            differences |= export_posture_plan(base, loaded, spec, task=task, planner=planner)
    except OnnxMismatchError as error:
        exit_without_onnx_models(str(error))
    print(describe_onnx_models(base, None if check else planner, differences))


def describe_onnx_models(folder: Path, planner: "MppiConfig | None", differences: Mapping[str, float]) -> str:
    """Return one line about exported models.

    Args:
        planner: Planner settings of the exported plan. None: the models existed before.
    """
    what = f"{planner.num_samples} plans of {planner.horizon} steps" if planner else "those of its base"
    apart = ", ".join(f"{part} {difference:.1g}" for part, difference in differences.items())
    return f"graphs in {folder}: {what}; largest difference to torch: {apart}"


def exit_without_onnx_models(message: str) -> NoReturn:
    """End the program with the exit code for models that differ from torch."""
    print(f"{OnnxMismatchError.__name__}: {message}", file=sys.stderr)
    sys.exit(EXIT_MODELS_DIFFER)
