"""World model: a latent dynamics model that reads and updates a lifetime state.

z_t = encode(o_t, recent actions)            latent: the sensors themselves and a learned context
p_t = predict(z_t, a_t, read(S_{t-1}))       next latent, decoded to sensor units with a variance
S_t = update(S_{t-1}, h_t, outcome_t)        predict, then update
imagine: z_{k+1} from (z_k, a_k), S constant

Besides its memories a state has a residual of the weights, zero in the initial state: read here, and never updated.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wm_robot.errors import ConfigError
from wm_robot.math.linear import apply_linear
from wm_robot.memory.command_map import apply_command_map
from wm_robot.memory.film import make_read_state
from wm_robot.memory.lifetime_state import LearnedState, LifetimeState, map_values
from wm_robot.memory.memory import Memory, MemoryState
from wm_robot.memory.registry import find_family, make_memory
from wm_robot.model.backend import Prediction
from wm_robot.model.config import LOG_VARIANCE_BOUNDS, ModelConfig
from wm_robot.model.input_layer import compute_affine_input, make_input_layer
from wm_robot.model.observed_channels import ObservedChannels
from wm_robot.model.physics_inference import infer_physics
from wm_robot.model.residual import make_zero_residual
from wm_robot.types import Step


class WorldModel(nn.Module):
    """World model with the base weights θ, learned in training. A robot learns in its `LifetimeState` only."""

    obs_mean: Tensor
    obs_std: Tensor
    action_mean: Tensor
    action_std: Tensor
    servo_error_mean: Tensor
    servo_error_std: Tensor
    change_std: Tensor
    servo_action: Tensor
    """Indices of the actions that are set-points of a joint's position."""
    servo_obs: Tensor
    """Index of the observation of each of these set-points."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = c = config
        servos = [(action, obs) for action, obs in enumerate(c.servo) if obs >= 0]
        for name, part in (("servo_action", 0), ("servo_obs", 1)):
            index = torch.tensor([servo[part] for servo in servos], dtype=torch.int64)
            self.register_buffer(name, index, persistent=False)
        for name, size in (("obs", c.obs), ("action", c.action), ("servo_error", len(servos))):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))
        self.register_buffer("change_std", torch.ones(c.obs))
        self.channels = ObservedChannels(c.obs, wraps=c.wraps, rotations=c.rotations)
        seen = self.channels.num_features + c.recent * (c.action + len(servos))
        self.context_encoder = nn.Sequential(
            nn.Linear(seen, c.width), nn.SiLU(), nn.Linear(c.width, c.context), nn.Tanh()
        )
        asked = self.channels.num_features + c.context + 2 * (c.action + len(servos))
        self.input_layer = nn.Linear(asked, c.width)
        self.linear_skip = nn.Linear(asked, c.obs, bias=False)
        self.outcome_encoder = nn.Sequential(
            nn.Linear(self.channels.num_features + c.obs + len(c.optional), c.outcome),
            nn.SiLU(),
            nn.Linear(c.outcome, c.outcome),
        )
        written = c.truth if find_family(c.memory).memory_class.outcome_is_physics else c.outcome
        self.memories = nn.ModuleList(
            make_memory(c.memory, width=c.width, outcome=written, dt=c.dt, channels=c.obs, commands=c.action)
            for _ in range(c.blocks)
        )
        self.frozen: WorldModel | None = None
        """Network with frozen weights, of the same size, which competes with the memory."""
        if find_family(c.memory).memory_class.competes_with_frozen:
            self.frozen = WorldModel(replace(c, memory="null"))
        self.norms = nn.ModuleList(nn.LayerNorm(c.width) for _ in range(c.blocks))
        self.feed_forward = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(c.width), nn.Linear(c.width, c.width), nn.SiLU(), nn.Linear(c.width, c.width)
            )
            for _ in range(c.blocks)
        )
        self.output_head = nn.Sequential(nn.LayerNorm(c.width), nn.Linear(c.width, 2 * c.obs + c.context))
        memory = self.initial_state(initial_action=torch.zeros(1, c.action)).memory
        if self.memory_layers[0].read_physics(memory[0]) is None:
            self.physics_head = nn.Linear(
                concatenate_summaries(self.memory_layers, memory).shape[1], max(1, c.truth)
            )

    @property
    def memory_layers(self) -> list[Memory]:
        """Memory layers, in the order of reading."""
        return cast(list[Memory], list(self.memories))

    def initial_state(
        self, *, initial_action: Float[Tensor, "B A"], truth: Tensor | None = None
    ) -> LifetimeState[Tensor]:
        """Return the initial state of robots.

        Args:
            initial_action: Action in force before the first step.
            truth: True physics, `B P`, for families that use them; see `set_true_physics`.
        """
        c, batch = self.config, len(initial_action)
        readings = [memory.film_readout for memory in self.memory_layers]
        residual = make_zero_residual(
            (self.input_layer.in_features, c.width + c.obs),
            (c.width, c.obs),
            [
                None if each is None else (each.modulate.in_features, each.modulate.out_features)
                for each in readings
            ],
            initial_action,
        )
        memory = tuple(layer.initial_state(batch) for layer in self.memory_layers)
        state = LifetimeState(
            step=torch.zeros(batch, dtype=torch.int64),
            recent=initial_action[:, None].expand(-1, c.recent, -1),
            learned=LearnedState(memory, residual),
        )
        return state if truth is None else self.set_true_physics(state, truth)

    def set_true_physics(
        self, state: LifetimeState[Tensor], truth: Float[Tensor, "B P"]
    ) -> LifetimeState[Tensor]:
        """Return the states with the true physics set. The oracle uses them. `ekf` uses them in training and then
        infers nothing. Other families ignore them."""
        layers = zip(self.memory_layers, state.memory, strict=True)
        memory = tuple(layer.set_true_physics(part, truth) for layer, part in layers)
        return replace(state, learned=LearnedState(memory, state.residual))

    @property
    def uses_privileged_state(self) -> bool:
        """Whether it needs the true physics at every step: the oracle."""
        return any(memory.uses_privileged_state for memory in self.memory_layers)

    def update(
        self, state: LifetimeState[Tensor], step: Step[Tensor]
    ) -> tuple[Prediction[Tensor], LifetimeState[Tensor]]:
        """Predict a step of each row before its outcome, then update the states with it."""
        obs_pair = torch.stack([step.obs, step.next_obs], 1)
        told = None if step.truth is None else step.truth[:, None].expand(-1, 2, -1)
        measured = None if step.measured is None else step.measured[:, None]
        predicted, state = self.scan(
            state, obs_pair, step.action[:, None], step.valid[:, None], told, measured
        )
        return Prediction(*(x[:, 0] for x in predicted)), state

    def scan(
        self,
        state: LifetimeState[Tensor],
        obs: Float[Tensor, "B Tplus1 O"],
        action: Float[Tensor, "B T A"],
        valid: Float[Tensor, "B T"],
        truth: Float[Tensor, "B Tplus1 P"] | None = None,
        measured: Float[Tensor, "B T O"] | None = None,
    ) -> tuple[Prediction[Tensor], LifetimeState[Tensor]]:
        """Predict `T` steps of each row and update the states; equals `T` calls of `update`.

        Args:
            action: Actions that reached the motors.
            valid: 0 excludes a step from the memories.
            truth: True physics at each step, for families that use them; see `set_true_physics`.
            measured: 0 for a channel of an outcome that is no evidence, since it or the reading before it is missing.
                There `obs` has the model's own prediction; see `fill_gaps`. None: all are readings.

        Raises:
            ConfigError: If an oracle gets no true physics.
        """
        if truth is None and self.uses_privileged_state:
            raise ConfigError("truth is None; family 'oracle' must be given the true physics at every step")
        if truth is None and action.shape[1] > 1 and self.memory_layers[0].maps_commands:
            return self._scan_each(state, obs, action, valid, measured)
        known = torch.cat([state.recent, action], 1)
        z, h, straight = self.enter(state, obs[:, :-1], self.map_commands(state, known))
        inference = self.memory_layers[0].physics_inference
        if truth is None and inference is not None:
            frozen = None
            if self.frozen is not None:
                frozen, _ = self.frozen.scan(self.make_frozen_state(state), obs, action, valid)
            predicted, inferred = infer_physics(
                self, inference, state, obs, known, h, straight, valid, measured, frozen
            )
            memory: tuple[MemoryState, ...] = (inferred,)
        else:
            told = None if truth is None else truth[:, 1:]
            h, memory = self._scan_memories(state, obs, h, valid, told, measured)
            predicted = self._decode_prediction(*self._predict_latent(z, straight, h, state))
        return predicted, replace(
            state,
            step=state.step + (valid > 0).sum(1),
            recent=known[:, -self.config.recent :],
            learned=LearnedState(memory, state.residual),
        )

    def _scan_each(
        self,
        state: LifetimeState[Tensor],
        obs: Float[Tensor, "B Tplus1 O"],
        action: Float[Tensor, "B T A"],
        valid: Float[Tensor, "B T"],
        measured: Float[Tensor, "B T O"] | None,
    ) -> tuple[Prediction[Tensor], LifetimeState[Tensor]]:
        """Scan step by step: each step may change how the next command acts."""
        found = []
        for t in range(action.shape[1]):
            part = slice(t, t + 1)
            known = None if measured is None else measured[:, part]
            predicted, state = self.scan(
                state, obs[:, t : t + 2], action[:, part], valid[:, part], measured=known
            )
            found.append(predicted)
        return Prediction(*(torch.cat(parts, 1) for parts in zip(*found, strict=True))), state

    def enter(
        self,
        state: LifetimeState[Tensor],
        obs: Float[Tensor, "B T O"],
        acting: Float[Tensor, "B RplusT A"],
    ) -> tuple[Float[Tensor, "B T Z"], Float[Tensor, "B T D"], Float[Tensor, "B T O"]]:
        """Compute latent, first hidden layer and linear change of steps.

        Args:
            acting: Commands that act: the recent ones before the first step, then those of the steps.
        """
        recent = acting.unfold(1, self.config.recent, 1)[:, :-1].transpose(-1, -2)
        z = self.encode(obs, recent)
        last = acting[:, self.config.recent - 1 :]
        given = torch.cat([self.channels.expand(z), last[:, :-1], last[:, 1:]], -1)
        return z, *make_input_layer(self, state).apply(given)

    def map_commands(
        self, state: LifetimeState[Tensor], commands: Float[Tensor, "B *N A"]
    ) -> Float[Tensor, "B *N A"]:
        """Return the commands that act, by the command map in use; the commands themselves without one."""
        command_map = self.memory_layers[0].find_command_map(state.memory[0])
        return commands if command_map is None else self.apply_map(command_map, commands)

    def apply_map(
        self, command_map: Float[Tensor, "B A F"], commands: Float[Tensor, "B *N A"]
    ) -> Float[Tensor, "B *N A"]:
        """Apply a command map; see `wm_robot.memory.command_map`."""
        return apply_command_map(
            command_map, commands, mean=self.action_mean, std=self.action_std, unit=self.command_unit
        )

    @property
    def command_unit(self) -> Float[Tensor, "A"]:
        """Unit of a change of a command: the usual distance of a set-point, or the deviation of a command."""
        return self.action_std.index_copy(0, self.servo_action, self.servo_error_std)

    def _scan_memories(
        self,
        state: LifetimeState[Tensor],
        obs: Tensor,
        h: Tensor,
        valid: Tensor,
        truth: Tensor | None,
        measured: Tensor | None,
    ) -> tuple[Tensor, tuple[MemoryState, ...]]:
        """Compute the last hidden layer of each step, and the memories after all steps."""
        happened, memory = self._encode_outcome(obs[:, :-1], obs[:, 1:], measured), []
        for i, layer in enumerate(self.memory_layers):
            told = truth if layer.outcome_is_physics and truth is not None else happened
            read, written = layer.scan(make_read_state(state, i), self.norms[i](h), told, valid)
            memory.append(written)
            h = self.apply_block(i, h, read)
        return h, tuple(memory)

    def encode(self, obs: Float[Tensor, "*B O"], recent: Float[Tensor, "*B R A"]) -> Float[Tensor, "*B Z"]:
        """Compute the latent of an observation and of the recent actions."""
        y = (obs - self.obs_mean) / self.obs_std
        features = self.channels.expand(y)
        slopes, constant = compute_affine_input(self, features.shape[-1], self.config.recent)
        first, last = cast(nn.Linear, self.context_encoder[0]), self.context_encoder[1:]
        seen = torch.cat([features, recent.flatten(-2)], -1)
        hidden = F.linear(seen, first.weight @ slopes, first.bias + first.weight @ constant)
        return torch.cat([y, last(hidden)], -1)

    def observe(self, state: LifetimeState[Tensor], obs: Float[Tensor, "B O"]) -> Float[Tensor, "B Z"]:
        """Compute the latent of an observation with the recent actions of a state."""
        return self.encode(obs, self.map_commands(state, state.recent))

    def predict(
        self, state: LifetimeState[Tensor], obs: Float[Tensor, "B O"], action: Float[Tensor, "B A"]
    ) -> Prediction[Tensor]:
        """Predict the observation after one action, `B O`. Angles that wrap continue those of `obs`."""
        mean, log_variance = self.imagine(state, self.observe(state, obs), action[:, None, None])
        return Prediction(mean[:, 0, 0], log_variance[:, 0, 0])

    def imagine(
        self, state: LifetimeState[Tensor], z: Float[Tensor, "B Z"], actions: Float[Tensor, "B N H A"]
    ) -> Prediction[Tensor]:
        """Step the latent through `N` plans, without evidence; all plans share the constant `state`.

        Returns:
            Predicted observation after each action, `B N H O`, with the log variance of a single step. Angles that
            wrap continue those of `z`, and may leave [-π, π): a planner needs them smooth.
        """
        own = self._imagine_by_memory(state, z, actions)
        frozen = self.memory_layers[0].find_frozen(state.memory[0])
        # A graph has both branches.
        if frozen is None or self.frozen is None or not (torch.compiler.is_exporting() or frozen.any()):
            return own
        start = self.make_frozen_state(state)
        other = self.frozen.imagine(start, self.frozen.observe(start, self.decode(z)), actions)
        mask = frozen[:, None, None, None]
        return Prediction(*(torch.where(mask, *pair) for pair in zip(other, own, strict=True)))

    def decode(self, z: Float[Tensor, "*B Z"]) -> Float[Tensor, "*B O"]:
        """Compute the observation of a latent."""
        return z[..., : self.config.obs] * self.obs_std + self.obs_mean

    def make_frozen_state(self, state: LifetimeState[Tensor]) -> LifetimeState[Tensor]:
        """Return the state of the frozen network for the recent actions of a state."""
        assert self.frozen is not None
        # One row, expanded: a graph may have any number of rows.
        one = self.frozen.initial_state(initial_action=torch.zeros_like(state.recent[:1, -1]))
        rows = map_values(lambda value: value.expand(state.recent.shape[0], *value.shape[1:]), one)
        return replace(rows, recent=state.recent)

    def _imagine_by_memory(
        self, state: LifetimeState[Tensor], z: Float[Tensor, "B Z"], actions: Float[Tensor, "B N H A"]
    ) -> Prediction[Tensor]:
        """Step through plans by what is in the memories."""
        readers = [
            memory.open_reader(make_read_state(state, i)) for i, memory in enumerate(self.memory_layers)
        ]
        correct = self.memory_layers[0].open_correction(state.memory[0])
        actions, recent = self.map_commands(state, actions), self.map_commands(state, state.recent)
        z = z[:, None].expand(-1, actions.shape[1], -1)
        enter, zs, spreads = make_input_layer(self, state), [], []
        before = recent[:, None, -1].expand(-1, actions.shape[1], -1)
        for action in actions.unbind(2):
            h, straight = enter.apply(torch.cat([self.channels.expand(z), before, action], -1))
            before = action
            for i, read in enumerate(readers):
                query = self.norms[i](h)
                if i == 0 and correct is not None:
                    straight = straight + correct(query)
                h = self.apply_block(i, h, read(query))
            z, spread = self._predict_latent(z, straight, h, state)
            zs.append(z)
            spreads.append(spread)
        return self._decode_prediction(torch.stack(zs, 2), torch.stack(spreads, 2))

    def estimate_physics(self, state: LifetimeState[Tensor]) -> Float[Tensor, "B P"]:
        """Estimate the physics from the state alone: 0 is nominal, a usual deviation is about 1."""
        held = self.memory_layers[0].read_physics(state.memory[0])
        return (
            self.physics_head(concatenate_summaries(self.memory_layers, state.memory))
            if held is None
            else held
        )

    def apply_block(self, layer: int, h: Tensor, read: Tensor) -> Tensor:
        """Add the reading of a memory layer to the hidden layer, then apply the feed-forward block."""
        h = h + read
        return h + self.feed_forward[layer](h)

    def _encode_outcome(self, obs: Tensor, next_obs: Tensor, measured: Tensor | None) -> Tensor:
        y = self.channels.expand((next_obs - self.obs_mean) / self.obs_std)
        change = self.channels.subtract(next_obs, obs) / self.change_std
        given = [y, change]
        if self.config.optional:
            known = torch.ones_like(change) if measured is None else measured
            given.append(known[..., list(self.config.optional)])
        return self.outcome_encoder(torch.cat(given, -1))

    def split_head(self, normalised: Tensor, state: LifetimeState[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the output head for the normalised last layer, `B N D`: nonlinear part of the predicted sensor
        change, its log variance, and the next context before its nonlinearity."""
        assert state.residual is not None, "the state has no residual"
        sensors, last = self.config.obs, state.residual.last
        change, spread, context = self.output_head[1](normalised).split(
            [sensors, sensors, self.config.context], -1
        )
        return change + apply_linear(apply_linear(normalised, last.down), last.up), spread, context

    def _predict_latent(
        self, z: Tensor, straight: Tensor, h: Tensor, state: LifetimeState[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Compute the next latent, and the log variance of its sensors in units of the one-step change."""
        sensors = self.config.obs
        change, spread, context = self.split_head(self.output_head[0](h), state)
        y = torch.addcmul(z[..., :sensors], change + straight, self.change_std / self.obs_std)
        y = self.channels.restore_rotations(y, normalised=True)
        return torch.cat([y, context.tanh()], -1), spread

    def _decode_prediction(self, z: Tensor, spread: Tensor) -> Prediction[Tensor]:
        """Convert a latent to a prediction in sensor units."""
        spread = self.memory_layers[0].adjust_log_variance(spread.clamp(*LOG_VARIANCE_BOUNDS))
        return Prediction(self.decode(z), spread + 2 * self.change_std.log())


def concatenate_summaries(layers: Sequence[Memory], memory: Sequence[MemoryState]) -> Float[Tensor, "B X"]:
    """Concatenate the summaries of all memory layers; see `Memory.summarize`."""
    return torch.cat([layer.summarize(part) for layer, part in zip(layers, memory, strict=True)], 1)
