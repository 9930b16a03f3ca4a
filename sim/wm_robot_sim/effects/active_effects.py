"""Active effects: the step effects of a batch, grouped by kind, with their hidden states."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from wm_robot_sim.effects.effect import Effect
from wm_robot_sim.effects.step_effects import STEP_EFFECTS, Motion, StepEffect

if TYPE_CHECKING:
    from wm_robot_sim.plant import Plant

_Key = tuple[int, Effect]


class ActiveEffects:
    """Step effects that are switched on in a batch of robots."""

    def __init__(self, plant: "Plant", num_robots: int):
        self._plant = plant
        self._effects: list[tuple[Effect, ...]] = [()] * num_robots
        self._hidden = dict[_Key, np.ndarray]()
        """Hidden states of effects that are not in a group now."""
        self._groups: list[tuple[StepEffect, np.ndarray, np.ndarray]] | None = []
        """Effects of a kind, their rows, and their hidden states; None: to be made from `_effects`."""

    @property
    def is_empty(self) -> bool:
        return not any(self._effects)

    def set_row(self, row: int, effects: Sequence[Effect]) -> None:
        """Set the effects of a row. Those that stay on keep their hidden states."""
        chosen = tuple(effect for effect in effects if effect.kind in STEP_EFFECTS and effect.strength)
        if chosen != self._effects[row]:
            self._hidden, self._groups = self.save(), None
            self._effects[row] = chosen

    def forget_row(self, row: int) -> None:
        """Let the effects of a row start anew, as where the robot is placed elsewhere."""
        self._hidden, self._groups = {key: value for key, value in self.save().items() if key[0] != row}, None

    def change_step(self, motion: Motion) -> tuple[np.ndarray, np.ndarray]:
        """Return the commands that motors get, `B A`, and the forces on joints, `B J`, in one physics step."""
        if self._groups is None:
            self._groups = self._make_groups(motion)
        command, force = motion.command.copy(), np.zeros_like(motion.position)
        for effect, rows, hidden in self._groups:
            own = _select_rows(motion, rows, command)
            if (changed := effect.change_command(own, hidden)) is not None:
                command[rows] = changed
            if (added := effect.compute_force(own, hidden)) is not None:
                force[rows] += added
        return command, force

    def _make_groups(self, motion: Motion) -> list[tuple[StepEffect, np.ndarray, np.ndarray]]:
        """Group the effects of all rows by kind; those that were not on before start here."""
        groups = []
        for kind, make in STEP_EFFECTS.items():
            found = [
                (row, each) for row, own in enumerate(self._effects) for each in own if each.kind == kind
            ]
            if not found:
                continue
            rows = np.array([row for row, _ in found])
            effect = make(self._plant, [each for _, each in found])
            hidden = effect.start(_select_rows(motion, rows, motion.command))
            for place, key in enumerate(found):
                if key in self._hidden:
                    hidden[place] = self._hidden[key]
            groups.append((effect, rows, hidden))
        return groups

    def save(self) -> dict[_Key, np.ndarray]:
        """Return the hidden state of each effect that is on, by row and effect."""
        found = dict(self._hidden) if self._groups is None else {}
        for effect, rows, hidden in self._groups or ():
            for row, numbers in zip(rows.tolist(), hidden, strict=True):
                found[row, self._find_effect(row, effect)] = numbers.copy()
        return found

    def restore(self, saved: dict[_Key, np.ndarray]) -> None:
        """Continue from the result of `save`, with the same effects."""
        self._hidden, self._groups = {key: value.copy() for key, value in saved.items()}, None

    def copy_rows(self, saved: dict[_Key, np.ndarray], rows: Int[np.ndarray, "B"]) -> None:
        """Continue with the hidden states that rows of another batch have of the same effects; others start here.

        Args:
            saved: Result of `save` of that batch.
            rows: Row of that batch for each robot.
        """
        known: dict[_Key, np.ndarray] = {}
        for row, (source, own) in enumerate(zip(rows.tolist(), self._effects, strict=True)):
            known |= {(row, each): saved[source, each] for each in own if (source, each) in saved}
        if self._groups is None or len(known) < sum(map(len, self._effects)):
            self.restore(known)
            return
        # The effects are the same as before: only their hidden states are set.
        for effect, own_rows, hidden in self._groups:
            for place, row in enumerate(own_rows.tolist()):
                hidden[place] = known[row, self._find_effect(row, effect)]

    def _find_effect(self, row: int, group: StepEffect) -> Effect:
        """Find the effect of a row that is in a group."""
        return next(each for each in self._effects[row] if STEP_EFFECTS[each.kind] is type(group))


def _select_rows(motion: Motion, rows: np.ndarray, command: np.ndarray) -> Motion:
    return Motion(
        motion.position[rows], motion.velocity[rows], command[rows], motion.motor_force[rows], motion.number
    )
