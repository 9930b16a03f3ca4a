"""Parts of a robot's spec: joints, actuators, the links of its chain, and tasks."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wm_robot.errors import SpecError
from wm_robot.spec.checks import build_section, require_mapping, require_valid

ACTUATOR_KINDS = ("position", "velocity", "effort")
JOINT_KINDS = ("hinge", "slide")
WHOLE_TURN = (-math.pi, math.pi)
"""Position range of a joint that wraps, in rad."""
UNSTATED = (-math.inf, math.inf)
"""Position range of a joint without one in its spec."""
GOAL_TYPES: dict[str, int | None] = {
    "PointStamped": 3,
    "PoseStamped": 7,
    "TwistStamped": 6,
    "JointState": None,
    "Float64MultiArray": None,
}
"""Message in which goals may arrive → number of its values; None: any."""
TASK_EXAMPLES = {"parameters": "parameters: {speed_cost: 0.01}", "start": "start: {elbow: [-0.1, 0.1]}"}
"""Part of a task that is a mapping → what it looks like."""


@dataclass(frozen=True, kw_only=True)
class Joint:
    """One joint. Every array of this robot lists the joints in this order."""

    name: str
    position: tuple[float, float] = UNSTATED
    """Allowed range, in rad (m for a slide); of a joint that wraps, [-π, π]."""
    velocity: float
    """Largest speed, in rad/s (m/s)."""
    effort: float
    """Largest effort of its motor, in N m (N)."""
    kind: str = "hinge"
    """`hinge` or `slide`."""
    wraps: bool = False
    """Whether it turns without limit, so that π and -π are the same position."""

    def __post_init__(self) -> None:
        if self.position == UNSTATED:
            require_valid(
                self.wraps,
                f"joint '{self.name}' has no position",
                "a range, as [-1.5, 1.5]; or give wraps: true",
            )
            object.__setattr__(self, "position", WHOLE_TURN)
        low, high = self.position
        require_valid(
            self.kind in JOINT_KINDS, f"joint '{self.name}' has kind '{self.kind}'", f"one of {JOINT_KINDS}"
        )
        require_valid(low < high, f"joint '{self.name}' has position range {self.position}", "low < high")
        if self.wraps:
            is_turn = all(map(math.isclose, self.position, WHOLE_TURN))
            require_valid(self.kind == "hinge", f"joint '{self.name}' wraps, and is a {self.kind}", "a hinge")
            require_valid(
                is_turn,
                f"joint '{self.name}' wraps, and has position range {self.position}",
                "left out: a joint that wraps has no end",
            )
        require_valid(self.velocity > 0, f"joint '{self.name}' has velocity {self.velocity}", "above 0")
        require_valid(self.effort > 0, f"joint '{self.name}' has effort {self.effort}", "above 0")


@dataclass(frozen=True, kw_only=True)
class Actuator:
    """One entry of the action."""

    name: str
    joint: str
    kind: str
    """`position`: set-point of a position, in rad (m); `velocity`: of a speed, in rad/s (m/s); `effort`: as the model
    scales it."""
    range: tuple[float, float]
    """Values that the motor accepts."""
    rate: float
    """Fastest change, in units per second."""

    @property
    def is_servo(self) -> bool:
        """Whether its action is a set-point of the joint's position."""
        return self.kind == "position"

    def __post_init__(self) -> None:
        low, high = self.range
        require_valid(
            self.kind in ACTUATOR_KINDS,
            f"actuator '{self.name}' has kind '{self.kind}'",
            f"one of {ACTUATOR_KINDS}",
        )
        require_valid(low < high, f"actuator '{self.name}' has range {self.range}", "low < high")
        require_valid(self.rate > 0, f"actuator '{self.name}' has rate {self.rate}", "above 0")


@dataclass(frozen=True, kw_only=True)
class Task:
    """Robot task: a reward by name and the size of its goal."""

    reward: str
    """Name of a reward in `wm_robot.tasks`, or `PACKAGE:NAME` for an entry point of an installed package. A command
    may also make a task of a file, `FILE.py:FUNCTION`; a spec may not."""
    goal: int = 0
    """Number of goal values; 0 for a task without goal."""
    goal_type: str = ""
    """Message in which goals arrive, of `GOAL_TYPES`; empty: that of the reward."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the reward."""
    start: Mapping[str, Any] = field(default_factory=dict)
    """Joint → [low, high], its positions at the start of a simulated episode, in rad (m). The other joints start as
    `world` says."""
    source: str = ""
    """SHA-256 of the file that a reward is from; empty in every spec."""

    def __post_init__(self) -> None:
        whole = isinstance(self.goal, int) and not isinstance(self.goal, bool) and self.goal >= 0
        require_valid(whole, f"the goal of reward '{self.reward}' is {self.goal!r}", "a number of values")
        if self.goal_type:
            require_valid(
                self.goal_type in GOAL_TYPES, f"goal_type is '{self.goal_type}'", f"one of {list(GOAL_TYPES)}"
            )
            size = GOAL_TYPES[self.goal_type]
            require_valid(
                self.goal > 0 and size in (None, self.goal),
                f"goal is {self.goal} and goal_type is '{self.goal_type}'",
                f"goal: {size} for this type" if size else "a goal with values",
            )


@dataclass(frozen=True, kw_only=True)
class Link:
    """One joint of the chain from the base to the gripper."""

    joint: str
    origin: tuple[float, float, float]
    """Position of the joint in the frame of the link before it, in m."""
    axis: tuple[float, float, float]
    """Direction of the joint in its own frame, a unit vector."""
    rotation: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    """Rotation of its frame in the frame of the link before it, a unit quaternion (w, x, y, z)."""
    kind: str = "hinge"
    """`hinge` or `slide`."""
    zero: float = 0.0
    """Joint position at which the link is not moved, in rad (m)."""

    def __post_init__(self) -> None:
        for name in ("axis", "rotation"):
            length = math.hypot(*getattr(self, name))
            require_valid(
                abs(length - 1) < 1e-3, f"the {name} of '{self.joint}' has length {length:.4g}", "of length 1"
            )
        require_valid(
            self.kind in JOINT_KINDS, f"the kind of '{self.joint}' is '{self.kind}'", f"one of {JOINT_KINDS}"
        )


def names_reward_file(reward: str) -> bool:
    """Whether a reward is one of a file, `FILE.py:FUNCTION`."""
    return reward.partition(":")[0].endswith(".py") or "/" in reward or "\\" in reward


def check_task_name(name: Any) -> None:
    """Check the name of a task, which becomes part of a file's name.

    Raises:
        SpecError: If it has other characters than letters, digits, `_` and `-`.
    """
    require_valid(
        isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][\w-]*", name, re.ASCII) is not None,
        f"a task is named {name!r}",
        "made of letters, digits, '_' and '-'",
    )


def build_task(name: Any, values: Any) -> Task:
    """Build a task from a section of the spec.

    Raises:
        SpecError: If its name is invalid, or its reward is one of a file.
    """
    check_task_name(name)
    for part, example in TASK_EXAMPLES.items():
        if isinstance(values, Mapping):
            require_mapping(values.get(part, {}), f"{part} of task '{name}'", example)
    task: Task = build_section(Task, values)
    if names_reward_file(task.reward) or task.source:
        raise SpecError(
            f"task '{name}' has reward '{task.reward}', which is a file. A spec is data: it travels between robots, "
            "and must not run files. Name a reward of an installed package, PACKAGE:NAME, or give the file on the "
            f"command line: --task {name} --reward FILE.py:FUNCTION"
        )
    return task
