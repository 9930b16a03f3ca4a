"""Plans that torch imagines: for experiments, and for a robot whose base has no graph of them."""

import numpy as np
import torch
from torch import Tensor

from wm_robot.lifetime.arrays import Arrays
from wm_robot.lifetime.memory import State
from wm_robot.models.in_torch import tensors
from wm_robot.models.world_model import WorldModel
from wm_robot.planning.improvement import Improvement, Score
from wm_robot.planning.mppi import Improve, MppiConfig
from wm_robot.spec import RobotSpec
from wm_robot.tasks import Reward, reward_of


class ImaginedPlans:
    """The iteration of a search on a model's imagination; see `plan_graph.Plans`."""

    def __init__(self, model: WorldModel, spec: RobotSpec, *, task: str, planner: MppiConfig):
        self.model, self._risk = model, planner.risk
        self._reward = reward_of(spec, spec.task(task))
        self._improvement = improvement_of(spec, planner)

    takes_risk = True

    @torch.inference_mode()
    def improving(
        self, state: Arrays, obs: np.ndarray, goals: np.ndarray, risk: np.ndarray | None = None
    ) -> Improve:
        added = np.zeros(len(obs)) if risk is None else risk
        total = torch.from_numpy((self._risk + added).astype(np.float32))[:, None]
        moment = map(torch.from_numpy, (obs, goals))
        return self._improvement.of(scoring(self.model, self._reward, tensors(state), *moment, risk=total))


def improvement_of(spec: RobotSpec, planner: MppiConfig) -> Improvement:
    """The iteration within a robot's limits."""
    return Improvement(planner, low=spec.action_low, high=spec.action_high, step=spec.action_step)


def scoring(
    model: WorldModel,
    reward: Reward,
    state: State,
    obs: Tensor,
    goals: Tensor,
    *,
    risk: float | Tensor = 0.0,
    doubts: int = 4,
    alone: bool = False,
) -> Score:
    """How good plans are from this moment of a life: the reward summed over what is imagined.

    Args:
        obs: `B O`.
        goals: Goal at each step of the horizon, `B H G`.
        risk: Deviations of that sum, over states that the life may as well be in, that count against a plan; or as
            many for each life, `B 1`.
        doubts: How many such states.
        alone: For a single life, what `WorldModel.imagine_alone` has folded.
    """
    z = model.observe(state, obs)

    def score(plans: Tensor) -> Tensor:
        following = model.imagine_alone(state, z, plans) if alone else model.imagine(state, z, plans).mean
        return reward(following, plans, following, goals[:, None]).sum(-1)

    def cautious(plans: Tensor) -> Tensor:
        each = [x.repeat_interleave(doubts, 0) for x in (z, plans, goals)]
        following, _ = model.imagine(others, *each[:2])
        scores = reward(following, each[1], following, each[2][:, None]).sum(-1).unflatten(0, (-1, doubts))
        return score(plans) - risk * scores.std(1)

    if not torch.as_tensor(risk).any():
        return score
    others = model.sampled(state, doubts)
    return cautious
