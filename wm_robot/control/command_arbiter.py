"""Arbitrates between the commands of a controller and the built-in fallback controller."""

from typing import Any, Protocol, runtime_checkable

import numpy as np

from wm_robot.control.command_source import CommandSource
from wm_robot.errors import WmRobotError
from wm_robot.safety.fallback import Baseline
from wm_robot.safety.limit_violations import CONTACT, Cut
from wm_robot.safety.modes import Mode
from wm_robot.safety.supervisor import Report, Supervisor
from wm_robot.spec import RobotSpec
from wm_robot.types import Observation


@runtime_checkable
class GuardPage(Protocol):
    """What a guard and the process that drives share; see `Heartbeat`."""

    @property
    def driver(self) -> int:
        """Process that drives the plant; 0 for none."""

    def stopped(self) -> str:
        """Why the plant must stand still; empty if it need not."""

    def release(self) -> None:
        """Lower the emergency."""


class CommandArbiter:
    """Decides in each period whether the controller or the fallback controller moves the plant."""

    def __init__(
        self,
        spec: RobotSpec,
        source: CommandSource,
        hold: np.ndarray,
        *,
        mode: Mode = Mode.LIMP,
        hold_if_late: bool = True,
        guard: GuardPage | None = None,
    ):
        """Args:
        hold: Action in force, `A`.
        mode: The first.
        hold_if_late: Whether missed deadlines end the controller's turn; otherwise they are only counted.
        guard: Without its rounds the plant stands still.
        """
        self.source, self.supervisor = source, Supervisor(spec.safety, mode=mode)
        self.baseline = Baseline(spec, hold)
        self.unanswered = 0
        """Periods in mode `learned` whose command did not come in time."""
        self.surprise: float | None = None
        """Judged in the last period, in nats per channel."""
        self._hold_if_late, self._guard, self._broken = hold_if_late, guard, ""

    @property
    def mode(self) -> Mode:
        """The mode of the current period."""
        return self.supervisor.mode

    @property
    def may_learn(self) -> bool:
        """Whether what happens in this mode may be learned from."""
        return self.supervisor.may_learn

    def begin(self, hold: np.ndarray) -> None:
        """Begin from an action in force, `A`: the plant was not known before."""
        self.baseline.stay(hold)

    def step(
        self,
        obs: Observation | None,
        hold: np.ndarray,
        *,
        cuts: tuple[Cut, ...] = (),
        late: bool = False,
        broken: str = "",
    ) -> tuple[Mode, Any]:
        """Judge the last period, and decide the coming one.

        Args:
            obs: For a controller that is asked now; None if there is none.
            hold: Action in force, `A`.
            cuts: What the gate did to the action of the last period.
            late: Whether this process has missed a deadline.
            broken: What robot or controller raised in the last period; empty if nothing.

        Returns:
            Mode of the coming period, and the action to ask for, `A`.
        """
        source, before = self.source, self.supervisor.mode
        source.begin_period()
        learned = before is Mode.LEARNED
        overdue = learned and source.overdue
        self.unanswered += overdue
        self.surprise = source.surprise
        # Behind a guard, commands count as long as a process drives that it watches.
        driven = source.active and (self._guard is None or self._guard.driver > 0)
        report = Report(
            cuts=cuts,
            refused=source.refused,
            surprise=self.surprise,
            late=self._hold_if_late and learned and (overdue or late),
            commanded=driven,
            silent=not driven,
            homed=self.baseline.homed,
            guard=self.guard_reason(),
            broken=self._broken or broken or source.broken,
        )
        self._broken = ""
        source.clear()
        mode = self.supervisor.step(report)
        if mode is not before:
            self._enter(mode, hold)
        return mode, self._action(mode, obs, hold)

    def _action(self, mode: Mode, obs: Observation | None, hold: np.ndarray) -> Any:
        """The controller's action in mode `learned`, and the fallback controller's in all others."""
        if mode is Mode.LEARNED:
            try:
                return self.source.command(obs)
            except Exception as error:
                self._broken = describe(error)
                self.baseline.stay(hold)
        return self.baseline.act()

    def _enter(self, mode: Mode, hold: np.ndarray) -> None:
        if mode is Mode.HOMING:
            self.baseline.go_home(hold)
        else:
            self.baseline.stay(hold)

    def stop(self, hold: np.ndarray) -> None:
        """Stop between two periods, as the guard asks for.

        Args:
            hold: Action in force, `A`.
        """
        why = self.guard_reason()
        if why and self.supervisor.mode is not Mode.SAFE_STOP:
            self._enter(self.supervisor.step(Report(guard=why)), hold)

    def guard_reason(self) -> str:
        """Why the guard has stopped the plant; empty if it has not, or there is none."""
        return self._guard.stopped() if self._guard is not None else ""

    def intervened(self, cuts: tuple[Cut, ...]) -> bool:
        """Whether gate or fallback controller stood between controller and robot.

        Args:
            cuts: What the gate did to the action of this period.
        """
        return not self.supervisor.may_learn or any(cut.rule in CONTACT for cut in cuts)

    def arm(self) -> str:
        """Ask for the next mode on the way to acting, and lower the guard's emergency; why not, or empty."""
        if self._guard is not None:
            self._guard.release()
        why = self.guard_reason()
        if not why:
            self.supervisor.arm()
        return why

    def disarm(self) -> None:
        """Ask for motors without power."""
        self.supervisor.disarm()


def describe(error: Exception) -> str:
    """What went wrong, in words; the library's own errors have them."""
    return str(error) if isinstance(error, WmRobotError) else f"{type(error).__name__}: {error}"
