"""Segment sampler: draws training segments from trajectories, from the initial state or continued."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_robot.errors import ConfigError
from wm_robot.training.curriculum import mildest_first
from wm_robot.types import Lives


@dataclass(frozen=True, kw_only=True)
class Segments:
    """Batch of `B` segments of `T` steps. The first rows start from the initial state; the others continue."""

    obs: np.ndarray
    """`B T+1 O`."""
    action: np.ndarray
    """`B T A`."""
    recent: np.ndarray
    """`B R A`: actions before the first step, oldest first."""
    truth: np.ndarray
    """`B T+1 P`."""
    fresh: int
    born: np.ndarray
    """`B`, bool: rows in the initial state: the fresh ones, and continued ones whose trajectory just ended."""


class SegmentSampler:
    """Sampler of an endless, reproducible stream of `SegmentBatch`.

    A continued row follows its trajectory to the end. Then it mostly continues with another trajectory without a
    reset, so that lifetimes are much longer than one trajectory and contain changes of the dynamics.
    """

    def __init__(
        self,
        pools: Sequence[tuple[Lives, float]],
        *,
        rows: int,
        steps: int,
        recent: int,
        carried: float = 0.5,
        restart: float = 0.1,
        seed: int = 0,
    ):
        """Args:
        pools: Trajectory batches, each with the share of rows drawn from it.
        continued_share: Share of rows that continue with their state.
        restart_probability: Chance of a reset when the trajectory of a continued row ends.
        """
        self.recent, self.restart = recent, restart
        self.rng = np.random.default_rng(seed)
        self.shape(rows=rows, steps=steps, carried=carried)
        self.set_pools(pools)

    def shape(self, *, rows: int, steps: int, carried: float, worlds: float = 1.0) -> None:
        """Set another shape of the segments, and reset all rows.

        Args:
            world_share: Share of each pool that is drawn from, the trajectories in the mildest worlds.
        """
        self.rows, self.steps, self.worlds = rows, steps, worlds
        self.fresh = rows - round(rows * carried)
        self._at = np.full((rows, 3), -1, dtype=np.int64)
        """Pool, trajectory and next step of each row."""

    def set_pools(self, pools: Sequence[tuple[Lives, float]]) -> None:
        """Set the pools; continued rows keep the position of their pool in the list."""
        for lives, _ in pools:
            if lives.steps < self.steps:
                raise ConfigError(
                    f"trajectories are {lives.steps} steps long; segments need at least {self.steps}"
                )
        self._pools = [lives for lives, _ in pools]
        self._order = [mildest_first(lives) for lives in self._pools]
        share = np.array([weight for _, weight in pools], dtype=np.float64)
        self._share = share / share.sum()

    def draw(self) -> Segments:
        """Draw the next segments."""
        born = np.zeros(self.rows, dtype=bool)
        for row in range(self.rows):
            pool, life, start = self._at[row]
            if row < self.fresh:
                born[row] = True
                self._at[row] = self._place(anywhere=True)
            elif pool < 0 or start + self.steps > self._pools[pool].steps:
                born[row] = pool < 0 or self.rng.random() < self.restart
                self._at[row] = self._place(anywhere=False)
        parts = [self._cut(*place) for place in self._at.tolist()]
        self._at[:, 2] += self.steps
        obs, action, recent, truth = (np.stack(part) for part in zip(*parts, strict=True))
        return Segments(obs=obs, action=action, recent=recent, truth=truth, fresh=self.fresh, born=born)

    def state(self) -> dict[str, Any]:
        """Return everything that the stream depends on besides the pools; plain values."""
        return {"rng": self.rng.bit_generator.state, "at": self._at.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue exactly from a saved state of the sampler."""
        self.rng.bit_generator.state = state["rng"]
        self._at = np.array(state["at"], dtype=np.int64)

    def _place(self, *, anywhere: bool) -> tuple[int, int, int]:
        """Draw a trajectory and a start step. A continued row starts within the first segment length: it follows most
        of the trajectory, and its segments are not aligned to the grid on which the behaviour changes."""
        pool = int(self.rng.choice(len(self._pools), p=self._share))
        lives = self._pools[pool]
        latest = lives.steps - self.steps
        start = int(self.rng.integers(1 + (latest if anywhere else min(latest, self.steps - 1))))
        mild = self._order[pool][: math.ceil(self.worlds * len(lives))]
        return pool, int(self.rng.choice(mild)), start

    def _cut(self, pool: int, life: int, start: int) -> tuple[np.ndarray, ...]:
        lives, stop = self._pools[pool], start + self.steps
        before = lives.action[life, max(0, start - self.recent) : start]
        missing = np.repeat(lives.hold[life][None], self.recent - len(before), axis=0)
        steps = np.minimum(np.arange(start, stop + 1), lives.steps - 1)
        truth = lives.physics[life][lives.world[life, steps]]
        return (
            lives.obs[life, start : stop + 1],
            lives.action[life, start:stop],
            np.concatenate([missing, before]),
            truth,
        )
