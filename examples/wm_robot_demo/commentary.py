"""Commentary of the demo: sentences about its sessions, for the display."""

from collections.abc import Sequence

from wm_robot.evaluation.recovery import START_SECONDS, compute_off_target_limit
from wm_robot_demo.options import DemoOptions
from wm_robot_demo.scenario import ADAPTIVE, DemoPlan
from wm_robot_demo.status_reader import RobotStatus

CHANGE_CAPTION_SECONDS = 0.7
"""Seconds after the change in which the display shows the change itself."""


class FirstSessionCommentary:
    """Sentence for the current event of the first session. The report contains the final result."""

    def __init__(self, plan: DemoPlan):
        self._plan = plan

    def __call__(self, robots: Sequence[RobotStatus]) -> str:
        learning = robots[0]
        if learning.since_change is None:
            if (learning.time or 0.0) < START_SECONDS:
                return "Both arms go to their target."
            return "Both arms follow the target. Soon their world will change, without a signal to them."
        if learning.since_change < CHANGE_CAPTION_SECONDS:
            return f"The world has changed: {self._plan.change.description}."
        return describe_errors(robots)


def describe_errors(robots: Sequence[RobotStatus]) -> str:
    """Return a sentence about the arms that are on their target."""
    off = [
        view.name
        for view in robots
        if (view.recent_error or 0.0) > compute_off_target_limit(view.error_before)
    ]
    on = [view.name for view in robots if view.name not in off]
    if not off:
        return "Both arms are on their target."
    if not on:
        return "Both arms are off their target now."
    return f"The {on[0]} arm is on its target; the {off[0]} one is off it now."


def describe_saved_state(options: DemoOptions) -> str:
    """Return the sentence between the two sessions."""
    return f"The {ADAPTIVE} arm's state is saved in {options.state_path}; now it starts from it in the changed world."


def describe_second_session(robots: Sequence[RobotStatus]) -> str:
    """Return the sentence of the second session."""
    restored, newborn = robots
    return (
        f"Same weights, same changed world. The {restored.name} arm starts from its saved state, "
        f"the {newborn.name} one from the initial state."
    )


def describe_output(options: DemoOptions) -> str:
    """Return a sentence about the output of an interrupted demo."""
    there = [path.name for path in (options.session_path, options.state_path) if path.exists()]
    return f"{' and '.join(there) or 'Nothing'} in {options.output_folder}; the next run continues from the state."
