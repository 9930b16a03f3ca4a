"""Gap filler: where an optional sensor has no reading, the model's prediction takes its place, and is no evidence."""

import numpy as np
from jaxtyping import Bool, Float

from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import ModelBackend
from wm_robot.spec import RobotSpec, make_home_obs
from wm_robot.types import Step


class GapFiller:
    """Filler of the observations of `B` robots of one spec, which are NaN in the channels without a reading."""

    def __init__(self, spec: RobotSpec, backend: ModelBackend[np.ndarray]):
        self._spec, self._layout, self._backend = spec, spec.layout, backend
        self._optional = ~spec.layout.is_required
        self._estimate = np.zeros((0, spec.obs_dim), np.float32)
        """Last observation, `B O`; where a sensor had no reading, the prediction."""

    def reset(self, num_robots: int) -> None:
        """Start from robots at home."""
        self._estimate = np.repeat(make_home_obs(self._spec)[None], num_robots, 0)

    def fill(
        self,
        state: ArrayState,
        obs: Float[np.ndarray, "B O"],
        applied: Float[np.ndarray, "B A"] | None = None,
    ) -> Float[np.ndarray, "B O"]:
        """Return an observation whose gaps hold the estimate, or what follows it.

        Args:
            applied: Action between the estimate and the observation; None if the estimate is of the same time.
        """
        if not self._optional.any() or not (gaps := self._find_gaps(obs)).any():
            return obs
        expected = self._estimate
        if applied is not None:
            predicted = self._backend.predict(state, self._estimate, applied).mean
            expected = self._layout.normalize(predicted)
        return np.where(gaps, expected, obs)

    def make_step(
        self,
        state: ArrayState,
        obs: Float[np.ndarray, "B O"],
        applied: Float[np.ndarray, "B A"],
        next_obs: Float[np.ndarray, "B O"],
        *,
        valid: Float[np.ndarray, "B"],
        truth: Float[np.ndarray, "B P"] | None = None,
    ) -> Step[np.ndarray]:
        """Make a transition without gaps, with the mask of its readings; its end is the next estimate."""
        sensed = self._estimate = self.fill(state, obs)
        reached = self._estimate = self.fill(state, next_obs, applied)
        continued = np.ascontiguousarray(self._layout.continue_angles(sensed, reached), np.float32)
        measured = self._find_measured(obs, next_obs)
        return Step(sensed, applied, continued, valid, truth=truth, measured=measured)

    def _find_gaps(self, obs: np.ndarray) -> Bool[np.ndarray, "B O"]:
        """Return the channels of optional sensors without a reading."""
        return ~np.isfinite(obs) & self._optional

    def _find_measured(self, obs: np.ndarray, next_obs: np.ndarray) -> np.ndarray | None:
        """Return the mask of `Step.measured`; None if all channels have readings before and after."""
        if not self._optional.any():
            return None
        gaps = self._find_gaps(obs) | self._find_gaps(next_obs)
        return (~gaps).astype(np.float32) if gaps.any() else None
