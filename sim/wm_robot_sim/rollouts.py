"""Trajectory collection: many simulated robots, each in a world that changes at hidden moments."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from wm_robot.errors import ConfigError
from wm_robot.spec import RobotSpec
from wm_robot.types import TrajectoryBatch
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.goals import MovingTarget
from wm_robot_sim.motion import draw_random_actions
from wm_robot_sim.task_goals import TaskGoals
from wm_robot_sim.worlds import DomainRandomization, World

WORLD_CHANGE_STEPS = 8
"""Worlds change at multiples of this number of steps."""
WORLDS_PER_TRAJECTORY = 3
NOMINAL_SHARE = 0.06
RETURN_CHANCE = 0.6
TRAINING, HELD_OUT = 0, 1
SIM_SEED, WORLD_SEED, CHANGE_SEED, MOTION_SEED, GOAL_SEED = range(5)


class Policy(Protocol):
    """Policy that controls the simulated robots during a collection."""

    def begin(self, last_action: np.ndarray, truth: np.ndarray | None = None) -> None:
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


def collect_trajectories(
    spec: RobotSpec,
    *,
    num_trajectories: int,
    num_steps: int,
    seed: int,
    policy: Policy | None = None,
    num_threads: int = 1,
    change_rate: float = 1 / 256,
    static_share: float = 0.0,
    held_out: bool = False,
    worlds: Sequence[Sequence[World]] | None = None,
    world_schedule: Sequence[tuple[int, int]] | None = None,
    task: str | None = None,
) -> TrajectoryBatch:
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
        task: Task of the goals and of the start poses; a moving target for the gripper by default.

    Raises:
        ConfigError: If `worlds` has another number of trajectories, or a visit names a missing world.
    """
    root = np.random.SeedSequence(seed, spawn_key=(HELD_OUT if held_out else TRAINING,))
    seeds = root.spawn(5)
    worlds = worlds or draw_worlds(spec, num_trajectories, np.random.default_rng(seeds[WORLD_SEED]))
    if len(worlds) != num_trajectories:
        raise ConfigError(f"worlds has {len(worlds)} trajectories; it must have {num_trajectories}")
    count = len(worlds[0])
    rate = np.where(np.arange(num_trajectories) < static_share * num_trajectories, 0.0, change_rate)
    schedule = draw_world_schedule(
        np.random.default_rng(seeds[CHANGE_SEED]), num_trajectories, num_steps, count, rate
    )
    if world_schedule is not None:
        schedule = np.tile(_expand_world_schedule(world_schedule, num_steps, count), (num_trajectories, 1))
    goal_seeds = seeds[GOAL_SEED].spawn(num_trajectories)
    goals: list[MovingTarget | TaskGoals] = [
        MovingTarget(spec, seed=each) if task is None else TaskGoals(spec, spec.find_task(task), seed=each)
        for each in goal_seeds
    ]
    goal = np.stack([each.compute_path(num_steps + 1) for each in goals])
    sim_seed = int(seeds[SIM_SEED].generate_state(1, np.uint64)[0])
    sim = BatchSim(
        spec,
        [own[0] for own in worlds],
        seed=sim_seed,
        task=task,
        num_threads=num_threads,
        effect_kinds={effect.kind for own in worlds for world in own for effect in world.effects},
    )
    hold, rows = sim.last_action, np.arange(num_trajectories)
    physics = np.array([[world.to_vector() for world in own] for own in worlds], np.float32)
    planned = np.zeros((num_trajectories, num_steps, 0))
    if policy is None:
        planned = draw_random_actions(spec, np.random.default_rng(seeds[MOTION_SEED]), hold, num_steps)
    else:
        policy.begin(hold, physics[rows, schedule[:, 0]])

    obs = np.empty((num_trajectories, num_steps + 1, spec.obs_dim), np.float32)
    action = np.empty((num_trajectories, num_steps, spec.action_dim), np.float32)
    obs[:, 0] = sim.obs
    for t in range(0, num_steps, WORLD_CHANGE_STEPS):
        stop = min(t + WORLD_CHANGE_STEPS, num_steps)
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
    return TrajectoryBatch(
        obs=spec.layout.count_turns(obs),
        action=action,
        initial_action=hold,
        goal=goal,
        physics=physics,
        world=schedule,
    )


def draw_worlds(spec: RobotSpec, num_trajectories: int, rng: np.random.Generator) -> list[list[World]]:
    """Draw three worlds for each trajectory, a few of them nominal."""
    distribution = DomainRandomization(spec)
    nominal = distribution.make_nominal_world()
    return [
        [
            nominal if rng.random() < NOMINAL_SHARE else distribution.sample(rng)
            for _ in range(WORLDS_PER_TRAJECTORY)
        ]
        for _ in range(num_trajectories)
    ]


def draw_world_schedule(
    rng: np.random.Generator, num_trajectories: int, num_steps: int, num_worlds: int, rate: float | np.ndarray
) -> np.ndarray:
    """Draw the index of the world in force at each step, int64 `B T`.

    A change returns to the first world with chance `RETURN_CHANCE`.

    Args:
        rate: Changes per step, of all trajectories or of each.
    """
    now = np.zeros(num_trajectories, np.int64)
    blocks = []
    for block in range(-(-num_steps // WORLD_CHANGE_STEPS)):
        change = (rng.random(num_trajectories) < rate * WORLD_CHANGE_STEPS) & (block > 0) & (num_worlds > 1)
        home = rng.random(num_trajectories) < RETURN_CHANCE
        other = (now + rng.integers(1, max(num_worlds, 2), num_trajectories)) % num_worlds
        now = np.where(change, np.where(home & (now > 0), 0, other), now)
        blocks.append(now)
    return np.repeat(np.stack(blocks, 1), WORLD_CHANGE_STEPS, axis=1)[:, :num_steps]


def _expand_world_schedule(
    world_schedule: Sequence[tuple[int, int]], num_steps: int, num_worlds: int
) -> np.ndarray:
    """Return the index of the world in force at each step, int64 `T`."""
    starts = [start for start, _ in world_schedule]
    if (
        starts[:1] != [0]
        or starts != sorted(set(starts))
        or any(start % WORLD_CHANGE_STEPS for start in starts)
    ):
        raise ConfigError(
            f"visits start at steps {starts}; they must start at 0 and increase in multiples of {WORLD_CHANGE_STEPS}"
        )
    if not all(0 <= world < num_worlds for _, world in world_schedule):
        raise ConfigError(
            f"visits name worlds {[w for _, w in world_schedule]}; each trajectory has {num_worlds} worlds"
        )
    now = np.searchsorted(starts, np.arange(num_steps), side="right") - 1
    return np.array([world for _, world in world_schedule], np.int64)[now]


def _change_worlds(
    sim: BatchSim, worlds: Sequence[Sequence[World]], before: np.ndarray, after: np.ndarray
) -> None:
    rows = np.flatnonzero(before != after).tolist()
    sim.set_worlds(rows, [worlds[row][after[row]] for row in rows])
