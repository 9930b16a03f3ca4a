"""Plan iteration: one MPPI iteration in torch for export, and its comparison with the exported graph."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from wm_robot.agent.onnx_planner import BETTER, HOLD, MEAN, NOISE, PlanGraph
from wm_robot.agent.rollout_objective import imagine_means, improvement_of, scoring
from wm_robot.memory.lifetime_state import LifetimeState
from wm_robot.model.onnx_session import STATE, apart
from wm_robot.model.torch_backend import array
from wm_robot.model.world_model import WorldModel
from wm_robot.planning.mppi import MppiConfig
from wm_robot.spec import RobotSpec
from wm_robot.tasks import reward_of
from wm_robot.training.export.folded_rollout import imagine_folded
from wm_robot.training.export.torch_exporter import exported

ROUNDING, ROUNDED = 1e-6, 8
"""Relative perturbation of arguments that measures the effect of rounding, and the number of perturbations."""
OWN = 4.0
"""Permitted ratio of the graph's difference to torch's own difference under perturbation: rounding may decide which
plans are elites. In twice 1800 moments of twelve untrained models the largest ratio was 3.0, the second 2.4."""


class Iteration:
    """MPPI iteration with a model's rollouts, as a pure function of its arguments."""

    def __init__(self, model: WorldModel, spec: RobotSpec, *, task: str, planner: MppiConfig):
        self.model, self.planner, self._goal = model, planner, spec.task(task).goal
        self._reward = reward_of(spec, spec.task(task))
        self._improvement = improvement_of(spec, planner)
        self._hold = torch.as_tensor(spec.action_low + spec.action_high, dtype=torch.float32)[None] / 2
        self._names = list(self._born().flatten())

    def graph(self) -> bytes:
        """Export the iteration as an ONNX graph."""
        return exported(self.model, partial(self, alone=True), self.example(seed=0), [BETTER])

    @torch.inference_mode()
    def differences(self, graph: PlanGraph, *, bound: float, trials: int = 20) -> Sequence[float]:
        """Compute the differences of a graph over random states and plans, in the unit of an action.

        Args:
            bound: Value of a larger difference that rounding explains, since torch itself differs as much.
        """
        found = []
        for seed in range(trials):
            inputs = self.example(seed)
            if seed == 0:
                # All plans tie.
                inputs[NOISE] = torch.zeros_like(inputs[NOISE])
            plan = array(self(*inputs.values()))
            far = apart(plan, self._by(graph, inputs))
            # NaN satisfies neither test, and stays.
            if far > bound and far <= OWN * self._moved(inputs, plan, seed):
                far = bound
            found.append(far)
        return found

    def _moved(self, inputs: dict[str, Tensor], plan: np.ndarray, seed: int) -> float:
        """Compute the largest change of torch's own plan under perturbed arguments."""
        generator, moved = torch.Generator().manual_seed(seed), []
        for _ in range(ROUNDED):
            near = (
                x * (1 + ROUNDING * torch.randn(x.shape, generator=generator)) if x.is_floating_point() else x
                for x in inputs.values()
            )
            moved.append(apart(plan, array(self(*near))))
        return max(moved)

    def _by(self, graph: PlanGraph, inputs: dict[str, Tensor]) -> np.ndarray:
        """Run a graph with these arguments."""
        given = {name: array(value) for name, value in inputs.items()}
        state = LifetimeState.unflatten({name: given[STATE + name] for name in self._names})
        improve = graph.improving(state, given["obs"], given["goals"])
        return improve(given[MEAN], given[NOISE], given[HOLD])

    def example(self, seed: int) -> dict[str, Tensor]:
        """Sample random arguments by name."""
        generator = torch.Generator().manual_seed(seed)
        config, born = self.model.config, self._born().flatten()
        horizon, motors = self.planner.horizon, config.action

        def around(center: Tensor | float, *shape: int, size: float = 0.1) -> Tensor:
            return center + size * torch.randn(shape, generator=generator)

        def lived(value: Tensor) -> Tensor:
            if value.is_floating_point():
                return around(value, *value.shape)
            return torch.randint(100, value.shape, generator=generator)

        return {
            "obs": around(self.model.obs_mean, 1, config.obs),
            "goals": around(0.2, 1, horizon, self._goal),
            MEAN: around(self._hold[:, None], 1, horizon, motors),
            NOISE: around(0.0, 1, self.planner.samples, horizon, motors),
            HOLD: around(self._hold, 1, motors),
            **{STATE + name: lived(born[name]) for name in self._names},
        }

    def __call__(
        self,
        obs: Tensor,
        goals: Tensor,
        mean: Tensor,
        noise: Tensor,
        hold: Tensor,
        *state: Tensor,
        alone: bool = False,
    ) -> Tensor:
        """See `MppiIteration` and `make_objective`."""
        life = LifetimeState.unflatten(dict(zip(self._names, state, strict=True)))
        rollout = imagine_folded if alone else imagine_means
        score = scoring(self.model, self._reward, life, obs, goals, rollout=rollout)
        return self._improvement(score, mean, noise, hold)

    def _born(self) -> LifetimeState[Tensor]:
        return self.model.birth(hold=self._hold)
