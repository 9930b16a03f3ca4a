"""A short recording of a simulated arm, and a store with the life of a newborn one."""

from pathlib import Path

import numpy as np
import torch

from wm_robot.model.base import load_base
from wm_robot.recording.episode_file import Origin, write_episode
from wm_robot.robots import load_spec
from wm_robot.store.store import Store
from wm_robot.types import Episode
from wm_robot_sim.rollouts import gather

BASE = Path(__file__).parents[2] / "bases" / "arm-ekf"
STEPS = 120


def recorded_arm(folder, name="arm", seed=5):
    """An episode file of some random movement."""
    spec = load_spec("arm")
    lives = gather(spec, lives=1, steps=STEPS, seed=seed, held_out=True)
    episode = Episode(
        stamp=np.arange(STEPS + 1) * 20_000_000,
        obs=lives.obs[0],
        action=lives.action[0],
        hold=lives.hold[0],
        reward=np.full(STEPS, np.nan),
        goal=np.zeros((STEPS + 1, 0)),
        valid=np.ones(STEPS, bool),
    )
    write_episode(folder / f"{name}.parquet", episode, Origin.of(spec))
    return folder / f"{name}.parquet"


def newborn(folder):
    """A store with a life that has lived nothing, as its main branch."""
    base = load_base(BASE)
    state = base.model.birth(hold=torch.zeros(1, base.model.config.action))
    Store(folder / "lives").save(
        {name: value.contiguous().numpy() for name, value in state.flatten().items()},
        base_digest=base.digest,
        spec_digest=load_spec("arm").digest(),
    )
    return folder / "lives"
