"""Segment sampler: draws training segments from trajectories, from the initial state or continued."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_robot.errors import ConfigError
from wm_robot.training.curriculum import sort_by_severity
from wm_robot.types import TrajectoryBatch


@dataclass(frozen=True, kw_only=True)
class SegmentBatch:
    """Batch of `B` segments of `T` steps. The first rows start from the initial state; the others continue."""

    obs: np.ndarray
    """`B T+1 O`."""
    action: np.ndarray
    """`B T A`."""
    recent: np.ndarray
    """`B R A`: actions before the first step, oldest first."""
    truth: np.ndarray
    """`B T+1 P`."""
    num_fresh: int
    is_initial: np.ndarray
    """`B`, bool: rows in the initial state: the fresh ones, and continued ones whose trajectory just ended."""


class SegmentSampler:
    """Sampler of an endless, reproducible stream of `SegmentBatch`.

    A continued row follows its trajectory to the end. Then it mostly continues with another trajectory without a
    reset, so that lifetimes are much longer than one trajectory and contain changes of the dynamics.
    """

    def __init__(
        self,
        pools: Sequence[tuple[TrajectoryBatch, float]],
        *,
        num_rows: int,
        num_steps: int,
        num_recent: int,
        continued_share: float = 0.5,
        restart_probability: float = 0.1,
        seed: int = 0,
    ):
        """Args:
        pools: Trajectory batches, each with the share of rows drawn from it.
        continued_share: Share of rows that continue with their state.
        restart_probability: Chance of a reset when the trajectory of a continued row ends.
        """
        self.num_recent, self.restart_probability = num_recent, restart_probability
        self.rng = np.random.default_rng(seed)
        self.set_shape(num_rows=num_rows, num_steps=num_steps, continued_share=continued_share)
        self.set_pools(pools)

    def set_shape(
        self, *, num_rows: int, num_steps: int, continued_share: float, world_share: float = 1.0
    ) -> None:
        """Set another shape of the segments, and reset all rows.

        Args:
            world_share: Share of each pool that is drawn from, the trajectories in the mildest worlds.
        """
        self.num_rows, self.num_steps, self.world_share = num_rows, num_steps, world_share
        self.num_fresh = num_rows - round(num_rows * continued_share)
        self._positions = np.full((num_rows, 3), -1, dtype=np.int64)
        """Pool, trajectory and next step of each row."""

    def set_pools(self, pools: Sequence[tuple[TrajectoryBatch, float]]) -> None:
        """Set the pools; continued rows keep the position of their pool in the list."""
        for lives, _ in pools:
            if lives.num_steps < self.num_steps:
                raise ConfigError(
                    f"trajectories are {lives.num_steps} steps long; segments need at least {self.num_steps}"
                )
        self._pools = [lives for lives, _ in pools]
        self._severity_order = [sort_by_severity(lives) for lives in self._pools]
        share = np.array([weight for _, weight in pools], dtype=np.float64)
        self._pool_shares = share / share.sum()

    def draw_segments(self) -> SegmentBatch:
        """Draw the next segments."""
        born = np.zeros(self.num_rows, dtype=bool)
        for row in range(self.num_rows):
            pool, life, start = self._positions[row]
            if row < self.num_fresh:
                born[row] = True
                self._positions[row] = self._draw_start(anywhere=True)
            elif pool < 0 or start + self.num_steps > self._pools[pool].num_steps:
                born[row] = pool < 0 or self.rng.random() < self.restart_probability
                self._positions[row] = self._draw_start(anywhere=False)
        parts = [self._cut_segment(*place) for place in self._positions.tolist()]
        self._positions[:, 2] += self.num_steps
        obs, action, recent, truth = (np.stack(part) for part in zip(*parts, strict=True))
        return SegmentBatch(
            obs=obs, action=action, recent=recent, truth=truth, num_fresh=self.num_fresh, is_initial=born
        )

    def get_state(self) -> dict[str, Any]:
        """Return everything that the stream depends on besides the pools; plain values."""
        return {"rng": self.rng.bit_generator.state, "at": self._positions.tolist()}

    def restore_state(self, state: dict[str, Any]) -> None:
        """Continue exactly from a saved state of the sampler."""
        self.rng.bit_generator.state = state["rng"]
        self._positions = np.array(state["at"], dtype=np.int64)

    def _draw_start(self, *, anywhere: bool) -> tuple[int, int, int]:
        """Draw a trajectory and a start step. A continued row starts within the first segment length: it follows most
        of the trajectory, and its segments are not aligned to the grid on which the behaviour changes."""
        pool = int(self.rng.choice(len(self._pools), p=self._pool_shares))
        lives = self._pools[pool]
        latest = lives.num_steps - self.num_steps
        start = int(self.rng.integers(1 + (latest if anywhere else min(latest, self.num_steps - 1))))
        mild = self._severity_order[pool][: math.ceil(self.world_share * len(lives))]
        return pool, int(self.rng.choice(mild)), start

    def _cut_segment(self, pool: int, row: int, start: int) -> tuple[np.ndarray, ...]:
        lives, stop = self._pools[pool], start + self.num_steps
        before = lives.action[row, max(0, start - self.num_recent) : start]
        missing = np.repeat(lives.initial_action[row][None], self.num_recent - len(before), axis=0)
        steps = np.minimum(np.arange(start, stop + 1), lives.num_steps - 1)
        truth = lives.physics[row][lives.world[row, steps]]
        return (
            lives.obs[row, start : stop + 1],
            lives.action[row, start:stop],
            np.concatenate([missing, before]),
            truth,
        )
