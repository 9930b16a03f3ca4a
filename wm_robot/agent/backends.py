"""What an agent lives and plans by: the graphs of its base, and torch for what they do not cover."""

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
    """What a life of this base is lived by."""
    if graphs is not None and graphs.life is not None:
        return graphs.life
    model = base.model
    # Here and below, so that a robot whose base has its graphs needs no torch.
    from wm_robot.model.torch_backend import ModelLives

    return ModelLives(model)


def parts_of(
    base: Base, graphs: Graphs | None, spec: RobotSpec, *, task: str, planner: MppiConfig
) -> tuple[ModelBackend[np.ndarray], Plans, str]:
    """What an agent lives by, what it plans by, and why it needs torch, which is logged too; empty if it does not."""
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
            f"base {base.digest[:12]} has no graphs here. Make them: wm-robot export {base.where or 'BASE'}"
        )
    if not fits:
        return f"the graphs of base {base.digest[:12]} plan another task or search"
    return f"family '{base.config['memory']}' has no graph to live by"
