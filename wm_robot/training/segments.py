"""Drawing training segments from lives: fresh starts beside lives that go on from update to update."""

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
    """`B` rows of `T` steps. The first `fresh` rows begin at birth; the others carry their state on."""

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
    """`B`, bool: rows whose state is the birth state: the fresh ones, and carried lives that just ended."""


class SegmentSampler:
    """An endless, reproducible stream of `Segments`.

    A carried life is followed to its end and then, most often, into another life without a reset, so that
    states grow far older than one stored life and meet the change.
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
        pools: Lives, each with the share of rows drawn from it.
        carried: Share of rows that carry their state on.
        restart: Chance that a carried life begins anew when its lives' data end.
        """
        self.recent, self.restart = recent, restart
        self.rng = np.random.default_rng(seed)
        self.shape(rows=rows, steps=steps, carried=carried)
        self.set_pools(pools)

    def shape(self, *, rows: int, steps: int, carried: float, worlds: float = 1.0) -> None:
        """Draw segments of another shape from now on, all of them born at first.

        Args:
            worlds: Share of each pool that is drawn from, the lives in the mildest worlds.
        """
        self.rows, self.steps, self.worlds = rows, steps, worlds
        self.fresh = rows - round(rows * carried)
        self._at = np.full((rows, 3), -1, dtype=np.int64)
        """Of each carried row: pool, life and next step."""

    def set_pools(self, pools: Sequence[tuple[Lives, float]]) -> None:
        """Draw from these from now on; carried lives of a pool keep its place in the list."""
        for lives, _ in pools:
            if lives.steps < self.steps:
                raise ConfigError(f"lives are {lives.steps} steps long; segments need at least {self.steps}")
        self._pools = [lives for lives, _ in pools]
        self._order = [mildest_first(lives) for lives in self._pools]
        share = np.array([weight for _, weight in pools], dtype=np.float64)
        self._share = share / share.sum()

    def draw(self) -> Segments:
        """The next segments."""
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
        """Everything that the stream depends on besides the pools; plain values."""
        return {"rng": self.rng.bit_generator.state, "at": self._at.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state` was taken."""
        self.rng.bit_generator.state = state["rng"]
        self._at = np.array(state["at"], dtype=np.int64)

    def _place(self, *, anywhere: bool) -> tuple[int, int, int]:
        """A life and a step to begin at: a carried row's is in the first segment, so that it stays for the rest of
        the life, and yet its segments do not keep to the grid on which a life changes its behaviour."""
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
