"""Motor wear: each motor's gain slowly leaves the training range, over many minutes."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from wm_robot.spec import RobotSpec
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.motion import draw_random_actions
from wm_robot_sim.worlds import DomainRandomization, World, sample_log_uniform

STIFFER_FACTORS, WEAKER_FACTORS = (1.2, 1.9), (0.4, 0.75)
"""Factors on the ends of the training range of gains; a worn motor's gain ends between them."""
STEPS_PER_WORLD = 64
"""Steps in one world."""
MOTION_STEPS = 1024
"""Steps of random motion drawn at a time."""


class WearSegment(NamedTuple):
    """Transitions of `B` robots in worlds that stay constant."""

    obs: np.ndarray
    """`B T+1 O`."""
    action: np.ndarray
    """`B T A`: applied action."""
    physics: np.ndarray
    """`B P`."""


class WearSimulation:
    """Wear simulation: robots of one spec in random motion, from nominal to fully worn."""

    def __init__(self, spec: RobotSpec, *, num_robots: int, seed: int):
        self.spec, self._rng = spec, np.random.default_rng([seed, 90_000])
        self._nominal = DomainRandomization(spec).make_nominal_world()
        low, high = DomainRandomization(spec).ranges.gain
        shape = num_robots, spec.action_dim
        stiffer = self._rng.random(shape) < 0.5
        ends = (
            high * sample_log_uniform(self._rng, STIFFER_FACTORS, shape),
            low * sample_log_uniform(self._rng, WEAKER_FACTORS, shape),
        )
        self._final_gain = np.where(stiffer, *ends)
        self._sim = BatchSim(spec, [self._nominal] * num_robots, seed=int(self._rng.integers(2**62)))
        self._planned_actions = np.empty((num_robots, 0, spec.action_dim), np.float32)

    @property
    def last_action(self) -> np.ndarray:
        """Last applied action, `B A`."""
        return self._sim.last_action

    def simulate(self, num_steps: int, *, wear_range: tuple[float, float]) -> Iterator[WearSegment]:
        """Simulate the next steps and yield them in pieces of constant wear.

        Args:
            num_steps: A multiple of `STEPS_PER_WORLD`.
            wear_range: Wear at the first and at the last step, from 0 to 1.
        """
        for at in range(0, num_steps, STEPS_PER_WORLD):
            part = wear_range[0] + (wear_range[1] - wear_range[0]) * at / num_steps
            worlds = [self._make_world(row, part) for row in range(self._sim.num_robots)]
            self._sim.set_worlds(range(self._sim.num_robots), worlds)
            before = self._sim.obs[:, None].copy()
            following, applied = self._sim.rollout(self._next_actions())
            obs = np.concatenate([before, following], 1)
            yield WearSegment(obs, applied, np.stack([world.to_vector() for world in worlds]))

    def _make_world(self, row: int, part: float) -> World:
        return replace(self._nominal, gain=self._final_gain[row] ** part)

    def _next_actions(self) -> np.ndarray:
        if not self._planned_actions.shape[1]:
            self._planned_actions = draw_random_actions(self.spec, self._rng, self.last_action, MOTION_STEPS)
        now, self._planned_actions = (
            self._planned_actions[:, :STEPS_PER_WORLD],
            self._planned_actions[:, STEPS_PER_WORLD:],
        )
        return now
