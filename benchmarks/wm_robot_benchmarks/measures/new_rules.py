"""New rules: changes of what commands do, or of what is asked for, that an agent is not told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float

from wm_robot.spec import RobotSpec
from wm_robot.tasks.goal_postures import POINT_REWARD

if TYPE_CHECKING:
    from wm_robot_sim.batch import BatchSim
    from wm_robot_sim.plant import Plant
    from wm_robot_sim.worlds import World

ANGLES = (np.pi / 6, np.pi / 3)
"""Least and largest angle between the old frame of goals and the new one, in rad."""
POINT_DISTANCE = 0.06
"""Distance of the other point from the gripper point, in m."""
MAX_EXCHANGES = 1000
"""Seeds that are tried for a permutation without a fixed channel."""

ChangeWorld = Callable[["Plant", "World", np.random.Generator], "World"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Rule that replaces the plain one."""

    summary: str
    acts_on: Literal["commands", "goals", "gripper"]
    min_motors: int = 1
    """Smallest number of motors of a robot that it can be applied to."""
    change_world: ChangeWorld | None = None
    """World with the rule, of a nominal world; None: the world stays."""

    def find_lack(self, spec: RobotSpec, task: str) -> str:
        """Return what a robot or its task lacks for the rule; empty if it can be applied."""
        if self.acts_on != "commands" and spec.find_task(task).reward != POINT_REWARD:
            return f"the goal of task '{task}' is no point for a gripper"
        if spec.action_dim < self.min_motors:
            return f"{spec.action_dim} motor{'s' * (spec.action_dim > 1)}; it needs {self.min_motors}"
        return ""


def _exchange(plant: "Plant", world: "World", rng: np.random.Generator) -> "World":
    return _add_effect(world, "exchanged_cables", rng, 1.0)


def _scramble(plant: "Plant", world: "World", rng: np.random.Generator) -> "World":
    """Permute all channels; none stays where it is."""
    size = plant.spec.action_dim
    for _ in range(MAX_EXCHANGES):
        changed = _add_effect(world, "exchanged_cables", rng, 2.0 * size)
        if not plant.compute_signal_changes(changed).mixing.diagonal().any():
            return changed
    raise AssertionError(f"no permutation of {size} channels was found")


def _reverse(plant: "Plant", world: "World", rng: np.random.Generator) -> "World":
    return replace(world, gain=-world.gain)


def _reverse_half(plant: "Plant", world: "World", rng: np.random.Generator) -> "World":
    gain = world.gain.copy()
    gain[rng.choice(len(gain), len(gain) // 2, replace=False)] *= -1
    return replace(world, gain=gain)


def _scale(plant: "Plant", world: "World", rng: np.random.Generator) -> "World":
    return _add_effect(world, "command_scale", rng, 1.0)


def _add_effect(world: "World", kind: str, rng: np.random.Generator, strength: float) -> "World":
    from wm_robot_sim.effects.effect import Effect

    return replace(world, effects=(Effect(kind=kind, seed=int(rng.integers(2**32)), strength=strength),))


RULES: Mapping[str, Rule] = {
    "exchanged": Rule(
        summary="two command channels are exchanged",
        acts_on="commands",
        min_motors=2,
        change_world=_exchange,
    ),
    "scrambled": Rule(
        summary="all command channels are permuted, and none stays",
        acts_on="commands",
        min_motors=3,
        change_world=_scramble,
    ),
    "half_reversed": Rule(
        summary="half of the commands are mirrored about the middle of their range",
        acts_on="commands",
        min_motors=2,
        change_world=_reverse_half,
    ),
    "reversed": Rule(
        summary="all commands are mirrored about the middle of their range",
        acts_on="commands",
        change_world=_reverse,
    ),
    "scaled": Rule(
        summary="each command is scaled about the middle of its range, by 0.74 to 1.35",
        acts_on="commands",
        change_world=_scale,
    ),
    "rotated_goals": Rule(
        summary="goals are given in a frame turned by 30° to 60° about the vertical axis", acts_on="goals"
    ),
    "other_point": Rule(
        summary=f"a point {1000 * POINT_DISTANCE:.0f} mm from the gripper point is asked for",
        acts_on="gripper",
    ),
}
"""Rules by name."""


class CommandMap:
    """Commands that motors get of the actions of `B` robots: an affine map for each.

    An agent that is told it plans with the commands, and its actions are those that lead to them.
    """

    def __init__(
        self,
        matrix: Float[np.ndarray, "B A A"],
        center: Float[np.ndarray, "A"],
        offset: Float[np.ndarray, "B A"],
    ):
        self._matrix, self._center, self._offset = matrix, center, offset

    @classmethod
    def from_sim(cls, sim: "BatchSim") -> "CommandMap":
        """Return the map of the present worlds of simulated robots."""
        spec = sim.spec
        middle = (spec.action_low.astype(np.float64) + spec.action_high) / 2
        changes = [sim.plant.compute_signal_changes(world) for world in sim.worlds]
        return cls(
            np.stack([each.scale[:, None] * each.mixing for each in changes]),
            np.where([actuator.is_servo for actuator in spec.actuators], middle, 0.0),
            np.stack([each.offset for each in changes]),
        )

    def to_commands(self, action: Float[np.ndarray, "B *T A"]) -> Float[np.ndarray, "B *T A"]:
        """Return the commands of actions."""
        shape = (len(action), -1, action.shape[-1])
        moved = (action - self._center).reshape(shape) @ self._matrix.swapaxes(-1, -2)
        return (self._center + moved + self._offset[:, None]).reshape(action.shape).astype(np.float32)

    def to_actions(self, command: Float[np.ndarray, "B A"]) -> Float[np.ndarray, "B A"]:
        """Return the actions that lead to commands."""
        moved = np.linalg.solve(self._matrix, (command - self._center - self._offset)[..., None])
        return np.asarray(self._center + moved[..., 0], np.float32)


def make_changed_world(plant: "Plant", nominal: "World", rule: str, rng: np.random.Generator) -> "World":
    """Make the world of a robot with a rule in force; the nominal one if the rule is not about commands."""
    change = RULES[rule].change_world
    return change(plant, nominal, rng) if change else nominal


def rotate_goals(
    goals: Float[np.ndarray, "B T G"], rngs: Sequence[np.random.Generator]
) -> Float[np.ndarray, "B T G"]:
    """Return what goals mean in the turned frame of each robot; their first three values are the point."""
    angle = np.array([rng.uniform(*ANGLES) * rng.choice([-1, 1]) for rng in rngs])
    cos, sin, zero, one = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
    turn = np.array([[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]]).transpose(2, 0, 1)
    turned = goals.copy()
    turned[..., :3] = goals[..., :3] @ turn.swapaxes(-1, -2)
    return turned


def move_gripper_point(spec: RobotSpec, rng: np.random.Generator) -> RobotSpec:
    """Return a spec whose gripper point is another one."""
    direction = rng.standard_normal(3)
    moved = np.array(spec.tip) + POINT_DISTANCE * direction / np.linalg.norm(direction)
    x, y, z = moved.tolist()
    return replace(spec, tip=(x, y, z))
