"""A gain that nobody tells: y' = g u + noise, where g lasts for a whole life of several episodes.

The first action of an episode is the one that costs: whoever forgets between episodes cannot know by how much it will
be amplified, or in which direction. Source: the persistent-gain test of github.com/mengxiang1m/
adajepa-persistent-context-v2.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float

from wm_robot.evaluation.adaptation import LivesView, live
from wm_robot.model.world_model import WorldModel
from wm_robot.types import Lives

EPISODES, LENGTH = 8, 8
NOISE = 0.1
"""Standard deviation."""
GAIN = (0.5, 2.0)
"""Size of g, uniform; its sign is a coin's."""
TARGETS = (-1.0, 1.0)
"""What y should be, each in half of the lives."""
ACTIONS = torch.linspace(-3.0, 3.0, 241)
"""Those to choose from."""


def gain_lives(count: int, *, seed: int, lasting: bool = True, episodes: int = EPISODES) -> Lives:
    """Lives of episodes with random actions, each from rest: nothing that the first one can be read off.

    Args:
        lasting: False draws another g for each episode: then nothing can be carried over.
    """
    rng = np.random.default_rng(seed)
    steps = episodes * LENGTH
    gains = rng.uniform(*GAIN, (count, episodes)) * rng.choice([-1.0, 1.0], (count, episodes))
    world = np.zeros((count, steps), np.int64) if lasting else np.tile(np.arange(steps) // LENGTH, (count, 1))
    action = rng.normal(size=(count, steps))
    action[:, ::LENGTH] = 0.0
    gain = np.take_along_axis(gains, world, 1)
    outcome = gain * action + NOISE * rng.normal(size=(count, steps))
    obs = np.concatenate([NOISE * rng.normal(size=(count, 1)), outcome], 1)
    return Lives(
        obs=obs[..., None].astype(np.float32),
        action=action[..., None].astype(np.float32),
        hold=np.zeros((count, 1), np.float32),
        goal=np.zeros((count, steps + 1, 0), np.float32),
        physics=gains[..., None].astype(np.float32),
        world=world,
    )


@torch.inference_mode()
def first_costs(
    model: WorldModel, lives: Lives, *, history: str = "own", seed: int = 0
) -> Float[np.ndarray, "B E"]:
    """(g u - y)² of the first action of every episode, u the best that the model knows.

    Args:
        history: `own`; `none`: born at every episode; `shuffled`: own steps with the outcomes of others;
            `other`: the steps of the next life.
    """
    view = LivesView(_lived(lives, history, seed))
    gains = np.take_along_axis(lives.physics[..., 0], lives.world, 1)
    targets = np.resize(np.array(TARGETS), len(lives))
    state, costs = model.birth(hold=view.hold), []
    plans = ACTIONS.view(1, -1, 1, 1).expand(len(lives), -1, -1, -1)
    for start in range(0, lives.steps, LENGTH):
        if history == "none":
            state = model.birth(hold=view.hold)
        # Nothing of the moment before is left but what was learned.
        now = replace(state, recent=torch.zeros_like(state.recent))
        expected = model.imagine(now, model.observe(now, torch.zeros(len(lives), 1)), plans).mean[..., 0, 0]
        best = (expected - torch.from_numpy(targets.astype(np.float32))[:, None]).square().argmin(1)
        costs.append((gains[:, start] * ACTIONS[best].numpy() - targets) ** 2)
        state = live(model, state, view, start, start + LENGTH)
    return np.stack(costs, 1)


def _lived(lives: Lives, history: str, seed: int) -> Lives:
    """What is lived between the costly actions."""
    if history == "other":
        return lives.rows(np.roll(np.arange(len(lives)), 1))
    if history == "shuffled":
        order = np.random.default_rng(seed).permutation(lives.steps)
        parts = {name: getattr(lives, name) for name in lives.__dataclass_fields__}
        obs = np.concatenate([lives.obs[:, :1], lives.obs[:, 1:][:, order]], 1)
        return Lives(**parts | {"obs": obs})
    if history not in ("own", "none"):
        raise ValueError(f"history is '{history}'; it must be 'own', 'none', 'shuffled' or 'other'")
    return lives
