"""Consolidation measure: benefit of consolidation for a wearing robot, and damage by a bad residual."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wm_robot.adaptation.shadow import get_residual_free_state
from wm_robot.evaluation.adaptation import HORIZON
from wm_robot.memory.lifetime_state import convert_values
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import ModelBackend
from wm_robot.model.torch_backend import TensorState, to_array, to_tensors
from wm_robot.model.world_model import WorldModel
from wm_robot.types import Step

LOOK = 16
"""Steps between two imagined rollouts."""
MOMENT = 25
"""Window over which errors are compared, in steps: half a second at 50 Hz."""


class TrajectoryPiece(NamedTuple):
    """Batch of trajectories in worlds that do not change within it."""

    obs: Float[Tensor, "B Tplus1 O"]
    action: Float[Tensor, "B T A"]
    physics: Float[Tensor, "B P"]


@dataclass
class ErrorCurves:
    """Error curves: squared errors `HORIZON` steps ahead, in units of the one-step change, and of one step."""

    ahead: dict[str, list[np.ndarray]] = field(default_factory=dict)
    """Variant → errors `B` at every `LOOK`th step."""
    step: dict[str, list[np.ndarray]] = field(default_factory=dict)
    """Variant → errors `B` of every step."""

    def compute_error(self, variant: str, since: int = 0) -> Float[np.ndarray, "B"]:
        """Compute the mean error ahead of each trajectory, from step `since` on."""
        return np.mean(self.ahead[variant][-(-since // LOOK) :], 0)

    def is_worse(
        self, variant: str, other: str, *, factor: float = 1.1, since: int = 0
    ) -> Bool[np.ndarray, "T B"]:
        """Return where a variant's running mean error exceeds another's by a factor."""
        mine, theirs = (
            _compute_running_mean(np.array(self.step[name][since:]), MOMENT) for name in (variant, other)
        )
        return mine > factor * theirs


class RobotVariants:
    """Variants of the same robots, updated with the same experience."""

    def __init__(
        self,
        model: WorldModel,
        backend: ModelBackend[np.ndarray],
        state: ArrayState,
        oracle: WorldModel,
        oracle_state: TensorState,
    ):
        """Args:
        backend: Updates the state: consolidation, a shadow evaluation or a model.
        state: State under shadow evaluation; its part without a residual is the variant `write`.
        oracle_state: Lifetime state of the oracle.
        """
        self.model, self.backend, self.state, self.oracle, self.told = (
            model,
            backend,
            state,
            oracle,
            oracle_state,
        )
        self.frozen = get_residual_free_state(state)

    def freeze_variant(self) -> None:
        """Copy the present `write` variant to `frozen`, which is never updated afterwards."""
        self.frozen = get_residual_free_state(self.state)

    def process_pieces(
        self, pieces: Iterable[TrajectoryPiece], *, keep_steps: bool = False, corrupt_readings: bool = False
    ) -> ErrorCurves:
        """Update all variants with the pieces, and imagine rollouts with each.

        Args:
            keep_steps: Store the error of every step too.
            corrupt_readings: Corrupt the readings: each is replaced by one of another robot and time.
        """
        course = ErrorCurves()
        for piece in pieces:
            for t in range(piece.action.shape[1]):
                if t % LOOK == 0 and t + HORIZON <= piece.action.shape[1]:
                    self._imagine_rollouts(course, piece, t)
                if keep_steps:
                    self._predict_step(course, piece, t)
                self._update_states(piece, t, corrupt_readings)
        return course

    @torch.inference_mode()
    def _imagine_rollouts(self, course: ErrorCurves, piece: TrajectoryPiece, t: int) -> None:
        plan, then = piece.action[:, None, t : t + HORIZON], piece.obs[:, t + HORIZON]
        for name, (model, state) in self._list_variants(piece).items():
            mean, _ = model.imagine(state, model.observe(state, piece.obs[:, t]), plan)
            error = ((mean[:, 0, -1] - then) / self.model.change_std).square().mean(-1)
            course.ahead.setdefault(name, []).append(error.numpy())

    @torch.inference_mode()
    def _predict_step(self, course: ErrorCurves, piece: TrajectoryPiece, t: int) -> None:
        for name, (model, state) in self._list_variants(piece).items():
            if name != "oracle":
                expected = model.predict(state, piece.obs[:, t], piece.action[:, t]).mean
                error = (expected - piece.obs[:, t + 1]) / model.change_std
                course.step.setdefault(name, []).append(error.square().mean(-1).numpy())

    def _update_states(self, piece: TrajectoryPiece, t: int, corrupt_readings: bool) -> None:
        heard = piece.obs.flip(1)[:, t].roll(1, 0) if corrupt_readings else piece.obs[:, t + 1]
        step = Step(piece.obs[:, t], piece.action[:, t], heard, torch.ones(len(heard)))
        _, self.state = self.backend.update(self.state, convert_values(to_array, step))

    def _list_variants(self, piece: TrajectoryPiece) -> dict[str, tuple[WorldModel, TensorState]]:
        state = to_tensors(self.state.model_part())
        told = replace(self.oracle.set_true_physics(self.told, piece.physics), recent=state.recent)
        frozen = replace(to_tensors(self.frozen), recent=state.recent)
        return {
            "consolidate": (self.model, state),
            "write": (self.model, to_tensors(get_residual_free_state(self.state))),
            "frozen": (self.model, frozen),
            "oracle": (self.oracle, told),
        }


def compute_longest_run(mask: Bool[np.ndarray, "T B"]) -> int:
    """Return the length of the longest run of True over all robots, in steps."""
    run, most = np.zeros(mask.shape[1], int), 0
    for now in mask:
        run = np.where(now, run + 1, 0)
        most = max(most, int(run.max(initial=0)))
    return most


def _compute_running_mean(values: Float[np.ndarray, "T B"], window: int) -> Float[np.ndarray, "T B"]:
    """Compute the mean of the last `window` values, or of as many as exist."""
    total = np.cumsum(values, 0)
    total[window:] -= total[:-window].copy()
    return total / np.minimum(np.arange(1, len(values) + 1), window)[:, None]
