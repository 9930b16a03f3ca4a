"""ONNX planner: one MPPI iteration as a graph that imagines, scores and averages plans."""

from dataclasses import asdict, replace
from typing import Protocol, runtime_checkable

import numpy as np

from wm_robot.io.durable import compute_digest
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.onnx_session import StateFunction
from wm_robot.planning.mppi import Iteration, MppiConfig
from wm_robot.spec import RobotSpec, encode_canonical_json
from wm_robot.tasks import find_reward_origin

MEAN_INPUT, NOISE_INPUT, LAST_ACTION_INPUT, PLAN_OUTPUT = (
    "search.mean",
    "search.noise",
    "search.last_action",
    "search.next_mean",
)


@runtime_checkable
class PlannerBackend(Protocol):
    """Planner backend: imagines and scores plans."""

    planner: MppiConfig
    """Sizes of the search."""

    def iteration_at(self, state: ArrayState, obs: np.ndarray, goals: np.ndarray) -> Iteration:
        """Return the planner's iteration at a moment, for `Mppi.plan`.

        Args:
            obs: `B O`.
            goals: Goal at each step of the horizon, `B H G`.
        """


def digest_objective(spec: RobotSpec, task: str) -> str:
    """Compute the digest of the part of a spec that a graph contains: task, kinematics and limits.

    It changes with the source of a reward: with its file, or with the version of the package that supplies it.

    Raises:
        SpecError: If the robot has no such task, or the package of its reward is not installed.
    """
    named = spec.find_task(task)
    reward = {"reward": named.reward, "goal": named.goal, "parameters": dict(named.parameters)}
    source = {"source": named.source} if named.source else find_reward_origin(named.reward)
    return compute_digest(
        encode_canonical_json(
            {
                "task": {"name": task, **reward, **source},
                "chain": [asdict(link) for link in spec.chain],
                "tip": spec.tip,
                "actuators": [asdict(actuator) for actuator in spec.actuators],
                "rate": spec.rate,
            }
        )
    )


class OnnxPlanner:
    """Planner backend of one robot by an ONNX graph. The lifetime state is an input."""

    def __init__(self, function: StateFunction, *, objective: str, planner: MppiConfig):
        """Args:
        objective: Digest of task and limits; see `digest_objective`.
        """
        self.objective, self.planner, self._function = objective, planner, function

    def is_valid_for(self, spec: RobotSpec, *, task: str, planner: MppiConfig) -> bool:
        """Whether the graph is for this task of this spec and this planner config, with any number of iterations."""
        wanted = digest_objective(spec, task), replace(planner, num_iterations=self.planner.num_iterations)
        return wanted == (self.objective, self.planner)

    def with_iterations(self, iterations: int) -> "OnnxPlanner":
        """Return the same graph for another number of iterations."""
        planner = replace(self.planner, num_iterations=iterations)
        return OnnxPlanner(self._function, objective=self.objective, planner=planner)

    def iteration_at(self, state: ArrayState, obs: np.ndarray, goals: np.ndarray) -> Iteration:
        """See `PlannerBackend.iteration_at`; `B` is 1."""
        moment = self._function.bind_inputs(state.flatten_model_part(), {"obs": obs, "goals": goals})

        def improve(mean: np.ndarray, noise: np.ndarray, hold: np.ndarray) -> np.ndarray:
            return moment({MEAN_INPUT: mean, NOISE_INPUT: noise, LAST_ACTION_INPUT: hold})[PLAN_OUTPUT]

        return improve
