"""ONNX planner: one MPPI iteration as a graph that imagines, scores and averages plans."""

from dataclasses import asdict, replace
from typing import Protocol, runtime_checkable

import numpy as np

from wm_robot.io.durable import digest
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.onnx_session import Function
from wm_robot.planning.mppi import Improve, MppiConfig
from wm_robot.spec import RobotSpec, canonical_json

MEAN, NOISE, HOLD, BETTER = "search.mean", "search.noise", "search.hold", "better"


@runtime_checkable
class Plans(Protocol):
    """Planner backend: imagines and scores plans."""

    planner: MppiConfig
    """Sizes of the search."""

    def improving(self, state: ArrayState, obs: np.ndarray, goals: np.ndarray) -> Improve:
        """Return the planner's iteration at a moment, for `Mppi.plan`.

        Args:
            obs: `B O`.
            goals: Goal at each step of the horizon, `B H G`.
        """


def objective_of(spec: RobotSpec, task: str) -> str:
    """Compute the digest of the part of a spec that a graph contains: task, kinematics and limits."""
    return digest(
        canonical_json(
            {
                "task": {"name": task, **asdict(spec.task(task))},
                "chain": [asdict(link) for link in spec.chain],
                "tip": spec.tip,
                "actuators": [asdict(actuator) for actuator in spec.actuators],
                "rate": spec.rate,
            }
        )
    )


class PlanGraph:
    """Planner backend of one robot by an ONNX graph. The lifetime state is an input."""

    def __init__(self, graph: Function, *, objective: str, planner: MppiConfig):
        """Args:
        objective: Digest of task and limits; see `digest_objective`.
        """
        self.objective, self.planner, self._graph = objective, planner, graph

    def fits(self, spec: RobotSpec, *, task: str, planner: MppiConfig) -> bool:
        """Whether the graph is for this task of this spec and this planner config, with any number of iterations."""
        wanted = objective_of(spec, task), replace(planner, iterations=self.planner.iterations)
        return wanted == (self.objective, self.planner)

    def with_iterations(self, iterations: int) -> "PlanGraph":
        """Return the same graph for another number of iterations."""
        planner = replace(self.planner, iterations=iterations)
        return PlanGraph(self._graph, objective=self.objective, planner=planner)

    def improving(self, state: ArrayState, obs: np.ndarray, goals: np.ndarray) -> Improve:
        """See `PlannerBackend.iteration_at`; `B` is 1."""
        moment = self._graph.bound(state.flatten_model_part(), {"obs": obs, "goals": goals})

        def improve(mean: np.ndarray, noise: np.ndarray, hold: np.ndarray) -> np.ndarray:
            return moment({MEAN: mean, NOISE: noise, HOLD: hold})[BETTER]

        return improve
