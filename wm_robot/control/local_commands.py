"""Local commands: a command source that calls a controller in the process of the control loop."""

from typing import Any

import numpy as np

from wm_robot.control.controller import Controller
from wm_robot.errors import DeviceError
from wm_robot.types import Observation

MAX_PERIOD_RATIO = 1.5
"""Largest ratio between the duration of a step and the control period, either way, for a step to be learned from."""


class LocalCommands:
    """A `CommandSource` that calls a controller within the period, and so always has a command."""

    is_active, rejection, fault = True, "", ""

    def __init__(self, controller: Controller, period: float):
        """Args:
        period: Control period, in s.
        """
        self.controller, self._period = controller, period
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
        if last is None or not (np.isfinite(last[0].values).all() and np.isfinite(obs.values).all()):
            return
        before, action, intervention = last
        whole = self._period / MAX_PERIOD_RATIO <= obs.stamp - before.stamp <= self._period * MAX_PERIOD_RATIO
        surprise = self.controller.observe(
            before.values, action, obs.values, valid=whole and may_learn, intervention=intervention
        )
        self.surprise = surprise if whole else None
