"""The model backend: what predicts and updates lifetime states, by torch, by ONNX graphs, or around either."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, runtime_checkable

from wm_robot.memory.lifetime_state import LifetimeState
from wm_robot.types import Step

Value = TypeVar("Value")
"""An array or a tensor."""


@dataclass(frozen=True)
class Prediction(Generic[Value]):
    """A predicted observation, in sensor units."""

    mean: Value
    """`… O`."""
    log_variance: Value
    """`… O`."""

    def __iter__(self) -> Iterator[Value]:
        return iter((self.mean, self.log_variance))


@runtime_checkable
class ModelBackend(Protocol[Value]):
    """Predicts and updates lifetime states, `B` rows at once. It has no state of its own.

    What is given is never changed in place; what is returned is the caller's.
    """

    def birth(self, *, hold: Value, truth: Value | None = None) -> LifetimeState[Value]:
        """The initial state of robots, each with its action in force, `B A`.

        Args:
            truth: True physics, `B P`, for a family that needs them; others ignore them.
        """

    def predict(self, state: LifetimeState[Value], obs: Value, action: Value) -> Prediction[Value]:
        """The observation after one action; see `WorldModel.predict`. For any number of rows."""

    def write(
        self, state: LifetimeState[Value], step: Step[Value]
    ) -> tuple[Prediction[Value], LifetimeState[Value]]:
        """Prediction of a step before its outcome is seen, and the state after it; see `WorldModel.write`."""
