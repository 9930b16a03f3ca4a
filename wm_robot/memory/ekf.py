"""Memory family `ekf`: the state is an estimate of the physics, inferred from the transitions."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wm_robot.math.extended_kalman import ekf_update, reduce_covariance
from wm_robot.memory.memory import (
    HypothesisPrediction,
    InferenceStep,
    MemoryState,
    PhysicsInference,
    StepPrediction,
    expand_like,
    fixed_normal,
    sqrt_psd,
)
from wm_robot.memory.physics import PhysicsMemory


class MultipleModelEkf(PhysicsMemory):
    """Multiple-model extended Kalman filter: inverts the model to estimate the physics.

    Training gives the true physics, as for the oracle. At run time the state holds several physics hypotheses. Each
    is an extended Kalman filter through the model's own prediction. The first hypothesis is in use. Another one takes
    its place when it predicted the last half second clearly better. Every step replaces the worst hypothesis by one
    of three kinds: the one in use with one parameter reflected (a reversed motor), the one in use with a wide
    covariance, or the prior.

    Source: multiple-model adaptive estimation, Magill (1965), IEEE Trans. Autom. Control 10(4). Differs: hypotheses
    are replaced, and too large innovations inflate the covariance of a filter (fading, Zhou and Frank 1996, Int. J.
    Control 65(2)).
    """

    max_layers = 1

    NUM_HYPOTHESES, NUM_HYPOTHESES_OF_MANY = 8, 6
    """Number of hypotheses, and that of robots with more than `MANY_PARAMETERS`: with thirty joints they take most of
    a control step. On the arm, six have 5 to 16 % more error in the first 16 steps than eight."""
    MANY_PARAMETERS = 100
    """More than thirteen joints have, with seven for each and four for the robot."""
    VARIANCE_FACTOR = 3.0
    """Factor on the predicted variance: successive errors are correlated and carry less evidence."""
    DRIFT_RATE = 0.2
    """Share of the distance to the prior covariance that a filter regains per second."""
    SCORE_HALF_LIFE = 0.4
    """Half-life of a hypothesis score, in s."""
    NEW_HYPOTHESIS_PENALTY = 5.0
    """Nats by which a new hypothesis starts behind the one in use."""
    SWITCH_THRESHOLD = 15.0
    """Nats by which another hypothesis must lead the one in use. At rest all hypotheses predict the same, and a jolt
    that none of them predicted favours one by chance."""
    MAX_INNOVATION = 5.0
    """Upper bound of a whitened innovation in the score."""
    FADING_THRESHOLD = 3.0
    """Mean squared whitened innovation above which a filter inflates its covariance."""
    FADING_RATE = 0.1
    """Share of the distance to the prior covariance, for each multiple of that bound."""
    MAX_FADING = 0.3
    MIN_MODE_SEPARATION = 4.5
    """Ashman's D of a bimodal parameter above which the reflected value is tried."""

    prior_mean: Tensor
    prior_covariance: Tensor
    low: Tensor
    high: Tensor
    reflection_sum: Tensor
    """θ → reflection_sum - θ swaps the two modes of a parameter; NaN where it has one mode."""

    def __init__(self, *, width: int, outcome: int, dt: float, size: int = 192):
        super().__init__(width=width, outcome=outcome, dt=dt, size=size)
        self.dt = dt
        self.num_hypotheses = (
            self.NUM_HYPOTHESES if outcome <= self.MANY_PARAMETERS else self.NUM_HYPOTHESES_OF_MANY
        )
        self.register_buffer("prior_mean", torch.zeros(outcome))
        self.register_buffer("prior_covariance", torch.eye(outcome))
        self.register_buffer("low", torch.full((outcome,), -5.0))
        self.register_buffer("high", torch.full((outcome,), 5.0))
        self.register_buffer("reflection_sum", torch.full((outcome,), torch.nan))

    def fit_prior(self, physics: Float[np.ndarray, "N P"]) -> None:
        """Set mean, covariance, range and modes of the prior from the physics of training worlds."""
        values = physics.astype(np.float64)
        low, high = values.min(0), values.max(0)
        covariance = np.cov(values.T) + 1e-3 * np.eye(values.shape[1])
        sides = [_split_bimodal(column, self.MIN_MODE_SEPARATION) for column in values.T]
        margin = 0.05 * (high - low)
        for buffer, value in (
            (self.prior_mean, values.mean(0)),
            (self.prior_covariance, covariance),
            (self.low, low - margin),
            (self.high, high + margin),
            (self.reflection_sum, np.array(sides)),
        ):
            buffer.copy_(torch.from_numpy(value))

    def initial_state(self, batch: int) -> MemoryState:
        """Return hypotheses of the prior: one unchanged, and one for each reflected parameter."""
        mean = self.prior_mean.repeat(batch, self.num_hypotheses, 1)
        for k, i in enumerate(self._bimodal_parameters[: self.num_hypotheses - 1].tolist(), start=1):
            mean[:, k, i] = self.reflection_sum[i] - mean[:, k, i]
        return {
            "physics": mean[:, 0],
            "mean": mean,
            "covariance": self.prior_covariance.expand(batch, self.num_hypotheses, -1, -1),
            "score": torch.zeros(batch, self.num_hypotheses, device=mean.device),
        }

    @property
    def physics_inference(self) -> PhysicsInference:
        return self

    def infer_physics(self, state: MemoryState, step: InferenceStep) -> tuple[StepPrediction, MemoryState]:
        """See `PhysicsInference.infer_physics`; the number of updates decides which hypothesis is replaced."""
        sensed = step.predict_hypotheses(state["mean"])
        filtered, _ = self._filter_hypotheses(state, sensed, step)
        after = self._replace_worst(self._order_hypotheses(filtered, step.w), step.num_updates, step.w)
        return StepPrediction(sensed.mean[:, 0], sensed.log_variance[:, 0]), keep_unseen(
            state, after | {"physics": after["mean"][:, 0]}, step.w
        )

    def _filter_hypotheses(
        self,
        state: MemoryState,
        sensed: HypothesisPrediction,
        step: InferenceStep,
        extra_variance: Tensor | float = 0.0,
    ) -> tuple[MemoryState, Float[Tensor, "B K O"]]:
        """Update the filter of each hypothesis. Rows of weight 0 keep their covariance, to the bit.

        Args:
            extra_variance: Variance of the prediction from other causes than noise and physics.

        Returns:
            Mean, covariance and score of each; and the variance of its prediction by the physics alone.
        """
        known, w = step.find_known(), step.w[:, None, None]
        innovation = torch.where(known, step.outcome[:, None] - sensed.mean, 0.0)
        slope = torch.where(known[..., None], sensed.jacobian, 0.0)
        # A factor of NaN is an error.
        noise = self.VARIANCE_FACTOR * sensed.log_variance.exp() / w + extra_variance
        noise = torch.where(known, noise, 1.0)
        # All that changes a covariance is 0 where nothing may: a selection would copy the largest part of the state.
        drift = torch.where(w > 0, self.DRIFT_RATE * self.dt, 0.0)[..., None]
        drifted = self._inflate_covariance(state["covariance"], drift)
        found = ekf_update(state["mean"], drifted, innovation, slope, noise)
        surprise = found.whitened_innovation.square()
        mean_surprise = surprise.mean(-1) if step.measured is None else average_known(surprise, known)
        doubt = (self.FADING_RATE * (mean_surprise / self.FADING_THRESHOLD - 1).clamp_min(0)).clamp_max(
            self.MAX_FADING
        )
        likelihood = -0.5 * surprise.clamp_max(self.MAX_INNOVATION**2).sum(-1) - found.half_log_det
        score = self._fade * state["score"] + likelihood

        sound = torch.isfinite(found.mean).all(-1) & torch.isfinite(score)
        mean = torch.where(sound[..., None], torch.clamp(found.mean, self.low, self.high), state["mean"])
        half_gain = torch.where(sound[..., None, None], found.half_gain, 0.0)
        covariance = self._inflate_covariance(
            reduce_covariance(drifted, half_gain), torch.where(sound, doubt, 0.0)[..., None, None]
        )
        score = torch.where(
            sound, score, state["score"] - self.NEW_HYPOTHESIS_PENALTY - self.SWITCH_THRESHOLD
        )
        return {"mean": mean, "covariance": covariance, "score": score}, found.variance - noise

    @property
    def _fade(self) -> float:
        """Factor on a score in each step."""
        return float(0.5 ** (self.dt / self.SCORE_HALF_LIFE))

    def sample_posterior(self, state: MemoryState, num_samples: int) -> MemoryState:
        """Sample the posterior of the hypothesis in use."""
        factor = sqrt_psd(state["covariance"][:, 0])
        truth = state["physics"][:, None] + fixed_normal(num_samples, factor.shape[-1]) @ factor.mT
        return super().sample_posterior(state, num_samples) | {
            "physics": truth.clamp(self.low, self.high).flatten(0, 1)
        }

    def _inflate_covariance(self, covariance: Tensor, share: Tensor | float) -> Tensor:
        """Move a covariance a share of the way to the prior. ONNX has no `lerp`; it would export both forms."""
        return (1 - share) * covariance + share * self.prior_covariance

    @property
    def _bimodal_parameters(self) -> Tensor:
        """Indices of bimodal parameters."""
        return torch.isfinite(self.reflection_sum).nonzero()[:, 0]

    def _order_hypotheses(self, hypotheses: MemoryState, w: Float[Tensor, "B"]) -> MemoryState:
        """Order what belongs to each hypothesis, `B K …`, with the one in use first; in rows of positive weight."""
        score = hypotheses["score"]
        best = score.argmax(1, keepdim=True)
        sure = score.gather(1, best) - score[:, :1] > self.SWITCH_THRESHOLD
        first = torch.where(sure & (w > 0)[:, None], best, 0)
        index = torch.arange(score.shape[1], device=score.device).expand_as(score)
        order = torch.cat([first, index.scatter(1, first, 0)[:, 1:]], 1)
        rows = torch.arange(len(score), device=score.device)[:, None]
        return {name: value[rows, order] for name, value in hypotheses.items()}

    def _replace_worst(
        self, hypotheses: MemoryState, num_updates: Tensor, w: Float[Tensor, "B"]
    ) -> MemoryState:
        """Replace the worst hypothesis in rows of positive weight; the arrays that are given change.

        Kinds alternate: three reflected, one with wide covariance, one prior.
        """
        mean, covariance, score = (hypotheses[name] for name in ("mean", "covariance", "score"))
        rows = torch.arange(len(mean), device=mean.device)
        worst = 1 + score[:, 1:].argmin(1)
        truth, sure = mean[:, 0], covariance[:, 0]
        kind, turning = num_updates % 5, self._bimodal_parameters
        newborn, doubting = kind == 3, kind == 1
        born, open_to = truth, sure + doubting[:, None, None] * self.prior_covariance
        if len(turning):
            which = turning[(num_updates // 5 * 3 + (kind + 1) // 2) % len(turning)]
            turned = torch.zeros_like(truth)
            turned[rows, which] = (~newborn & ~doubting).float()
            born = torch.where(turned > 0, self.reflection_sum - truth, truth)
            open_to = open_to + torch.diag_embed(turned * self.prior_covariance.diagonal())
        born = torch.where(newborn[:, None], self.prior_mean, born)
        open_to = torch.where(newborn[:, None, None], self.prior_covariance, open_to)
        new = self._make_newborn(hypotheses, newborn) | {
            "mean": torch.clamp(born, self.low, self.high),
            "covariance": open_to,
            "score": score[:, 0] - self.NEW_HYPOTHESIS_PENALTY,
        }
        for name, value in hypotheses.items():
            seen = expand_like(w > 0, new[name])
            value[rows, worst] = torch.where(seen, new[name], value[rows, worst])
        return hypotheses

    def _make_newborn(self, hypotheses: MemoryState, is_prior: Bool[Tensor, "B"]) -> MemoryState:
        """Return what belongs to a new hypothesis: that of the one in use, or of the initial state."""
        return {name: value[:, 0] for name, value in hypotheses.items()}


def keep_unseen(before: MemoryState, after: MemoryState, w: Float[Tensor, "B"]) -> MemoryState:
    """Return the state after a step, and the state before it in rows of weight 0.

    The covariance of the hypotheses is not compared: the steps of the filter keep it.
    """
    seen = w > 0
    kept = {
        name: torch.where(expand_like(seen, value), value, before[name])
        for name, value in after.items()
        if name != "covariance"
    }
    return kept | {"covariance": after["covariance"]}


def average_known(values: Float[Tensor, "B K O"], known: Tensor) -> Float[Tensor, "B K"]:
    """Average over the channels that are readings."""
    return (values * known).sum(-1) / known.sum(-1).clamp_min(1)


def _split_bimodal(values: np.ndarray, min_separation: float) -> float:
    """Return the sum of the two mode centres of a bimodal parameter; NaN for a unimodal one.

    The modes are split by Otsu (1979), IEEE Trans. Syst. Man Cybern. 9(1). Their separation is Ashman's D (Ashman,
    Bird and Zepf 1994, Astron. J. 108).
    """
    ordered = np.sort(values)
    count = np.arange(1, len(ordered))
    total = ordered.cumsum()
    low, high = total[:-1] / count, (total[-1] - total[:-1]) / (len(ordered) - count)
    between = count * (len(ordered) - count) * (high - low) ** 2
    if not len(between) or not between.max() > 0:
        return float("nan")
    at = int(between.argmax())
    spread = np.hypot(ordered[: at + 1].std(), ordered[at + 1 :].std())
    apart = np.sqrt(2) * (high[at] - low[at])
    return float(low[at] + high[at]) if apart > min_separation * spread else float("nan")
