"""Another robot's experience, lived through the own write rule."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from wm_robot.adaptation.tensor_backends import TensorRecall
from wm_robot.memory.memory import State
from wm_robot.model.torch_backend import Writes
from wm_robot.progress import Progress, unreported
from wm_robot.types import Episode


class Stretch(NamedTuple):
    """As many steps of each of `B` robots, side by side."""

    obs: Float[Tensor, "B Tplus1 O"]
    action: Float[Tensor, "B T A"]
    """What reached the motors."""
    hold: Float[Tensor, "B A"]
    """Action in force before the first step."""
    valid: Float[Tensor, "B T"]

    @classmethod
    def of(cls, episode: Episode) -> "Stretch":
        """An episode, as a stretch of one robot. An unknown action before the first is taken to be like it."""
        hold = np.where(np.isfinite(episode.hold), episode.hold, episode.action[0])
        parts = (episode.obs, episode.action, hold, episode.valid)
        return cls(*(torch.from_numpy(np.ascontiguousarray(x, np.float32))[None] for x in parts))

    @property
    def steps(self) -> int:
        return self.action.shape[1]

    def part(self, start: int, stop: int) -> "Stretch":
        """Steps `start` to `stop`."""
        steps = slice(start, stop)
        hold = self.action[:, start - 1] if start else self.hold
        return Stretch(self.obs[:, start : stop + 1], self.action[:, steps], hold, self.valid[:, steps])

    def entered(self, state: State) -> State:
        """Lives as they begin it: with its actions on their way to the motors."""
        return state | {"recent": self.hold[:, None].expand_as(state["recent"]).contiguous()}

    def step(self, lives: Writes, state: State, t: int) -> State:
        """Lives after they have lived step `t` of it."""
        _, after = lives.write(state, self.obs[:, t], self.action[:, t], self.obs[:, t + 1], self.valid[:, t])
        return after


@torch.inference_mode()
def lived(
    lives: Writes, state: State, stretches: Sequence[Stretch], progress: Progress = unreported
) -> State:
    """Lives after these stretches, one after another.

    Args:
        progress: Of the steps.
    """
    before, total = 0, sum(stretch.steps for stretch in stretches)
    for stretch in stretches:
        state = stretch.entered(state)
        for t in range(stretch.steps):
            state = stretch.step(lives, state, t)
            progress(before + t + 1, total)
        before += stretch.steps
    return state


def assimilated(
    lives: Writes, state: State, stretches: Sequence[Stretch], progress: Progress = unreported
) -> State:
    """Lives after they have lived what others did: they are as if they had lived it themselves.

    A life with a bank begins there as a newborn, since it is another body, and recognises what it remembers. It
    remembers the conditions that it met, and is then back in its own, where its body is.

    Args:
        lives: The model, its graphs, or the recall of either for lives with a bank.
        state: Not changed.
        progress: Of the steps.
    """
    bank = lives if isinstance(lives, TensorRecall) else None
    after = lived(lives, bank.anew(state) if bank else state, stretches, progress)
    after = after | {"recent": state["recent"]}
    return bank.back(after, state) if bank else after
