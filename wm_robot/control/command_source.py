"""Where a control loop's commands come from, as the arbiter needs it."""

from typing import Any, Protocol, runtime_checkable

from wm_robot.types import Observation


@runtime_checkable
class CommandSource(Protocol):
    """A source of commands: a controller in this process, or the messages of another one."""

    @property
    def active(self) -> bool:
        """Whether a controller wants to act."""

    @property
    def overdue(self) -> bool:
        """Whether the command of the last period did not come in time."""

    @property
    def refused(self) -> str:
        """Why a command was refused before it came to the gate; empty if none was."""

    @property
    def broken(self) -> str:
        """Why the controller stopped; empty if it did not."""

    @property
    def surprise(self) -> float | None:
        """Of the newest observation, in nats per channel; None if nothing was expected."""

    def begin_period(self) -> None:
        """Bring all of the above up to date."""

    def clear(self) -> None:
        """Reset refusal, fault and surprise: they are judged once."""

    def command(self, obs: Observation | None) -> Any:
        """Action to ask for in the coming period, `A`. Called in mode `learned` only; it may raise."""
