"""A latent dynamics model that reads and writes a lifetime state.

z_t = encode(o_t, recent actions)            latent: the sensors themselves and a learned context
p_t = predict(z_t, a_t, read(S_{t-1}))       next latent, decoded to sensor units with a variance
S_t = write(S_{t-1}, h_t, outcome_t)         predict, then write
imagine: z_{k+1} from (z_k, a_k), S frozen

Beside its memories a state holds a residual of the weights, zero at birth: read here, and never written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wm_robot.errors import ConfigError, check_at_least
from wm_robot.math.linear import linear
from wm_robot.math.pullback import pullback
from wm_robot.memory.baselines import NoMemory, ToldMemory
from wm_robot.memory.ekf import EkfMemory, Sensed
from wm_robot.memory.film import ASIDE, ModulatedRead
from wm_robot.memory.memory import Memory, State
from wm_robot.memory.registry import make_memory
from wm_robot.model.residual import DOWN, FIRST, LAST, READ, UP, no_residual, residual_of, without_residual
from wm_robot.spec import RobotSpec

LOG_VARIANCE = (-7.0, 6.0)
"""Bounds of the predicted log variance, in units of the one-step change. Free variances gave gradient
norms of 5-60."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape of a world model. Stored with its weights; equal config and weights mean an equal base."""

    obs: int
    action: int
    goal: int
    truth: int
    """Numbers of true physics: what `told` is told, `ekf` infers, and `physics` reads off any other state."""
    dt: float
    """Control period, in s."""
    servo: tuple[int, ...]
    """For each action, the observation that it is a set-point for, or -1."""
    memory: str = "ekf"
    """Family of the lifetime state."""
    width: int = 128
    blocks: int = 1
    """Layers of memory."""
    context: int = 32
    """Learned part of the latent."""
    recent: int = 3
    """Actions that may still be on their way to the motors when a plan starts."""
    outcome: int = 64
    """Size of the encoded outcome."""

    def __post_init__(self) -> None:
        check_at_least(
            1, self, "obs", "action", "width", "blocks", "context", "recent", "outcome", part="model"
        )
        if self.memory == "ekf" and self.blocks != 1:
            raise ConfigError(f"model.blocks is {self.blocks}; family 'ekf' has one block")
        if len(self.servo) != self.action:
            raise ConfigError(
                f"model.servo has {len(self.servo)} entries; it needs one for each of {self.action}"
            )

    @classmethod
    def of(cls, spec: RobotSpec, *, goal: int, truth: int, **shape: Any) -> "ModelConfig":
        """The config that fits a robot."""
        column = {name: i for i, name in enumerate(spec.observation_names)}
        servo = tuple(column[f"{a.joint}/position"] if a.unit == "rad" else -1 for a in spec.actuators)
        return cls(
            obs=spec.obs_dim, action=spec.action_dim, goal=goal, truth=truth, dt=spec.dt, servo=servo, **shape
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelConfig":
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)


class Prediction(NamedTuple):
    """What the model expects, in sensor units."""

    mean: Float[Tensor, "*B O"]
    log_variance: Float[Tensor, "*B O"]


class _Entrance(NamedTuple):
    """The first layer of some lives, of what is given to it: that of the base, and beside it their residual."""

    weight: Float[Tensor, "W G"]
    bias: Float[Tensor, "W"]
    down: Float[Tensor, "B R G"]
    down_bias: Float[Tensor, "B R"]
    up: Float[Tensor, "B W R"]

    def of(self, given: Float[Tensor, "B *N G"]) -> Float[Tensor, "B *N W"]:
        """The layer."""
        constant = self.down_bias.unflatten(0, (-1, *[1] * (given.ndim - 2)))
        aside = linear(given, self.down) + constant
        return F.linear(given, self.weight, self.bias) + linear(aside, self.up)


class WorldModel(nn.Module):
    """The base θ: everything that training learns. What a robot learns is in the `State` it reads and writes."""

    obs_mean: Tensor
    obs_std: Tensor
    action_mean: Tensor
    action_std: Tensor
    pull_mean: Tensor
    pull_std: Tensor
    change_std: Tensor
    servo_action: Tensor
    """Indices of the actions that are set-points of a joint's position."""
    servo_obs: Tensor
    """The observation that each of them is for."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = c = config
        servos = [(action, obs) for action, obs in enumerate(c.servo) if obs >= 0]
        for name, part in (("servo_action", 0), ("servo_obs", 1)):
            index = torch.tensor([servo[part] for servo in servos], dtype=torch.int64)
            self.register_buffer(name, index, persistent=False)
        for name, size in (("obs", c.obs), ("action", c.action), ("pull", len(servos))):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))
        self.register_buffer("change_std", torch.ones(c.obs))
        seen = c.obs + c.recent * (c.action + len(servos))
        self.context = nn.Sequential(
            nn.Linear(seen, c.width), nn.SiLU(), nn.Linear(c.width, c.context), nn.Tanh()
        )
        asked = c.obs + c.context + 2 * (c.action + len(servos))
        self.ask = nn.Linear(asked, c.width)
        self.skip = nn.Linear(asked, c.obs, bias=False)
        self.outcome = nn.Sequential(
            nn.Linear(2 * c.obs, c.outcome), nn.SiLU(), nn.Linear(c.outcome, c.outcome)
        )
        told = c.truth if c.memory in ("told", "ekf") else c.outcome
        self.memories = nn.ModuleList(
            make_memory(c.memory, width=c.width, outcome=told, dt=c.dt) for _ in range(c.blocks)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(c.width) for _ in range(c.blocks))
        self.mix = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(c.width), nn.Linear(c.width, c.width), nn.SiLU(), nn.Linear(c.width, c.width)
            )
            for _ in range(c.blocks)
        )
        self.head = nn.Sequential(nn.LayerNorm(c.width), nn.Linear(c.width, 2 * c.obs + c.context))
        if not isinstance(self.memories[0], ToldMemory):
            size = self._summary(self.birth(1, hold=torch.zeros(1, c.action))).shape[1]
            self.physics_head = nn.Linear(size, max(1, c.truth))
        self.reward_head = nn.Sequential(
            nn.Linear(c.obs + c.action + c.goal, c.width),
            nn.SiLU(),
            nn.Linear(c.width, c.width),
            nn.SiLU(),
            nn.Linear(c.width, 1),
        )

    @property
    def _memories(self) -> list[Memory]:
        return cast(list[Memory], list(self.memories))

    # --- the lifetime state ---------------------------------------------------------------------------------

    def birth(self, batch: int, *, hold: Float[Tensor, "B A"], truth: Tensor | None = None) -> State:
        """The state of robots that have lived nothing.

        Args:
            hold: Action in force before the first step.
            truth: True physics, `B P`, for those that listen; see `tell`.
        """
        state = {
            "step": torch.zeros(batch, dtype=torch.int64),
            "recent": hold[:, None].expand(-1, self.config.recent, -1),
        }
        state |= no_residual(self._residual_sizes(), hold)
        for i, memory in enumerate(self._memories):
            state.update(_named(i, memory.birth(batch)))
        return state if truth is None else self.tell(state, truth)

    def _residual_sizes(self) -> dict[str, tuple[int, int]]:
        """Part of a residual → inputs and outputs of the layer that it stands beside."""
        c = self.config
        sizes = {FIRST: (self.ask.in_features, c.width + c.obs), LAST: (c.width, c.obs)}
        for i, memory in enumerate(self._memories):
            reading = getattr(memory, "reading", None)
            if isinstance(reading, ModulatedRead) and not isinstance(memory, NoMemory):
                sizes[f"{READ}.{i}"] = (reading.modulate.in_features, reading.modulate.out_features)
        return sizes

    def tell(self, state: State, truth: Float[Tensor, "B P"]) -> State:
        """The same lives told the true physics. `told` listens, and `ekf`, which is trained so and then infers no
        more; other families do not."""
        for i, memory in enumerate(self._memories):
            if isinstance(memory, ToldMemory):
                own = _named(i, memory.birth(1))
                state = {name: value for name, value in state.items() if name not in own} | {
                    f"{i}.truth": truth
                }
        return state

    @property
    def told(self) -> bool:
        """Whether it knows nothing of its world unless it is told: the oracle."""
        return any(memory.told_truth for memory in self._memories)

    def write(
        self,
        state: State,
        obs: Float[Tensor, "B O"],
        action: Float[Tensor, "B A"],
        next_obs: Float[Tensor, "B O"],
        valid: Float[Tensor, "B"],
        truth: Float[Tensor, "B P"] | None = None,
    ) -> tuple[Prediction, State]:
        """Live one transition; the prediction is what was expected before it was seen."""
        obs_pair = torch.stack([obs, next_obs], 1)
        told = None if truth is None else truth[:, None].expand(-1, 2, -1)
        predicted, state = self.scan(state, obs_pair, action[:, None], valid[:, None], told)
        return Prediction(*(x[:, 0] for x in predicted)), state

    def scan(
        self,
        state: State,
        obs: Float[Tensor, "B Tplus1 O"],
        action: Float[Tensor, "B T A"],
        valid: Float[Tensor, "B T"],
        truth: Float[Tensor, "B Tplus1 P"] | None = None,
    ) -> tuple[Prediction, State]:
        """Live `T` transitions; equals `T` writes.

        Args:
            action: What reached the motors.
            valid: 0 keeps a step out of the memories.
            truth: True physics at each step, for those that listen; see `tell`.

        Raises:
            ConfigError: If an oracle is told nothing.
        """
        if truth is None and self.told:
            raise ConfigError("truth is None; family 'told' must be told the true physics at every step")
        known = torch.cat([state["recent"], action], 1)
        recent = known.unfold(1, self.config.recent, 1)[:, :-1].transpose(-1, -2)
        z = self.encode(obs[:, :-1], recent)
        acted = known[:, self.config.recent - 1 :]
        h, straight = self._entered(self._entrance(state).of(torch.cat([z, acted[:, :-1], acted[:, 1:]], -1)))
        after: State = {
            "step": state["step"] + (valid > 0).sum(1),
            "recent": known[:, -self.config.recent :],
            **residual_of(state),
        }
        if truth is None and isinstance(self.memories[0], EkfMemory):
            predicted, inferred = self._infer(state, obs, h, straight, valid)
            return predicted, after | _named(0, inferred)
        happened = self._outcome(obs[:, :-1], obs[:, 1:])
        for i, memory in enumerate(self._memories):
            told = truth[:, 1:] if isinstance(memory, ToldMemory) and truth is not None else happened
            read, written = memory.scan(_asked(state, i), self.norms[i](h), told, valid)
            after.update(_named(i, written))
            h = self._mixed(i, h, read)
        return self._decode(*self._next(z, straight, h, state)), after

    def merge(self, states: Sequence[State]) -> State:
        """The life of one robot that lived all of these, where the memories can tell it from the states alone.

        It has no residual: that is learned from transitions, and a sum of two is none.

        Raises:
            ConfigError: If they cannot; see `Memory.merge`.
        """
        merged = {
            "step": torch.stack([state["step"] for state in states]).sum(0),
            "recent": states[0]["recent"],
            **residual_of(without_residual(states[0])),
        }
        for i, memory in enumerate(self._memories):
            merged |= _named(i, memory.merge([_part(state, i) for state in states]))
        return merged

    # --- predict and imagine --------------------------------------------------------------------------------

    def encode(self, obs: Float[Tensor, "*B O"], recent: Float[Tensor, "*B R A"]) -> Float[Tensor, "*B Z"]:
        """Latent of what is sensed now and of the actions that may still be on their way."""
        y = (obs - self.obs_mean) / self.obs_std
        slopes, constant = self._affine(y.shape[-1], self.config.recent)
        first, last = cast(nn.Linear, self.context[0]), self.context[1:]
        seen = torch.cat([y, recent.flatten(-2)], -1)
        hidden = F.linear(seen, first.weight @ slopes, first.bias + first.weight @ constant)
        return torch.cat([y, last(hidden)], -1)

    def observe(self, state: State, obs: Float[Tensor, "B O"]) -> Float[Tensor, "B Z"]:
        """Latent at this moment of a life."""
        return self.encode(obs, state["recent"])

    def predict(self, state: State, obs: Float[Tensor, "B O"], action: Float[Tensor, "B A"]) -> Prediction:
        """The observation expected after one action, `B O`."""
        mean, log_variance = self.imagine(state, self.observe(state, obs), action[:, None, None])
        return Prediction(mean[:, 0, 0], log_variance[:, 0, 0])

    def imagine(self, state: State, z: Float[Tensor, "B Z"], actions: Float[Tensor, "B N H A"]) -> Prediction:
        """Follow `N` plans without evidence; `state` is frozen and shared by all of them.

        Returns:
            The observation expected after each action, `B N H O`, with the log variance of a single step.
        """
        readers = [memory.reader(_asked(state, i)) for i, memory in enumerate(self._memories)]
        z = z[:, None].expand(-1, actions.shape[1], -1)
        enter, zs, spreads = self._entrance(state), [], []
        before = state["recent"][:, None, -1].expand(-1, actions.shape[1], -1)
        for action in actions.unbind(2):
            h, straight = self._entered(enter.of(torch.cat([z, before, action], -1)))
            before = action
            for i, read in enumerate(readers):
                h = self._mixed(i, h, read(self.norms[i](h)))
            z, spread = self._next(z, straight, h, state)
            zs.append(z)
            spreads.append(spread)
        return self._decode(torch.stack(zs, 2), torch.stack(spreads, 2))

    def imagine_alone(
        self,
        state: State,
        z: Float[Tensor, "1 Z"],
        actions: Float[Tensor, "1 N H A"],
        *,
        together: int = 128,
    ) -> Float[Tensor, "1 N H O"]:
        """The observations of `imagine` for a single life, with everything that is fixed for it folded into weights.

        For many plans that is much less work: the residual and the units are products of the weights, done once.

        Args:
            together: Plans that are followed side by side, so that their hidden layers stay in the cache.
        """
        c, head = self.config, cast(nn.Linear, self.head[1])
        sensors, unit, plans = c.obs, self.change_std / self.obs_std, actions[0]
        # What is sensed next: itself, what changes straight from what is asked, and what the last layer says.
        rows = torch.cat([torch.ones_like(self.ask.bias), unit])
        entrance, itself = self._entrance(state), torch.eye(sensors)
        weight = entrance.weight * rows[:, None]
        weight = weight + F.pad(itself, (0, weight.shape[1] - sensors, c.width, 0))
        up = entrance.up[0] * rows[:, None]
        enter = torch.addmm(weight, up, entrance.down[0]).mT.contiguous()
        changed = entrance.bias * rows + torch.cat(
            [torch.zeros_like(self.ask.bias), head.bias[:sensors] * unit]
        )
        bias = F.linear(entrance.down_bias, up, changed)[0]
        last = torch.addmm(
            head.weight[:sensors] * unit[:, None], state[LAST + UP][0] * unit[:, None], state[LAST + DOWN][0]
        ).mT.contiguous()
        context = head.weight[2 * sensors :], head.bias[2 * sensors :]
        readers = [memory.reader_alone(_asked(state, i)) for i, memory in enumerate(self._memories)]

        before = state["recent"][0, -1:].expand(len(plans), -1)
        following = []
        for part in torch.cat([before, plans.flatten(1)], 1).split(together):
            y, told = (x.expand(len(part), -1) for x in z.split([sensors, c.context], 1))
            seen = []
            for k in range(plans.shape[1]):
                # The action before it, and its own.
                acted = part[:, k * c.action : (k + 2) * c.action]
                h, straight = torch.addmm(bias, torch.cat([y, told, acted], 1), enter).split(
                    [c.width, sensors], 1
                )
                h = F.silu(h)
                for i, read in enumerate(readers):
                    h = self._mixed(i, h, read(self.norms[i](h)))
                normal = self.head[0](h)
                y, told = torch.addmm(straight, normal, last), F.linear(normal, *context).tanh()
                seen.append(y)
            following.append(torch.cat(seen, 1))
        middle, unit = (x.repeat(plans.shape[1]) for x in (self.obs_mean, self.obs_std))
        return (torch.cat(following) * unit + middle).unflatten(1, (-1, sensors))[None]

    def readable(self, state: State) -> State:
        """The part of a life that `imagine` looks at, without what only a write does."""
        read = {"recent": state["recent"], **residual_of(state)}
        for i, memory in enumerate(self._memories):
            read |= _named(i, memory.readable(_part(state, i)))
        return read

    def sampled(self, state: State, count: int) -> State:
        """`count` states for each life that it may as well be in, `B·count` rows; see `Memory.sampled`."""
        rows: State = {}
        for i, memory in enumerate(self._memories):
            rows |= _named(i, memory.sampled(_part(state, i), count))
        own = {name: state[name] for name in ("step", "recent")} | residual_of(state)
        return rows | {name: value.repeat_interleave(count, 0) for name, value in own.items()}

    def foresee(
        self, state: State, z: Float[Tensor, "B Z"], actions: Float[Tensor, "B H A"], *, samples: int = 8
    ) -> Prediction:
        """Follow one plan, and say how far the world may be from what is expected.

        Args:
            samples: States drawn from what the life may as well be in.

        Returns:
            `B H O`: as `imagine`, but the log variance is that of the whole error at each step: noise added up, and
            what the life does not know. It is as good as the model is; `Calibration` sets it right.
        """
        expected = self.imagine(state, z, actions[:, None])
        mean, noise = expected.mean[:, 0], expected.log_variance[:, 0].exp().cumsum(1)
        plans = actions.repeat_interleave(samples, 0)[:, None]
        others, _ = self.imagine(self.sampled(state, samples), z.repeat_interleave(samples, 0), plans)
        unknown = (others[:, 0].unflatten(0, (-1, samples)) - mean[:, None]).square().mean(1)
        return Prediction(mean, (noise + unknown).log())

    def reward(
        self, next_obs: Float[Tensor, "*B O"], action: Float[Tensor, "*B A"], goal: Float[Tensor, "*B G"]
    ) -> Float[Tensor, "*B"]:
        """Reward that the head expects after a step, for tasks whose reward cannot be computed from sensors."""
        y = (next_obs - self.obs_mean) / self.obs_std
        a = (action - self.action_mean) / self.action_std
        return self.reward_head(torch.cat([y, a, goal], -1))[..., 0]

    def physics(self, state: State) -> Float[Tensor, "B P"]:
        """The true physics as the state alone tells it: 0 is nominal, a usual deviation is about 1."""
        if isinstance(self.memories[0], ToldMemory):
            return state["0.truth"]
        return self.physics_head(self._summary(state))

    def _summary(self, state: State) -> Tensor:
        return torch.cat([m.summary(_part(state, i)) for i, m in enumerate(self._memories)], 1)

    def fit_scales(self, obs: np.ndarray, action: np.ndarray) -> None:
        """Take the units of observation, change and action from data, `B T+1 O` and `B T A`."""
        at = obs[:, :-1]
        pull = action[..., self.servo_action] - at[..., self.servo_obs]
        for name, values in (("obs", at), ("action", action), ("pull", pull)):
            values = values.astype(np.float64)
            getattr(self, f"{name}_mean").copy_(torch.from_numpy(values.mean((0, 1))))
            getattr(self, f"{name}_std").copy_(torch.from_numpy(values.std((0, 1))).clamp_min(1e-4))
        change = np.diff(obs.astype(np.float64), axis=1)
        self.change_std.copy_(torch.from_numpy(change.std((0, 1))).clamp_min(1e-6))

    def fit_prior(self, physics: np.ndarray) -> None:
        """Take from the physics of training worlds, `N P`, what a newborn expects of its own; for `ekf`."""
        for memory in self._memories:
            if isinstance(memory, EkfMemory):
                memory.fit_prior(physics)

    # --- infer ----------------------------------------------------------------------------------------------

    def _infer(
        self, state: State, obs: Tensor, h: Tensor, straight: Tensor, valid: Tensor
    ) -> tuple[Prediction, State]:
        """Live steps one after another, each hypothesis of the physics by its own prediction."""
        memory = cast(EkfMemory, self.memories[0])
        part, age = _part(state, 0), state["step"]
        changes, spreads = [], []
        happened = (obs[:, 1:] - obs[:, :-1]) / self.change_std - straight
        for t in range(h.shape[1]):
            sense = partial(self._sense, state, h[:, t])
            sensed, part = memory.infer(part, age, sense, happened[:, t], valid[:, t])
            age = age + (valid[:, t] > 0)
            # The first is the one that is believed.
            changes.append(sensed.mean[:, 0])
            spreads.append(sensed.log_variance[:, 0])
        change = torch.stack(changes, 1) + straight
        mean = obs[:, :-1] + change * self.change_std
        return Prediction(mean, torch.stack(spreads, 1) + 2 * self.change_std.log()), part

    def _sense(self, state: State, h: Float[Tensor, "B D"], physics: Float[Tensor, "B K P"]) -> Sensed:
        """What physics would expect of the change that is not linear, in units of the one-step change."""
        memory, channels = cast(EkfMemory, self.memories[0]), self.config.obs
        each = h[:, None].expand(-1, physics.shape[1], -1)
        read, to_physics = memory.read_with_slope(physics, self.norms[0](each), _asked(state, 0))
        mixed, to_read = pullback(self.mix[0], each + read)
        normal, to_mixed = pullback(self.head[0], each + read + mixed)
        change, spread, _ = self._told(normal, state)
        weight = cast(Tensor, self.head[1].weight)[:channels] + state[LAST + UP] @ state[LAST + DOWN]
        through = to_mixed(weight.movedim(1, 0)[:, :, None])
        slope = to_physics(through + to_read(through))
        return Sensed(change, spread.clamp(*LOG_VARIANCE), slope.movedim(0, 2))

    # --- inside ---------------------------------------------------------------------------------------------

    def _action_terms(self, action: Tensor) -> Tensor:
        """The action, and for servos the set-point in units of its pull: all that does not depend on the joint."""
        scaled = (action - self.action_mean) / self.action_std
        origin = self.obs_mean[self.servo_obs] + self.pull_mean
        target = action.index_select(-1, self.servo_action)
        return torch.cat([scaled, (target - origin) / self.pull_std], -1)

    def _with_pull(self, y: Tensor, terms: Tensor) -> Tensor:
        """Set-points made relative to where their joints are: how far each servo pulls."""
        if not len(self.servo_obs):
            return terms
        scaled, target = terms.split([self.config.action, len(self.servo_obs)], -1)
        unit = self.obs_std[self.servo_obs] / self.pull_std
        return torch.cat([scaled, target - y.index_select(-1, self.servo_obs) * unit], -1)

    def _affine(self, latent: int, actions: int) -> tuple[Float[Tensor, "I G"], Float[Tensor, "I"]]:
        """What a layer is asked, as an affine map of a latent and some actions: its slopes, and what it is at zero.

        Actions are asked in their own units, and relative to where the joints are.
        """
        c = self.config

        def asked(given: Float[Tensor, "N G"]) -> Float[Tensor, "N I"]:
            z, *each = given.split([latent] + [c.action] * actions, 1)
            return torch.cat([z, *(self._with_pull(z[:, : c.obs], self._action_terms(x)) for x in each)], 1)

        unit = torch.eye(latent + actions * c.action, device=self.obs_mean.device)
        constant = asked(torch.zeros_like(unit[:1]))
        return (asked(unit) - constant).mT, constant[0]

    def _entrance(self, state: State) -> _Entrance:
        """`ask` and `skip` as one map of the latent, the action before and the action now, beside the residual."""
        slopes, constant = self._affine(self.config.obs + self.config.context, 2)
        weight, down = torch.cat([self.ask.weight, self.skip.weight]), state[FIRST + DOWN]
        bias = torch.cat([self.ask.bias, torch.zeros_like(self.obs_mean)])
        return _Entrance(
            weight @ slopes, bias + weight @ constant, down @ slopes, down @ constant, state[FIRST + UP]
        )

    def _entered(self, layer: Tensor) -> tuple[Tensor, Tensor]:
        """The first hidden layer, and the change of the sensors that is linear."""
        h, straight = layer.split([self.config.width, self.config.obs], -1)
        return F.silu(h), straight

    def _mixed(self, block: int, h: Tensor, read: Tensor) -> Tensor:
        """The hidden layer after a block: what its memory said, and what follows from it."""
        h = h + read
        return h + self.mix[block](h)

    def _outcome(self, obs: Tensor, next_obs: Tensor) -> Tensor:
        y = (next_obs - self.obs_mean) / self.obs_std
        return self.outcome(torch.cat([y, (next_obs - obs) / self.change_std], -1))

    def _told(self, normal: Tensor, state: State) -> tuple[Tensor, Tensor, Tensor]:
        """Of the last hidden layer, `B N D`: the change that is not linear, its log variance and the context."""
        sensors = self.config.obs
        change, spread, context = self.head[1](normal).split([sensors, sensors, self.config.context], -1)
        residual = linear(linear(normal, state[LAST + DOWN]), state[LAST + UP])
        return change + residual, spread, context

    def _next(self, z: Tensor, straight: Tensor, h: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """The next latent, and the log variance of its sensors in units of the one-step change."""
        sensors = self.config.obs
        change, spread, context = self._told(self.head[0](h), state)
        y = torch.addcmul(z[..., :sensors], change + straight, self.change_std / self.obs_std)
        return torch.cat([y, context.tanh()], -1), spread

    def _decode(self, z: Tensor, spread: Tensor) -> Prediction:
        """Sensors in their own units."""
        mean = z[..., : self.config.obs] * self.obs_std + self.obs_mean
        return Prediction(mean, spread.clamp(*LOG_VARIANCE) + 2 * self.change_std.log())


def _named(block: int, state: State) -> State:
    return {f"{block}.{name}": value for name, value in state.items()}


def _part(state: State, block: int) -> State:
    prefix = f"{block}."
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _asked(state: State, block: int) -> State:
    """A memory's part of the state as it is read: with what the life adds to the reading."""
    halves = [f"{READ}.{block}{half}" for half in (DOWN, UP)]
    return _part(state, block) | {
        name: state[half] for name, half in zip(ASIDE, halves, strict=True) if half in state
    }
