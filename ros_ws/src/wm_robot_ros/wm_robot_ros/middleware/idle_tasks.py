"""What a node does now and then, and never where its loop is due."""

from collections.abc import Callable
from functools import partial

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.timer import Timer

from wm_robot.control.idle_tasks import Chore


def timer(node: Node, period: float, work: Callable[[], object]) -> Timer:
    """A timer by real time: a simulator's clock may stop, and what a node then reports of itself must not."""
    return node.create_timer(period, work, clock=Clock(clock_type=ClockType.STEADY_TIME))


class Chores:
    """Work of timers that waits for a place between two periods."""

    def __init__(self, node: Node):
        self._node = node
        self._chores: list[Chore] = []

    def every(self, period: float, work: Callable[[], object]) -> Callable[[], None]:
        """Do it again and again.

        Args:
            period: In s; what is put off comes later by no more than it takes to find a place.

        Returns:
            What ends it.
        """
        chore = Chore(work)
        self._chores.append(chore)
        return partial(self._end, chore, timer(self._node, period, chore.ask))

    def do(self, left: Callable[[], float]) -> None:
        """Do what is due and fits.

        Args:
            left: Gives the time that nobody else needs, in s.
        """
        for chore in self._chores:
            if chore.asked:
                chore.chance(left())

    def _end(self, chore: Chore, timer: object) -> None:
        self._node.destroy_timer(timer)
        self._chores.remove(chore)
