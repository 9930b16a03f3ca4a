"""Memory family `semiparametric`: physics inference, a correction of what it leaves over, and frozen weights."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from wm_robot.math.linear import apply_linear
from wm_robot.memory.command_map import CommandMapFilter
from wm_robot.memory.ekf import MultipleModelEkf, average_known, keep_unseen
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
    r"""Semiparametric memory: physics hypotheses with a linear correction, beside a network with frozen weights.

    Each hypothesis of `MultipleModelEkf` has a correction of its prediction, linear in learned features of the query,
    by Bayesian regression with a learned prior, which forgets. It explains what no parameter of the physics does,
    within a few steps. With features :math:`f`, and for channel :math:`o` the prior deviation :math:`s_o` and the
    noise :math:`r_o`:

    .. math::
        y_o = f^⊤ v_o, \quad v_o ← v_o + \frac{s_o^2 ν_o}{s_o^2 f^⊤ P f + r_o} P f, \quad
        P ← P - c \, P f f^⊤ P, \quad c = \tfrac{1}{O} \sum_o \frac{s_o^2}{s_o^2 f^⊤ P f + r_o}

    All channels share the covariance :math:`P`, so that it costs no more with more of them.

    Beside the first hypothesis a command map is estimated (`wm_robot.memory.command_map`). Once it predicts better,
    it is in use for all of them.

    The robot begins with the frozen network, and leaves it for the first hypothesis once that predicts with clearly
    less error; it returns as soon as that predicts worse. So it is never worse than frozen weights for longer than
    the evidence takes.

    Source: semiparametric regression, Nguyen-Tuong and Peters (2010), ICRA, doi:10.1109/ROBOT.2010.5509858; a learned
    prior of Bayesian regression, Harrison et al. (2018), arXiv:1807.08912. Differs: the features are trained on what
    the physics hypotheses leave over; see `wm_robot.training.correction_fit`.
    """

    corrects_prediction = True
    maps_commands = True
    competes_with_frozen = True
    flags = ("frozen", "map_in_use")

    NUM_FEATURES = 40
    BIRTH_COVARIANCE = 0.1
    """Share of the prior covariance with which the nominal hypothesis begins."""
    MAX_ERROR = 4.0
    """Upper bound of a squared error in the comparison with the frozen network, in units of the one-step change: a
    jolt is no evidence."""
    LEAVE_FROZEN, RETURN_TO_FROZEN = 0.6, 1.0
    """Mean squared error of the first hypothesis, in that of the frozen network, below which it is in use, and above
    which it no longer is."""

    USE_MAP = 0.8
    """Squared error with the command map, in that of the first hypothesis, below which the map is in use."""

    def __init__(self, *, width: int, outcome: int, dt: float, channels: int, commands: int, size: int = 192):
        """Args:
        channels: Number of channels of the predicted change.
        commands: Number of commands.
        """
        super().__init__(width=width, outcome=outcome, dt=dt, size=size)
        self.channels = channels
        self.map_filter = CommandMapFilter(commands, dt)
        self.features = nn.Linear(width, self.NUM_FEATURES)
        """Features of the query, of unit prior variance."""
        self.log_scale = nn.Parameter(torch.full((channels,), math.log(0.1)))
        """Prior deviation of each channel, log, in units of the one-step change."""
        self.log_noise = nn.Parameter(torch.full((channels,), math.log(3.0)))
        """Factor on the predicted variance, log."""
        self.log_floor = nn.Parameter(torch.full((channels,), math.log(1e-3)))
        """Variance that is added to it, log."""
        self.log_half_life = nn.Parameter(torch.tensor(math.log(20.0)))
        """Half-life of the correction, log of s."""

    def initial_state(self, batch: int) -> MemoryState:
        """Return the hypotheses of `MultipleModelEkf` with the nominal physics first, without a correction."""
        state, like = super().initial_state(batch), self.log_scale
        mean, covariance = state["mean"].clone(), state["covariance"].clone()
        mean[:, 0] = 0.0
        covariance[:, 0] = self.BIRTH_COVARIANCE * covariance[:, 0]
        number, size = self.NUM_HYPOTHESES, self.NUM_FEATURES
        unit = torch.eye(size, device=like.device)
        return state | {
            "physics": mean[:, 0],
            "mean": mean,
            "covariance": covariance,
            "correction": like.new_zeros(batch, self.channels, size),
            "weights": like.new_zeros(batch, number, self.channels, size),
            "weight_covariance": unit.expand(batch, number, -1, -1),
            "error": like.new_zeros(batch, number),
            "frozen_error": like.new_zeros(batch),
            "frozen": like.new_ones(batch),
            **self._make_declared_map(batch),
            "map_weights": like.new_zeros(batch, self.channels, size),
            "map_weight_covariance": unit.expand(batch, -1, -1),
            "map_error": like.new_zeros(batch),
        }

    def _make_declared_map(self, batch: int) -> MemoryState:
        """Return the command map of the declared robot, with the covariance of its prior, and not in use."""
        like, number = self.log_scale, self.map_filter.num_commands
        none = like.new_zeros(batch, number, 1 + number)
        return {
            "command_map": none,
            "map": none,
            "map_covariance": self.map_filter.make_prior(like).expand(batch, -1, -1, -1),
            "map_in_use": like.new_zeros(batch),
        }

    def set_true_physics(self, state: MemoryState, physics: Float[Tensor, "B P"]) -> MemoryState:
        """Return a state of the given physics alone, without a correction."""
        none = self.log_scale.new_zeros(len(physics), self.channels, self.NUM_FEATURES)
        return {"physics": physics, "correction": none, "frozen": torch.zeros_like(physics[:, 0])}

    def read_view(self, state: MemoryState) -> MemoryState:
        return {name: state[name] for name in ("physics", "correction", "frozen", "command_map")}

    def update(self, state: MemoryState, h: Tensor, e: Tensor, w: Tensor) -> MemoryState:
        return state | super().update(state, h, e, w)

    def scan(self, state: MemoryState, h: Tensor, e: Tensor, w: Tensor) -> tuple[Tensor, MemoryState]:
        read, after = super().scan(state, h, e, w)
        return read, state | after

    def open_correction(self, state: MemoryState) -> Reader:
        # Folded: a plan asks it for every step of every sample.
        matrix = state["correction"] @ self.features.weight
        constant = state["correction"] @ self.features.bias
        return lambda query: apply_linear(query, matrix) + constant[:, None]

    def find_command_map(self, state: MemoryState) -> Float[Tensor, "B A F"] | None:
        return state.get("command_map")

    def find_frozen(self, state: MemoryState) -> Bool[Tensor, "B"]:
        return state["frozen"] > 0

    def adjust_log_variance(self, log_variance: Float[Tensor, "*B O"]) -> Float[Tensor, "*B O"]:
        return self._compute_noise(log_variance.exp()).log()

    def infer_physics(self, state: MemoryState, step: InferenceStep) -> tuple[StepPrediction, MemoryState]:
        """See `PhysicsInference.infer_physics`."""
        assert step.frozen is not None, "the model has no frozen network"
        sensed, known = step.predict_hypotheses(state["mean"]), step.find_known()
        features = self.features(step.query)
        corrected = sensed._replace(
            mean=sensed.mean + (state["weights"] @ features[:, None, :, None])[..., 0],
        )
        reach, spread = self._compute_reach(state["weight_covariance"], features)
        correction_variance = (2 * self.log_scale).exp() * spread[..., None]
        hypotheses, physics_variance = self._filter_hypotheses(state, corrected, step, correction_variance)
        innovation = torch.where(known, step.outcome[:, None] - corrected.mean, 0.0)
        hypotheses |= self._correct_weights(
            state,
            innovation,
            reach,
            spread,
            sensed.log_variance.exp() + physics_variance / self.VARIANCE_FACTOR,
            step,
        )
        hypotheses["error"] = self._average_error(state["error"], innovation, known)
        after = self._replace_worst(self._order_hypotheses(hypotheses), step.num_updates)
        surprise = torch.where(known[:, 0], step.outcome - step.frozen.mean, 0.0)[:, None]
        frozen_error = self._average_error(state["frozen_error"][:, None], surprise, known)[:, 0]
        after |= self._select_map(state, after, self._update_map(state, step), frozen_error)
        bound = torch.where(state["frozen"] > 0, self.LEAVE_FROZEN, self.RETURN_TO_FROZEN)
        after |= {
            "physics": after["mean"][:, 0],
            "correction": after["weights"][:, 0],
            "frozen_error": frozen_error,
            "frozen": (after["error"][:, 0] > bound * frozen_error).to(features.dtype),
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
        weights, covariance = (
            torch.where(in_use[:, None, None], state[first][:, 0], state[own])[:, None]
            for first, own in (
                ("weights", "map_weights"),
                ("weight_covariance", "map_weight_covariance"),
            )
        )
        predicted = step.predict_mapped(state["map"])
        features = self.features(predicted.query)
        mean = predicted.mean[:, None] + (weights @ features[:, None, :, None])[..., 0]
        innovation = torch.where(known, step.outcome[:, None] - mean, 0.0)
        reach, spread = self._compute_reach(covariance, features)
        noise = self._compute_noise(predicted.log_variance.exp())[:, None] / step.w[:, None, None]
        noise = torch.where(known, noise, 1.0)
        slope = torch.where(known[:, 0, :, None], predicted.jacobian, 0.0)
        found = self.map_filter.update(
            state,
            step.commands,
            predicted._replace(jacobian=slope),
            innovation[:, 0],
            noise[:, 0] + (2 * self.log_scale).exp() * spread,
        )
        weights, covariance = self._regress_step(
            weights,
            covariance,
            innovation,
            reach,
            spread,
            noise,
            known.expand_as(innovation).to(innovation.dtype),
        )
        sound = torch.isfinite(found["map"]).flatten(1).all(1) & torch.isfinite(weights).flatten(1).all(1)
        found |= {"map_weights": weights[:, 0], "map_weight_covariance": covariance[:, 0]}
        found = {
            name: torch.where(expand_like(sound, value), value, state[name]) for name, value in found.items()
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
    ) -> MemoryState:
        """Use the command map once it predicts better, for all hypotheses; forget it where frozen weights are better.

        Args:
            after: The hypotheses.
            found: The map after this step.
        """
        was = state["map_in_use"] > 0
        begins = ~was & (found["map_error"] < self.USE_MAP * after["error"][:, 0])
        first = {
            name: torch.where(expand_like(begins, found[own]), found[own], after[name][:, 0])
            for name, own in (
                ("weights", "map_weights"),
                ("weight_covariance", "map_weight_covariance"),
                ("error", "map_error"),
            )
        }
        in_use = was | begins
        lost = in_use & (first["error"] > self.RETURN_TO_FROZEN * frozen_error)
        in_use = in_use & ~lost
        declared = self._make_declared_map(len(lost))
        kept = {
            name: torch.where(expand_like(lost, found[name]), declared[name], found[name])
            for name in ("map", "map_covariance")
        }
        return {
            **{name: torch.cat([value[:, None], after[name][:, 1:]], 1) for name, value in first.items()},
            **{name: found[name] for name in ("map_weights", "map_weight_covariance", "map_error")},
            **kept,
            "command_map": torch.where(in_use[:, None, None], kept["map"], 0.0),
            "map_in_use": in_use.to(frozen_error.dtype),
        }

    def regress(
        self,
        query: Float[Tensor, "B T D"],
        outcome: Float[Tensor, "B T O"],
        variance: Float[Tensor, "B T O"],
        report: Callable[[Tensor, Tensor], None],
    ) -> None:
        """Predict and update the correction alone along trajectories, for its training.

        Args:
            outcome: What the physics leave over.
            variance: Predicted variance of it.
            report: Called with the predicted mean and variance of each step, `B O`.
        """
        weights = outcome.new_zeros(len(query), 1, self.channels, self.NUM_FEATURES)
        covariance = torch.eye(self.NUM_FEATURES).expand(len(query), 1, -1, -1)
        scale = (2 * self.log_scale).exp()
        for t, features in enumerate(self.features(query).unbind(1)):
            mean = (weights @ features[:, None, :, None])[..., 0]
            reach, spread = self._compute_reach(covariance, features)
            noise = self._compute_noise(variance[:, t, None])
            report(mean[:, 0], scale * spread + noise[:, 0])
            weights, covariance = self._regress_step(
                weights, covariance, outcome[:, t, None] - mean, reach, spread, noise, torch.ones_like(noise)
            )

    def sample_posterior(self, state: MemoryState, num_samples: int) -> MemoryState:
        """Sample physics and correction of the hypothesis in use."""
        factor = sqrt_psd(state["weight_covariance"][:, 0])
        noise = fixed_normal(num_samples, self.channels, self.NUM_FEATURES) @ factor[:, None].mT
        sampled = state["correction"][:, None] + self.log_scale.exp()[:, None] * noise
        return super().sample_posterior(state, num_samples) | {"correction": sampled.flatten(0, 1)}

    def _make_newborn(self, hypotheses: MemoryState, is_prior: Bool[Tensor, "B"]) -> MemoryState:
        """See `MultipleModelEkf._make_newborn`: one of the prior begins without a correction."""
        first = super()._make_newborn(hypotheses, is_prior)
        fresh, unit = is_prior[:, None, None], torch.eye(self.NUM_FEATURES, device=is_prior.device)
        return first | {
            "weights": torch.where(fresh, 0.0, first["weights"]),
            "weight_covariance": torch.where(fresh, unit, first["weight_covariance"]),
        }

    def _compute_noise(self, variance: Float[Tensor, "*B O"]) -> Float[Tensor, "*B O"]:
        return self.log_noise.exp() * variance + self.log_floor.exp()

    @staticmethod
    def _compute_reach(
        covariance: Float[Tensor, "B K F F"], features: Float[Tensor, "B F"]
    ) -> tuple[Float[Tensor, "B K F"], Float[Tensor, "B K"]]:
        """Compute P f, and fᵀ P f."""
        reach = (covariance @ features[:, None, :, None])[..., 0]
        return reach, (reach * features[:, None]).sum(-1)

    def _correct_weights(
        self,
        state: MemoryState,
        innovation: Float[Tensor, "B K O"],
        reach: Float[Tensor, "B K F"],
        spread: Float[Tensor, "B K"],
        variance: Float[Tensor, "B K O"],
        step: InferenceStep,
    ) -> MemoryState:
        """Update the weights of the correction of each hypothesis."""
        known = step.find_known().expand_as(innovation)
        noise = torch.where(known, self._compute_noise(variance) / step.w[:, None, None], 1.0)
        weights, covariance = self._regress_step(
            state["weights"],
            state["weight_covariance"],
            innovation,
            reach,
            spread,
            noise,
            known.to(innovation.dtype),
        )
        sound = torch.isfinite(weights).all(-1).all(-1)[..., None, None]
        return {
            "weights": torch.where(sound, weights, state["weights"]),
            "weight_covariance": torch.where(sound, covariance, state["weight_covariance"]),
        }

    def _regress_step(
        self,
        weights: Tensor,
        covariance: Tensor,
        innovation: Tensor,
        reach: Tensor,
        spread: Tensor,
        noise: Tensor,
        known: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Update weights and covariance with an innovation, then forget; see the class."""
        scale = (2 * self.log_scale).exp()
        share = known * scale / (scale * spread[..., None] + noise)
        weights = weights + (share * innovation)[..., None] * reach[..., None, :]
        certainty = share.sum(-1) / known.sum(-1).clamp_min(1)
        # Rounding may not make the covariance negative.
        certainty = torch.minimum(certainty, 0.999 / spread.clamp_min(1e-6))
        covariance = covariance - certainty[..., None, None] * reach[..., None] * reach[..., None, :]
        forgotten = 1 - torch.exp(-math.log(2) * self.dt / self.log_half_life.exp())
        unit = torch.eye(self.NUM_FEATURES, device=weights.device)
        return weights, (1 - forgotten) * covariance + forgotten * unit

    def _average_error(
        self, average: Float[Tensor, "B K"], innovation: Float[Tensor, "B K O"], known: Tensor
    ) -> Float[Tensor, "B K"]:
        """Update the average of the squared error over the recent steps."""
        square = torch.where(torch.isfinite(innovation), innovation.square(), self.MAX_ERROR)
        error = average_known(square.clamp_max(self.MAX_ERROR), known.expand_as(innovation))
        return self._fade * average + (1 - self._fade) * error
