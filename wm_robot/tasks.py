"""Tasks: reward functions by name, pure functions of observation, action, next observation and goal.

Each reward accepts NumPy arrays and torch tensors of any leading shape. So simulator, planner and
report use the same code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wm_robot.errors import SpecError
from wm_robot.math.kinematics import Array, compute_tip_position, concatenate, cosine, sqrt
from wm_robot.spec import RobotSpec, Task


@dataclass(frozen=True)
class Reward:
    """Reward of a step in two parts, so that a planner may linearise the first one over a short distance."""

    features: Callable[[Array], Array]
    """next_obs `… O` → features `… F`."""
    score: Callable[[Array, Array, Array], Array]
    """features `… F`, action `… A`, goal `… G` → reward `…`."""

    def __call__(self, obs: Array, action: Array, next_obs: Array, goal: Array) -> Array:
        """obs `… O`, action `… A`, next_obs `… O`, goal `… G` → reward `…`."""
        return self.score(self.features(next_obs), action, goal)


def compute_gripper_position(spec: RobotSpec, obs: Array) -> Array:
    """Compute the gripper position from the joint angles of an observation, in m, `… 3`.

    Raises:
        SpecError: If the spec has no kinematic chain.
    """
    if not spec.chain:
        raise SpecError(f"robot '{spec.name}' has no chain in its spec; a gripper position needs one")
    positions = obs[..., _find_channels(spec, [f"{link.joint}/position" for link in spec.chain])]
    return compute_tip_position(positions, spec.chain, spec.tip)


def make_reach_reward(spec: RobotSpec, *, speed_cost: float = 0.0) -> Reward:
    """Return the reward: minus the distance from gripper to goal after the step, in m, minus a cost of joint speed.

    Args:
        speed_cost: Cost of the mean squared joint velocity, in m / (rad/s)².
    """
    velocities = _find_channels(spec, [f"{joint}/velocity" for joint in spec.joint_names])
    each = speed_cost / len(spec.joints)

    def compute_features(next_obs: Array) -> Array:
        return concatenate(compute_gripper_position(spec, next_obs), next_obs[..., velocities])

    def compute_reward(seen: Array, action: Array, goal: Array) -> Array:
        square = ((seen[..., :3] - goal[..., :3]) ** 2).sum(-1)
        # The root is smooth at the goal, so that the last millimetres still have a gradient.
        return (seen[..., 3:] ** 2).sum(-1) * -each - sqrt(square + 1e-6)

    return Reward(compute_features, compute_reward)


def make_swingup_reward(spec: RobotSpec, *, rail: float = 1.0) -> Reward:
    """Return the reward of a cart-pole: 1 for the pole upright, at rest, in the middle of the rail; else less.

    The first joint is the cart, the second the pole.

    Raises:
        SpecError: If the robot has other than two joints.
    """
    if len(spec.joints) != 2:
        raise SpecError(f"swingup needs a cart and a pole; robot '{spec.name}' has joints {spec.joint_names}")
    cart, pole = spec.joint_names
    counted = _find_channels(spec, [f"{cart}/position", f"{pole}/position", f"{pole}/velocity"])

    def compute_features(next_obs: Array) -> Array:
        return next_obs[..., counted]

    def compute_reward(seen: Array, action: Array, goal: Array) -> Array:
        slide, hinge, spin = (seen[..., i] for i in range(3))
        upright = (1 + cosine(hinge)) / 2
        return upright / (1 + (slide / rail) ** 2) / (1 + (spin / 10) ** 2)

    return Reward(compute_features, compute_reward)


def _find_channels(spec: RobotSpec, channels: Sequence[str]) -> slice | list[int]:
    """Find the indices of channels in an observation.

    Adjacent channels give a slice, because an index is three nodes of an ONNX model.

    Raises:
        SpecError: If the robot does not sense a channel.
    """
    for channel in channels:
        if channel not in spec.observation_names:
            raise SpecError(
                f"robot '{spec.name}' does not sense '{channel}', which its task needs; interfaces are "
                f"{spec.interfaces}"
            )
    places = [spec.observation_names.index(channel) for channel in channels]
    whole = range(places[0], places[-1] + 1)
    return slice(whole.start, whole.stop) if places == list(whole) else places


REWARDS: dict[str, Callable[..., Reward]] = {"reach": make_reach_reward, "swingup": make_swingup_reward}
"""Reward functions that a spec may name."""


def make_reward(spec: RobotSpec, task: Task) -> Reward:
    """Build the reward function of a task.

    Raises:
        SpecError: If the name is unknown.
    """
    if task.reward not in REWARDS:
        raise SpecError(f"reward '{task.reward}' is unknown; known are {sorted(REWARDS)}")
    return REWARDS[task.reward](spec, **task.parameters)
