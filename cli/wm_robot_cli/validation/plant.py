"""Simulated plant of a scenario."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wm_robot.evaluation.validation.scenario import Scenario
from wm_robot.safety.limit_violations import REJECTION_RULES
from wm_robot.spec import RobotSpec
from wm_robot.types import Observation
from wm_robot_sim.motion import draw_random_actions
from wm_robot_sim.robot import SimRobot
from wm_robot_sim.standins.catalog import find_standin
from wm_robot_sim.task_goals import TaskGoals
from wm_robot_sim.worlds import World


class ScenarioPlant:
    """Simulated robot in the worlds of a scenario, with its goals and its random motion."""

    def __init__(self, spec: RobotSpec, scenario: Scenario):
        worlds = [World.from_dict(each.world) for each in scenario.changes]
        kinds = {effect.kind for world in worlds for effect in world.effects}
        self._spec, self._seed = spec, scenario.seed
        standin = find_standin(scenario.standin, spec) if scenario.standin else None
        self._robot = SimRobot(spec, worlds[0], seed=scenario.seed, effect_kinds=kinds, standin=standin)
        self._goals = TaskGoals(
            spec, spec.find_task(scenario.task), seed=np.random.SeedSequence([scenario.seed, 1])
        )

    @property
    def last_action(self) -> np.ndarray:
        """Action in force, `A`."""
        return self._robot.last_action

    def read(self) -> Observation:
        """Return the last sensor reading."""
        return self._robot.read()

    def write(self, action: np.ndarray) -> np.ndarray:
        """Apply an action for one control period; return what the gate left of it."""
        return self._robot.write(action)

    def set_world(self, world: Mapping[str, Any]) -> None:
        """Change the world."""
        self._robot.set_world(World.from_dict(world))

    def compute_true_obs(self) -> np.ndarray:
        """Observation without noise, bias and delay, `O`."""
        return self._robot.compute_true_obs()

    def find_contacts(self) -> Sequence[tuple[str, str]]:
        """Find the pairs of bodies that touch."""
        return self._robot.find_contacts()

    def compute_goal(self, step: int) -> np.ndarray:
        """Goal of the task at a step, `G`."""
        return self._goals.compute_goal(step)

    def draw_random_actions(self, num_steps: int) -> np.ndarray:
        """Draw random actions, `T A`."""
        rng = np.random.default_rng([self._seed, 2])
        return draw_random_actions(self._spec, rng, self.last_action[None], num_steps)[0]

    def qpos(self) -> np.ndarray:
        """True generalised positions, `nq`."""
        return self._robot.qpos()

    def count_rejections(self) -> int:
        """Count the actions that the gate rejected."""
        return sum(self._robot.gate.counts[rule] for rule in REJECTION_RULES)
