"""Plans that torch imagines: for experiments, and for a robot whose base has no graph of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from wm_robot.memory.lifetime_state import map_values
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.folded_rollout import imagine_folded
from wm_robot.model.torch_backend import TensorState, tensors
from wm_robot.model.uncertainty import sample_states
from wm_robot.model.world_model import WorldModel
from wm_robot.planning.mppi import Improve, MppiConfig
from wm_robot.planning.mppi_iteration import Improvement, Score
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
        self, state: ArrayState, obs: np.ndarray, goals: np.ndarray, risk: np.ndarray | None = None
    ) -> Improve:
        added = np.zeros(len(obs)) if risk is None else risk
        total = torch.from_numpy((self._risk + added).astype(np.float32))[:, None]
        moment = map(torch.from_numpy, (obs, goals))
        return self._improvement.of(
            scoring(self.model, self._reward, tensors(state.model_part()), *moment, risk=total)
        )


def improvement_of(spec: RobotSpec, planner: MppiConfig) -> Improvement:
    """The iteration within a robot's limits."""
    return Improvement(planner, low=spec.action_low, high=spec.action_high, step=spec.action_step)


@dataclass(frozen=True)
class Imagination:
    """How good plans are from a moment of a life; see `Score`."""

    model: WorldModel
    reward: Reward
    state: TensorState
    z: Tensor
    goals: Tensor
    """`B H G`."""
    alone: bool = False
    """Of a single life, by what `imagine_folded` has folded."""

    def imagine(self, plans: Tensor) -> Tensor:
        if self.alone:
            return self.reward.look(imagine_folded(self.model, self.state, self.z, plans))
        return self.reward.look(self.model.imagine(self.state, self.z, plans).mean)

    def judge(self, followed: Tensor, plans: Tensor) -> Tensor:
        return self.reward.judge(followed, plans, self.goals[:, None]).sum(-1)


@dataclass(frozen=True)
class Doubted:
    """The same, less the deviation of that over lives that this one may as well be; see `Score`."""

    expected: Imagination
    others: Sequence[Imagination]
    risk: Tensor
    """Deviations that count against a plan, `B 1`."""

    def imagine(self, plans: Tensor) -> Tensor:
        return torch.cat([each.imagine(plans) for each in (self.expected, *self.others)], -1)

    def judge(self, followed: Tensor, plans: Tensor) -> Tensor:
        parts = followed.chunk(1 + len(self.others), -1)
        score, *others = (self.expected.judge(part, plans) for part in parts)
        return score - self.risk * torch.stack(others).std(0)


def scoring(
    model: WorldModel,
    reward: Reward,
    state: TensorState,
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
        alone: See `Imagination`.
    """
    expected = Imagination(model, reward, state, model.observe(state, obs), goals, alone)
    risk = torch.as_tensor(risk)
    if not risk.any():
        return expected
    sampled = sample_states(model, state, doubts)
    others = [
        replace(expected, state=map_values(lambda value, i=i: value[i::doubts], sampled))
        for i in range(doubts)
    ]
    return Doubted(expected, others, risk)
