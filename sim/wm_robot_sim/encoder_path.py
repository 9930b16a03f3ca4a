"""Encoder path: what faults of encoders make of the positions and velocities of robots on their way to readings."""

import numpy as np

from wm_robot.spec import ChannelLayout, RobotSpec
from wm_robot_sim.signal_changes import ReadingChanges


class EncoderPath:
    """Encoder path of `B` robots. Robots without such a fault pay nothing for it."""

    def __init__(self, spec: RobotSpec, num_robots: int):
        joints = len(spec.joints)
        self._middle = find_reading_middle(spec)
        self._scale = np.ones((num_robots, 1, joints))
        self._source = np.tile(np.arange(joints), (num_robots, 1, 1))
        self._noise_std = np.zeros((num_robots, joints))
        self._is_stuck = np.zeros((num_robots, joints), bool)
        self._is_changed = np.zeros(num_robots, bool)

    def set_row(self, row: int, changes: ReadingChanges | None) -> None:
        """Set what the encoders of a row change; None: nothing."""
        self._is_changed[row] = changes is not None
        own = changes or ReadingChanges.make_unchanged(self._scale.shape[-1])
        self._scale[row, 0], self._source[row, 0] = own.scale, own.source
        self._noise_std[row], self._is_stuck[row] = own.noise_std, own.is_stuck

    def add_noise(self, row: int, layout: ChannelLayout, noise_std: np.ndarray) -> None:
        """Add the noise of the encoders of a row to the standard deviations of its channels, in place.

        The velocity of an encoder is a difference of its positions: its noise grows by the same factor.
        """
        if not self._noise_std[row].any():
            return
        slices = {group.kind: channels for group, channels in layout.slices}
        own = noise_std[slices["position"]].copy()
        total = np.sqrt(own**2 + self._noise_std[row] ** 2)
        noise_std[slices["position"]] = total
        if "velocity" in slices:
            noise_std[slices["velocity"]] *= np.where(own > 0, total / np.maximum(own, 1e-12), 1.0)

    def read(self, position: np.ndarray, velocity: np.ndarray, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return the positions and velocities that encoders read, `R T J`, without bias and noise."""
        if not self._is_changed[rows].any():
            return position, velocity
        scale, source = self._scale[rows], self._source[rows]
        source = np.broadcast_to(source, position.shape)
        from_middle = np.take_along_axis(position - self._middle, source, -1)
        return self._middle + scale * from_middle, scale * np.take_along_axis(velocity, source, -1)

    def hold_stuck(self, layout: ChannelLayout, before: np.ndarray, obs: np.ndarray) -> None:
        """Let stuck encoders repeat the reading before, in place.

        Args:
            before: Last observations, `B O`.
            obs: Observations after it, `B T O`.
        """
        if not self._is_stuck.any():
            return
        for group, channels in layout.slices:
            if group.kind in ("position", "velocity") and channels.stop - channels.start == len(self._middle):
                held = np.broadcast_to(before[:, None, channels], obs[..., channels].shape)
                obs[..., channels] = np.where(self._is_stuck[:, None], held, obs[..., channels])


def find_reading_middle(spec: RobotSpec) -> np.ndarray:
    """Find the position that a reversed or scaled encoder reads unchanged, `J`: the middle of each joint's range."""
    return np.array([np.mean(joint.position) for joint in spec.joints])
