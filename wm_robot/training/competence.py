"""How competent a life has become, measured while it is lived."""

from collections import deque

import torch
from jaxtyping import Float
from torch import Tensor

from wm_robot.memory.lifetime_state import LifetimeState
from wm_robot.model.world_model import WorldModel


class Exam:
    """Asks one life, again and again, what would become of the actions that it then takes.

    Competence is 1 - error of what it foresaw / error of expecting no change, over the last questions: 0 knows
    nothing, 1 foresees everything. It is measured before the steps were seen, as the loss of training is.
    """

    def __init__(self, model: WorldModel, *, horizon: int = 10, every: int = 4, questions: int = 32):
        """Args:
        horizon: Steps that are foreseen.
        every: Steps between two questions.
        questions: That the present competence is the mean of.
        """
        self.model, self.horizon, self.every = model, horizon, every
        self._moments: deque[tuple[LifetimeState[Tensor], Tensor]] = deque(maxlen=horizon)
        self._actions: deque[Tensor] = deque(maxlen=horizon)
        self._marks: deque[tuple[float, float]] = deque(maxlen=questions)
        self._steps = 0

    def begin(self) -> None:
        """Forget all marks: another stage begins."""
        self._moments.clear()
        self._actions.clear()
        self._marks.clear()

    @torch.inference_mode()
    def watch(
        self, state: LifetimeState[Tensor], obs: Float[Tensor, "1 O"], action: Float[Tensor, "1 A"]
    ) -> None:
        """One step of the life, before it is written.

        Args:
            state: With the actions on their way to `obs`.
            action: That is taken at `obs`.
        """
        if len(self._moments) == self.horizon and self._steps % self.every == 0:
            then, seen = self._moments[0]
            plan = torch.stack(list(self._actions), 1)
            mean, _ = self.model.imagine(then, self.model.observe(then, seen), plan[:, None])
            error, still = ((x - obs) / self.model.change_std for x in (mean[:, 0, -1], seen))
            self._marks.append((float(error.square().mean()), float(still.square().mean())))
        self._moments.append((state, obs))
        self._actions.append(action)
        self._steps += 1

    @property
    def competence(self) -> float | None:
        """None until as many questions were asked as count."""
        if len(self._marks) < (self._marks.maxlen or 0):
            return None
        error, still = (sum(marks) for marks in zip(*self._marks, strict=True))
        return 1 - error / still if still > 0 else 0.0
