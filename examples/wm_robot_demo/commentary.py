"""Commentary of the demo: sentences about its sessions, for the display."""

from collections.abc import Sequence

from wm_robot.evaluation.recovery import START_SECONDS, compute_off_target_limit
from wm_robot.tasks import ErrorScale
from wm_robot.tasks.task_error import GRIPPER_SCALE
from wm_robot_demo.options import DemoOptions
from wm_robot_demo.scenario import ADAPTIVE, DemoPlan
from wm_robot_demo.status_reader import RobotStatus

CHANGE_CAPTION_SECONDS = 0.7
"""Seconds after the change in which the display shows the change itself."""


class FirstSessionCommentary:
    """Sentence for the current event of the first session. The report contains the final result."""

    def __init__(self, plan: DemoPlan, scale: ErrorScale = GRIPPER_SCALE):
        self._plan, self._scale = plan, scale

    def __call__(self, robots: Sequence[RobotStatus]) -> str:
        learning, noun = robots[0], self._scale.robot_noun
        if learning.since_change is None:
            if (learning.time or 0.0) < START_SECONDS:
                return f"Both {noun}s go to their target."
            return f"Both {noun}s follow the target. Soon their world will change, without a signal to them."
        if learning.since_change < CHANGE_CAPTION_SECONDS:
            return f"The world has changed: {self._plan.change.description}."
        return describe_errors(robots, self._scale)


def describe_errors(robots: Sequence[RobotStatus], scale: ErrorScale = GRIPPER_SCALE) -> str:
    """Return a sentence about the robots that are on their target."""
    noun = scale.robot_noun
    off = [
        view.name
        for view in robots
        if (view.recent_error or 0.0) > compute_off_target_limit(view.error_before, scale.min_off_target)
    ]
    on = [view.name for view in robots if view.name not in off]
    if not off:
        return f"Both {noun}s are on their target."
    if not on:
        return f"Both {noun}s are off their target now."
    return f"The {on[0]} {noun} is on its target; the {off[0]} one is off it now."


def describe_saved_state(options: DemoOptions, scale: ErrorScale = GRIPPER_SCALE) -> str:
    """Return the sentence between the two sessions."""
    return (
        f"The {ADAPTIVE} {scale.robot_noun}'s state is saved in {options.state_path}; now it starts from it in the "
        "changed world."
    )


class SecondSessionCommentary:
    """Sentence of the second session."""

    def __init__(self, scale: ErrorScale = GRIPPER_SCALE):
        self._scale = scale

    def __call__(self, robots: Sequence[RobotStatus]) -> str:
        restored, newborn = robots
        return (
            f"Same weights, same changed world. The {restored.name} {self._scale.robot_noun} starts from its saved "
            f"state, the {newborn.name} one from the initial state."
        )


def describe_output(options: DemoOptions) -> str:
    """Return a sentence about the output of an interrupted demo."""
    there = [path.name for path in (options.session_path, options.state_path) if path.exists()]
    return f"{' and '.join(there) or 'Nothing'} in {options.output_folder}; the next run continues from the state."
