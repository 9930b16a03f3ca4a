"""Gain task: a hidden gain, y' = g u + noise, where g is constant over several episodes.

The first action of an episode determines the cost: without memory across episodes its gain is unknown, also in sign.
Source: the persistent-gain test of github.com/mengxiang1m/
adajepa-persistent-context-v2.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float

from wm_robot.evaluation.adaptation import TensorBatch, update_state
from wm_robot.model.world_model import WorldModel
from wm_robot.types import TrajectoryBatch

EPISODES, LENGTH = 8, 8
NOISE = 0.1
"""Standard deviation."""
GAIN = (0.5, 2.0)
"""Range of |g|, uniform; its sign is random."""
TARGETS = (-1.0, 1.0)
"""Targets of y, each in half of the trajectories."""
ACTIONS = torch.linspace(-3.0, 3.0, 241)
"""Candidate actions."""


def generate_gain_trajectories(
    count: int, *, seed: int, constant_gain: bool = True, episodes: int = EPISODES
) -> TrajectoryBatch:
    """Generate trajectories of episodes with random actions, each from rest: the first action has no evidence.

    Args:
        constant_gain: False draws another g for each episode, so that memory across episodes has no value.
    """
    rng = np.random.default_rng(seed)
    steps = episodes * LENGTH
    gains = rng.uniform(*GAIN, (count, episodes)) * rng.choice([-1.0, 1.0], (count, episodes))
    world = (
        np.zeros((count, steps), np.int64)
        if constant_gain
        else np.tile(np.arange(steps) // LENGTH, (count, 1))
    )
    action = rng.normal(size=(count, steps))
    action[:, ::LENGTH] = 0.0
    gain = np.take_along_axis(gains, world, 1)
    outcome = gain * action + NOISE * rng.normal(size=(count, steps))
    obs = np.concatenate([NOISE * rng.normal(size=(count, 1)), outcome], 1)
    return TrajectoryBatch(
        obs=obs[..., None].astype(np.float32),
        action=action[..., None].astype(np.float32),
        initial_action=np.zeros((count, 1), np.float32),
        goal=np.zeros((count, steps + 1, 0), np.float32),
        physics=gains[..., None].astype(np.float32),
        world=world,
    )


@torch.inference_mode()
def compute_first_costs(
    model: WorldModel, lives: TrajectoryBatch, *, history: str = "own", seed: int = 0
) -> Float[np.ndarray, "B E"]:
    """Compute (g u - y)² of the first action of every episode, with the model's best u.

    Args:
        history: `own`; `none`: initial state at every episode; `shuffled`: own steps with the outcomes of
            others; `other`: the steps of the next robot.
    """
    view = TensorBatch(_select_history(lives, history, seed))
    gains = np.take_along_axis(lives.physics[..., 0], lives.world, 1)
    targets = np.resize(np.array(TARGETS), len(lives))
    state, costs = model.initial_state(initial_action=view.initial_action), []
    plans = ACTIONS.view(1, -1, 1, 1).expand(len(lives), -1, -1, -1)
    for start in range(0, lives.num_steps, LENGTH):
        if history == "none":
            state = model.initial_state(initial_action=view.initial_action)
        # Of the previous episode only the learned state remains.
        now = replace(state, recent=torch.zeros_like(state.recent))
        expected = model.imagine(now, model.observe(now, torch.zeros(len(lives), 1)), plans).mean[..., 0, 0]
        best = (expected - torch.from_numpy(targets.astype(np.float32))[:, None]).square().argmin(1)
        costs.append((gains[:, start] * ACTIONS[best].numpy() - targets) ** 2)
        state = update_state(model, state, view, start, start + LENGTH)
    return np.stack(costs, 1)


def _select_history(lives: TrajectoryBatch, history: str, seed: int) -> TrajectoryBatch:
    """Return the steps that are processed between the evaluated actions."""
    if history == "other":
        return lives.select_rows(np.roll(np.arange(len(lives)), 1))
    if history == "shuffled":
        order = np.random.default_rng(seed).permutation(lives.num_steps)
        parts = {name: getattr(lives, name) for name in lives.__dataclass_fields__}
        obs = np.concatenate([lives.obs[:, :1], lives.obs[:, 1:][:, order]], 1)
        return TrajectoryBatch(**parts | {"obs": obs})
    if history not in ("own", "none"):
        raise ValueError(f"history is '{history}'; it must be 'own', 'none', 'shuffled' or 'other'")
    return lives
