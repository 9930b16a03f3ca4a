"""Shadow evaluation: updates two learned states of one robot, with and without a residual, and uses the better one.

A new residual starts in the shadow. It is accepted when it predicted the last second better, and rejected when it
predicted that worse. After a rejection the robot continues with the state that never had the residual. A rejected
residual may be accepted later. Both states are part of the lifetime state, so that a resumed evaluation equals one
that was never stopped.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from wm_robot.adaptation.context_bank import (
    ContextBank,
    Tree,
    average_measured,
    choose_rows,
    mark_unsettled,
)
from wm_robot.errors import ConfigError, check_at_least
from wm_robot.memory.lifetime_state import LifetimeState, Residual, ShadowState, map_values
from wm_robot.memory.state_arrays import ArrayState, expand_array_like
from wm_robot.model.backend import ModelBackend, Prediction
from wm_robot.model.residual import has_residual
from wm_robot.types import Step


@dataclass(frozen=True, kw_only=True)
class ShadowConfig:
    """Config of the acceptance and rejection of a residual."""

    window: int = 50
    """Steps that are compared: one second at 50 Hz."""
    accept_factor: float = 0.95
    """Factor on the squared error without a residual; an error below that is evidence for the residual."""
    reject_factor: float = 1.1
    """The same; an error above that is evidence against the residual."""
    decision_threshold: float = 3.0
    """Threshold of the evidence summed over the window, in predicted variances of a channel. Errors below the noise,
    as in a robot at rest, decide nothing."""
    clip: float = 16.0
    """Upper bound of the squared error of a channel, in predicted variances."""

    def __post_init__(self) -> None:
        check_at_least(2, self, "window", section="shadow")
        if not self.accept_factor <= self.reject_factor:
            raise ConfigError(
                f"shadow.accept_factor is {self.accept_factor}; it must be at most reject_factor, "
                f"{self.reject_factor}"
            )


class ShadowEvaluation:
    """Model backend around another one that updates states with and without a residual."""

    def __init__(
        self,
        backend: ModelBackend[np.ndarray],
        context_bank: ContextBank | None = None,
        config: ShadowConfig | None = None,
    ):
        """Args:
        backend: Updates both states: torch or ONNX.
        context_bank: Context bank of the state in use; the one in the shadow has none.
        """
        self.backend, self.context_bank, self.config = backend, context_bank, config or ShadowConfig()

    def initial_state(self, *, initial_action: np.ndarray, truth: np.ndarray | None = None) -> ArrayState:
        """Return the initial state with a shadow; see `ModelBackend.initial_state`."""
        return self.add_shadow(
            (self.context_bank or self.backend).initial_state(initial_action=initial_action, truth=truth)
        )

    def predict(self, state: ArrayState, obs: np.ndarray, action: np.ndarray) -> Prediction[np.ndarray]:
        return self.backend.predict(state, obs, action)

    def add_shadow(self, state: ArrayState) -> ArrayState:
        """Return the same initial state with a shadow equal to it."""
        batch = len(state.step)
        count = np.zeros(batch, np.int64)
        # Errors of the last steps; an invalid step adds none.
        errors = np.zeros((batch, self.config.window, 2), np.float32)
        shadow = ShadowState(state.learned, errors, count, count.copy(), count.copy())
        return replace(state, shadow=shadow)

    def start_evaluation(
        self, state: ArrayState, residual: Residual[np.ndarray], row_mask: Bool[np.ndarray, "B"]
    ) -> ArrayState:
        """Start the evaluation of a residual in some rows: in place of the one in use, or in the shadow."""
        main = row_mask & has_residual(state)
        begun, shadow = replace(state.learned, residual=residual), get_shadow(state)
        state = state.with_residual(_select_rows(main, residual, state.residual))
        shadow = replace(
            _increment_counters(shadow, offered=row_mask, restarts=row_mask),
            learned=_select_rows(row_mask & ~main, begun, shadow.learned),
        )
        return replace(state, shadow=shadow)

    def update(self, state: ArrayState, step: Step[np.ndarray]) -> tuple[Prediction[np.ndarray], ArrayState]:
        """Update as `ModelBackend.update`, with and without a residual; then use the better state."""
        shadow, other = get_shadow(state), get_unused_state(state)
        with_one, seen = has_residual(state), step.valid > 0
        trying = with_one | has_residual(other)
        if not trying.any():
            predicted, written = self.backend.update(state, step)
            after = self._update_context_bank(state, predicted, written, step)
            return predicted, replace(after, shadow=replace(shadow, learned=after.learned))
        # Both in one call, which takes 1.5 times as long as one state; two calls take twice as long.
        both = map_values(lambda *rows: np.concatenate(rows), state.model_part(), other)
        found = self.backend.update(both, map_values(_repeat_rows, step))
        (predicted, written), (expected, other) = (
            map_values(half, found) for half in (_first_half, _second_half)
        )
        written = replace(state, step=written.step, recent=written.recent, learned=written.learned)
        after = self._update_context_bank(state, predicted, written, step)
        errors = self._update_errors(shadow.errors, predicted, expected, with_one, step)
        given_up, believed = self._decide(errors, with_one, trying & seen)
        changed = given_up | believed
        main = after.learned
        # Without a residual both states are equal.
        side = _select_rows(trying, other.learned, main)
        shadow = replace(shadow, learned=_select_rows(changed, main, side), errors=errors)
        shadow = _increment_counters(shadow, rejected=given_up, accepted=believed, restarts=changed)
        after = replace(after, learned=_select_rows(changed, side, main), shadow=shadow)
        return predicted, mark_unsettled(after, changed)

    def _update_context_bank(
        self,
        state: ArrayState,
        prediction: Prediction[np.ndarray],
        updated: ArrayState,
        step: Step[np.ndarray],
    ) -> ArrayState:
        """Update the context bank of the state in use after a step."""
        return (
            self.context_bank.update_bank(state, prediction, updated, step) if self.context_bank else updated
        )

    def _update_errors(
        self,
        errors: np.ndarray,
        prediction: Prediction[np.ndarray],
        shadow_prediction: Prediction[np.ndarray],
        uses_residual: np.ndarray,
        step: Step[np.ndarray],
    ) -> Float[np.ndarray, "B W 2"]:
        """Append the errors of a step to the window. Both are scaled by the deviation without a residual."""
        spread = np.where(uses_residual[:, None], shadow_prediction.log_variance, prediction.log_variance)
        clip = np.float32(self.config.clip)
        # An invalid step may contain any value.
        with np.errstate(over="ignore", invalid="ignore"):
            squares = [
                np.minimum((step.next_obs - each.mean) ** 2 * np.exp(-spread), clip)
                for each in (prediction, shadow_prediction)
            ]
        known = step.measured
        now = np.stack([x.mean(1) if known is None else average_measured(x, known) for x in squares], 1)
        now = np.where(uses_residual[:, None], now, now[:, ::-1])
        is_valid = step.valid > 0
        return np.where(is_valid[:, None, None], np.concatenate([errors[:, 1:], now[:, None]], 1), errors)

    def _decide(
        self, errors: np.ndarray, uses_residual: np.ndarray, is_open: np.ndarray
    ) -> tuple[Bool[np.ndarray, "B"], Bool[np.ndarray, "B"]]:
        """Return the rows whose residual is rejected, and those whose residual is accepted."""
        c = self.config
        own, without = errors[..., 0], errors[..., 1]
        # An infinite `reject_factor` rejects nothing: infinity times an error of 0 is NaN, which decides nothing.
        with np.errstate(invalid="ignore"):
            worse = (own - c.reject_factor * without).sum(1) > c.decision_threshold
        better = (c.accept_factor * without - own).sum(1) > c.decision_threshold
        return is_open & uses_residual & worse, is_open & ~uses_residual & better


def use_without_evaluation(state: ArrayState, residual: Residual[np.ndarray]) -> ArrayState:
    """Use a residual without an evaluation; the shadow is the state without one."""
    shadow = replace(get_shadow(state), learned=get_residual_free_state(state).learned)
    shadow = _increment_counters(shadow, restarts=np.ones(len(state.step), bool))
    return replace(state.with_residual(residual), shadow=shadow)


def get_shadow(state: ArrayState) -> ShadowState[np.ndarray]:
    """Return the shadow of a state that has one."""
    assert state.shadow is not None, "the state has no shadow"
    return state.shadow


def get_unused_state(state: ArrayState) -> ArrayState:
    """Return the state that is not in use, at the same moment."""
    return LifetimeState(state.step, state.recent, get_shadow(state).learned)


def get_residual_free_state(state: ArrayState) -> ArrayState:
    """Return the state that never had a residual."""
    learned = _select_rows(has_residual(state), get_shadow(state).learned, state.learned)
    return LifetimeState(state.step, state.recent, learned)


def _repeat_rows(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows, rows])


def _first_half(rows: np.ndarray) -> np.ndarray:
    """Return the first half of the rows."""
    return rows[: len(rows) // 2]


def _second_half(rows: np.ndarray) -> np.ndarray:
    """Return the second half of the rows."""
    return rows[len(rows) // 2 :]


def _select_rows(chosen: Bool[np.ndarray, "B"], one: Tree, other: Tree) -> Tree:
    """Select `one` in the rows of a mask, `other` elsewhere."""
    # A robot has a single row. Nothing is copied, since nothing in a state is changed in place.
    if chosen.all():
        return one
    return choose_rows(chosen, one, other) if chosen.any() else other


def _increment_counters(
    shadow: ShadowState[np.ndarray], *, restarts: Bool[np.ndarray, "B"], **counts: Bool[np.ndarray, "B"]
) -> ShadowState[np.ndarray]:
    """Increment the counters, and clear the error window of rows whose evaluation restarts."""
    errors = np.where(expand_array_like(restarts, shadow.errors), np.float32(0), shadow.errors)
    counted = {name: getattr(shadow, name) + times for name, times in counts.items()}
    return replace(shadow, errors=errors, **counted)
