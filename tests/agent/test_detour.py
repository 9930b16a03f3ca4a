"""A detour in closed loop: an arm of ideal servos, whose planner knows them, at the end of a joint."""

from dataclasses import replace

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.agent.batch_agent import BatchAgent
from wm_robot.agent.rollout_objective import make_iteration, make_torch_reward
from wm_robot.math.inverse_kinematics import TipKinematics
from wm_robot.memory.lifetime_state import LearnedState, LifetimeState
from wm_robot.model.backend import Prediction
from wm_robot.planning.goal_postures import NEAR, make_posture_config
from wm_robot.planning.mppi import MppiConfig
from wm_robot.robots import load_spec
from wm_robot.tasks.goal_postures import add_posture_task, name_posture_task

SPEC = load_spec("arm")
KINEMATICS = TipKinematics(SPEC.chain, SPEC.tip, SPEC.pose_limits)
LAG = 0.35
"""Part of the way to its command that a servo covers in one step."""
START = np.array([[-2.6, 0.3, 0.6, 0.0, 0.4, 0.0], [0.0, 0.3, 0.6, 0.0, 0.4, 0.0]], np.float32)
GOAL = KINEMATICS.compute_tip(np.array([[1.2, 0.9, 0.0, 0.0, 0.3, 0.0]]))[0].astype(np.float32)


def move(position, command):
    return position + LAG * (command - position)


class ServoObjective:
    def __init__(self, reward, obs, goals):
        self.reward, self.obs, self.goals = reward, obs, goals

    def predict_features(self, plans):
        position, seen = self.obs[:, None, : len(SPEC.joints)], []
        for command in plans.unbind(2):
            before, position = position, move(position, command)
            seen.append(torch.cat([position, (position - before) * SPEC.rate], -1))
        return self.reward.features(torch.stack(seen, 2))

    def evaluate(self, features, plans):
        goals = self.goals[:, None].expand(-1, plans.shape[1], -1, -1)
        return self.reward.function(features, plans, features, goals).sum(-1)


class Servos:
    """A model and a planner backend of ideal servos."""

    def __init__(self, spec, task, planner=None):
        self.planner = planner or MppiConfig()
        self._reward, self._iteration = make_torch_reward(spec, task), make_iteration(spec, self.planner)

    def initial_state(self, *, initial_action, truth=None):
        count = np.zeros(len(initial_action), np.int64)
        return LifetimeState(count, initial_action[:, None], LearnedState(()))

    def predict(self, state, obs, action):
        return Prediction(obs, obs)

    def update(self, state, step):
        recent = np.concatenate([state.recent[:, 1:], step.action[:, None]], 1)
        return Prediction(step.next_obs, step.next_obs), replace(state, recent=recent)

    def iteration_at(self, state, obs, goals):
        return self._iteration.bind_objective(
            ServoObjective(self._reward, *map(torch.from_numpy, (obs, goals)))
        )


def drive(postures, steps=150):
    """Errors of two arms over time, the first at the end of its first joint, and the number of detours."""
    own = add_posture_task(SPEC, "reach")
    config = make_posture_config(MppiConfig())
    backend = Servos(own, name_posture_task("reach"), config) if postures else None
    servos = Servos(SPEC, "reach")
    crew = BatchAgent(servos, servos, SPEC, posture_backend=backend)
    position, errors = START.copy(), []
    crew.begin(START)
    obs = np.concatenate([position, np.zeros_like(position)], 1)
    for _ in range(steps):
        action = crew.act(obs, np.repeat(GOAL, 2, 0))
        after = move(position, action)
        next_obs = np.concatenate([after, (after - position) * SPEC.rate], 1).astype(np.float32)
        crew.observe(obs, action, next_obs)
        position, obs = after, next_obs
        errors.append(np.linalg.norm(KINEMATICS.compute_tip(position)[0] - GOAL, axis=1))
    return np.stack(errors, 1), crew.goal_postures.num_detours if postures else 0


def test_an_arm_that_no_short_plan_leads_to_its_goal_arrives_by_a_detour():
    trapped, _ = drive(postures=False)
    arrived, detours = drive(postures=True)
    assert trapped[0, -1] > 0.05 and arrived[0, -1] < NEAR and detours == 1
    # The other arm needs none, and is on its way as before.
    assert trapped[1, -1] < NEAR and arrived[1, -1] < NEAR
