"""Idle tasks of a node: periodic work that runs only between two control periods."""

from collections.abc import Callable
from functools import partial

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.timer import Timer

from wm_robot.control.idle_tasks import Chore


def timer(node: Node, period: float, work: Callable[[], object]) -> Timer:
    """Create a timer on the steady clock, so that a node still reports its status when a simulated clock stops."""
    return node.create_timer(period, work, clock=Clock(clock_type=ClockType.STEADY_TIME))


class Chores:
    """Periodic tasks of a node that run in the idle time between two control periods."""

    def __init__(self, node: Node):
        self._node = node
        self._chores: list[Chore] = []

    def every(self, period: float, work: Callable[[], object]) -> Callable[[], None]:
        """Add a periodic task.

        Args:
            period: Period of the task, in s; a deferred run comes as soon as it fits.
            work: Function of the task.

        Returns:
            Function that removes the task.
        """
        chore = Chore(work)
        self._chores.append(chore)
        return partial(self._end, chore, timer(self._node, period, chore.ask))

    def do(self, left: Callable[[], float]) -> None:
        """Run the tasks that are due and fit.

        Args:
            time_left: Returns the idle time, in s.
        """
        for chore in self._chores:
            if chore.asked:
                chore.chance(left())

    def _end(self, chore: Chore, timer: object) -> None:
        self._node.destroy_timer(timer)
        self._chores.remove(chore)
