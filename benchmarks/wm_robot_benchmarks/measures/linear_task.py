"""Linear task: random linear systems that change, the smallest task with a known optimal estimator.

x' = A x + B u + noise, all of x sensed. Squared errors are in units of the noise variance: with the true A and B
the error is 1.
"""

import numpy as np
import torch
from jaxtyping import Float

from wm_robot.model.world_model import WorldModel
from wm_robot.progress import Progress, ignore_progress
from wm_robot.types import TrajectoryBatch

STATES, INPUTS = 3, 1
NUMBERS = STATES * (STATES + INPUTS)
"""Number of parameters of a system: A and B."""
NOISE = 0.1
"""Standard deviation."""
GAIN = (0.4, 0.95)
"""Largest singular value of A, uniform: no state grows, not even temporarily."""
KEPT = 0.8
"""Fraction of the input that remains one step later: inputs of a robot change smoothly."""
PIECE = 128
"""Steps that a model processes at once."""


def generate_linear_trajectories(
    count: int, steps: int, *, seed: int, regime_steps: int | None = None
) -> TrajectoryBatch:
    """Generate trajectories, each in its own system.

    Args:
        regime_steps: Steps between changes of the system; None: one change after a random time, none in half of the
            trajectories.
    """
    rng = np.random.default_rng(seed)
    if regime_steps is None:
        # As with a rate of one change in 200 steps; without a change the world index stays 0.
        changes = (rng.random((count, steps)) < 1 / 200) & (rng.random((count, 1)) < 0.5)
        world = changes.cumsum(1)
    else:
        world = np.broadcast_to(np.arange(steps) // regime_steps, (count, steps)).copy()
    systems = _draw_systems(rng, (count, int(world.max()) + 1))
    now = np.take_along_axis(systems, world[..., None, None], 1)
    action = np.empty((count, steps, INPUTS))
    action[:, 0] = rng.normal(size=(count, INPUTS))
    for t in range(1, steps):
        fresh = rng.normal(size=(count, INPUTS))
        action[:, t] = KEPT * action[:, t - 1] + np.sqrt(1 - KEPT**2) * fresh
    obs = np.empty((count, steps + 1, STATES))
    obs[:, 0] = rng.normal(size=(count, STATES))
    for t in range(steps):
        asked = np.concatenate([obs[:, t], action[:, t]], -1)
        noise = NOISE * rng.normal(size=(count, STATES))
        obs[:, t + 1] = (now[:, t] @ asked[..., None])[..., 0] + noise
    return TrajectoryBatch(
        obs=obs.astype(np.float32),
        action=action.astype(np.float32),
        initial_action=np.zeros((count, INPUTS), np.float32),
        goal=np.zeros((count, steps + 1, 0), np.float32),
        physics=systems.reshape(*systems.shape[:2], NUMBERS).astype(np.float32),
        world=world.astype(np.int64),
    )


def compute_least_squares_errors(
    lives: TrajectoryBatch, *, forgetting: float = 1.0, told_changes: bool = False
) -> Float[np.ndarray, "B T"]:
    """Compute the squared prediction error of recursive least squares at each step, mean over states.

    With the prior of the systems and no forgetting it is optimal in a constant system. With `told_changes` it
    restarts at every change, and is optimal in every system.

    Args:
        forgetting: Factor on all evidence, each step.
    """
    obs, action = lives.obs.astype(np.float64), lives.action.astype(np.float64)
    count, size = len(lives), STATES + INPUTS
    born = np.eye(size) * _compute_prior_variance() / NOISE**2
    covariance = np.broadcast_to(born, (count, size, size)).copy()
    weights = np.zeros((count, size, STATES))
    errors = np.empty((count, lives.num_steps))
    for t in range(lives.num_steps):
        if told_changes and t:
            new = lives.world[:, t] != lives.world[:, t - 1]
            covariance[new], weights[new] = born, 0.0
        asked = np.concatenate([obs[:, t], action[:, t]], -1)
        error = obs[:, t + 1] - (asked[:, None] @ weights)[:, 0]
        errors[:, t] = (error**2).mean(-1)
        told = (covariance @ asked[..., None])[..., 0]
        gain = told / (forgetting + (asked * told).sum(-1))[:, None]
        weights = weights + gain[..., None] * error[:, None]
        covariance = (covariance - gain[..., None] * told[:, None]) / forgetting
    return errors / NOISE**2


@torch.inference_mode()
def compute_model_errors(
    model: WorldModel, lives: TrajectoryBatch, progress: Progress = ignore_progress
) -> Float[np.ndarray, "B T"]:
    """Compute the squared prediction error of a model with a lifetime state, at each step."""
    obs, action = torch.from_numpy(lives.obs), torch.from_numpy(lives.action)
    state = model.initial_state(initial_action=torch.from_numpy(lives.initial_action))
    errors = []
    for start in range(0, lives.num_steps, PIECE):
        stop = min(start + PIECE, lives.num_steps)
        valid = torch.ones(len(lives), stop - start)
        predicted, state = model.scan(state, obs[:, start : stop + 1], action[:, start:stop], valid)
        errors.append((predicted.mean - obs[:, start + 1 : stop + 1]).square().mean(-1))
        progress(stop, lives.num_steps)
    return (torch.cat(errors, 1) / NOISE**2).double().numpy()


def _draw_systems(rng: np.random.Generator, shape: tuple[int, int]) -> Float[np.ndarray, "B W S X"]:
    """Draw systems, with A and B concatenated."""
    a = rng.normal(size=(*shape, STATES, STATES))
    a *= (rng.uniform(*GAIN, size=shape) / np.linalg.norm(a, 2, axis=(-2, -1)))[..., None, None]
    return np.concatenate([a, rng.normal(size=(*shape, STATES, INPUTS))], -1)


def _compute_prior_variance() -> Float[np.ndarray, "X"]:
    """Return the prior variance of each column's entries, which all have mean 0."""
    drawn = _draw_systems(np.random.default_rng(0), (1, 20_000))
    return drawn.var((0, 1)).mean(0)
