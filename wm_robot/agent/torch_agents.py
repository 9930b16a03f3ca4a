"""Agents of a model that torch runs: for experiments, many side by side."""

from wm_robot.adaptation.consolidation import Learner
from wm_robot.agent.agent import BatchAgent
from wm_robot.agent.plan_monitor import Exploitation
from wm_robot.agent.rollout_objective import ImaginedPlans
from wm_robot.model.torch_backend import ModelLives
from wm_robot.model.world_model import WorldModel
from wm_robot.planning.mppi import MppiConfig
from wm_robot.spec import RobotSpec


def torch_agents(
    model: WorldModel,
    spec: RobotSpec,
    *,
    task: str,
    planner: MppiConfig | None = None,
    recall: bool = False,
    learner: Learner | None = None,
    exploitation: Exploitation | None = None,
    seed: int = 0,
) -> BatchAgent:
    """See `BatchAgent`."""
    planner = planner or MppiConfig()
    plans = ImaginedPlans(model, spec, task=task, planner=planner)
    return BatchAgent(
        ModelLives(model),
        plans,
        spec,
        planner=planner,
        recall=recall,
        learner=learner,
        exploitation=exploitation,
        seed=seed,
    )
