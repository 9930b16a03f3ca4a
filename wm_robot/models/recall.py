"""Recall: conditions that a life has known are recognised, not learned anew.

Beside its memories a life holds a bank of what it knew in conditions that it settled in. Each of them, and birth,
goes on predicting every step. What has predicted better than the present memories since some step, by enough
evidence, is taken in their place. Source of the test: Page (1954), Biometrika 41.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wm_robot.errors import ConfigError
from wm_robot.lifetime.memory import State
from wm_robot.models.world_model import Prediction

BANK, DRAFT, OWN = "bank.", "draft.", "recall."


@runtime_checkable
class Mind(Protocol):
    """What of a `WorldModel` is needed; its memories are the parts of the state whose names begin with a digit."""

    def birth(self, batch: int, *, hold: Tensor) -> State:
        """See `WorldModel`."""

    def write(self, state: State, *step: Any) -> tuple[Prediction, State]:
        """See `WorldModel`."""

    def observe(self, state: State, obs: Tensor) -> Tensor:
        """See `WorldModel`."""

    def imagine(self, state: State, z: Tensor, actions: Tensor) -> Prediction:
        """See `WorldModel`."""


@dataclass(frozen=True, kw_only=True)
class RecallConfig:
    """How much is remembered, and how sure one must be."""

    slots: int = 8
    """Conditions; the one that was longest unused makes room."""
    evidence: float = 14.0
    """Nats by which a remembered condition must have predicted better, since any step, to be taken soon after an
    alarm or a switch; twice as many in a life that has settled."""
    most: float = 8.0
    """Nats that one step can say for or against: a jolt is no evidence."""
    drift: float = 1.0
    """Nats a step that it must be better by to count at all."""
    noise: float = 3.0
    """Factor on predicted variances: errors of one step after another are alike, and count for fewer."""
    clip: float = 16.0
    """Squared error of a channel, in predicted variances, beyond which it counts no worse."""
    newborn: float = 2.0
    """Factor on `evidence` for birth: who begins anew knows nothing."""
    alarm: float = 10.0
    """Excess of squared errors, in predicted variances, that ends the present condition."""
    expected: float = 2.0
    """Squared error a channel, in predicted variances, that is no excess; four times as much counts no more."""
    settled: int = 24
    """Steps without an alarm after which what is known is remembered, as it was that many steps ago."""
    alike: float = 0.1
    """Part of the way from birth to what is known that a condition may fall short by and still be the same one."""
    changed: float = 0.4
    """The same part, from which on what is known is of another condition than it was of: it moved on unnoticed."""
    informed: float = 1.0
    """Nats a step by which birth must predict worse before that is decided."""

    def __post_init__(self) -> None:
        for name in ("slots", "settled"):
            if getattr(self, name) < 1:
                raise ConfigError(f"recall.{name} is {getattr(self, name)}; it must be at least 1")


class Recall:
    """Lives a model's life with a bank. Everything it knows is in the state."""

    def __init__(self, model: Mind, config: RecallConfig | None = None):
        self.model, self.config = model, config or RecallConfig()

    def birth(self, state: State) -> State:
        """The same newborn lives with an empty bank."""
        c, batch = self.config, len(state["step"])
        bank = {
            BANK + k: v[:, None].expand(-1, c.slots, *v.shape[1:]).clone() for k, v in _known(state).items()
        }
        draft = {DRAFT + k: v.clone() for k, v in _known(state).items()}
        count = torch.zeros(batch, dtype=torch.int64)
        own = {
            # Steps lived when a slot was last believed; -1 while it is empty.
            "used": torch.full((batch, c.slots), -1),
            "now": count - 1,
            "calm": count.clone(),
            "switches": count.clone(),
            "alarms": count.clone(),
            "lead": torch.zeros(batch, c.slots + 1),
            "short": torch.zeros(batch, c.slots + 1),
            "excess": torch.zeros(batch),
        }
        return state | bank | draft | {OWN + name: value for name, value in own.items()}

    def write(
        self,
        state: State,
        obs: Float[Tensor, "B O"],
        action: Float[Tensor, "B A"],
        next_obs: Float[Tensor, "B O"],
        valid: Float[Tensor, "B"],
        truth: Float[Tensor, "B P"] | None = None,
    ) -> tuple[Prediction, State]:
        """Live one transition, as `WorldModel.write`; then recall, or remember."""
        c = self.config
        predicted, after = self.model.write(state, obs, action, next_obs, valid, truth)
        after = state | after
        seen = valid > 0
        own = {name.removeprefix(OWN): value for name, value in state.items() if name.startswith(OWN)}
        held = torch.cat([own["used"] >= 0, torch.ones_like(seen[:, None])], 1)

        now, excess = self._judged(predicted.mean, predicted.log_variance, next_obs)
        # Birth is one more slot, the last.
        born = _known(self.model.birth(len(obs), hold=action))
        bank = {name: torch.cat([state[BANK + name], value[:, None]], 1) for name, value in born.items()}
        others, _ = self._judged(*self._expected(state, bank, obs, action), next_obs[:, None])
        gain = torch.where(seen[:, None] & held, others - now[:, None], 0.0)
        told = gain.clamp(-c.most, c.most) - c.drift * seen[:, None]
        lead = torch.where(held, (own["lead"] + told).clamp_min(0), 0.0)
        short = torch.where(seen[:, None], own["short"] + (-gain - own["short"]) / c.settled, own["short"])
        excess = excess.clamp_max(4 * c.expected) - c.expected
        excess = torch.where(seen, (own["excess"] + excess).clamp_min(0), own["excess"])

        alarmed = seen & (excess > c.alarm)
        needed = torch.full_like(lead, c.evidence)
        needed[:, -1] *= c.newborn
        needed = torch.where(alarmed | (own["calm"] < c.settled), 1.0, 2.0)[:, None] * needed
        ahead, best = (lead - needed).max(1)
        switched = seen & (ahead > 0)
        if switched.any():
            rows = torch.arange(len(best))
            after |= {
                name: torch.where(_rows(switched, after[name]), value[rows, best], after[name])
                for name, value in bank.items()
            }
        broken = switched | alarmed
        present = torch.where(alarmed, -1, own["now"])
        after |= {
            OWN + "now": torch.where(switched, torch.where(best == c.slots, -1, best), present),
            OWN + "lead": torch.where(switched[:, None], 0.0, lead),
            OWN + "short": torch.where(broken[:, None], 0.0, short),
            OWN + "excess": torch.where(broken, 0.0, excess),
            OWN + "calm": torch.where(broken, 0, own["calm"] + seen),
            OWN + "switches": own["switches"] + switched,
            OWN + "alarms": own["alarms"] + alarmed,
        }
        return predicted, self._remember(after, seen)

    def _remember(self, state: State, seen: Bool[Tensor, "B"]) -> State:
        """After every `settled` calm steps: the draft goes to the bank, and what is known now is the next draft."""
        c = self.config
        calm, used, now = (state[OWN + name] for name in ("calm", "used", "now"))
        due = seen & (calm % c.settled == 0)
        if not due.any():
            return state
        mature = due & (calm >= 2 * c.settled)
        slot = self._place(state)
        at = mature[:, None] & (torch.arange(c.slots) == slot[:, None])
        bank = {
            BANK + name: torch.where(
                _rows(at, state[BANK + name]), state[DRAFT + name][:, None], state[BANK + name]
            )
            for name in _known(state)
        }
        draft = {
            DRAFT + name: torch.where(_rows(due, value), value, state[DRAFT + name])
            for name, value in _known(state).items()
        }
        return (
            state
            | bank
            | draft
            | {
                OWN + "used": torch.where(at, state["step"][:, None], used),
                OWN + "now": torch.where(mature, slot, now),
                # What was held against it was of what it held before.
                OWN + "short": torch.where(_padded(at), 0.0, state[OWN + "short"]),
            }
        )

    def _place(self, state: State) -> Tensor:
        """Slot `B` of what is known: the present condition's, that of one like it, an empty or the longest unused."""
        c = self.config
        short, used, now = (state[OWN + name] for name in ("short", "used", "now"))
        slots, birth = short[:, :-1], short[:, -1:]
        informed = birth > c.informed
        same = (used >= 0) & informed & (slots < c.alike * birth)
        other = torch.where(same.any(1), torch.where(same, slots, torch.inf).argmin(1), used.argmin(1))
        present = now.clamp_min(0)[:, None]
        moved = informed & (slots.gather(1, present) > c.changed * birth)
        return torch.where((now >= 0) & ~moved[:, 0], present[:, 0], other)

    def _expected(
        self, state: State, bank: State, obs: Float[Tensor, "B O"], action: Float[Tensor, "B A"]
    ) -> tuple[Tensor, Tensor]:
        """What every slot of a bank expects of this step: mean and log variance, `B N O`."""
        count = self.config.slots + 1

        def each(x: Tensor) -> Tensor:
            return x[:, None].expand(-1, count, *x.shape[1:]).flatten(0, 1)

        several = {name: value.flatten(0, 1) for name, value in bank.items()}
        z, recent = self.model.observe(state, obs), {"recent": each(state["recent"])}
        expected = self.model.imagine(several | recent, each(z), each(action)[:, None, None])
        mean, log_variance = (x[:, 0, 0].unflatten(0, (-1, count)) for x in expected)
        return mean, log_variance

    def _judged(
        self, mean: Float[Tensor, "*B O"], log_variance: Float[Tensor, "*B O"], outcome: Tensor
    ) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B"]]:
        """Log-likelihood of an outcome in nats, and squared error a channel; no channel counts beyond `clip`."""
        square = ((outcome - mean).square() * torch.exp(-log_variance)).clamp_max(self.config.clip)
        return -0.5 * (square / self.config.noise + log_variance).sum(-1), square.mean(-1)


def _known(state: State) -> State:
    """The memories of a state: what it has learned."""
    return {name: value for name, value in state.items() if name[0].isdigit()}


def _padded(slots: Tensor) -> Tensor:
    """With a place for birth after the slots, which is not chosen."""
    return torch.cat([slots, torch.zeros_like(slots[:, :1])], 1)


def _rows(chosen: Tensor, like: Tensor) -> Tensor:
    return chosen.view(*chosen.shape, *[1] * (like.ndim - chosen.ndim))
