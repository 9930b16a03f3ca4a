"""Calibration: measured factors on the predicted deviations, by prediction horizon."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from wm_robot.errors import SnapshotError
from wm_robot.io.base_file import resolve_base_folder
from wm_robot.io.durable import write_file
from wm_robot.model.backend import Prediction
from wm_robot.model.base import Base

CALIBRATION_FORMAT = 1
CALIBRATION_FILE = "calibration.json"
NORMAL_SHARE = 0.6827
"""Share of a normal distribution within one deviation."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Factors on the deviations of `predict_uncertainty`."""

    horizons: tuple[int, ...]
    """Horizons of the measurement, in steps; log factors are interpolated linearly in the log of the steps."""
    log_scale: Float[np.ndarray, "K O"]

    @classmethod
    def fit(cls, horizons: tuple[int, ...], standardised_errors: Float[np.ndarray, "N K O"]) -> "Calibration":
        """Fit the factors to standardised errors, so that 68 % are within one deviation.

        A quantile, not a mean square: a few outlier trajectories would widen all others.
        """
        scale = np.quantile(np.abs(standardised_errors.astype(np.float64)), NORMAL_SHARE, axis=0)
        return cls(horizons=horizons, log_scale=np.log(np.maximum(scale, 1e-6)))

    def apply_factors(self, prediction: Prediction[Tensor]) -> Prediction[Tensor]:
        """Apply the factors to a prediction, `B H O`."""
        ahead = np.log(np.arange(1, prediction.mean.shape[1] + 1))
        knots = np.log(self.horizons)
        scale = np.stack([np.interp(ahead, knots, channel) for channel in self.log_scale.T], -1)
        return replace(prediction, log_variance=prediction.log_variance + 2 * _to_float_tensor(scale))


def save_calibration(folder: Path, base: Base, calibration: Calibration) -> None:
    """Write a calibration into the folder of its base."""
    card = {
        "format": CALIBRATION_FORMAT,
        "kind": "calibration",
        "base": base.digest,
        "horizons": list(calibration.horizons),
        "log_scale": calibration.log_scale.round(5).tolist(),
    }
    write_file(Path(folder) / CALIBRATION_FILE, json.dumps(card).encode())


def load_calibration(folder: str | Path, base: Base) -> Calibration:
    """Read the calibration of a base.

    Raises:
        SnapshotError: If there is none, or it is of another base.
    """
    folder = resolve_base_folder(folder)
    again = f"Run: wm-robot calibrate {folder}"
    try:
        card = json.loads((folder / CALIBRATION_FILE).read_bytes())
        found = card["format"], card["base"]
        horizons, log_scale = tuple(card["horizons"]), np.array(card["log_scale"], np.float64)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SnapshotError(f"no calibration in {folder}: {error}. {again}") from error
    shape = (len(horizons), base.model.config.obs)
    if (
        found != (CALIBRATION_FORMAT, base.digest)
        or log_scale.shape != shape
        or not np.isfinite(log_scale).all()
    ):
        raise SnapshotError(f"the calibration in {folder} is not of base {base.digest[:12]}. {again}")
    return Calibration(horizons=horizons, log_scale=log_scale)


def _to_float_tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
