"""Whether a life may take over what another robot lived: what it foresees of both robots' recent experience."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Float

from wm_robot.evaluation.adaptation import HORIZON
from wm_robot.fleet.assimilate import assimilated, under_way
from wm_robot.lifetime.memory import State
from wm_robot.models.recall import Lives
from wm_robot.models.world_model import WorldModel
from wm_robot.types import Episode

EVERY = 4
"""Steps between moments at which a life is asked to foresee."""
HELD_OUT = 0.25
"""Part of each robot's experience, its last, on which it is decided."""
SETTLED = 16
"""Steps in a world after which what a life foresees of it counts: until then it has to recognise it."""
ALLOWED = 1.02
"""Factor by which its own world may be foreseen worse."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Squared errors, as `errors` has them, of a life before and after."""

    own_before: float
    own_after: float
    other_before: float
    other_after: float

    @property
    def accepted(self) -> bool:
        """Whether its own world is foreseen as well as before, and the other one better."""
        return self.own_after <= ALLOWED * self.own_before and self.other_after < self.other_before

    def figures(self) -> dict[str, float]:
        return asdict(self)


def tried(
    model: WorldModel, lives: Lives, state: State, own: Sequence[Episode], other: Sequence[Episode]
) -> tuple[State, Verdict]:
    """The life with another's experience, and whether it is better for it.

    Args:
        lives: What lives step by step: the model, its graphs, or the recall of either.
        own: Recent experience of its own.
        other: What it is to take over; the last part is held out.
    """
    lived, kept = parted(other)
    after = assimilated(lives, state, lived)
    errors_of = {
        f"{whose}_{when}": mean_error(model, lives, life, episodes)
        for when, life in (("before", state), ("after", after))
        for whose, episodes in (("own", parted(own)[1]), ("other", kept))
    }
    return after, Verdict(**errors_of)


def parted(episodes: Sequence[Episode]) -> tuple[list[Episode], list[Episode]]:
    """What may be lived, and what is held out: the last steps of all."""
    total = sum(len(episode) for episode in episodes)
    left = total - round(HELD_OUT * total)
    lived, kept = [], []
    for episode in episodes:
        at = min(max(left, 0), len(episode))
        left -= len(episode)
        if at > 0:
            lived.append(episode.part(0, at))
        if at < len(episode):
            kept.append(episode.part(at, len(episode)))
    return lived, kept


def mean_error(model: WorldModel, lives: Lives, state: State, episodes: Sequence[Episode]) -> float:
    """Mean of `errors` in each episode, from `SETTLED` steps on; a life goes on from one to the next."""
    found = [errors(model, lives, state, episode)[SETTLED // EVERY :] for episode in episodes]
    return float(np.concatenate(found).mean())


@torch.inference_mode()
def errors(model: WorldModel, lives: Lives, state: State, episode: Episode) -> Float[np.ndarray, "K"]:
    """Squared error of what is foreseen `HORIZON` steps ahead while the episode is lived, at every `EVERY`th step.

    In units of the one-step change, mean over channels; moments with an invalid step ahead are left out.
    """
    state, found = state | {"recent": under_way(state, episode)}, []
    obs, action, valid = (
        torch.from_numpy(np.ascontiguousarray(x, np.float32))[None]
        for x in (episode.obs, episode.action, episode.valid)
    )
    for t in range(len(episode)):
        ahead = slice(t, t + HORIZON)
        if t % EVERY == 0 and t + HORIZON <= len(episode) and episode.valid[ahead].all():
            mean, _ = model.imagine(state, model.observe(state, obs[:, t]), action[:, None, ahead])
            error = (mean[0, 0, -1] - obs[0, t + HORIZON]) / model.change_std
            found.append(float(error.square().mean()))
        _, state = lives.write(state, obs[:, t], action[:, t], obs[:, t + 1], valid[:, t])
    return np.array(found)
