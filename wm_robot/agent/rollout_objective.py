"""Rollout objective: imagines and scores plans in torch, for experiments and for bases without a planner graph."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.torch_backend import TensorState, tensors
from wm_robot.model.world_model import WorldModel
from wm_robot.planning.mppi import Improve, MppiConfig
from wm_robot.planning.mppi_iteration import Improvement, Score
from wm_robot.spec import RobotSpec
from wm_robot.tasks import Reward, reward_of

Rollout = Callable[[WorldModel, TensorState, Tensor, Tensor], Tensor]
"""Model, state, latent `B Z` and plans `B N H A` → observation after each action, `B N H O`."""


def imagine_means(model: WorldModel, state: TensorState, z: Tensor, plans: Tensor) -> Tensor:
    """Return the means of `WorldModel.imagine`."""
    return model.imagine(state, z, plans).mean


class ImaginedPlans:
    """Planner backend in torch; see `onnx_planner.PlannerBackend`."""

    def __init__(self, model: WorldModel, spec: RobotSpec, *, task: str, planner: MppiConfig | None = None):
        self.model, self.planner = model, planner or MppiConfig()
        self._reward = reward_of(spec, spec.task(task))
        self._improvement = improvement_of(spec, self.planner)

    @torch.inference_mode()
    def improving(self, state: ArrayState, obs: np.ndarray, goals: np.ndarray) -> Improve:
        moment = map(torch.from_numpy, (obs, goals))
        return self._improvement.of(scoring(self.model, self._reward, tensors(state.model_part()), *moment))


def improvement_of(spec: RobotSpec, planner: MppiConfig) -> Improvement:
    """Create the MPPI iteration within a robot's limits."""
    return Improvement(planner, low=spec.action_low, high=spec.action_high, step=spec.action_step)


@dataclass(frozen=True)
class Imagination:
    """Objective of plans at a moment: the summed reward of a rollout; see `Objective`."""

    model: WorldModel
    reward: Reward
    state: TensorState
    z: Tensor
    goals: Tensor
    """`B H G`."""
    rollout: Rollout = imagine_means

    def imagine(self, plans: Tensor) -> Tensor:
        return self.reward.look(self.rollout(self.model, self.state, self.z, plans))

    def judge(self, followed: Tensor, plans: Tensor) -> Tensor:
        return self.reward.judge(followed, plans, self.goals[:, None]).sum(-1)


def scoring(
    model: WorldModel,
    reward: Reward,
    state: TensorState,
    obs: Tensor,
    goals: Tensor,
    *,
    rollout: Rollout = imagine_means,
) -> Score:
    """Create the objective of plans at a moment: the reward summed over the imagined steps.

    Args:
        obs: `B O`.
        goals: Goal at each step of the horizon, `B H G`.
        rollout: Function that computes observations from plans.
    """
    return Imagination(model, reward, state, model.observe(state, obs), goals, rollout)
