"""What a demo tells while it runs; who shows it, and how, is the caller's business."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from wm_robot_demo.status_reader import RobotView


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One moment of a visit."""

    title: str
    """Which visit this is."""
    story: str
    """What is happening, in a plain sentence."""
    time: float
    """Seconds since the visit began."""
    length: float
    period: float
    """Control period, in s."""
    robots: Sequence[RobotView]


class Screen(Protocol):
    """Where a demo is shown."""

    def say(self, words: str) -> None:
        """Tell something that stays."""

    def show(self, scene: Scene) -> None:
        """Show a moment; the next one replaces it."""

    def clear(self) -> None:
        """The visit is over: leave its last moment and go on below."""
