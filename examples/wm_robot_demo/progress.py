"""Demo progress: the data and the interface of a progress display."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from wm_robot.tasks import ErrorScale
from wm_robot.tasks.task_error import GRIPPER_SCALE
from wm_robot_demo.status_reader import RobotStatus


@dataclass(frozen=True, kw_only=True)
class SessionProgress:
    """Progress of a session at one time."""

    title: str
    """Title of the session."""
    sentence: str
    """Current event, in a plain sentence."""
    time: float
    """Seconds since the start of the session."""
    duration: float
    period: float
    """Control period, in s."""
    robots: Sequence[RobotStatus]
    scale: ErrorScale = GRIPPER_SCALE
    """Scale of their errors."""


class DemoDisplay(Protocol):
    """Progress display of a demo."""

    def write_message(self, words: str) -> None:
        """Write a permanent message."""

    def show_progress(self, scene: SessionProgress) -> None:
        """Show the progress; the next call replaces it."""

    def end_progress(self) -> None:
        """End the progress of a session. Later messages appear below."""
