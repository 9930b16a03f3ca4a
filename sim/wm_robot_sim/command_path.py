"""Command path: what a world makes of the actions of robots on their way to the motors."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from wm_robot_sim.signal_changes import SignalChanges
from wm_robot_sim.standins.encoder import quantize

if TYPE_CHECKING:
    from wm_robot_sim.plant import Plant


class CommandPath:
    """Command path of `B` robots: delay, mirror, scale, mixing and offset of each."""

    def __init__(self, plant: "Plant", num_robots: int):
        spec = plant.spec
        motors = spec.action_dim
        self._substeps = plant.substeps
        self._added_delay = plant.added_delay
        self._history_steps = -(-(plant.longest_delay[0] + self._added_delay) // plant.substeps) + 1
        self._row_index = np.arange(num_robots)[:, None]
        middle = (spec.action_low.astype(np.float64) + spec.action_high) / 2
        self._mirror_center = np.where([each.is_servo for each in spec.actuators], middle, 0.0)
        """Command that a reversed motor leaves unchanged, `A`: the middle of a servo's range, and zero of a motor."""
        self._scale = np.ones((num_robots, 1, motors))
        self._offset = np.zeros((num_robots, 1, motors))
        self._mixing = np.tile(np.eye(motors), (num_robots, 1, 1))
        self._delay = np.zeros((num_robots, 1, motors), int)
        self._step = plant.parts.encoder.command_step if plant.parts else None
        """Resolution of the commands, `A`; None: any number."""
        self._play = np.zeros((num_robots, motors))
        self.set_points = np.full((num_robots, motors), np.nan)
        """Set-points of servos with play, `B A`; NaN: that of the next command."""
        self._has_own_delays = self._has_offsets = self._has_mixing = self._has_play = False
        self.actions = np.zeros((num_robots, self._history_steps, motors), np.float32)
        """Last applied actions, `B T A`, as many as the longest delay needs."""

    def set_row(self, row: int, changes: SignalChanges) -> None:
        """Set what the world of a row changes; call `finish_rows` after the last."""
        self._scale[row, 0], self._offset[row, 0] = changes.scale, changes.offset
        self._delay[row, 0], self._mixing[row] = changes.delay + self._added_delay, changes.mixing
        self._play[row] = changes.play if len(changes.play) else 0.0

    def finish_rows(self) -> None:
        # Motors of one robot usually share their delay, which takes half the time.
        self._has_own_delays = bool((self._delay != self._delay[:, :, :1]).any())
        self._has_offsets = bool(self._offset.any())
        self._has_mixing = bool((self._mixing != np.eye(self._mixing.shape[-1])).any())
        self._has_play = bool(self._play.any())

    def append(self, applied: Float[np.ndarray, "B T A"]) -> None:
        """Add applied actions to the last ones."""
        self.actions = np.concatenate([self.actions, applied], 1)[:, -self._history_steps :]

    def compute_commands(self, applied: Float[np.ndarray, "B T A"]) -> Float[np.ndarray, "B N A"]:
        """Compute the motor commands at each of `N` physics steps of the control steps of some actions."""
        known = np.concatenate([self.actions, applied], 1)
        commands = self._select_commands(known, np.arange(applied.shape[1] * self._substeps))
        return self._follow_with_play(commands) if self._has_play else commands

    def _follow_with_play(self, commands: np.ndarray) -> np.ndarray:
        """Return the set-points of servos that follow their commands with play."""
        now = np.where(np.isnan(self.set_points), commands[:, 0], self.set_points)
        for step in range(commands.shape[1]):
            now = np.clip(now, commands[:, step] - self._play, commands[:, step] + self._play)
            commands[:, step] = now
        self.set_points = now
        return commands

    def compute_past_commands(self, count: int) -> Float[np.ndarray, "B N A"]:
        """Compute the motor commands at the last `N` physics steps, at most those of a control period."""
        return self._select_commands(self.actions, np.arange(-count, 0))

    def _select_commands(self, known: np.ndarray, physics_step: np.ndarray) -> np.ndarray:
        """Select the commands at some physics steps, which count from after the last actions."""
        if not self._has_own_delays:
            delayed = known[self._row_index, self._find_action(physics_step, self._delay[:, :, 0])]
        else:
            index = self._find_action(physics_step[:, None], self._delay)
            delayed = known[self._row_index[..., None], index, np.arange(known.shape[-1])]
        return self._change(delayed, slice(None))

    def compute_present_command(self, row: int) -> Float[np.ndarray, "A"]:
        """Compute the motor command of the last action of a row, as if it had no delay."""
        return self._change(self.actions[row : row + 1, -1:], slice(row, row + 1))[0, 0]

    def _find_action(self, physics_step: np.ndarray, delay: np.ndarray) -> np.ndarray:
        """Return the numbers of the control periods whose actions reach the motors at some physics steps."""
        return (physics_step - delay) // self._substeps + self._history_steps

    def _change(self, delayed: np.ndarray, rows: slice) -> np.ndarray:
        if self._has_mixing:
            from_center = (delayed - self._mirror_center) @ self._mixing[rows].swapaxes(-1, -2)
            delayed = self._mirror_center + from_center
        commands = delayed * self._scale[rows] + (1 - self._scale[rows]) * self._mirror_center
        if self._has_offsets:
            commands += self._offset[rows]
        return commands if self._step is None else quantize(commands, self._step)
