"""Simulator planner: the search of the agents, with rollouts in MuJoCo in place of a learned model."""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from wm_robot.agent.batch_agent import BatchAgent
from wm_robot.agent.rollout_objective import RolloutObjective, make_iteration, make_torch_reward
from wm_robot.memory.lifetime_state import LearnedState, LifetimeState
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import Prediction
from wm_robot.planning.goal_postures import make_posture_config
from wm_robot.planning.mppi import Iteration, MppiConfig
from wm_robot.spec import RobotSpec
from wm_robot.tasks.goal_postures import add_posture_task, name_posture_task
from wm_robot.types import Step

if TYPE_CHECKING:
    from wm_robot_sim.batch import BatchSim
    from wm_robot_sim.worlds import World


class SimulatorTwin:
    """Second simulation of some robots, in which plans are tried.

    It starts from the noisy reading of each robot, with the commands that are under way. What no reading of joints
    shows is as it truly is: the pose of a floating base, and with `knows_effects` the hidden states of effects.
    """

    def __init__(self, source: "BatchSim", *, knows_effects: bool):
        """Args:
        source: Simulation of the robots themselves.
        knows_effects: Whether the twin has the present worlds of the robots. Otherwise it keeps the first ones.
        """
        self._source, self._knows_effects = source, knows_effects
        self._worlds: list[World] = []
        """World of each robot, as far as the twin knows."""
        self._late_steps = 0
        """Control steps by which readings lag in these worlds."""
        self._sims: dict[int, tuple[BatchSim, list[World]]] = {}
        """Simulations by number of plans, each with the worlds that it has."""
        self._past: list[dict[str, Any]] = []
        """Motion at the last steps, the newest last."""

    def record_step(self) -> None:
        """Record the motion of the robots; call it before each plan."""
        if not self._worlds or (self._knows_effects and self._has_new_worlds()):
            self._worlds, self._past = list(self._source.worlds), []
            plant = self._source.plant
            lag = max(plant.compute_signal_changes(world).lag for world in self._worlds)
            self._late_steps = round(lag / plant.substeps)
        if not self._past or self._past[-1]["steps"] != self._source.steps:
            self._past = [*self._past, self._source.save_motion()][-1 - self._late_steps :]

    def predict_obs(self, obs: np.ndarray, plans: Tensor) -> Tensor:
        """Predict the observation after each action of plans `B N H A`, `B N H O`, from the reading `B O` of now."""
        batch, count = plans.shape[:2]
        rows = np.repeat(np.arange(batch), count)
        sim = self._prepare_sim(count)
        # A reading that lags is of the oldest recorded step.
        sim.copy_motion(self._past[0], rows)
        sim.place_joints(obs[rows])
        sim.advance_readings()
        if since := self._past[1:]:
            applied = np.stack([each["commands"][:, -1] for each in since], 1)
            sim.rollout_true_obs(applied[rows])
        found = sim.rollout_true_obs(plans.flatten(0, 1).numpy())
        return torch.from_numpy(found).unflatten(0, (batch, count))

    def _prepare_sim(self, count: int) -> "BatchSim":
        """Return the simulation for a number of plans of each robot, in the worlds of the twin."""
        from wm_robot_sim.batch import BatchSim

        if count not in self._sims:
            own = [world for world in self._worlds for _ in range(count)]
            kinds = self._source.plant.attachments
            self._sims[count] = BatchSim(self._source.spec, own, seed=0, effect_kinds=kinds), self._worlds
        sim, known = self._sims[count]
        for row, (old, new) in enumerate(zip(known, self._worlds, strict=True)):
            if old is not new:
                sim.set_worlds(range(row * count, (row + 1) * count), [new] * count)
        self._sims[count] = sim, self._worlds
        return sim

    def _has_new_worlds(self) -> bool:
        return any(old is not new for old, new in zip(self._worlds, self._source.worlds, strict=True))


class SimulatorPlanner:
    """Planner backend that tries plans in a twin; see `onnx_planner.PlannerBackend`."""

    def __init__(self, twin: SimulatorTwin, spec: RobotSpec, *, task: str, planner: MppiConfig):
        self._twin, self.planner = twin, planner
        self._reward = make_torch_reward(spec, task)
        self._iteration = make_iteration(spec, planner)

    @torch.inference_mode()
    def iteration_at(self, state: ArrayState, obs: np.ndarray, goals: np.ndarray) -> Iteration:
        self._twin.record_step()
        first = self._reward.features(torch.from_numpy(obs))
        predict = partial(self._twin.predict_obs, obs)
        return self._iteration.bind_objective(
            RolloutObjective(predict, self._reward, first, torch.from_numpy(goals))
        )


class ActionRecord:
    """Model backend without a model: its state is the last applied action, and it predicts no change."""

    def initial_state(self, *, initial_action: np.ndarray, truth: np.ndarray | None = None) -> ArrayState:
        return LifetimeState(
            np.zeros(len(initial_action), np.int64), initial_action[:, None], LearnedState(())
        )

    def predict(self, state: ArrayState, obs: np.ndarray, action: np.ndarray) -> Prediction[np.ndarray]:
        return Prediction(obs, np.zeros_like(obs))

    def update(self, state: ArrayState, step: Step[np.ndarray]) -> tuple[Prediction[np.ndarray], ArrayState]:
        after = replace(state, step=state.step + 1, recent=step.action[:, None])
        return self.predict(state, step.obs, step.action), after


def make_simulator_agents(sim: "BatchSim", task: str, *, knows_effects: bool, seed: int) -> BatchAgent:
    """Make agents that search in a twin of a simulation, with detours as other agents have.

    Args:
        knows_effects: Whether the twin has the undeclared effects of the robots.
    """
    spec, planner = sim.spec, MppiConfig()
    twin = SimulatorTwin(sim, knows_effects=knows_effects)
    own, postures = add_posture_task(spec, task), None
    if own is not None:
        config = make_posture_config(planner)
        postures = SimulatorPlanner(twin, own, task=name_posture_task(task), planner=config)
    direct = SimulatorPlanner(twin, spec, task=task, planner=planner)
    return BatchAgent(ActionRecord(), direct, spec, posture_backend=postures, seed=seed)
