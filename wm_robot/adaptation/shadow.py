"""A residual on trial, always: two lives of one robot, with it and without, of which the one that expects better is
believed.

A new residual begins in the shadow. It is believed when the last second speaks for it, and given up when that speaks
against it, however it came about: to give it up is to go on as the life that never had it. It may be believed again.
Both lives are part of the state, so that a life that was stopped is judged on as one that was not.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from wm_robot.adaptation.context_bank import Recall, known, unsettled
from wm_robot.errors import ConfigError, check_at_least
from wm_robot.memory.state_arrays import Arrays, beside
from wm_robot.model.backend import Expected, Writes
from wm_robot.model.residual import Value, has_residual

SHADOW, OWN = "shadow.", "trial."


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """When a residual is believed."""

    window: int = 50
    """Steps that are compared: one second at 50 Hz."""
    better: float = 0.95
    """Factor on the squared error without it; what a residual stays below that speaks for it."""
    worse: float = 1.1
    """The same; what it exceeds that speaks against it."""
    evidence: float = 3.0
    """How much either way decides, in predicted variances of a channel: the sum over the window. What is below the
    noise, as in a robot that stands still, decides nothing."""
    clip: float = 16.0
    """Squared error of a channel, in predicted variances, that counts no worse if it is larger."""

    def __post_init__(self) -> None:
        check_at_least(2, self, "window", part="trial")
        if not self.better <= self.worse:
            raise ConfigError(f"trial.better is {self.better}; it must be at most worse, {self.worse}")


class Trial:
    """Lives lives with a residual. Everything it knows is in the state."""

    def __init__(self, lives: Writes, recall: Recall | None = None, config: TrialConfig | None = None):
        """Args:
        lives: What both lives live by: a model or its graphs.
        recall: That of the life that is believed; the one in the shadow recalls nothing.
        """
        self.lives, self.recall, self.config = lives, recall, config or TrialConfig()

    def birth(self, state: Arrays) -> Arrays:
        """The same newborn lives, on trial."""
        batch = len(state["step"])
        count = np.zeros(batch, np.int64)
        own: Arrays = {
            # Of the last steps, with a residual and without; a step that was not seen is none.
            "errors": np.zeros((batch, self.config.window, 2), np.float32),
            "tried": count,
            "believed": count.copy(),
            "given_up": count.copy(),
        }
        return state | _in_shadow(known(state)) | {OWN + name: value for name, value in own.items()}

    def tried(self, state: Arrays, residual: Arrays, chosen: Bool[np.ndarray, "B"]) -> Arrays:
        """The lives that are chosen, with another residual: in the place of the one there is, or in the shadow."""
        main = chosen & has_residual(state)
        shadowed = chosen & ~main
        begun = known(state) | residual
        return _counted(
            state | _where(main, residual, state) | _where(shadowed, _in_shadow(begun), state),
            {"tried": chosen},
            anew=chosen,
        )

    def write(
        self,
        state: Arrays,
        obs: Float[np.ndarray, "B O"],
        action: Float[np.ndarray, "B A"],
        next_obs: Float[np.ndarray, "B O"],
        valid: Float[np.ndarray, "B"],
        truth: np.ndarray | None = None,
    ) -> tuple[Expected, Arrays]:
        """Live one transition, as `WorldModel.write`, with and without a residual; then believe the better one."""
        with_one, other = has_residual(state), shadow_of(state)
        step = obs, action, next_obs, valid
        trying = with_one | has_residual(other)
        if not trying.any():
            predicted, written = self.lives.write(state, *step, truth)
            after = self._recalled(state, predicted, written, *step)
            return predicted, after | _in_shadow(known(after))
        # Both in one call, which takes half as long again as one life; two calls take twice.
        both = {name: np.concatenate([state[name], value]) for name, value in other.items()}
        told = None if truth is None else _twice(truth)
        twice = _twice(obs), _twice(action), _twice(next_obs), _twice(valid)
        foreseen, lived = self.lives.write(both, *twice, told)
        predicted, expected = (Expected(*each) for each in zip(*map(_halves, foreseen), strict=True))
        written, other = (
            dict(zip(lived, each, strict=True)) for each in zip(*map(_halves, lived.values()), strict=True)
        )
        after = self._recalled(state, predicted, written, *step)
        seen = valid > 0
        errors = self._judged(state[OWN + "errors"], predicted, expected, with_one, next_obs, seen)
        given_up, believed = self._decided(errors, with_one, trying & seen)
        changed = given_up | believed
        main, shadow = known(after), known(other)
        # Without a residual both are the same life.
        shadow = _where(trying, shadow, main)
        after |= (
            {OWN + "errors": errors}
            | _where(changed, shadow, main)
            | _in_shadow(_where(changed, main, shadow))
        )
        after = _counted(after, {"given_up": given_up, "believed": believed}, anew=changed)
        return predicted, unsettled(after, changed)

    def _recalled(self, state: Arrays, expected: Expected, written: Arrays, *step: np.ndarray) -> Arrays:
        """The state after a transition, with what the believed life recalls."""
        return self.recall.recalled(state, expected, written, *step) if self.recall else state | written

    def _judged(
        self,
        errors: np.ndarray,
        predicted: Expected,
        expected: Expected,
        with_one: np.ndarray,
        outcome: np.ndarray,
        seen: np.ndarray,
    ) -> Float[np.ndarray, "B W 2"]:
        """The window after a step. Both errors are in the deviations that are predicted without a residual."""
        spread = np.where(with_one[:, None], expected.log_variance, predicted.log_variance)
        clip = np.float32(self.config.clip)
        # A step that was not seen may hold anything.
        with np.errstate(over="ignore", invalid="ignore"):
            squares = [(outcome - each.mean) ** 2 * np.exp(-spread) for each in (predicted, expected)]
            now = np.stack([np.minimum(square, clip).mean(1) for square in squares], 1)
        now = np.where(with_one[:, None], now, now[:, ::-1])
        return np.where(seen[:, None, None], np.concatenate([errors[:, 1:], now[:, None]], 1), errors)

    def _decided(
        self, errors: np.ndarray, with_one: np.ndarray, open_to: np.ndarray
    ) -> tuple[Bool[np.ndarray, "B"], Bool[np.ndarray, "B"]]:
        """Whose residual is given up, and whose is believed."""
        c = self.config
        own, without = errors[..., 0], errors[..., 1]
        # A residual that is never given up: infinity times an error of 0 is NaN, which decides nothing.
        with np.errstate(invalid="ignore"):
            worse = (own - c.worse * without).sum(1) > c.evidence
        better = (c.better * without - own).sum(1) > c.evidence
        return open_to & with_one & worse, open_to & ~with_one & better


def believing(state: Arrays, residual: Arrays) -> Arrays:
    """Lives that believe a residual untried, beside themselves without: what a trial is there to end."""
    shadow = _in_shadow(known(without_one(state)))
    return _counted(state | shadow | residual, {}, anew=np.ones(len(state["step"]), bool))


def shadow_of(state: Mapping[str, Value]) -> dict[str, Value]:
    """The life that is not believed, at the same moment."""
    shadow = {name.removeprefix(SHADOW): value for name, value in state.items() if name.startswith(SHADOW)}
    return shadow | {name: state[name] for name in ("step", "recent")}


def without_one(state: Arrays) -> Arrays:
    """Of both lives the one that never had a residual."""
    own = known(state) | {name: state[name] for name in ("step", "recent")}
    return own | _where(has_residual(state), known(shadow_of(state)), own)


def _in_shadow(state: Arrays) -> Arrays:
    return {SHADOW + name: value for name, value in state.items()}


def _twice(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows, rows])


def _halves(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those of the one life and of the other."""
    half = len(rows) // 2
    return rows[:half], rows[half:]


def _where(chosen: Bool[np.ndarray, "B"], one: Arrays, other: Arrays) -> Arrays:
    """Of lives that are chosen the one, of others the other."""
    # A robot's life is alone. Nothing is copied, since nothing in a state is changed in place.
    if chosen.all():
        return one
    if not chosen.any():
        return {name: other[name] for name in one}
    return {name: np.where(beside(chosen, value), value, other[name]) for name, value in one.items()}


def _counted(state: Arrays, counts: dict[str, np.ndarray], *, anew: Bool[np.ndarray, "B"]) -> Arrays:
    """With what happened counted; of those where it begins anew, nothing is held for or against it."""
    counted = {OWN + name: state[OWN + name] + times for name, times in counts.items()}
    errors = state[OWN + "errors"]
    fresh = {OWN + "errors": np.where(beside(anew, errors), np.float32(0), errors)}
    return state | counted | fresh
