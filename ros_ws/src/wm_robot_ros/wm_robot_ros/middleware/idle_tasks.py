"""Idle tasks of a node: periodic work that runs only between two control periods."""

from collections.abc import Callable
from functools import partial

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.timer import Timer

from wm_robot.control.idle_tasks import IdleTask


def create_steady_timer(node: Node, period: float, work: Callable[[], object]) -> Timer:
    """Create a timer on the steady clock, so that a node still reports its status when a simulated clock stops."""
    return node.create_timer(period, work, clock=Clock(clock_type=ClockType.STEADY_TIME))


class IdleTasks:
    """Periodic tasks of a node that run in the idle time between two control periods."""

    def __init__(self, node: Node):
        self._node = node
        self._tasks: list[IdleTask] = []

    def add_periodic(self, period: float, work: Callable[[], object]) -> Callable[[], None]:
        """Add a periodic task.

        Args:
            period: Period of the task, in s; a deferred run comes as soon as it fits.
            work: Function of the task.

        Returns:
            Function that removes the task.
        """
        chore = IdleTask(work)
        self._tasks.append(chore)
        return partial(self._remove_task, chore, create_steady_timer(self._node, period, chore.request_run))

    def run_due(self, time_left: Callable[[], float]) -> None:
        """Run the tasks that are due and fit.

        Args:
            time_left: Returns the idle time, in s.
        """
        for chore in self._tasks:
            if chore.is_requested:
                chore.try_run(time_left())

    def _remove_task(self, task: IdleTask, timer: object) -> None:
        self._node.destroy_timer(timer)
        self._tasks.remove(task)
