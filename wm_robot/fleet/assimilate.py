"""Another robot's experience, lived through the own write rule."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from wm_robot.lifetime.memory import State
from wm_robot.models.recall import Lives, Recall
from wm_robot.types import Episode


@torch.inference_mode()
def assimilated(lives: Lives, state: State, episodes: Sequence[Episode]) -> State:
    """The life after it has lived these episodes too: it equals having lived them.

    A life with a bank remembers the conditions that it met, and is then back in its own, where its body is.

    Args:
        lives: The model, or its recall for a life with a bank.
        state: One life; it is not changed.
    """
    after = state
    for episode in episodes:
        after = _lived(lives, after, episode)
    after = after | {"recent": state["recent"]}
    return lives.back(after, state) if isinstance(lives, Recall) else after


def _lived(lives: Lives, state: State, episode: Episode) -> State:
    state = state | {"recent": under_way(state, episode)}
    obs, action, valid = _tensor(episode.obs), _tensor(episode.action), _tensor(episode.valid)
    for t in range(len(episode)):
        _, state = lives.write(
            state, obs[t : t + 1], action[t : t + 1], obs[t + 1 : t + 2], valid[t : t + 1]
        )
    return state


def under_way(state: State, episode: Episode) -> Tensor:
    """Actions on their way to the motors as an episode begins, `1 R A`: the one in force, or if nobody knows it, the
    first."""
    hold = np.where(np.isfinite(episode.hold), episode.hold, episode.action[0])
    return _tensor(hold)[None, None].expand_as(state["recent"]).contiguous()


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
