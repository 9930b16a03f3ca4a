"""Back ends of an agent: the ONNX functions of its base, and torch where there are none."""

import logging

import numpy as np

from wm_robot.agent.onnx_files import Graphs
from wm_robot.agent.onnx_planner import Plans
from wm_robot.model.backend import ModelBackend
from wm_robot.model.base import Base
from wm_robot.planning.mppi import MppiConfig
from wm_robot.spec import RobotSpec

_log = logging.getLogger(__name__)


def lives_of(base: Base, graphs: Graphs | None) -> ModelBackend[np.ndarray]:
    """Select the model backend of a base: ONNX where available, else torch."""
    if graphs is not None and graphs.life is not None:
        return graphs.life
    model = base.model
    # Imported here and below, so that a robot with ONNX functions needs no torch.
    from wm_robot.model.torch_backend import ModelLives

    return ModelLives(model)


def parts_of(
    base: Base, graphs: Graphs | None, spec: RobotSpec, *, task: str, planner: MppiConfig
) -> tuple[ModelBackend[np.ndarray], Plans, str]:
    """Select model backend and planner backend; return both, and the reason for torch, which is logged, or ''."""
    lives = lives_of(base, graphs)
    fits = graphs is not None and graphs.plan.fits(spec, task=task, planner=planner)
    if graphs is not None and fits:
        plans: Plans = graphs.plan.with_iterations(planner.iterations)
    else:
        model = base.model
        from wm_robot.agent.rollout_objective import ImaginedPlans

        plans = ImaginedPlans(model, spec, task=task, planner=planner)
    why = "" if fits and graphs is not None and lives is graphs.life else _why_torch(base, graphs, fits)
    if why:
        _log.warning("this agent runs with torch: %s", why)
    return lives, plans, why


def _why_torch(base: Base, graphs: Graphs | None, fits: bool) -> str:
    if graphs is None:
        return (
            f"base {base.digest[:12]} has no graphs here. Export them: wm-robot export {base.where or 'BASE'}"
        )
    if not fits:
        return f"the graphs of base {base.digest[:12]} are for another task or planner config"
    return f"family '{base.config['memory']}' has no graph of its state update"
