"""Recorded readings of a diagnosis: arrays of joints, segments, and the faults that readings show by themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float

from wm_robot.errors import SpecError
from wm_robot.evaluation.diagnosis.simulator import Segments
from wm_robot.spec import RobotSpec
from wm_robot.types import Episode

LEAST_SECONDS = 10.0
"""Least motion for a diagnosis, in s."""
SEGMENT_SECONDS = 0.24
"""Length of a segment: a servo comes near its set-point in it."""
ROUNDING, MAX_GRID_SHARE = 1e-5, 0.4
"""Difference of positions that is only rounding, and the largest share of different values of a coarse encoder."""
STUCK_SECONDS = 1.0
"""Least time of equal readings of a stuck encoder."""
STUCK_SHARE = 0.3
"""Least share of the recording in such times."""
MOVED_SHARE = 0.05
"""Change of a command in that time that must move a joint, as a share of its range."""


@dataclass(frozen=True)
class Recording:
    """Recording of one robot: episodes with positions and velocities of all joints."""

    spec: RobotSpec
    episodes: Sequence[Episode]

    def __post_init__(self) -> None:
        spec = self.spec
        if spec.base is not None or not {"position", "velocity"} <= set(spec.interfaces):
            why = "a floating base" if spec.base is not None else f"interfaces {list(spec.interfaces)}"
            raise SpecError(
                f"robot '{spec.name}' has {why}; a diagnosis needs a fixed base, and position and velocity of each "
                "joint"
            )
        if self.seconds < LEAST_SECONDS:
            raise SpecError(
                f"the recording has {self.seconds:.3g} s of valid motion; a diagnosis needs at least "
                f"{LEAST_SECONDS:g} s. Record 60 s in which each joint moves"
            )

    @property
    def seconds(self) -> float:
        """Duration of the valid motion, in s."""
        return float(sum(each.valid.sum() for each in self.episodes)) * self.spec.dt

    @cached_property
    def channels(self) -> list[int]:
        """Columns of an observation: positions of all joints, then velocities."""
        names, joints = list(self.spec.observation_names), self.spec.joint_names
        return [names.index(f"{joint}/{kind}") for kind in ("position", "velocity") for joint in joints]

    @cached_property
    def readings(self) -> list[Float[np.ndarray, "T C"]]:
        """Readings of each episode."""
        return [each.obs[:, self.channels].astype(np.float64) for each in self.episodes]

    def cut_segments(self) -> Segments:
        """Cut the valid motion into segments that do not overlap; the first step of an episode is left out."""
        length = max(2, round(SEGMENT_SECONDS / self.spec.dt))
        episode, start = [], []
        for number, each in enumerate(self.episodes):
            first = 1
            while first + length <= len(each):
                invalid = np.flatnonzero(~each.valid[first : first + length])
                if len(invalid):
                    first += int(invalid[-1]) + 1
                    continue
                episode.append(number)
                start.append(first)
                first += length
        return Segments(np.array(episode, int), np.array(start, int), length)

    def read_segments(self, segments: Segments) -> Float[np.ndarray, "S T C"]:
        """Return the readings after each step of segments."""
        steps = np.arange(1, segments.length + 1)
        return np.stack(
            [
                self.readings[episode][start + steps]
                for episode, start in zip(segments.episode, segments.start, strict=True)
            ]
        )

    def find_resolution(self) -> Float[np.ndarray, "J"]:
        """Find the step of each encoder, in rad (m): the least difference of two positions, usually."""
        positions = np.concatenate([each[:, : len(self.spec.joints)] for each in self.readings])
        found = np.zeros(positions.shape[1])
        for joint, read in enumerate(positions.T):
            apart = np.diff(np.unique(read))
            apart = apart[apart > ROUNDING]
            # Most values are neighbours on the grid of a coarse encoder, and few are so far apart without a grid.
            if len(apart) and len(apart) < MAX_GRID_SHARE * len(read):
                found[joint] = np.median(apart)
        return found

    def find_stuck(self) -> Bool[np.ndarray, "J"]:
        """Find encoders that repeat their position to the bit while the commands of their joints change."""
        spec, joints = self.spec, len(self.spec.joints)
        least, stuck_steps = round(STUCK_SECONDS / spec.dt), np.zeros(joints)
        for episode, readings in zip(self.episodes, self.readings, strict=True):
            for joint, name in enumerate(spec.joint_names):
                motors = [a for a, each in enumerate(spec.actuators) if each.joint == name]
                span = (
                    float(np.ptp([spec.actuators[a].range for a in motors], axis=-1).min()) if motors else 0.0
                )
                changes = np.flatnonzero(np.diff(readings[:, joint]) != 0)
                edges = np.concatenate([[-1], changes, [len(readings) - 1]])
                for first, last in zip(edges[:-1] + 1, edges[1:], strict=True):
                    moved = episode.action[first:last, motors]
                    if last - first >= least and motors and np.ptp(moved, axis=0).max() > MOVED_SHARE * span:
                        stuck_steps[joint] += last - first
        return stuck_steps > STUCK_SHARE * sum(map(len, self.episodes))
