"""Back ends of an agent: the ONNX functions of its base, and torch where there are none."""

import logging

import numpy as np

from wm_robot.agent.onnx_files import OnnxFunctions
from wm_robot.agent.onnx_planner import OnnxPlanner, PlannerBackend
from wm_robot.errors import MissingExtraError
from wm_robot.model.backend import ModelBackend
from wm_robot.model.base import Base
from wm_robot.planning.goal_postures import make_posture_config
from wm_robot.planning.mppi import MppiConfig
from wm_robot.spec import RobotSpec
from wm_robot.tasks.goal_postures import add_posture_task, name_posture_task

_log = logging.getLogger(__name__)


def select_model_backend(base: Base, functions: OnnxFunctions | None) -> ModelBackend[np.ndarray]:
    """Select the model backend of a base: ONNX where available, else torch."""
    if functions is not None and functions.backend is not None:
        return functions.backend
    model = base.model
    # Imported here and below, so that a robot with ONNX functions needs no torch.
    from wm_robot.model.torch_backend import TorchBackend

    return TorchBackend(model)


def select_backends(
    base: Base, functions: OnnxFunctions | None, spec: RobotSpec, *, task: str, planner: MppiConfig
) -> tuple[ModelBackend[np.ndarray], PlannerBackend, str]:
    """Select model backend and planner backend; return both, and the reason for torch, which is logged, or ''."""
    lives = select_model_backend(base, functions)
    exported = functions.plan if functions is not None else None
    fits = exported is not None and exported.is_valid_for(spec, task=task, planner=planner)
    if exported is not None and fits:
        plans: PlannerBackend = exported.with_iterations(planner.num_iterations)
    else:
        plans = _make_torch_planner(base, spec, task=task, planner=planner)
    why = (
        ""
        if fits and functions is not None and lives is functions.backend
        else _describe_torch_reason(base, functions, task, fits)
    )
    if why:
        _log.warning("this agent runs with torch: %s", why)
    return lives, plans, why


def select_posture_backend(
    base: Base, functions: OnnxFunctions | None, spec: RobotSpec, *, task: str, plans: PlannerBackend
) -> PlannerBackend | None:
    """Select the planner backend that tracks goal postures, of the same kind as that of the task.

    Returns:
        None for a task without goal postures, and where the base has no exported plan for them, which is logged.
    """
    own = add_posture_task(spec, task)
    if own is None:
        return None
    name, planner = name_posture_task(task), make_posture_config(plans.planner)
    exported = functions.posture_plan if functions is not None else None
    if exported is not None and exported.is_valid_for(own, task=name, planner=planner):
        return exported.with_iterations(plans.planner.num_iterations)
    if isinstance(plans, OnnxPlanner):
        _log.info(
            "this agent makes no detours: base %s has no plan that tracks goal postures. Export it: %s",
            base.digest[:12],
            _make_export_command(base, task),
        )
        return None
    return _make_torch_planner(base, own, task=name, planner=planner)


def _make_torch_planner(base: Base, spec: RobotSpec, *, task: str, planner: MppiConfig) -> PlannerBackend:
    """Create the planner of a task without an exported plan.

    Raises:
        MissingExtraError: If torch is not installed. The error contains the command that exports the plan.
    """
    try:
        model = base.model
        from wm_robot.agent.rollout_objective import TorchPlanner
    except ImportError as error:
        raise MissingExtraError(
            f"base {base.digest[:12]} has no plan here for task '{task}' with this planner config. Export it where "
            f"torch is installed: {_make_export_command(base, task)}. Planning without it",
            "learn",
        ) from error
    return TorchPlanner(model, spec, task=task, planner=planner)


def _describe_torch_reason(base: Base, functions: OnnxFunctions | None, task: str, plan_fits: bool) -> str:
    if functions is None:
        return f"base {base.digest[:12]} has no graphs here. Export them: wm-robot export {base.folder or 'BASE'}"
    if functions.plan is None:
        return f"base {base.digest[:12]} has no plan for task '{task}'. Export it: {_make_export_command(base, task)}"
    if not plan_fits:
        return (
            f"the graphs of base {base.digest[:12]} are for another task or planner config. Export a plan of this "
            f"one: {_make_export_command(base, task)}"
        )
    return f"family '{base.config['memory']}' has no graph of its state update"


def _make_export_command(base: Base, task: str) -> str:
    return f"wm-robot export {base.folder or 'BASE'} --task {task}"
