"""Calibration: prediction errors divided by predicted deviations, by horizon and number of updates."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from wm_robot.evaluation.adaptation import TensorBatch, update_state
from wm_robot.model.calibration import Calibration
from wm_robot.model.uncertainty import predict_uncertainty
from wm_robot.model.world_model import WorldModel
from wm_robot.progress import Progress, ignore_progress
from wm_robot.types import TrajectoryBatch

HORIZONS = (1, 2, 4, 8, 16, 32, 64, 100)
"""Prediction horizons in steps."""
UPDATE_COUNTS = (0, 4, 16, 64, 256)
"""Numbers of updates before the predictions."""


@torch.inference_mode()
def compute_standardised_errors(
    model: WorldModel,
    batch: TrajectoryBatch,
    *,
    update_counts: Sequence[int] = UPDATE_COUNTS,
    horizons: Sequence[int] = HORIZONS,
    calibration: Calibration | None = None,
    progress: Progress = ignore_progress,
) -> tuple[Float[np.ndarray, "B A K O"], Float[np.ndarray, "B A K O"]]:
    """Compute the prediction errors divided by the predicted deviation, and that deviation.

    Args:
        calibration: Correction of the deviations. None: the model's own deviations.
        progress: Progress in ages.
    """
    view = TensorBatch(batch)
    state = model.initial_state(
        initial_action=view.initial_action, truth=view.get_privileged_physics(model, 0)
    )
    ahead, at, found = torch.tensor(horizons), 0, []
    for number, age in enumerate(update_counts):
        state, at = update_state(model, state, view, at, age), age
        plan = view.action[:, age : age + max(horizons)]
        expected = predict_uncertainty(model, state, model.observe(state, view.obs[:, age]), plan)
        expected = calibration.apply_factors(expected) if calibration else expected
        deviation = torch.exp(0.5 * expected.log_variance[:, ahead - 1])
        error = model.channels.subtract(view.obs[:, age + ahead], expected.mean[:, ahead - 1])
        found.append((error / deviation, deviation))
        progress(number + 1, len(update_counts))
    errors, deviations = (torch.stack(part, 1).numpy() for part in zip(*found, strict=True))
    return errors, deviations


def compute_coverage(standardised: np.ndarray) -> float:
    """Compute the share of errors within one deviation."""
    return float((np.abs(standardised) <= 1).mean())
