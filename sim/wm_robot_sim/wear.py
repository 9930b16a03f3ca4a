"""Motor wear: each motor's gain slowly leaves the training range, over many minutes."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from wm_robot.spec import RobotSpec
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.motion import random_actions
from wm_robot_sim.worlds import World, WorldDistribution, log_uniform

STIFFER, WEAKER = (1.2, 1.9), (0.4, 0.75)
"""Factors on the ends of the training range of gains; a worn motor's gain ends between them."""
PIECE = 64
"""Steps in one world."""
BEHAVIOUR = 1024
"""Steps of random motion drawn at a time."""


class WornPiece(NamedTuple):
    """Transitions of `B` robots in worlds that stay constant."""

    obs: np.ndarray
    """`B T+1 O`."""
    action: np.ndarray
    """`B T A`: applied action."""
    physics: np.ndarray
    """`B P`."""


class Wear:
    """Wear simulation: robots of one spec in random motion, from nominal to fully worn."""

    def __init__(self, spec: RobotSpec, *, robots: int, seed: int):
        self.spec, self._rng = spec, np.random.default_rng([seed, 90_000])
        self._new = WorldDistribution(spec).nominal()
        low, high = WorldDistribution(spec).ranges.gain
        shape = robots, spec.action_dim
        stiffer = self._rng.random(shape) < 0.5
        ends = high * log_uniform(self._rng, STIFFER, shape), low * log_uniform(self._rng, WEAKER, shape)
        self._worn = np.where(stiffer, *ends)
        self._sim = BatchSim(spec, [self._new] * robots, seed=int(self._rng.integers(2**62)))
        self._plan = np.empty((robots, 0, spec.action_dim), np.float32)

    @property
    def hold(self) -> np.ndarray:
        """Last applied action, `B A`."""
        return self._sim.hold

    def lived(self, steps: int, *, worn: tuple[float, float]) -> Iterator[WornPiece]:
        """Simulate the next steps and yield them in pieces of constant wear.

        Args:
            num_steps: A multiple of `STEPS_PER_WORLD`.
            wear_range: Wear at the first and at the last step, from 0 to 1.
        """
        for at in range(0, steps, PIECE):
            part = worn[0] + (worn[1] - worn[0]) * at / steps
            worlds = [self._world(row, part) for row in range(self._sim.rows)]
            self._sim.set_worlds(range(self._sim.rows), worlds)
            before = self._sim.obs[:, None].copy()
            following, applied = self._sim.rollout(self._moves())
            obs = np.concatenate([before, following], 1)
            yield WornPiece(obs, applied, np.stack([world.vector() for world in worlds]))

    def _world(self, row: int, part: float) -> World:
        return replace(self._new, gain=self._worn[row] ** part)

    def _moves(self) -> np.ndarray:
        if not self._plan.shape[1]:
            self._plan = random_actions(self.spec, self._rng, self.hold, BEHAVIOUR)
        now, self._plan = self._plan[:, :PIECE], self._plan[:, PIECE:]
        return now
