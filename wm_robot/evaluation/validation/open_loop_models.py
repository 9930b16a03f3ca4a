"""Open-loop models: predictions of an agent itself, and those of its base with the whole uncertainty."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from wm_robot.memory.lifetime_state import map_values
from wm_robot.memory.state_arrays import ArrayState

if TYPE_CHECKING:
    from wm_robot.agent.agent import Agent
    from wm_robot.model.base import Base
    from wm_robot.model.calibration import Calibration

NOISE_ALONE, CALIBRATED, UNCALIBRATED = "noise alone", "calibrated", "not calibrated"


class AgentPredictions:
    """Predictions of an agent, as it publishes them with its plan: their deviations are those of the noise alone."""

    uncertainty = NOISE_ALONE

    def __init__(self, agent: "Agent"):
        self._agent = agent

    def predict(
        self,
        beliefs: Sequence[ArrayState],
        obs: Float[np.ndarray, "N O"],
        actions: Float[np.ndarray, "N H A"],
    ) -> tuple[Float[np.ndarray, "N H O"], Float[np.ndarray, "N H O"]]:
        """See `OpenLoopModel.predict`."""
        found = [
            self._agent.predict_outcome(row, plan, state)
            for state, row, plan in zip(beliefs, obs, actions, strict=True)
        ]
        return np.stack([each.mean for each in found]), np.stack([each.deviation for each in found])


class BasePredictions:
    """Predictions of a base with lifetime states: deviations of noise and of what the states do not know."""

    def __init__(self, base: "Base", calibration: "Calibration | None" = None):
        """Args:
        calibration: Measured factors on the deviations; None: the model's own.
        """
        self._model, self._calibration = base.model, calibration
        self.uncertainty = UNCALIBRATED if calibration is None else CALIBRATED

    def predict(
        self,
        beliefs: Sequence[ArrayState],
        obs: Float[np.ndarray, "N O"],
        actions: Float[np.ndarray, "N H A"],
    ) -> tuple[Float[np.ndarray, "N H O"], Float[np.ndarray, "N H O"]]:
        """See `OpenLoopModel.predict`."""
        import torch

        from wm_robot.model.torch_backend import to_tensors
        from wm_robot.model.uncertainty import predict_uncertainty

        parts = [each.model_part() for each in beliefs]
        states = map_values(lambda *values: np.concatenate(values), *parts)
        with torch.inference_mode():
            state = to_tensors(states)
            z = self._model.observe(state, torch.from_numpy(np.ascontiguousarray(obs, np.float32)))
            plans = torch.from_numpy(np.ascontiguousarray(actions, np.float32))
            found = predict_uncertainty(self._model, state, z, plans)
            if self._calibration is not None:
                found = self._calibration.apply_factors(found)
            return found.mean.numpy(), torch.exp(0.5 * found.log_variance).numpy()
