"""A life's two steps as graphs: to expect the next observation, and to live a transition."""

from collections.abc import Mapping

import numpy as np

from wm_robot.memory.state_arrays import Arrays
from wm_robot.model.backend import Expected
from wm_robot.model.onnx_session import Function
from wm_robot.model.residual import residual_of

EXPECTED = ("expected.mean", "expected.log_variance")
AFTER = "after."


class LifeGraph:
    """What lives by graphs, without torch. The state is passed in and out: it has none of its own."""

    def __init__(self, predict: Function, writes: Mapping[int, Function], born: Mapping[str, np.ndarray]):
        """Args:
        writes: By the number of lives that it writes.
        born: The state of one robot that has lived nothing.
        """
        self._predict, self._writes, self._born = predict, writes, born

    def birth(self, *, hold: np.ndarray, truth: np.ndarray | None = None) -> Arrays:
        """See `WorldModel.birth`; nobody tells it the truth."""
        born = {name: np.repeat(value, len(hold), 0) for name, value in self._born.items()}
        return born | {"recent": np.repeat(hold[:, None], born["recent"].shape[1], 1)}

    def predict(self, state: Arrays, obs: np.ndarray, action: np.ndarray) -> Expected:
        """See `WorldModel.predict`; for any number of rows."""
        found = self._predict(state, {"obs": obs, "action": action})
        return Expected(*(found[name] for name in EXPECTED))

    def write(
        self,
        state: Arrays,
        obs: np.ndarray,
        action: np.ndarray,
        next_obs: np.ndarray,
        valid: np.ndarray,
        truth: np.ndarray | None = None,
    ) -> tuple[Expected, Arrays]:
        """See `WorldModel.write`; for one or two lives, which nobody tells the truth."""
        write = self._writes[len(obs)]
        found = write(state, {"obs": obs, "action": action, "next_obs": next_obs, "valid": valid})
        expected = Expected(*(found.pop(name) for name in EXPECTED))
        written = {name.removeprefix(AFTER): value for name, value in found.items()}
        return expected, residual_of(state) | written
