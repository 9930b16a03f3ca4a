"""Memory family `semiparametric`: physics inference, a correction of what it leaves over, and frozen weights."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wm_robot.math.linear import apply_linear
from wm_robot.memory.command_map import CommandMapFilter
from wm_robot.memory.ekf import MultipleModelEkf, average_known, keep_unseen
from wm_robot.memory.linear_correction import CorrectionState, LinearCorrection
from wm_robot.memory.memory import (
    InferenceStep,
    MemoryState,
    Reader,
    StepPrediction,
    expand_like,
    fixed_normal,
    sqrt_psd,
)


class SemiparametricMemory(MultipleModelEkf):
    """Semiparametric memory: physics hypotheses with a linear correction, beside a network with frozen weights.

    Each hypothesis of `MultipleModelEkf` has a correction of its prediction (`wm_robot.memory.linear_correction`). It
    explains what no parameter of the physics does, within a few steps.

    Beside the hypotheses a command map is estimated (`wm_robot.memory.command_map`), under the nominal physics. Once
    it predicts better, it is in use for all of them.

    The robot begins with the frozen network, and leaves it for the first hypothesis once that predicts with clearly
    less error, after a few steps at the earliest; it returns as soon as that predicts worse. So it is never worse
    than frozen weights for longer than the evidence takes.

    Source: semiparametric regression, Nguyen-Tuong and Peters (2010), ICRA, doi:10.1109/ROBOT.2010.5509858.
    Differs: the features are trained on what the physics hypotheses leave over (`wm_robot.training.correction_fit`).
    """

    corrects_prediction = True
    maps_commands = True
    competes_with_frozen = True
    flags = ("frozen", "map_in_use")

    BIRTH_COVARIANCE = 0.1
    """Share of the prior covariance with which the nominal hypothesis begins."""
    MAX_ERROR = 4.0
    """Upper bound of a squared error in the comparison with the frozen network, in units of the one-step change: a
    jolt is no evidence."""
    LEAVE_FROZEN, RETURN_TO_FROZEN = 0.6, 1.0
    """Mean squared error of the first hypothesis, in that of the frozen network, below which it is in use, and above
    which it no longer is."""
    FEWEST_UPDATES = 8
    """Number of updates of a lifetime before which the frozen network is never left: an error or two of one step
    ahead say little about those of a plan."""

    USE_MAP = 0.8
    """Squared error with the command map, in that of the first hypothesis, below which the map is in use, if it is
    below that of the frozen network too."""

    def __init__(self, *, width: int, outcome: int, dt: float, channels: int, commands: int, size: int = 192):
        """Args:
        channels: Number of channels of the predicted change.
        commands: Number of commands.
        """
        super().__init__(width=width, outcome=outcome, dt=dt, size=size)
        self.map_filter = CommandMapFilter(commands, dt)
        self.linear = LinearCorrection(width=width, channels=channels, dt=dt)

    def initial_state(self, batch: int) -> MemoryState:
        """Return the hypotheses of `MultipleModelEkf` with the nominal physics first, without a correction."""
        state, like = super().initial_state(batch), self.prior_mean
        mean, covariance = state["mean"].clone(), state["covariance"].clone()
        mean[:, 0] = 0.0
        covariance[:, 0] = self.BIRTH_COVARIANCE * covariance[:, 0]
        weights, weight_covariance = self.linear.make_prior(batch, self.num_hypotheses)
        no_map = like.new_zeros(batch, self.map_filter.num_commands, 1 + self.map_filter.num_commands)
        return state | {
            "physics": mean[:, 0],
            "mean": mean,
            "covariance": covariance,
            "correction": weights[:, 0],
            "weights": weights,
            "weight_covariance": weight_covariance,
            "error": like.new_zeros(batch, self.num_hypotheses),
            "frozen_error": like.new_zeros(batch),
            "frozen": like.new_ones(batch),
            "command_map": no_map,
            "map": no_map,
            "map_covariance": self.map_filter.make_prior(like).expand(batch, -1, -1, -1),
            "map_in_use": like.new_zeros(batch),
            "map_weights": weights[:, 0],
            "map_weight_covariance": weight_covariance[:, 0],
            "map_error": like.new_zeros(batch),
        }

    def set_true_physics(self, state: MemoryState, physics: Float[Tensor, "B P"]) -> MemoryState:
        """Return a state of the given physics alone, without a correction."""
        none = self.linear.make_prior(len(physics), 1)
        return {
            "physics": physics,
            "correction": none.weights[:, 0],
            "frozen": torch.zeros_like(physics[:, 0]),
        }

    def read_view(self, state: MemoryState) -> MemoryState:
        return {name: state[name] for name in ("physics", "correction", "frozen", "command_map")}

    def update(self, state: MemoryState, h: Tensor, e: Tensor, w: Tensor) -> MemoryState:
        return state | super().update(state, h, e, w)

    def scan(self, state: MemoryState, h: Tensor, e: Tensor, w: Tensor) -> tuple[Tensor, MemoryState]:
        read, after = super().scan(state, h, e, w)
        return read, state | after

    def open_correction(self, state: MemoryState) -> Reader:
        matrix, constant = self.fold_correction(state)
        return lambda query: apply_linear(query, matrix) + constant[:, None]

    def fold_correction(self, state: MemoryState) -> tuple[Float[Tensor, "B O D"], Float[Tensor, "B O"]]:
        """Return the correction as matrix and constant: a plan asks it for every step of every sample."""
        features = self.linear.features
        return state["correction"] @ features.weight, state["correction"] @ features.bias

    def find_command_map(self, state: MemoryState) -> Float[Tensor, "B A F"] | None:
        return state.get("command_map")

    def find_frozen(self, state: MemoryState) -> Bool[Tensor, "B"]:
        return state["frozen"] > 0

    def adjust_log_variance(self, log_variance: Float[Tensor, "*B O"]) -> Float[Tensor, "*B O"]:
        return self.linear.compute_noise(log_variance.exp()).log()

    def infer_physics(self, state: MemoryState, step: InferenceStep) -> tuple[StepPrediction, MemoryState]:
        """See `PhysicsInference.infer_physics`."""
        assert step.frozen is not None, "the model has no frozen network"
        sensed, known = step.predict_hypotheses(state["mean"]), step.find_known()
        corrections = CorrectionState(state["weights"], state["weight_covariance"])
        added = self.linear.predict(corrections, step.query)
        corrected = sensed._replace(mean=sensed.mean + added.mean)
        hypotheses, physics_variance = self._filter_hypotheses(state, corrected, step, added.variance)
        innovation = torch.where(known, step.outcome[:, None] - corrected.mean, 0.0)
        # Physics that are uncertain leave more over; the filter of the physics has its own factor on the noise.
        left = sensed.log_variance.exp() + physics_variance / self.VARIANCE_FACTOR
        updated = self.linear.update(
            corrections, added, innovation, self._weigh_noise(left, step), known.expand_as(innovation)
        )
        hypotheses |= {"weights": updated.weights, "weight_covariance": updated.covariance}
        hypotheses["error"] = self._average_error(state["error"], innovation, known)
        after = self._replace_worst(self._order_hypotheses(hypotheses, step.w), step.num_updates, step.w)
        surprise = torch.where(known[:, 0], step.outcome - step.frozen.mean, 0.0)[:, None]
        frozen_error = self._average_error(state["frozen_error"][:, None], surprise, known)[:, 0]
        after |= self._select_map(state, after, self._update_map(state, step), frozen_error, step.w)
        bound = torch.where(state["frozen"] > 0, self.LEAVE_FROZEN, self.RETURN_TO_FROZEN)
        worse = after["error"][:, 0] > bound * frozen_error
        after |= {
            "physics": after["mean"][:, 0],
            "correction": after["weights"][:, 0],
            "frozen_error": frozen_error,
            "frozen": (worse | (step.num_updates + 1 < self.FEWEST_UPDATES)).to(innovation.dtype),
        }
        believed = (state["frozen"] > 0)[:, None]
        predicted = StepPrediction(
            torch.where(believed, step.frozen.mean, corrected.mean[:, 0]),
            torch.where(
                believed, step.frozen.log_variance, self.adjust_log_variance(sensed.log_variance[:, 0])
            ),
        )
        return predicted, keep_unseen(state, after, step.w)

    def _update_map(self, state: MemoryState, step: InferenceStep) -> MemoryState:
        """Update the command map, and the correction beside it: that of the first hypothesis once it is in use."""
        assert step.predict_mapped is not None and step.commands is not None
        in_use, known = state["map_in_use"] > 0, step.find_known()
        correction = CorrectionState(
            *(
                torch.where(in_use[:, None, None], state[first][:, 0], state[own])[:, None]
                for first, own in (
                    ("weights", "map_weights"),
                    ("weight_covariance", "map_weight_covariance"),
                )
            )
        )
        # Physics that were inferred without the map have explained by themselves what it should.
        physics = torch.where(in_use[:, None], state["physics"], 0.0)
        deviation = self.map_filter.compute_deviation(state, step.commands)
        predicted = step.predict_mapped(state["map"], deviation, physics)
        added = self.linear.predict(correction, predicted.query)
        innovation = torch.where(known, step.outcome[:, None] - predicted.mean[:, None] - added.mean, 0.0)
        noise = self._weigh_noise(predicted.log_variance.exp()[:, None], step)
        slope = torch.where(known[:, 0, :, None], predicted.jacobian, 0.0)
        updated = self.linear.update(correction, added, innovation, noise, known.expand_as(innovation))
        found = self.map_filter.update(
            state,
            step.commands,
            predicted._replace(jacobian=slope),
            innovation[:, 0],
            (noise + added.variance)[:, 0],
        )
        sound = torch.isfinite(found["map"]).flatten(1).all(1)
        found = {
            name: torch.where(expand_like(sound, value), value, state[name]) for name, value in found.items()
        }
        found |= {
            "map_weights": updated.weights[:, 0],
            "map_weight_covariance": updated.covariance[:, 0],
        }
        return found | {
            "map_error": self._average_error(state["map_error"][:, None], innovation, known)[:, 0]
        }

    def _select_map(
        self,
        state: MemoryState,
        after: MemoryState,
        found: MemoryState,
        frozen_error: Float[Tensor, "B"],
        w: Float[Tensor, "B"],
    ) -> MemoryState:
        """Use the command map once it predicts better, for all hypotheses, until the frozen network is better.

        The first hypothesis begins anew with the physics under which the map was found: others were fitted to what
        the map explains.

        Args:
            after: The hypotheses, which change.
            found: The map after this step.
        """
        was = state["map_in_use"] > 0
        bound = torch.minimum(self.USE_MAP * after["error"][:, 0], self.RETURN_TO_FROZEN * frozen_error)
        begins = ~was & (found["map_error"] < bound) & (w > 0)
        own = {
            "mean": torch.zeros_like(after["mean"][:, 0]),
            "covariance": self.BIRTH_COVARIANCE * self.prior_covariance,
            "weights": found["map_weights"],
            "weight_covariance": found["map_weight_covariance"],
            "error": found["map_error"],
        }
        for name, value in own.items():
            after[name][:, 0] = torch.where(expand_like(begins, after[name][:, 0]), value, after[name][:, 0])
        in_use = (was | begins) & (after["error"][:, 0] <= self.RETURN_TO_FROZEN * frozen_error)
        return found | {
            "command_map": torch.where(in_use[:, None, None], found["map"], 0.0),
            "map_in_use": in_use.to(frozen_error.dtype),
        }

    def sample_posterior(self, state: MemoryState, num_samples: int) -> MemoryState:
        """Sample physics and correction of the hypothesis in use."""
        factor = sqrt_psd(state["weight_covariance"][:, 0])
        noise = fixed_normal(num_samples, *state["correction"].shape[1:]) @ factor[:, None].mT
        sampled = state["correction"][:, None] + self.linear.log_scale.exp()[:, None] * noise
        return super().sample_posterior(state, num_samples) | {"correction": sampled.flatten(0, 1)}

    def _make_newborn(self, hypotheses: MemoryState, is_prior: Bool[Tensor, "B"]) -> MemoryState:
        """See `MultipleModelEkf._make_newborn`: one of the prior begins without a correction."""
        first = super()._make_newborn(hypotheses, is_prior)
        fresh, prior = is_prior[:, None, None], self.linear.make_prior(len(is_prior), 1)
        return first | {
            "weights": torch.where(fresh, prior.weights[:, 0], first["weights"]),
            "weight_covariance": torch.where(fresh, prior.covariance[:, 0], first["weight_covariance"]),
        }

    def _weigh_noise(self, variance: Float[Tensor, "B K O"], step: InferenceStep) -> Float[Tensor, "B K O"]:
        """Compute the noise of what is left over, by the weight of the step; 1 for a channel without a reading."""
        noise = self.linear.compute_noise(variance) / step.w[:, None, None]
        return torch.where(step.find_known(), noise, 1.0)

    def _average_error(
        self, average: Float[Tensor, "B K"], innovation: Float[Tensor, "B K O"], known: Tensor
    ) -> Float[Tensor, "B K"]:
        """Update the average of the squared error over the recent steps."""
        square = torch.where(torch.isfinite(innovation), innovation.square(), self.MAX_ERROR)
        error = average_known(square.clamp_max(self.MAX_ERROR), known.expand_as(innovation))
        return self._fade * average + (1 - self._fade) * error
