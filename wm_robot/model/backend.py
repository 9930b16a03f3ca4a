"""Model backend: NumPy interface of a world model.

Implemented by the PyTorch and ONNX back ends and by wrappers around them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, runtime_checkable

from wm_robot.memory.lifetime_state import LifetimeState
from wm_robot.types import Step

Value = TypeVar("Value")
"""An array or a tensor."""


@dataclass(frozen=True)
class Prediction(Generic[Value]):
    """Predicted observation, in sensor units."""

    mean: Value
    """`… O`."""
    log_variance: Value
    """`… O`."""

    def __iter__(self) -> Iterator[Value]:
        return iter((self.mean, self.log_variance))


@runtime_checkable
class ModelBackend(Protocol[Value]):
    """Model backend: predicts and updates lifetime states, `B` rows at once. It has no own state.

    Arguments are never changed in place; the caller owns the results.
    """

    def initial_state(self, *, initial_action: Value, truth: Value | None = None) -> LifetimeState[Value]:
        """Return the initial state of robots.

        Args:
            initial_action: Action in force of each robot, `B A`.
            truth: True physics, `B P`, for a family that needs them; others ignore them.
        """

    def predict(self, state: LifetimeState[Value], obs: Value, action: Value) -> Prediction[Value]:
        """Predict the observation after one action; see `WorldModel.predict`. For any number of rows."""

    def update(
        self, state: LifetimeState[Value], step: Step[Value]
    ) -> tuple[Prediction[Value], LifetimeState[Value]]:
        """Predict a step before its outcome, then update the state with it; see `WorldModel.update`."""
