"""What consolidation is worth to a life whose robot wears, and what a bad residual may do to it."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wm_robot.adaptation.shadow import without_one
from wm_robot.evaluation.adaptation import HORIZON
from wm_robot.memory.lifetime_state import convert_values
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import ModelBackend
from wm_robot.model.torch_backend import TensorState, array, tensors
from wm_robot.model.world_model import WorldModel
from wm_robot.types import Step

LOOK = 16
"""Steps from one moment at which to imagine to the next."""
MOMENT = 25
"""Steps over which errors are compared: half a second at 50 Hz."""


class Piece(NamedTuple):
    """What robots lived side by side in worlds that did not change meanwhile."""

    obs: Float[Tensor, "B Tplus1 O"]
    action: Float[Tensor, "B T A"]
    physics: Float[Tensor, "B P"]


@dataclass
class Course:
    """How lives went: squared errors, `HORIZON` steps ahead in units of the one-step change and of one step."""

    ahead: dict[str, list[np.ndarray]] = field(default_factory=dict)
    """Arm → errors `B` at every `LOOK`th step."""
    step: dict[str, list[np.ndarray]] = field(default_factory=dict)
    """Arm → errors `B` of every step."""

    def error(self, arm: str, since: int = 0) -> Float[np.ndarray, "B"]:
        """Mean error ahead of each life, from a step of this course on."""
        return np.mean(self.ahead[arm][-(-since // LOOK) :], 0)

    def worse(self, arm: str, than: str, *, factor: float = 1.1, since: int = 0) -> Bool[np.ndarray, "T B"]:
        """Where an arm's mean error of the last moment exceeds another's by a factor."""
        mine, theirs = (_running_mean(np.array(self.step[name][since:]), MOMENT) for name in (arm, than))
        return mine > factor * theirs


class Robots:
    """Lives of the same robots under several names, fed with the same experience."""

    def __init__(
        self,
        model: WorldModel,
        backend: ModelBackend[np.ndarray],
        state: ArrayState,
        oracle: WorldModel,
        told: TensorState,
    ):
        """Args:
        backend: Updates the state: consolidation, a trial or a model.
        state: On trial; the life in it that has no residual is the arm `write`.
        told: Of the oracle.
        """
        self.model, self.backend, self.state, self.oracle, self.told = model, backend, state, oracle, told
        self.frozen = without_one(state)

    def freeze(self) -> None:
        """From here on the arm `frozen` is as `write` is now, and is never written."""
        self.frozen = without_one(self.state)

    def follow(self, pieces: Iterable[Piece], *, by_step: bool = False, garbled: bool = False) -> Course:
        """Live pieces, and look ahead with every arm.

        Args:
            by_step: Keep the error of every step too.
            garbled: What came is told wrong: each reading is another life's, from another moment.
        """
        course = Course()
        for piece in pieces:
            for t in range(piece.action.shape[1]):
                if t % LOOK == 0 and t + HORIZON <= piece.action.shape[1]:
                    self._look(course, piece, t)
                if by_step:
                    self._expect(course, piece, t)
                self._live(piece, t, garbled)
        return course

    @torch.inference_mode()
    def _look(self, course: Course, piece: Piece, t: int) -> None:
        plan, then = piece.action[:, None, t : t + HORIZON], piece.obs[:, t + HORIZON]
        for name, (model, state) in self._arms(piece).items():
            mean, _ = model.imagine(state, model.observe(state, piece.obs[:, t]), plan)
            error = ((mean[:, 0, -1] - then) / self.model.change_std).square().mean(-1)
            course.ahead.setdefault(name, []).append(error.numpy())

    @torch.inference_mode()
    def _expect(self, course: Course, piece: Piece, t: int) -> None:
        for name, (model, state) in self._arms(piece).items():
            if name != "oracle":
                expected = model.predict(state, piece.obs[:, t], piece.action[:, t]).mean
                error = (expected - piece.obs[:, t + 1]) / model.change_std
                course.step.setdefault(name, []).append(error.square().mean(-1).numpy())

    def _live(self, piece: Piece, t: int, garbled: bool) -> None:
        heard = piece.obs.flip(1)[:, t].roll(1, 0) if garbled else piece.obs[:, t + 1]
        step = Step(piece.obs[:, t], piece.action[:, t], heard, torch.ones(len(heard)))
        _, self.state = self.backend.write(self.state, convert_values(array, step))

    def _arms(self, piece: Piece) -> dict[str, tuple[WorldModel, TensorState]]:
        state = tensors(self.state.model_part())
        told = replace(self.oracle.tell(self.told, piece.physics), recent=state.recent)
        frozen = replace(tensors(self.frozen), recent=state.recent)
        return {
            "consolidate": (self.model, state),
            "write": (self.model, tensors(without_one(self.state))),
            "frozen": (self.model, frozen),
            "oracle": (self.oracle, told),
        }


def longest(where: Bool[np.ndarray, "T B"]) -> int:
    """Steps of the longest stretch, over all lives."""
    run, most = np.zeros(where.shape[1], int), 0
    for now in where:
        run = np.where(now, run + 1, 0)
        most = max(most, int(run.max(initial=0)))
    return most


def _running_mean(values: Float[np.ndarray, "T B"], window: int) -> Float[np.ndarray, "T B"]:
    """Of the last `window` values, or as many as there are."""
    total = np.cumsum(values, 0)
    total[window:] -= total[:-window].copy()
    return total / np.minimum(np.arange(1, len(values) + 1), window)[:, None]
