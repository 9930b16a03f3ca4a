"""Growth: run times and state size of an untrained model, by the number of joints of a robot."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from wm_robot.progress import Progress
from wm_robot.spec import RobotSpec
from wm_robot_benchmarks.measures.timing import RunTimes, ThreadClock

if TYPE_CHECKING:
    from wm_robot.agent.onnx_planner import OnnxPlanner
    from wm_robot.model.onnx_backend import OnnxBackend
    from wm_robot.model.world_model import WorldModel
    from wm_robot.planning.mppi import MppiConfig

PHYSICS_PER_JOINT, PHYSICS_PER_ROBOT = 7, 4
"""Physics parameters of a robot without a list of its own: for each joint, and besides."""
LENGTH = 0.8
"""Length of a chain, in m."""
WARM_UP = 5
"""Number of steps before the measurement."""


class JointCost(NamedTuple):
    """Cost of a control step at one number of joints."""

    update: RunTimes
    plan: RunTimes
    state_bytes: int

    @property
    def both(self) -> RunTimes:
        """Run times of a plan and the update after it."""
        return RunTimes(core=self.update.core + self.plan.core, wall=self.update.wall + self.plan.wall)


def make_chain_spec(joints: int) -> RobotSpec:
    """Make the spec of an arm of hinges, which turn about z, y and y; it has no model, and is not simulated."""
    names, axes = [f"joint{number}" for number in range(joints)], ([0, 0, 1.0], [0, 1.0, 0], [0, 1.0, 0])
    limits = {"position": [-2.0, 2.0], "velocity": 3.0, "effort": 10.0}
    link = [0, 0, LENGTH / joints]
    return RobotSpec.from_dict(
        {
            "name": f"chain{joints}",
            "rate": 50,
            "model": "chain.xml",
            "joints": [{"name": name, **limits} for name in names],
            "actuators": [
                {"name": name, "joint": name, "kind": "position", "range": [-2.0, 2.0], "rate": 6.0}
                for name in names
            ],
            "chain": [{"joint": name, "origin": link, "axis": axes[i % 3]} for i, name in enumerate(names)],
            "tip": link,
            "tasks": {"reach": {"reward": "reach", "goal": 3}},
        }
    )


def make_untrained_model(spec: RobotSpec, memory: str) -> "WorldModel":
    """Make a model of the default size: weights have no influence on its run time.

    The prior has a parameter of two modes for each joint, as for motors that may be reversed.
    """
    import torch

    from wm_robot.model.config import ModelConfig
    from wm_robot.model.world_model import WorldModel

    torch.manual_seed(0)
    truth = PHYSICS_PER_JOINT * len(spec.joints) + PHYSICS_PER_ROBOT
    model = WorldModel(ModelConfig.from_spec(spec, truth=truth, memory=memory)).eval().requires_grad_(False)
    physics = np.random.default_rng(0).normal(size=(500, truth))
    physics[:50, : len(spec.joints)] -= 10
    for layer in model.memory_layers:
        layer.fit_prior(physics)
    return model


def measure_joint_cost(joints: int, memory: str, repetitions: int, progress: Progress) -> JointCost:
    """Time plans and updates of a moving robot by ONNX graphs, as an agent does them, on one thread."""
    from wm_robot.planning.mppi import Mppi, MppiConfig
    from wm_robot.types import Step

    spec, planner = make_chain_spec(joints), MppiConfig()
    backend, search = _export_functions(spec, memory, planner)
    mppi = Mppi(planner, low=spec.action_low, high=spec.action_high, max_step=spec.action_step)
    action, obs = np.zeros((1, joints), np.float32), np.zeros((1, spec.obs_dim), np.float32)
    state = backend.initial_state(initial_action=action)
    size = sum(value.nbytes for value in state.flatten().values())
    goals, valid = np.full((1, planner.horizon, 3), 0.2, np.float32), np.ones(1, np.float32)
    rng, plans, updates = np.random.default_rng(0), [], []
    for number in range(WARM_UP + repetitions):
        clock = ThreadClock()
        action = mppi.plan(search.iteration_at(state, obs, goals), action)[:, 0]
        plans.append(clock())
        next_obs = (0.9 * obs + 0.3 * rng.standard_normal(obs.shape)).astype(np.float32)
        clock = ThreadClock()
        _, state = backend.update(state, Step(obs, action, next_obs, valid))
        updates.append(clock())
        obs = next_obs
        progress(number + 1, WARM_UP + repetitions)
    return JointCost(RunTimes.from_seconds(updates[WARM_UP:]), RunTimes.from_seconds(plans[WARM_UP:]), size)


def _export_functions(
    spec: RobotSpec, memory: str, planner: "MppiConfig"
) -> tuple["OnnxBackend", "OnnxPlanner"]:
    """Export an untrained model of a robot, and open its graphs."""
    from wm_robot.agent.onnx_planner import OnnxPlanner
    from wm_robot.model.onnx_backend import OnnxBackend
    from wm_robot.model.onnx_session import OnnxFunction
    from wm_robot.training.export.plan_iteration import PlanIterationExport
    from wm_robot.training.export.update_step import UpdateStepExport

    model, task = make_untrained_model(spec, memory), next(iter(spec.tasks))
    step, iteration = UpdateStepExport(model), PlanIterationExport(model, spec, task=task, planner=planner)
    backend = OnnxBackend(
        OnnxFunction(step.export_predict(), "predict"),
        {1: OnnxFunction(step.export_update(1), "update")},
        step.make_initial_arrays(),
    )
    plan = OnnxFunction(iteration.export_graph(), "plan")
    return backend, OnnxPlanner(plan, objective=task, planner=planner)
