"""Trajectory collection: many simulated robots, each in a world that changes at hidden moments."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from wm_robot.errors import ConfigError
from wm_robot.spec import RobotSpec
from wm_robot.types import Lives
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.goals import MovingTarget
from wm_robot_sim.motion import random_actions
from wm_robot_sim.worlds import World, WorldDistribution

GRID = 8
"""Worlds change at multiples of this number of steps."""
WORLDS = 3
NOMINAL_SHARE = 0.06
RETURN_CHANCE = 0.6
TRAINING, HELD_OUT = 0, 1
SIM_SEED, WORLD_SEED, CHANGE_SEED, MOTION_SEED, GOAL_SEED = range(5)


class Policy(Protocol):
    """Policy that controls the simulated robots during a collection."""

    def begin(self, hold: np.ndarray, truth: np.ndarray | None = None) -> None:
        """Start new trajectories.

        Args:
            last_action: `B A`.
            truth: True physics, `B P`, for the `oracle` variant only.
        """

    def act(self, obs: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Return an action `B A` for observation `B O` and goal `B G`."""

    def observe(
        self, obs: np.ndarray, applied: np.ndarray, next_obs: np.ndarray, *, truth: np.ndarray | None = None
    ) -> object:
        """Receive a transition: observation before, applied action, observation after."""


def gather(
    spec: RobotSpec,
    *,
    lives: int,
    steps: int,
    seed: int,
    policy: Policy | None = None,
    threads: int = 1,
    change_rate: float = 1 / 256,
    still: float = 0.0,
    held_out: bool = False,
    worlds: Sequence[Sequence[World]] | None = None,
    visits: Sequence[tuple[int, int]] | None = None,
) -> Lives:
    """Simulate many robots in parallel and return their trajectories.

    Each robot has three worlds. It starts in the first, changes to another at hidden moments, and often
    returns.

    Args:
        policy: Policy that acts. None: random actions.
        num_threads: Threads for physics.
        change_rate: Changes of world per step.
        static_share: Share of trajectories whose world never changes.
        held_out: Draw worlds, goals and noise from seeds that training never uses.
        worlds: Worlds of each trajectory, in place of random ones: `num_trajectories` sequences of equal length.
            With one world per trajectory, nothing changes.
        world_schedule: Pairs of a step, a multiple of `WORLD_CHANGE_STEPS`, and the world of every trajectory from
            that step on, in place of random changes.

    Raises:
        ConfigError: If `worlds` has another number of trajectories, or a visit names a missing world.
    """
    root = np.random.SeedSequence(seed, spawn_key=(HELD_OUT if held_out else TRAINING,))
    seeds = root.spawn(5)
    worlds = worlds or draw_worlds(spec, lives, np.random.default_rng(seeds[WORLD_SEED]))
    if len(worlds) != lives:
        raise ConfigError(f"worlds has {len(worlds)} trajectories; it must have {lives}")
    count = len(worlds[0])
    rate = np.where(np.arange(lives) < still * lives, 0.0, change_rate)
    schedule = change_times(np.random.default_rng(seeds[CHANGE_SEED]), lives, steps, count, rate)
    if visits is not None:
        schedule = np.tile(_visited(visits, steps, count), (lives, 1))
    goal = np.stack([MovingTarget(spec, seed=s).path(steps + 1) for s in seeds[GOAL_SEED].spawn(lives)])
    sim_seed = int(seeds[SIM_SEED].generate_state(1, np.uint64)[0])
    sim = BatchSim(spec, [own[0] for own in worlds], seed=sim_seed, threads=threads)
    hold, rows = sim.hold, np.arange(lives)
    physics = np.array([[world.vector() for world in own] for own in worlds], np.float32)
    planned = np.zeros((lives, steps, 0))
    if policy is None:
        planned = random_actions(spec, np.random.default_rng(seeds[MOTION_SEED]), hold, steps)
    else:
        policy.begin(hold, physics[rows, schedule[:, 0]])

    obs = np.empty((lives, steps + 1, spec.obs_dim), np.float32)
    action = np.empty((lives, steps, spec.action_dim), np.float32)
    obs[:, 0] = sim.obs
    for t in range(0, steps, GRID):
        stop = min(t + GRID, steps)
        if t:
            _change_worlds(sim, worlds, schedule[:, t - 1], schedule[:, t])
        if policy is None:
            obs[:, t + 1 : stop + 1], action[:, t:stop] = sim.rollout(planned[:, t:stop])
            continue
        for now in range(t, stop):
            wanted = policy.act(obs[:, now], goal[:, now])
            obs[:, now + 1], action[:, now] = sim.step(wanted)
            truth = physics[rows, schedule[:, now]]
            policy.observe(obs[:, now], action[:, now], obs[:, now + 1], truth=truth)
    return Lives(obs=obs, action=action, hold=hold, goal=goal, physics=physics, world=schedule)


def draw_worlds(spec: RobotSpec, lives: int, rng: np.random.Generator) -> list[list[World]]:
    """Draw three worlds for each trajectory, a few of them nominal."""
    distribution = WorldDistribution(spec)
    nominal = distribution.nominal()
    return [
        [nominal if rng.random() < NOMINAL_SHARE else distribution.sample(rng) for _ in range(WORLDS)]
        for _ in range(lives)
    ]


def change_times(
    rng: np.random.Generator, lives: int, steps: int, worlds: int, rate: float | np.ndarray
) -> np.ndarray:
    """Draw the index of the world in force at each step, int64 `B T`.

    A change returns to the first world with chance `RETURN_CHANCE`.

    Args:
        rate: Changes per step, of all trajectories or of each.
    """
    now = np.zeros(lives, np.int64)
    blocks = []
    for block in range(-(-steps // GRID)):
        change = (rng.random(lives) < rate * GRID) & (block > 0) & (worlds > 1)
        home = rng.random(lives) < RETURN_CHANCE
        other = (now + rng.integers(1, max(worlds, 2), lives)) % worlds
        now = np.where(change, np.where(home & (now > 0), 0, other), now)
        blocks.append(now)
    return np.repeat(np.stack(blocks, 1), GRID, axis=1)[:, :steps]


def _visited(visits: Sequence[tuple[int, int]], steps: int, worlds: int) -> np.ndarray:
    """Return the index of the world in force at each step, int64 `T`."""
    starts = [start for start, _ in visits]
    if starts[:1] != [0] or starts != sorted(set(starts)) or any(start % GRID for start in starts):
        raise ConfigError(
            f"visits start at steps {starts}; they must start at 0 and increase in multiples of {GRID}"
        )
    if not all(0 <= world < worlds for _, world in visits):
        raise ConfigError(f"visits name worlds {[w for _, w in visits]}; each trajectory has {worlds} worlds")
    now = np.searchsorted(starts, np.arange(steps), side="right") - 1
    return np.array([world for _, world in visits], np.int64)[now]


def _change_worlds(
    sim: BatchSim, worlds: Sequence[Sequence[World]], before: np.ndarray, after: np.ndarray
) -> None:
    rows = np.flatnonzero(before != after).tolist()
    sim.set_worlds(rows, [worlds[row][after[row]] for row in rows])
