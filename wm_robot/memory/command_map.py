"""Command map: how commands reach the motors, as a linear function of all commands that is learned.

Command i acts as x_i + u_i w_iᵀ [1, x̃], with the unit u_i and the scaled commands x̃; w = 0 is the declared robot.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from wm_robot.math.cholesky import whiten
from wm_robot.math.linear import apply_linear
from wm_robot.memory.memory import MappedPrediction, MemoryState


class CommandMapFilter:
    """Kalman filter of the command map, a block of 1 + A numbers for each command.

    The blocks are independent, so its cost grows with the square of the commands. Every error of the model looks like
    one of the commands; the filter takes errors for noise mostly, or it would explain all of them.
    """

    OFFSET_DEVIATION, MIXING_DEVIATION = 1.0, 0.5
    """Prior deviation of an offset, and of a command in another."""
    NOISE_FACTOR = 100.0
    """Factor on the variance of the prediction."""
    HALF_LIFE = 20.0
    """Half-life, in s."""
    HALF_LIFE_ASIDE = 1.0
    """The same while the map is not in use: a long time in which commands acted as declared is no evidence against a
    change."""
    MAX_INNOVATION = 5.0
    """Upper bound of an innovation, in its deviations."""

    def __init__(self, num_commands: int, dt: float):
        self.num_commands = num_commands
        self._forgotten = 1 - 0.5 ** (dt / self.HALF_LIFE)
        self._forgotten_aside = 1 - 0.5 ** (dt / self.HALF_LIFE_ASIDE)

    def make_prior(self, like: Tensor) -> Float[Tensor, "A F F"]:
        """Return the prior covariance of each block."""
        deviation = like.new_full((self.num_commands, 1 + self.num_commands), self.MIXING_DEVIATION)
        deviation[:, 0] = self.OFFSET_DEVIATION
        return torch.diag_embed(deviation.square())

    def compute_deviation(self, state: MemoryState, commands: Float[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        """Compute the deviation of each command that acts, in its unit."""
        given = torch.cat([torch.ones_like(commands[:, :1]), commands], 1)[:, None, :, None]
        return (given.mT @ state["map_covariance"] @ given)[..., 0, 0].clamp_min(0).sqrt()

    def update(
        self,
        state: MemoryState,
        commands: Float[Tensor, "B A"],
        predicted: MappedPrediction,
        innovation: Float[Tensor, "B O"],
        variance: Float[Tensor, "B O"],
    ) -> MemoryState:
        """Update map and covariance with a step.

        Args:
            commands: Scaled commands.
            innovation: 0 for a channel without a reading.
            variance: Of the innovation, from other causes than the map.
        """
        given = torch.cat([torch.ones_like(commands[:, :1]), commands], 1)
        covariance = state["map_covariance"]
        reach = (covariance @ given[:, None, :, None])[..., 0]
        spread = (reach * given[:, None]).sum(-1)
        slope, noise = predicted.jacobian, self.NOISE_FACTOR * variance
        bound = self.MAX_INNOVATION * ((slope.square() @ spread[..., None])[..., 0] + noise).sqrt()
        clipped = torch.maximum(torch.minimum(innovation, bound), -bound)
        # Jᵀ S⁻¹ of S = J D Jᵀ + R is D^-½ (I + D^½ Jᵀ R⁻¹ J D^½)⁻¹ D^½ Jᵀ R⁻¹, with a row for each command; S has
        # one for each channel.
        deviation = spread.clamp_min(1e-9).sqrt()
        whitened = slope / noise.sqrt()[..., None] * deviation[:, None]
        evidence = whitened.mT @ whitened
        toward = whitened.mT @ (clipped / noise.sqrt())[..., None]
        unit = torch.eye(self.num_commands, dtype=slope.dtype, device=slope.device).expand_as(evidence)
        inverse, _ = whiten(unit + evidence, unit)
        step = (inverse.mT @ (inverse @ toward))[..., 0] / deviation
        reached = (inverse * (inverse @ evidence)).sum(1) / deviation.square()
        certainty = torch.minimum(reached, 0.999 / spread.clamp_min(1e-9))
        covariance = covariance - certainty[..., None, None] * reach[..., None] * reach[..., None, :]
        prior = self.make_prior(commands)
        forgotten = torch.where(state["map_in_use"] > 0, self._forgotten, self._forgotten_aside)[
            :, None, None, None
        ]
        return {
            "map": state["map"] + step[..., None] * reach,
            "map_covariance": (1 - forgotten) * covariance + forgotten * prior,
        }


def apply_command_map(
    command_map: Float[Tensor, "B A F"],
    commands: Float[Tensor, "B *N A"],
    *,
    mean: Float[Tensor, "A"],
    std: Float[Tensor, "A"],
    unit: Float[Tensor, "A"],
) -> Float[Tensor, "B *N A"]:
    """Return the commands that act."""
    shift = apply_linear((commands - mean) / std, command_map[..., 1:])
    offset = command_map[..., 0]
    return commands + unit * (shift + offset[(slice(None), *[None] * (commands.ndim - 2))])
