"""Demo progress: the data and the interface of a progress display."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from wm_robot_demo.status_reader import RobotView


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Progress of a session at one time."""

    title: str
    """Title of the session."""
    story: str
    """Current event, in a plain sentence."""
    time: float
    """Seconds since the start of the session."""
    length: float
    period: float
    """Control period, in s."""
    robots: Sequence[RobotView]


class Screen(Protocol):
    """Progress display of a demo."""

    def say(self, words: str) -> None:
        """Write a permanent message."""

    def show(self, scene: Scene) -> None:
        """Show the progress; the next call replaces it."""

    def clear(self) -> None:
        """End the progress of a session. Later messages appear below."""
