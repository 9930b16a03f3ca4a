"""A short recording of a simulated arm, and a store with the life of a newborn one."""

from pathlib import Path

import numpy as np
import torch

from wm_robot.model.base import load_base
from wm_robot.recording.episode_file import write_episode
from wm_robot.recording.episode_origin import EpisodeOrigin
from wm_robot.robots import load_spec
from wm_robot.store.store import Store
from wm_robot.types import Episode
from wm_robot_sim.rollouts import collect_trajectories

BASE = Path(__file__).parents[2] / "bases" / "arm-semiparametric"
STEPS = 120


def recorded_arm(folder, name="arm", seed=5):
    """An episode file of some random movement."""
    spec = load_spec("arm")
    lives = collect_trajectories(spec, num_trajectories=1, num_steps=STEPS, seed=seed, held_out=True)
    episode = Episode(
        stamp=np.arange(STEPS + 1) * 20_000_000,
        obs=lives.obs[0],
        action=lives.action[0],
        initial_action=lives.initial_action[0],
        reward=np.full(STEPS, np.nan),
        goal=np.zeros((STEPS + 1, 0)),
        valid=np.ones(STEPS, bool),
    )
    write_episode(folder / f"{name}.parquet", episode, EpisodeOrigin.from_robot(spec))
    return folder / f"{name}.parquet"


def newborn(folder):
    """A store with a life that has lived nothing, as its main branch."""
    base = load_base(BASE)
    state = base.model.initial_state(initial_action=torch.zeros(1, base.model.config.action))
    Store(folder / "lives").save(
        {name: value.contiguous().numpy() for name, value in state.flatten().items()},
        base_digest=base.digest,
        spec_digest=load_spec("arm").compute_digest(),
    )
    return folder / "lives"
