"""Memory interface: initial state, read and update of one layer of lifetime state."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wm_robot.errors import ConfigError
from wm_robot.math.pullback import PullFunction

if TYPE_CHECKING:
    from wm_robot.memory.film import FilmReadout

MemoryState = dict[str, Tensor]
"""Tensors of one memory layer: flat, fixed shapes, batch first, float32 (counters int64)."""

Reader = Callable[[Tensor], Tensor]
"""Query `B N D` → reading `B N D`. Pure."""


class HypothesisPrediction(NamedTuple):
    """Prediction of a step by each of `K` physics hypotheses, in units in which noise is about 1 or less."""

    mean: Float[Tensor, "B K O"]
    log_variance: Float[Tensor, "B K O"]
    jacobian: Float[Tensor, "B K O P"]
    """Jacobian of the mean with respect to the physics."""


PredictHypotheses = Callable[[Tensor], HypothesisPrediction]
"""Physics `B K P` → prediction of this step by each of them."""


class StepPrediction(NamedTuple):
    """Prediction of a step, in the units of `HypothesisPrediction`."""

    mean: Float[Tensor, "B O"]
    log_variance: Float[Tensor, "B O"]


class MappedPrediction(NamedTuple):
    """Prediction of a step under a command map, in the units of `HypothesisPrediction`."""

    mean: Float[Tensor, "B O"]
    log_variance: Float[Tensor, "B O"]
    query: Float[Tensor, "B D"]
    """As for `Memory.read`."""
    jacobian: Float[Tensor, "B O A"]
    """Derivative of the mean by the command that acts, in its unit."""


PredictMapped = Callable[[Tensor, Tensor, Tensor], MappedPrediction]
"""Command map `B A 1+A`, deviation of each command that acts `B A`, and physics `B P` → prediction of this step."""


class InferenceStep(NamedTuple):
    """One step for `PhysicsInference`."""

    num_updates: Int[Tensor, "B"]
    """Number of valid steps before this one."""
    predict_hypotheses: PredictHypotheses
    """Prediction of the model under given physics."""
    query: Float[Tensor, "B D"]
    """As for `Memory.read`."""
    outcome: Float[Tensor, "B O"]
    """The observed change, in the units of `predict_hypotheses`."""
    w: Float[Tensor, "B"]
    """As for `Memory.update`."""
    measured: Float[Tensor, "B O"] | None = None
    """0 for a channel whose outcome is no reading, and no evidence; None: all are readings."""
    frozen: StepPrediction | None = None
    """For a memory that competes with a frozen model; see `Memory.competes_with_frozen`."""
    commands: Float[Tensor, "B A"] | None = None
    """Scaled commands, for a memory that maps them; see `Memory.maps_commands`."""
    predict_mapped: PredictMapped | None = None
    """Prediction under a command map, likewise."""

    def find_known(self) -> Bool[Tensor, "B 1 _"]:
        """Find the channels that are evidence. A masked step may hold anything."""
        seen = (self.w > 0)[:, None, None]
        return seen if self.measured is None else seen & (self.measured > 0)[:, None]


@runtime_checkable
class PhysicsInference(Protocol):
    """Inference of the physics in a memory state from the model's own prediction."""

    def infer_physics(self, state: MemoryState, step: InferenceStep) -> tuple[StepPrediction, MemoryState]:
        """Update the physics estimate with one step, by the model's own prediction.

        Returns:
            Prediction in use before the outcome, and the state after it.
        """

    def read_with_pullback(
        self, physics: Float[Tensor, "B N P"], h: Float[Tensor, "B N D"], state: MemoryState | None = None
    ) -> tuple[Float[Tensor, "B N D"], PullFunction]:
        """Read a query under given physics; return the reading and the pullback of its gradients to the physics."""


class Memory(nn.Module, ABC):
    """Memory: one layer of lifetime state. Predict, then update: `read` at step t uses all steps before t.

    Its class attributes and `physics_inference` define how a family differs from a plain learned memory; the model
    uses nothing else.
    """

    outcome_is_physics: ClassVar[bool] = False
    """True: `e` of an update is the true physics, `B P`, where they are given, instead of the encoded outcome."""
    uses_privileged_state: ClassVar[bool] = False
    """True: an update without the true physics is an error (the oracle)."""
    max_layers: ClassVar[int | None] = None
    """Largest number of layers of a model with this family; None for any number."""
    corrects_prediction: ClassVar[bool] = False
    """True: `open_correction` gives one, and the family is made with the numbers of channels and commands."""
    maps_commands: ClassVar[bool] = False
    """True: `find_command_map` gives one, and the model applies it to all commands."""
    competes_with_frozen: ClassVar[bool] = False
    """True: the model has a second network with frozen weights, and evidence selects the one in use."""
    flags: ClassVar[tuple[str, ...]] = ()
    """Names of the parts of the state that are 0 or 1."""
    exportable: ClassVar[bool] = True
    """False: the update has operations that ONNX does not support; robots run it with torch."""

    @property
    def film_readout(self) -> "FilmReadout | None":
        """Readout layer that a residual may correct; None where the family has none."""
        return None

    @property
    def physics_inference(self) -> PhysicsInference | None:
        """Inference that replaces `scan` where the true physics are not given; None where the family has none."""
        return None

    @abstractmethod
    def initial_state(self, batch: int) -> MemoryState:
        """Return the learned initial state of `batch` rows."""

    @abstractmethod
    def open_reader(self, state: MemoryState) -> Reader:
        """Return the read function of a fixed state; planning calls it thousands of times."""

    def open_correction(self, state: MemoryState) -> Reader | None:
        """Return a correction of the predicted change by the query, `B N D` → `B N O`; None where there is none.

        It is in units of the one-step change.
        """
        return None

    def adjust_log_variance(self, log_variance: Float[Tensor, "*B O"]) -> Float[Tensor, "*B O"]:
        """Return the log variance of the predicted change, with a noise that the family has learned for itself."""
        return log_variance

    def find_command_map(self, state: MemoryState) -> Float[Tensor, "B A F"] | None:
        """Return the command map in use; None for a family, or a state, without one. See `command_map`."""
        return None

    def find_frozen(self, state: MemoryState) -> Bool[Tensor, "B"] | None:
        """Find the rows in which the frozen network is in use; None for a family that does not compete with one."""
        return None

    def open_single_reader(self, state: MemoryState) -> Reader:
        """Return `open_reader` of a single row; queries and readings are `N D`."""
        read = self.open_reader(state)
        return lambda h: read(h[None])[0]

    def read_view(self, state: MemoryState) -> MemoryState:
        """Return the part of the state that `open_reader` uses; by default all of it."""
        return state

    def update(
        self, state: MemoryState, h: Float[Tensor, "B D"], e: Float[Tensor, "B E"], w: Float[Tensor, "B"]
    ) -> MemoryState:
        """Update the state with one step. By default a scan of one step.

        Args:
            h: Query of this step.
            e: Encoded outcome of this step.
            w: 1 updates, 0 leaves the state unchanged, to the bit.
        """
        return self.scan(state, h[:, None], e[:, None], w[:, None])[1]

    def read(self, state: MemoryState, h: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Read `N` queries from one state, which does not change."""
        return self.open_reader(state)(h)

    def set_true_physics(self, state: MemoryState, physics: Float[Tensor, "B P"]) -> MemoryState:
        """Return the state with the given true physics; families without physics ignore them."""
        return state

    def read_physics(self, state: MemoryState) -> Float[Tensor, "B P"] | None:
        """Return the physics stored in the state; None where a linear map of `summarize` estimates them."""
        return None

    def fit_prior(self, physics: Float[np.ndarray, "N P"]) -> None:
        """Set the prior of the initial state from the physics of training worlds; without effect by default."""

    @abstractmethod
    def scan(
        self,
        state: MemoryState,
        h: Float[Tensor, "B T D"],
        e: Float[Tensor, "B T E"],
        w: Float[Tensor, "B T"],
    ) -> tuple[Float[Tensor, "B T D"], MemoryState]:
        """Read, then update, at each of `T` steps. Equals the loop; parallel where the family allows it."""

    def summarize(self, state: MemoryState) -> Float[Tensor, "B X"]:
        """Return the state as one vector, from which a linear map estimates the physics."""
        return torch.cat([x.flatten(1) for _, x in sorted(state.items()) if x.is_floating_point()], 1)

    def sample_posterior(self, state: MemoryState, num_samples: int) -> MemoryState:
        """Sample `num_samples` states for each row from the posterior of the state, `B·num_samples` rows.

        The random numbers are the same in every call. Without an uncertainty estimate all samples are equal.
        """
        return {name: value.repeat_interleave(num_samples, 0) for name, value in state.items()}

    def merge_states(self, states: Sequence[MemoryState]) -> MemoryState:
        """Return the state of one robot with the experience of all, where it follows from the states alone.

        Raises:
            ConfigError: If the family cannot merge states.
        """
        raise ConfigError(
            f"{type(self).__name__} cannot merge {len(states)} states: their average or sum is no valid state. "
            "Assimilate the recorded experience of the other robot, or use family 'ridge'"
        )


def fixed_normal(*shape: int) -> Tensor:
    """Return normal random numbers, the same in every call: a sample is a function of the state."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def sqrt_psd(covariance: Float[Tensor, "*B K K"]) -> Float[Tensor, "*B K K"]:
    """Compute the symmetric square root, which is continuous in the covariance; negative eigenvalues become 0."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp_min(0).sqrt()[..., None, :]) @ vectors.mT


def decay_rate(log_half_life: Tensor, dt: float) -> Tensor:
    """Compute the decay rate per step of a half-life that is given as log of s."""
    return math.log(2) * dt * torch.exp(-log_half_life)


def expand_like(row_mask: Bool[Tensor, "*B"], like: Tensor) -> Tensor:
    """Add axes to a row mask until it has the rank of `like`."""
    return row_mask.view(*row_mask.shape, *[1] * (like.ndim - row_mask.ndim))
