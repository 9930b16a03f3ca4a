"""Acceptance test of assimilation: prediction error on both robots' recent experience, before and after."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Float

from wm_robot.errors import SpecError
from wm_robot.evaluation.adaptation import HORIZON
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import ModelBackend
from wm_robot.model.torch_backend import to_tensors
from wm_robot.model.world_model import WorldModel
from wm_robot.progress import Progress, ignore_progress
from wm_robot.sharing.assimilate import (
    RecordedSteps,
    RecordingReplay,
    assimilate_experience,
    wrap_backend,
)
from wm_robot.spec import RobotSpec
from wm_robot.types import Episode

PREDICTION_INTERVAL = 4
"""Steps between two predictions."""
HELD_OUT_SHARE = 0.25
"""Share of each robot's experience that is held out: its last part."""
SETTLE_STEPS = 16
"""Steps in a world before predictions count: the state needs them to identify the world."""
MAX_OWN_ERROR_RATIO = 1.02
"""Largest accepted factor on the error in its own world."""


@dataclass(frozen=True, kw_only=True)
class AcceptanceResult:
    """Acceptance result: squared errors, as in `compute_errors`, of a lifetime state before and after."""

    own_before: float
    own_after: float
    other_before: float
    other_after: float

    @property
    def is_accepted(self) -> bool:
        """Whether the error in its own world stays within the limit, and the error in the other world decreases."""
        return (
            self.own_after <= MAX_OWN_ERROR_RATIO * self.own_before and self.other_after < self.other_before
        )

    def to_sentence(self) -> str:
        """Format the result as a sentence."""
        return (
            f"its error in its own world changes from {self.own_before:.3g} to {self.own_after:.3g} "
            f"(limit: {MAX_OWN_ERROR_RATIO} times), in the other world from {self.other_before:.3g} to "
            f"{self.other_after:.3g}"
        )

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def try_assimilation(
    model: WorldModel,
    backend: ModelBackend[np.ndarray],
    state: ArrayState,
    own: Sequence[Episode],
    other: Sequence[Episode],
    spec: RobotSpec,
) -> tuple[ArrayState, AcceptanceResult]:
    """Assimilate another robot's experience into a copy of a state, and measure both states.

    Args:
        backend: Back end of the model: torch or ONNX.
        own: Recent experience of the robot itself.
        other: Experience to assimilate; the last part is held out.
        spec: Robot of both.
    """
    (_, mine), (taken, theirs) = (
        split_held_out([RecordedSteps.from_episode(each, spec) for each in episodes])
        for episodes in (own, other)
    )
    after = assimilate_experience(backend, state, taken)
    found = {
        f"{whose}_{when}": compute_mean_error(model, backend, life, kept)
        for when, life in (("before", state), ("after", after))
        for whose, kept in (("own", mine), ("other", theirs))
    }
    return after, AcceptanceResult(**found)


def split_held_out(stretches: Sequence[RecordedSteps]) -> tuple[list[RecordedSteps], list[RecordedSteps]]:
    """Split experience into a part to assimilate and a held-out part: the last steps."""
    left = round((1 - HELD_OUT_SHARE) * sum(each.num_steps for each in stretches))
    lived, kept = [], []
    for each in stretches:
        at = min(max(left, 0), each.num_steps)
        left -= each.num_steps
        if at > 0:
            lived.append(each.select_steps(0, at))
        if at < each.num_steps:
            kept.append(each.select_steps(at, each.num_steps))
    return lived, kept


def select_long_stretches(stretches: Sequence[RecordedSteps]) -> list[RecordedSteps]:
    """Select the stretches that have steps left after `SETTLE_STEPS`.

    Raises:
        SpecError: If no stretch is long enough.
    """
    least = SETTLE_STEPS + HORIZON + 1
    found = [each for each in stretches if each.num_steps >= least]
    if not found:
        raise SpecError(f"no episode in the recordings has {least} steps. Record for longer")
    return found


def compute_mean_error(
    model: WorldModel,
    backend: ModelBackend[np.ndarray],
    state: ArrayState,
    stretches: Sequence[RecordedSteps],
    unit: torch.Tensor | None = None,
) -> float:
    """Compute the mean of `compute_errors` from `SETTLE_STEPS` steps on. Each stretch starts from the given state.

    Args:
        unit: See `compute_errors`.
    """
    found = [
        compute_errors(model, backend, state, each, unit=unit)[
            :, SETTLE_STEPS // PREDICTION_INTERVAL :
        ].ravel()
        for each in stretches
    ]
    return float(np.nanmean(np.concatenate(found)))


@torch.inference_mode()
def compute_errors(
    model: WorldModel,
    backend: ModelBackend[np.ndarray],
    state: ArrayState,
    stretch: RecordedSteps,
    progress: Progress = ignore_progress,
    unit: torch.Tensor | None = None,
) -> Float[np.ndarray, "B K"]:
    """Compute the squared error `HORIZON` steps ahead, every `PREDICTION_INTERVAL` steps of a stretch, with updates.

    Mean over the channels with a reading. NaN where a step within the horizon is invalid.

    Args:
        unit: Unit of each channel, `O`; the base's one-step change by default.
    """
    unit = model.change_std if unit is None else unit
    replay, found = RecordingReplay(wrap_backend(backend, state), state, stretch), []
    obs, action, valid = map(torch.from_numpy, (stretch.obs, stretch.action, stretch.valid))
    for t in range(stretch.num_steps - HORIZON + 1):
        if t % PREDICTION_INTERVAL == 0:
            ahead, now = slice(t, t + HORIZON), to_tensors(replay.state.model_part())
            sensed = torch.from_numpy(replay.obs)
            mean, _ = model.imagine(now, model.observe(now, sensed), action[:, None, ahead])
            error = model.channels.subtract(mean[:, 0, -1], obs[:, t + HORIZON]) / unit
            known = valid[:, ahead].all(1)
            found.append(torch.where(known, error.square().nanmean(-1), torch.nan))
        replay.update_state()
        progress(t + 1, stretch.num_steps - HORIZON + 1)
    return torch.stack(found, 1).numpy()
