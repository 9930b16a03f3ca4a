"""The contract of a memory: how a lifetime state is born, read and written."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wm_robot.errors import ConfigError
from wm_robot.math.pullback import Pull

if TYPE_CHECKING:
    from wm_robot.memory.film import ModulatedRead

State = dict[str, Tensor]
"""Flat, fixed shapes, batch first, float32 (counters int64)."""

Reader = Callable[[Tensor], Tensor]
"""Query `B N D` → what the memory says of it, `B N D`. Pure."""


class Sensed(NamedTuple):
    """Prediction of a step by each of `K` physics hypotheses, in units in which noise is about 1 or less."""

    mean: Float[Tensor, "B K O"]
    log_variance: Float[Tensor, "B K O"]
    slope: Float[Tensor, "B K O P"]
    """Of the mean, in the physics."""


Sense = Callable[[Tensor], Sensed]
"""Physics `B K P` → prediction of this step by each of them."""


class Memory(nn.Module, ABC):
    """One layer of lifetime state. Predict, then write: `read` at step t sees all steps before t.

    The class attributes say how a family differs from a plain learned memory; the model asks for nothing else.
    """

    outcome_is_physics: ClassVar[bool] = False
    """True: `e` of a write is the true physics, `B P`, where they are given, instead of the encoded outcome."""
    needs_truth: ClassVar[bool] = False
    """True: a write without the true physics is an error (the oracle)."""
    infers_physics: ClassVar[bool] = False
    """True: a write without the true physics goes through `infer` instead of `scan`."""
    max_layers: ClassVar[int | None] = None
    """Largest number of layers of a model with this family; None for any number."""
    exportable: ClassVar[bool] = True
    """False: its write has operations that no ONNX graph has; robots run it by torch."""

    @property
    def modulated_reading(self) -> "ModulatedRead | None":
        """The reading layer that a residual may correct; None where the family has none."""
        return None

    @abstractmethod
    def birth(self, batch: int) -> State:
        """The learned state before anything was lived."""

    @abstractmethod
    def reader(self, state: State) -> Reader:
        """Open a frozen state for reading; planning asks it thousands of times."""

    def reader_alone(self, state: State) -> Reader:
        """`reader` of a single life, whose queries and answers are `N D`."""
        read = self.reader(state)
        return lambda h: read(h[None])[0]

    def readable(self, state: State) -> State:
        """The part of it that `reader` looks at; all, where a family does not say."""
        return state

    def write(
        self, state: State, h: Float[Tensor, "B D"], e: Float[Tensor, "B E"], w: Float[Tensor, "B"]
    ) -> State:
        """Live one step.

        Args:
            h: What was asked at this step.
            e: What came of it.
            w: 1 writes, 0 leaves the state as it is, to the bit.

        A scan of one step, where a family has no shorter way.
        """
        return self.scan(state, h[:, None], e[:, None], w[:, None])[1]

    def read(self, state: State, h: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Ask; `N` queries share one state, which does not change."""
        return self.reader(state)(h)

    def infer(
        self,
        state: State,
        age: Int[Tensor, "B"],
        sense: Sense,
        outcome: Float[Tensor, "B O"],
        w: Float[Tensor, "B"],
    ) -> tuple[Sensed, State]:
        """One step of a family that infers physics, by the model's own prediction.

        Args:
            age: Number of valid steps before this one.
            sense: Prediction of the model under given physics.
            outcome: The observed change, in the units of `sense`.
            w: As for `write`.

        Returns:
            Prediction of each hypothesis before the outcome, the selected one first; and the state after it.
        """
        raise NotImplementedError(f"{type(self).__name__} infers no physics")

    def read_with_slope(
        self, physics: Float[Tensor, "B N P"], h: Float[Tensor, "B N D"], state: State | None = None
    ) -> tuple[Float[Tensor, "B N D"], Pull]:
        """Reading of a query under given physics, and the pullback of its gradients to them; see `infer`."""
        raise NotImplementedError(f"{type(self).__name__} infers no physics")

    def with_physics(self, state: State, physics: Float[Tensor, "B P"]) -> State:
        """The state after the true physics are given; other families ignore them."""
        return state

    def physics(self, state: State) -> Float[Tensor, "B P"] | None:
        """The physics that the state holds; None where they have to be read off `summary`."""
        return None

    def fit_prior(self, physics: Float[np.ndarray, "N P"]) -> None:
        """Set the prior of the initial state from the physics of training worlds; other families have none."""

    @abstractmethod
    def scan(
        self, state: State, h: Float[Tensor, "B T D"], e: Float[Tensor, "B T E"], w: Float[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B T D"], State]:
        """Read, then write, at each of `T` steps. Equals the loop, in parallel where the family allows it."""

    def summary(self, state: State) -> Float[Tensor, "B X"]:
        """The state as one vector, from which a linear map reads the physics."""
        return torch.cat([x.flatten(1) for _, x in sorted(state.items()) if x.is_floating_point()], 1)

    def sampled(self, state: State, count: int) -> State:
        """`count` states for each life, `B·count` rows: what it may as well have learned, for all that it lived.

        The same draws every time. Where a family does not know what it does not know, they are all the same.
        """
        return {name: value.repeat_interleave(count, 0) for name, value in state.items()}

    def merge(self, states: Sequence[State]) -> State:
        """The state of one robot that lived all these lives, where the family can tell it from the states alone.

        Raises:
            ConfigError: If it cannot.
        """
        raise ConfigError(
            f"{type(self).__name__} cannot merge {len(states)} states: their average or sum is no life. "
            "Let one robot live the other's recorded experience, or use family 'ridge'"
        )


def drawn(*shape: int) -> Tensor:
    """Normal numbers, the same each time: what is sampled is a function of the state."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def root(covariance: Float[Tensor, "*B K K"]) -> Float[Tensor, "*B K K"]:
    """The symmetric square root, which changes little where the covariance does; what rounding made negative is 0."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp_min(0).sqrt()[..., None, :]) @ vectors.mT


def forgetting(log_half_life: Tensor, dt: float) -> Tensor:
    """Share of the logarithm that is lost in a step; the half-life is the log of s."""
    return math.log(2) * dt * torch.exp(-log_half_life)


def beside(chosen: Bool[Tensor, "*B"], like: Tensor) -> Tensor:
    """A choice of rows with the axes of what is chosen from."""
    return chosen.view(*chosen.shape, *[1] * (like.ndim - chosen.ndim))
