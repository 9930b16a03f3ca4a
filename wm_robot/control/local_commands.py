"""Local commands: a command source that calls a controller in the process of the control loop."""

from typing import Any

import numpy as np

from wm_robot.control.controller import Controller
from wm_robot.errors import DeviceError
from wm_robot.spec import RobotSpec
from wm_robot.types import Observation

MAX_PERIOD_RATIO = 1.5
"""Largest ratio between the duration of a step and the control period, either way, for a step to be learned from."""


class LocalCommands:
    """A `CommandSource` that calls a controller within the period, and so always has a command."""

    is_active, rejection, fault = True, "", ""

    def __init__(self, controller: Controller, spec: RobotSpec):
        self.controller, self._period = controller, spec.dt
        self._is_required = spec.layout.is_required
        self.surprise: float | None = None
        self.is_overdue = False
        self._last: tuple[Observation, np.ndarray, bool] | None = None
        """Last observation, the action applied to it, and whether gate or fallback controller intervened."""

    def start_period(self) -> None:
        """See `CommandSource`; a local controller needs no update."""

    def clear_reports(self) -> None:
        """See `CommandSource`."""
        self.surprise = None

    def select_command(self, obs: Observation | None) -> Any:
        """See `CommandSource`.

        Raises:
            DeviceError: If there is no observation to act on.
        """
        if obs is None:
            raise DeviceError("the robot gave no observation")
        return self.controller.act(obs.values)

    def learn_transition(
        self,
        obs: Observation | None,
        applied: np.ndarray | None,
        *,
        latency: float,
        may_learn: bool,
        intervened: bool,
    ) -> None:
        """Pass the transition that led to this observation to the controller, and store the applied action.

        Args:
            applied: Applied action, `A`; None if it is unknown.
            latency: Time from the deadline to the command, in s.
            may_learn: Whether the current mode permits learning.
            intervened: Whether gate or fallback controller changed the action.
        """
        self.surprise, self.is_overdue = None, latency > self._period
        last, self._last = self._last, None
        if obs is None:
            return
        if applied is not None:
            self._last = obs, applied, intervened
        if last is None or not (self._is_whole(last[0]) and self._is_whole(obs)):
            return
        before, action, intervention = last
        whole = self._period / MAX_PERIOD_RATIO <= obs.stamp - before.stamp <= self._period * MAX_PERIOD_RATIO
        surprise = self.controller.observe(
            before.values, action, obs.values, valid=whole and may_learn, intervention=intervention
        )
        self.surprise = surprise if whole else None

    def _is_whole(self, obs: Observation) -> bool:
        """Whether every required channel has a reading."""
        return bool(np.isfinite(obs.values[self._is_required]).all())
