"""Plan iteration: one MPPI iteration in torch for export, and its comparison with the exported graph."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from wm_robot.agent.onnx_planner import LAST_ACTION_INPUT, MEAN_INPUT, NOISE_INPUT, PLAN_OUTPUT, OnnxPlanner
from wm_robot.agent.rollout_objective import imagine_mean, make_iteration, make_objective, make_torch_reward
from wm_robot.memory.lifetime_state import LifetimeState
from wm_robot.model.onnx_session import STATE_PREFIX, compute_max_difference
from wm_robot.model.torch_backend import to_array
from wm_robot.model.world_model import WorldModel
from wm_robot.planning.mppi import MppiConfig
from wm_robot.spec import RobotSpec
from wm_robot.training.export.folded_rollout import imagine_folded
from wm_robot.training.export.torch_exporter import export_function

PERTURBATION, NUM_PERTURBATIONS = 1e-6, 8
"""Relative perturbation of arguments that measures the effect of rounding, and the number of perturbations."""
MAX_DIFFERENCE_RATIO = 4.0
"""Permitted ratio of the graph's difference to torch's own difference under perturbation: rounding may decide which
plans are elites. In twice 1800 moments of twelve untrained models the largest ratio was 3.0, the second 2.4."""


class PlanIterationExport:
    """MPPI iteration with a model's rollouts, as a pure function of its arguments."""

    def __init__(self, model: WorldModel, spec: RobotSpec, *, task: str, planner: MppiConfig):
        self.model, self.planner, self._goal_size = model, planner, spec.find_task(task).goal
        self._reward = make_torch_reward(spec, task)
        self._iteration = make_iteration(spec, planner)
        self._last_action = torch.as_tensor(spec.action_low + spec.action_high, dtype=torch.float32)[None] / 2
        self._names = list(self._make_initial_state().flatten())

    def export_graph(self) -> bytes:
        """Export the iteration as an ONNX graph."""
        return export_function(
            self.model, partial(self, folded=True), self.sample_arguments(seed=0), [PLAN_OUTPUT]
        )

    @torch.inference_mode()
    def compute_differences(
        self, graph: OnnxPlanner, *, bound: float, num_trials: int = 20
    ) -> Sequence[float]:
        """Compute the differences of a graph over random states and plans, in the unit of an action.

        Args:
            bound: Value of a larger difference that rounding explains, since torch itself differs as much.
        """
        found = []
        for seed in range(num_trials):
            inputs = self.sample_arguments(seed)
            if seed == 0:
                # All plans tie.
                inputs[NOISE_INPUT] = torch.zeros_like(inputs[NOISE_INPUT])
            plan = to_array(self(*inputs.values()))
            far = compute_max_difference(plan, self._run_graph(graph, inputs))
            # NaN satisfies neither test, and stays.
            if far > bound and far <= MAX_DIFFERENCE_RATIO * self._compute_own_difference(inputs, plan, seed):
                far = bound
            found.append(far)
        return found

    def _compute_own_difference(self, inputs: dict[str, Tensor], plan: np.ndarray, seed: int) -> float:
        """Compute the largest change of torch's own plan under perturbed arguments."""
        generator, moved = torch.Generator().manual_seed(seed), []
        for _ in range(NUM_PERTURBATIONS):
            near = (
                x * (1 + PERTURBATION * torch.randn(x.shape, generator=generator))
                if x.is_floating_point()
                else x
                for x in inputs.values()
            )
            moved.append(compute_max_difference(plan, to_array(self(*near))))
        return max(moved)

    def _run_graph(self, graph: OnnxPlanner, inputs: dict[str, Tensor]) -> np.ndarray:
        """Run a graph with these arguments."""
        given = {name: to_array(value) for name, value in inputs.items()}
        state = LifetimeState.unflatten({name: given[STATE_PREFIX + name] for name in self._names})
        improve = graph.iteration_at(state, given["obs"], given["goals"])
        return improve(given[MEAN_INPUT], given[NOISE_INPUT], given[LAST_ACTION_INPUT])

    def sample_arguments(self, seed: int) -> dict[str, Tensor]:
        """Sample random arguments by name."""
        generator = torch.Generator().manual_seed(seed)
        config, born = self.model.config, self._make_initial_state().flatten()
        horizon, motors = self.planner.horizon, config.action

        def sample_around(center: Tensor | float, *shape: int, size: float = 0.1) -> Tensor:
            return center + size * torch.randn(shape, generator=generator)

        flags = self.model.memory_layers[0].flags

        def randomise_value(name: str, value: Tensor) -> Tensor:
            if name.rpartition(".")[2] in flags:
                return torch.randint(2, value.shape, generator=generator).to(value.dtype)
            if value.is_floating_point():
                return sample_around(value, *value.shape)
            return torch.randint(100, value.shape, generator=generator)

        return {
            "obs": sample_around(self.model.obs_mean, 1, config.obs),
            "goals": sample_around(0.2, 1, horizon, self._goal_size),
            MEAN_INPUT: sample_around(self._last_action[:, None], 1, horizon, motors),
            NOISE_INPUT: sample_around(0.0, 1, self.planner.num_samples, horizon, motors),
            LAST_ACTION_INPUT: sample_around(self._last_action, 1, motors),
            **{STATE_PREFIX + name: randomise_value(name, born[name]) for name in self._names},
        }

    def __call__(
        self,
        obs: Tensor,
        goals: Tensor,
        mean: Tensor,
        noise: Tensor,
        last_action: Tensor,
        *state: Tensor,
        folded: bool = False,
    ) -> Tensor:
        """See `MppiIteration` and `make_objective`."""
        life = LifetimeState.unflatten(dict(zip(self._names, state, strict=True)))
        rollout = imagine_folded if folded else imagine_mean
        score = make_objective(self.model, self._reward, life, obs, goals, rollout=rollout)
        return self._iteration(score, mean, noise, last_action)

    def _make_initial_state(self) -> LifetimeState[Tensor]:
        return self.model.initial_state(initial_action=self._last_action)
