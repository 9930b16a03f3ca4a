"""Simulator as a model: predictions of MuJoCo with nominal physics, from the same noisy observations as a model's."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from wm_robot.errors import SpecError
from wm_robot.recording.agent_log import LoggedStep
from wm_robot.spec import RobotSpec
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.worlds import DomainRandomization

MAX_PENDING_ACTIONS = 32
"""Last actions that are kept: more than may be under way."""


class SimulatorModel:
    """Nominal simulation that starts where the readings of the joints say that the robot is."""

    uncertainty = ""

    def __init__(self, spec: RobotSpec, *, batch: int = 16):
        """Args:
        batch: Largest number of predictions at once.

        Raises:
            SpecError: If the robot has a floating base, whose place no reading shows.
        """
        if spec.base is not None:
            raise SpecError(
                f"robot '{spec.name}' has a floating base, whose place in the world no reading shows; its "
                "simulation cannot start from a log"
            )
        # Its readings lag as those of the robot do, and have no noise.
        nominal = replace(
            DomainRandomization(spec).make_nominal_world(),
            position_noise=0.0,
            velocity_noise=0.0,
            effort_noise=0.0,
        )
        self._spec, self._sim = spec, BatchSim(spec, [nominal] * batch, seed=0)
        self._rest = self._sim.save_motion()
        self._actions: np.ndarray | None = None
        self._last: np.ndarray | None = None

    def read_belief(self) -> Float[np.ndarray, "K A"]:
        """Return the last actions, the newest last."""
        assert self._actions is not None, "the model was not begun"
        return self._actions

    def begin(self, initial_action: Float[np.ndarray, "A"]) -> None:
        """See `JudgedModel`."""
        self._actions = np.repeat(initial_action[None].astype(np.float32), MAX_PENDING_ACTIONS, 0)
        self._last = None

    def observe(self, step: LoggedStep) -> Float[np.ndarray, "O"]:
        """See `JudgedModel`."""
        self._actions = np.concatenate([self.read_belief()[1:], step.applied[None]])
        held = np.zeros_like(step.next_obs) if self._last is None else self._last
        self._last = np.where(np.isfinite(step.next_obs), step.next_obs, held).astype(np.float32)
        return self._last

    def predict(
        self,
        beliefs: Sequence[np.ndarray],
        obs: Float[np.ndarray, "N O"],
        actions: Float[np.ndarray, "N H A"],
    ) -> tuple[Float[np.ndarray, "N H O"], None]:
        """See `OpenLoopModel.predict`."""
        found = []
        for first in range(0, len(beliefs), self._sim.num_robots):
            part = slice(first, first + self._sim.num_robots)
            found.append(self._predict_part(np.stack(beliefs[part]), obs[part], actions[part]))
        return np.concatenate(found), None

    def _predict_part(self, past: np.ndarray, obs: np.ndarray, actions: np.ndarray) -> np.ndarray:
        rows = np.resize(np.arange(len(obs)), self._sim.num_robots)
        history = self._rest["commands"].shape[1]
        start = {**self._rest, "commands": past[rows][:, -history:]}
        self._sim.copy_motion(start, np.arange(self._sim.num_robots))
        self._sim.place_joints(obs[rows])
        self._sim.advance_readings()
        found, _ = self._sim.rollout(actions[rows])
        return found[: len(obs)]
