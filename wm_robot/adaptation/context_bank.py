"""Recall: conditions that a life has known are recognised, not learned anew.

Beside its memories a life holds a bank of what it knew in conditions that it settled in. Each of them, and birth,
goes on predicting every step. What has predicted better than the present memories since some step, by enough
evidence, is taken in their place. Source of the test: Page (1954), Biometrika 41.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from wm_robot.errors import check_at_least
from wm_robot.memory.state_arrays import Arrays, beside
from wm_robot.model.backend import Expected, Lives
from wm_robot.model.residual import PREFIX, Value

BANK, DRAFT, OWN = "bank.", "draft.", "recall."


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
        check_at_least(1, self, "slots", "settled", part="recall")


class Recall:
    """Lives a life with a bank. Everything it knows is in the state."""

    def __init__(self, lives: Lives, config: RecallConfig | None = None):
        self.lives, self.config = lives, config or RecallConfig()

    def birth(self, state: Arrays) -> Arrays:
        """The same newborn lives with an empty bank."""
        c, batch = self.config, len(state["step"])
        # Birth is one more slot, the last, and is never written.
        bank = {BANK + k: np.repeat(v[:, None], c.slots + 1, 1) for k, v in known(state).items()}
        draft = {DRAFT + k: v.copy() for k, v in known(state).items()}
        count = np.zeros(batch, np.int64)
        own = {
            # Steps lived when a slot was last believed; -1 while it is empty.
            "used": np.full((batch, c.slots), -1),
            "now": count - 1,
            "calm": count.copy(),
            "switches": count.copy(),
            "alarms": count.copy(),
            "lead": np.zeros((batch, c.slots + 1), np.float32),
            "short": np.zeros((batch, c.slots + 1), np.float32),
            "excess": np.zeros(batch, np.float32),
        }
        return state | bank | draft | {OWN + name: value for name, value in own.items()}

    def write(
        self,
        state: Arrays,
        obs: Float[np.ndarray, "B O"],
        action: Float[np.ndarray, "B A"],
        next_obs: Float[np.ndarray, "B O"],
        valid: Float[np.ndarray, "B"],
        truth: Float[np.ndarray, "B P"] | None = None,
    ) -> tuple[Expected, Arrays]:
        """Live one transition, as `WorldModel.write`; then recall, or remember."""
        expected, written = self.lives.write(state, obs, action, next_obs, valid, truth)
        return expected, self.recalled(state, expected, written, obs, action, next_obs, valid)

    def recalled(
        self,
        state: Arrays,
        expected: Expected,
        written: Arrays,
        obs: Float[np.ndarray, "B O"],
        action: Float[np.ndarray, "B A"],
        next_obs: Float[np.ndarray, "B O"],
        valid: Float[np.ndarray, "B"],
    ) -> Arrays:
        """The state after a transition that was lived: recall, or remember.

        Args:
            state: Before it.
            expected: What `write` gives of it, as `written` is.
        """
        after = state | written
        slots = self._expected(state, obs, action)
        # One call: of so few numbers, many take no longer than one.
        mean, log_variance = (
            np.concatenate([now[:, None], each], 1) for now, each in zip(expected, slots, strict=True)
        )
        likelihood, misfits = self._judged(mean, log_variance, next_obs[:, None])
        now, others, misfit = likelihood[:, 0], likelihood[:, 1:], misfits[:, 0]
        own = {name.removeprefix(OWN): x for name, x in state.items() if name.startswith(OWN)}
        own, switched, best = self._weighed(own, valid > 0, now, others, misfit)
        after |= {OWN + name: value for name, value in own.items()}
        if switched.any():
            rows = np.arange(len(best))
            after |= {
                name: np.where(beside(switched, value), state[BANK + name][rows, best], value)
                for name, value in known(after).items()
            }
        return self._remember(after, valid > 0)

    def anew(self, state: Arrays) -> Arrays:
        """A life with all that it remembers, that knows of where it is now no more than at birth: in another body."""
        born = {name: state[BANK + name][:, -1] for name in known(state)}
        drafts = {DRAFT + name: value for name, value in born.items()}
        return _all_unsettled(state) | {OWN + "now": np.full_like(state[OWN + "now"], -1)} | born | drafts

    def back(self, state: Arrays, before: Arrays) -> Arrays:
        """A life that was somewhere else, in the condition that it knew before, with all that it remembers.

        What it has just settled in is remembered too.
        """
        c = self.config
        state = self._kept(state, state[OWN + "calm"] >= c.settled, self._place(state))
        now = before[OWN + "now"]
        slot = np.maximum(now, 0)[:, None]
        then, since = (np.take_along_axis(each[OWN + "used"], slot, 1) for each in (before, state))
        return (
            _all_unsettled(state)
            | {OWN + "now": np.where((since != then)[:, 0], -1, now)}
            | known(before)
            | {name: value for name, value in before.items() if name.startswith(DRAFT)}
        )

    def merge(self, life: Arrays, states: Sequence[Arrays]) -> Arrays:
        """A merged life with a bank of what any of these remember, the last used first."""
        c, born = self.config, self.birth(life)
        used = np.concatenate([state[OWN + "used"] for state in states], 1)
        ages = np.concatenate([state["step"][:, None] - state[OWN + "used"] for state in states], 1)
        oldest = np.iinfo(ages.dtype).max
        chosen = np.where(used >= 0, ages, oldest).argsort(axis=1, kind="stable")[:, : c.slots]
        held = np.take_along_axis(used, chosen, 1) >= 0
        rows = np.arange(len(chosen))[:, None]
        bank = {}
        for name in known(life):
            slots = np.concatenate([state[BANK + name][:, :-1] for state in states], 1)[rows, chosen]
            bank[BANK + name] = np.concatenate([slots, states[0][BANK + name][:, -1:]], 1)
        since = life["step"][:, None] - np.take_along_axis(ages, chosen, 1)
        return born | bank | {OWN + "used": np.where(held, since, -1)}

    def _weighed(
        self,
        own: dict[str, np.ndarray],
        seen: Bool[np.ndarray, "B"],
        now: Float[np.ndarray, "B"],
        others: Float[np.ndarray, "B N1"],
        misfit: Float[np.ndarray, "B"],
    ) -> tuple[dict[str, np.ndarray], Bool[np.ndarray, "B"], Int[np.ndarray, "B"]]:
        """The evidence after a step.

        Args:
            now: Log-likelihood of the step by the present memories.
            others: By every slot, and last by birth.
            misfit: Squared error a channel by the present memories.

        Returns:
            The evidence, which lives take a slot in place of their memories, and which slot.
        """
        c, each = self.config, seen[:, None]
        held = _padded(own["used"] >= 0, True)
        # A step that is not seen may hold anything.
        gain = np.where(each & held, others - now[:, None], np.float32(0))
        lead = np.maximum(own["lead"] + gain.clip(-c.most, c.most) - np.float32(c.drift) * each, 0) * held
        short = np.where(each, own["short"] + (-gain - own["short"]) / np.float32(c.settled), own["short"])
        more = np.minimum(misfit, 4 * c.expected) - np.float32(c.expected)
        excess = np.where(seen, np.maximum(own["excess"] + more, 0), own["excess"])

        alarmed = seen & (excess > c.alarm)
        settled = ~alarmed & (own["calm"] >= c.settled)
        needed = np.full(lead.shape[1], c.evidence, np.float32)
        needed[-1] *= c.newborn
        ahead = lead - needed * (1 + settled[:, None])
        best = ahead.argmax(1)
        switched = seen & (ahead.max(1) > 0)
        broken = switched | alarmed
        believed = np.where(best == c.slots, -1, best)
        after = {
            "used": own["used"],
            "now": np.where(switched, believed, np.where(alarmed, -1, own["now"])),
            "calm": np.where(broken, 0, own["calm"] + seen),
            "switches": own["switches"] + switched,
            "alarms": own["alarms"] + alarmed,
            "lead": np.where(switched[:, None], np.float32(0), lead),
            "short": np.where(broken[:, None], np.float32(0), short),
            "excess": np.where(broken, np.float32(0), excess),
        }
        return after, switched, best

    def _remember(self, state: Arrays, seen: Bool[np.ndarray, "B"]) -> Arrays:
        """After every `settled` calm steps: the draft goes to the bank, and what is known now is the next draft."""
        c = self.config
        calm = state[OWN + "calm"]
        due = seen & (calm % c.settled == 0)
        if not due.any():
            return state
        kept = self._kept(state, due & (calm >= 2 * c.settled), self._place(state))
        draft = {
            DRAFT + name: np.where(beside(due, value), value, state[DRAFT + name])
            for name, value in known(state).items()
        }
        return kept | draft

    def _kept(self, state: Arrays, mature: Bool[np.ndarray, "B"], slot: Int[np.ndarray, "B"]) -> Arrays:
        """The draft in its slot, for those whose draft is mature."""
        at = mature[:, None] & (np.arange(self.config.slots) == slot[:, None])
        chosen = _padded(at, False)
        bank = {
            BANK + name: np.where(beside(chosen, held), state[DRAFT + name][:, None], held)
            for name, held in ((name, state[BANK + name]) for name in known(state))
        }
        used, now, short = (state[OWN + name] for name in ("used", "now", "short"))
        return (
            state
            | bank
            | {
                OWN + "used": np.where(at, state["step"][:, None], used),
                OWN + "now": np.where(mature, slot, now),
                # What was held against it was of what it held before.
                OWN + "short": np.where(chosen, np.float32(0), short),
            }
        )

    def _place(self, state: Arrays) -> Int[np.ndarray, "B"]:
        """Slot `B` of what is known: the present condition's, that of one like it, an empty or the longest unused."""
        c = self.config
        short, used, now = (state[OWN + name] for name in ("short", "used", "now"))
        slots, birth = short[:, :-1], short[:, -1:]
        informed = birth > c.informed
        same = (used >= 0) & informed & (slots < np.float32(c.alike) * birth)
        other = np.where(same.any(1), np.where(same, slots, np.inf).argmin(1), used.argmin(1))
        present = np.maximum(now, 0)[:, None]
        moved = informed & (np.take_along_axis(slots, present, 1) > np.float32(c.changed) * birth)
        return np.where((now >= 0) & ~moved[:, 0], present[:, 0], other)

    def _expected(
        self, state: Arrays, obs: Float[np.ndarray, "B O"], action: Float[np.ndarray, "B A"]
    ) -> Expected:
        """What every slot of the bank expects of this step: mean and log variance, `B N+1 O`."""
        count = self.config.slots + 1

        def each(x: np.ndarray) -> np.ndarray:
            return np.repeat(x, count, 0)

        held = ((name, state[BANK + name]) for name in known(state))
        several = {name: value.reshape(-1, *value.shape[2:]) for name, value in held}
        kept = {name: each(state[name]) for name in ("step", "recent")}
        expected = self.lives.predict(several | kept, each(obs), each(action))
        return Expected(*(x.reshape(-1, count, x.shape[-1]) for x in expected))

    def _judged(
        self,
        mean: Float[np.ndarray, "*B O"],
        log_variance: Float[np.ndarray, "*B O"],
        outcome: np.ndarray,
    ) -> tuple[Float[np.ndarray, "*B"], Float[np.ndarray, "*B"]]:
        """Log-likelihood of an outcome in nats, and squared error a channel; no channel counts beyond `clip`."""
        # A step that is not seen may hold anything.
        with np.errstate(over="ignore", invalid="ignore"):
            square = np.minimum((outcome - mean) ** 2 * np.exp(-log_variance), np.float32(self.config.clip))
        likelihood = np.float32(-0.5) * (square / np.float32(self.config.noise) + log_variance).sum(-1)
        return likelihood, square.mean(-1)


def has_bank(state: Mapping[str, Any]) -> bool:
    """Whether a life remembers conditions."""
    return OWN + "used" in state


def unsettled(state: Arrays, changed: Bool[np.ndarray, "B"]) -> Arrays:
    """Lives of which some were changed from outside: nothing of that is remembered before it has settled."""
    if not has_bank(state) or not changed.any():
        return state
    broken = {name: state[OWN + name] for name in ("calm", "lead", "short", "excess")}
    return state | {
        OWN + name: np.where(beside(changed, value), np.zeros_like(value), value)
        for name, value in broken.items()
    }


def _all_unsettled(state: Arrays) -> Arrays:
    return unsettled(state, np.ones(len(state["step"]), bool))


def known(state: Mapping[str, Value]) -> dict[str, Value]:
    """What it has learned: its memories, whose names begin with a digit, and the residual they were lived with."""
    return {name: value for name, value in state.items() if name[0].isdigit() or name.startswith(PREFIX)}


def _padded(slots: Bool[np.ndarray, "B N"], birth: bool) -> Bool[np.ndarray, "B N1"]:
    """With birth after the slots."""
    return np.concatenate([slots, np.full((len(slots), 1), birth)], 1)
