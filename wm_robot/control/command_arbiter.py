"""Command arbiter: selects the learned controller or the built-in fallback controller in each period."""

from typing import Any, Protocol, runtime_checkable

import numpy as np

from wm_robot.control.command_source import CommandSource
from wm_robot.errors import WmRobotError
from wm_robot.safety.fallback import FallbackController
from wm_robot.safety.limit_violations import INTERVENTION_RULES, LimitViolation
from wm_robot.safety.modes import Mode
from wm_robot.safety.supervisor import PeriodReport, Supervisor
from wm_robot.spec import RobotSpec
from wm_robot.types import Observation


@runtime_checkable
class GuardPage(Protocol):
    """Memory page that a guard shares with the process that drives the plant; see `Heartbeat`."""

    @property
    def driver(self) -> int:
        """Id of the process that drives the plant; 0 for none."""

    def stopped(self) -> str:
        """Return the reason why the plant must stand still; empty if there is none."""

    def release(self) -> None:
        """Clear the emergency stop."""


class CommandArbiter:
    """Selects in each period whether the learned or the fallback controller moves the plant."""

    def __init__(
        self,
        spec: RobotSpec,
        source: CommandSource,
        last_action: np.ndarray,
        *,
        mode: Mode = Mode.LIMP,
        hold_if_late: bool = True,
        guard: GuardPage | None = None,
    ):
        """Args:
        last_action: Action in force, `A`.
        mode: Initial mode.
        hold_if_late: Whether missed deadlines disable the learned controller; otherwise they are only counted.
        guard: Shared page of a guard. The plant stands still when the guard stops its checks.
        """
        self.source, self.supervisor = source, Supervisor(spec.safety, mode=mode)
        self.fallback = FallbackController(spec, last_action)
        self.num_unanswered = 0
        """Number of periods in mode `learned` whose command did not arrive in time."""
        self.surprise: float | None = None
        """Surprise that the last period was judged by, in nats per channel."""
        self._hold_if_late, self._guard, self._fault = hold_if_late, guard, ""

    @property
    def mode(self) -> Mode:
        """The mode of the current period."""
        return self.supervisor.mode

    @property
    def may_learn(self) -> bool:
        """Whether the agent may learn from transitions in this mode."""
        return self.supervisor.may_learn

    def restart_from(self, last_action: np.ndarray) -> None:
        """Restart from the action in force, `A`, of a plant that has just connected."""
        self.fallback.hold_targets(last_action)

    def step(
        self,
        obs: Observation | None,
        last_action: np.ndarray,
        *,
        violations: tuple[LimitViolation, ...] = (),
        late: bool = False,
        fault: str = "",
    ) -> tuple[Mode, Any]:
        """Evaluate the last period, and select mode and action of the next one.

        Args:
            obs: Observation for a controller in this process; None if there is none.
            last_action: Action in force, `A`.
            violations: Limit violations that the gate corrected in the last period.
            late: Whether this process has missed a deadline.
            fault: Error of robot or controller in the last period; empty if there was none.

        Returns:
            Mode of the next period, and its requested action, `A`.
        """
        source, before = self.source, self.supervisor.mode
        source.start_period()
        learned = before is Mode.LEARNED
        overdue = learned and source.is_overdue
        self.num_unanswered += overdue
        self.surprise = source.surprise
        # With a guard, commands count only while the guard monitors the process that sends them.
        driven = source.is_active and (self._guard is None or self._guard.driver > 0)
        report = PeriodReport(
            violations=violations,
            rejection=source.rejection,
            surprise=self.surprise,
            is_late=self._hold_if_late and learned and (overdue or late),
            has_command=driven,
            is_silent=not driven,
            is_home=self.fallback.is_home,
            guard_reason=self.guard_reason(),
            error=self._fault or fault or source.fault,
        )
        self._fault = ""
        source.clear_reports()
        mode = self.supervisor.step(report)
        if mode is not before:
            self._enter_mode(mode, last_action)
        return mode, self._select_action(mode, obs, last_action)

    def _select_action(self, mode: Mode, obs: Observation | None, last_action: np.ndarray) -> Any:
        """Return the action of the learned controller in mode `learned`, and of the fallback controller in others."""
        if mode is Mode.LEARNED:
            try:
                return self.source.select_command(obs)
            except Exception as error:
                self._fault = format_error(error)
                self.fallback.hold_targets(last_action)
        return self.fallback.act()

    def _enter_mode(self, mode: Mode, last_action: np.ndarray) -> None:
        if mode is Mode.HOMING:
            self.fallback.go_home(last_action)
        else:
            self.fallback.hold_targets(last_action)

    def stop_if_required(self, last_action: np.ndarray) -> None:
        """Stop between two periods, if the guard requires it.

        Args:
            last_action: Action in force, `A`.
        """
        why = self.guard_reason()
        if why and self.supervisor.mode is not Mode.SAFE_STOP:
            self._enter_mode(self.supervisor.step(PeriodReport(guard_reason=why)), last_action)

    def guard_reason(self) -> str:
        """Return the reason why the guard stopped the plant; empty if it did not, or without a guard."""
        return self._guard.stopped() if self._guard is not None else ""

    def has_intervened(self, violations: tuple[LimitViolation, ...]) -> bool:
        """Whether gate or fallback controller changed the action of the learned controller.

        Args:
            violations: Limit violations that the gate corrected in this period.
        """
        return not self.supervisor.may_learn or any(
            violation.rule in INTERVENTION_RULES for violation in violations
        )

    def request_arming(self) -> str:
        """Clear the guard's emergency stop, and request the next mode towards acting.

        Returns:
            Reason why the guard still stops the plant; empty if it does not.
        """
        if self._guard is not None:
            self._guard.release()
        why = self.guard_reason()
        if not why:
            self.supervisor.request_arming()
        return why

    def request_disarming(self) -> None:
        """Request motors without power."""
        self.supervisor.request_disarming()


def format_error(error: Exception) -> str:
    """Return the text of an error, with its type unless it is an error of this library."""
    return str(error) if isinstance(error, WmRobotError) else f"{type(error).__name__}: {error}"
