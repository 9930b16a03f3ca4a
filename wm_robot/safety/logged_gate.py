"""Logged gate: the safety gate of a robot along a log, which follows the actions that were applied."""

from collections.abc import Sequence

import numpy as np

from wm_robot.safety.gate import Gate
from wm_robot.spec import RobotSpec
from wm_robot.types import Observation


class LoggedGate:
    """Gate that names the rules which a command would violate; see `CommandGate`."""

    def __init__(self, spec: RobotSpec, initial_action: np.ndarray):
        self._gate = Gate(spec, initial_action)

    def find_violations(self, command: np.ndarray, obs: np.ndarray, stamp: int) -> Sequence[str]:
        """See `CommandGate`."""
        seen = Observation(stamp=stamp / 1e9, values=obs)
        found = self._gate.find_violations(command, seen, now=seen.stamp)
        return [each.rule.value for each in found]

    def follow(self, applied: np.ndarray, obs: np.ndarray, stamp: int) -> None:
        """See `CommandGate`."""
        seen = Observation(stamp=stamp / 1e9, values=obs)
        self._gate(applied, seen, now=seen.stamp)
