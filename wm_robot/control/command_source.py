"""Command source: the interface through which the arbiter gets commands."""

from typing import Any, Protocol, runtime_checkable

from wm_robot.types import Observation


@runtime_checkable
class CommandSource(Protocol):
    """A source of commands: a controller in this process, or the messages of another one."""

    @property
    def is_active(self) -> bool:
        """Whether a controller sends commands."""

    @property
    def is_overdue(self) -> bool:
        """Whether the command of the last period did not arrive in time."""

    @property
    def rejection(self) -> str:
        """Reason why a command was rejected before the gate; empty if none was."""

    @property
    def fault(self) -> str:
        """Error that stopped the controller; empty if none did."""

    @property
    def surprise(self) -> float | None:
        """Surprise of the newest observation, in nats per channel; None without a prediction."""

    def start_period(self) -> None:
        """Update all properties for the coming period."""

    def clear_reports(self) -> None:
        """Reset rejection, fault and surprise, because each is evaluated once."""

    def select_command(self, obs: Observation | None) -> Any:
        """Return the action to request in the coming period, `A`. Called in mode `learned` only; it may raise."""
