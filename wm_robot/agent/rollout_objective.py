"""Rollout objective: imagines and scores plans in torch, for experiments and for bases without a planner graph."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.torch_backend import TensorState, to_tensors
from wm_robot.model.world_model import WorldModel
from wm_robot.planning.goal_postures import make_posture_config
from wm_robot.planning.mppi import Iteration, MppiConfig
from wm_robot.planning.mppi_iteration import MppiIteration, Objective
from wm_robot.spec import RobotSpec
from wm_robot.tasks import Reward, make_reward
from wm_robot.tasks.catalog import BUILT_IN, check_reward
from wm_robot.tasks.goal_postures import add_posture_task, name_posture_task

Rollout = Callable[[WorldModel, TensorState, Tensor, Tensor], Tensor]
"""Model, state, latent `B Z` and plans `B N H A` → observation after each action, `B N H O`."""


def imagine_mean(model: WorldModel, state: TensorState, z: Tensor, plans: Tensor) -> Tensor:
    """Return the means of `WorldModel.imagine`."""
    return model.imagine(state, z, plans).mean


class TorchPlanner:
    """Planner backend in torch; see `onnx_planner.PlannerBackend`."""

    def __init__(self, model: WorldModel, spec: RobotSpec, *, task: str, planner: MppiConfig | None = None):
        self.model, self.planner = model, planner or MppiConfig()
        self._reward = make_torch_reward(spec, task)
        self._iteration = make_iteration(spec, self.planner)

    @torch.inference_mode()
    def iteration_at(self, state: ArrayState, obs: np.ndarray, goals: np.ndarray) -> Iteration:
        moment = map(torch.from_numpy, (obs, goals))
        return self._iteration.bind_objective(
            make_objective(self.model, self._reward, to_tensors(state.model_part()), *moment)
        )


def make_posture_planner(
    model: WorldModel, spec: RobotSpec, *, task: str, planner: MppiConfig | None = None
) -> TorchPlanner | None:
    """Create the planner backend that tracks goal postures; None for a task without them."""
    own = add_posture_task(spec, task)
    if own is None:
        return None
    planner = make_posture_config(planner or MppiConfig())
    return TorchPlanner(model, own, task=name_posture_task(task), planner=planner)


def make_torch_reward(spec: RobotSpec, task: str) -> Reward:
    """Build the reward of a task for tensors.

    Raises:
        SpecError: See `make_reward`; also if a user's function does not accept tensors.
    """
    named = spec.find_task(task)
    reward = make_reward(spec, named)
    if named.reward not in BUILT_IN:
        check_reward(spec, named, reward, torch.from_numpy)
    return reward


def make_iteration(spec: RobotSpec, planner: MppiConfig) -> MppiIteration:
    """Create the MPPI iteration within a robot's limits."""
    return MppiIteration(planner, low=spec.action_low, high=spec.action_high, max_step=spec.action_step)


@dataclass(frozen=True)
class RolloutObjective:
    """Objective of plans at a moment: the summed reward of a rollout; see `Objective`."""

    predict_obs: Callable[[Tensor], Tensor]
    """Plans `B N H A` → observation after each action, `B N H O`."""
    reward: Reward
    first_features: Tensor
    """Features of the observation before the plans, `B F`."""
    goals: Tensor
    """`B H G`."""

    def predict_features(self, plans: Tensor) -> Tensor:
        """Predict the features after each action; see `Objective`."""
        return self.reward.features(self.predict_obs(plans))

    def evaluate(self, features: Tensor, plans: Tensor) -> Tensor:
        """Compute the summed reward. A step starts where the one before it ended; see `Objective`."""
        num_plans, before = plans.shape[1], features
        if self.reward.uses_obs:
            first = self.first_features[:, None, None].expand(-1, num_plans, -1, -1)
            before = torch.cat([first, features[:, :, :-1]], 2)
        goals = self.goals[:, None].expand(-1, num_plans, -1, -1)
        return self.reward.function(before, plans, features, goals).sum(-1)


def make_objective(
    model: WorldModel,
    reward: Reward,
    state: TensorState,
    obs: Tensor,
    goals: Tensor,
    *,
    rollout: Rollout = imagine_mean,
) -> Objective:
    """Create the objective of plans at a moment: the reward summed over the imagined steps.

    Args:
        obs: `B O`.
        goals: Goal at each step of the horizon, `B H G`.
        rollout: Function that computes observations from plans.
    """
    predict_obs = partial(rollout, model, state, model.observe(state, obs))
    return RolloutObjective(predict_obs, reward, reward.features(obs), goals)
