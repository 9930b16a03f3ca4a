"""Motion generation: minimum-jerk paths through points, and random actions for data collection."""

from collections.abc import Callable

import numpy as np

from wm_robot.spec import RobotSpec
from wm_robot_sim.reachable_poses import sample_reachable_poses
from wm_robot_sim.worlds import sample_log_uniform

SEGMENT_STEPS = 64
"""Steps between two changes of the kind of random motion."""


def minimum_jerk(fraction: np.ndarray) -> np.ndarray:
    """Return the part of the way done, 0 to 1, at a fraction of the time of a minimum-jerk move.

    Source: Flash and Hogan (1985), J. Neurosci. 5(7).
    """
    t = np.clip(fraction, 0.0, 1.0)
    return t**3 * (10 + t * (6 * t - 15))


def interpolate_paths(
    points: np.ndarray, start: np.ndarray, duration: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """Compute the position on each of many paths at each time.

    Args:
        points: `B K+1 D`.
        start: Start time of the move from each point to the next, `B K`, in s.
        duration: Duration of each move, `B K`, in s.
        times: `T`, in s.

    Returns:
        `B T D`.
    """
    done = minimum_jerk((times[:, None] - start[:, None]) / duration[:, None])
    return points[:, :1] + done @ np.diff(points, axis=1)


def draw_random_actions(
    spec: RobotSpec, rng: np.random.Generator, last_action: np.ndarray, num_steps: int
) -> np.ndarray:
    """Return random actions of `B` trajectories. Each segment has one random kind of motion.

    Kinds: coloured noise, jumps, moves with rests, one moving joint, standing still. A planner's
    actions are jumpy and a settled robot's are not, so training data needs both. A trajectory starts
    with one of the first two kinds, which move every joint: a joint at rest gives no information.

    Args:
        last_action: Last action before, `B A`.

    Returns:
        `B T A`, within range. The robot's own rate limit still applies.
    """
    num_trajectories = len(last_action)
    segments = -(-num_steps // SEGMENT_STEPS)
    kinds: list[Callable[..., np.ndarray]] = [
        draw_coloured_noise,
        draw_random_jumps,
        draw_moves_with_rests,
        draw_single_joint_noise,
        draw_constant_target,
    ]
    drawn = rng.choice(len(kinds), (num_trajectories, segments), p=[0.42, 0.24, 0.2, 0.08, 0.06])
    drawn[:, 0] = rng.choice(2, num_trajectories, p=[0.6, 0.4])
    parts, now = [], last_action.astype(np.float32)
    for segment in range(segments):
        part = np.empty((num_trajectories, SEGMENT_STEPS, spec.action_dim), np.float32)
        for k, kind in enumerate(kinds):
            rows = np.flatnonzero(drawn[:, segment] == k)
            if len(rows):
                part[rows] = kind(spec, rng, now[rows], SEGMENT_STEPS)
        parts.append(np.clip(part, spec.action_low, spec.action_high))
        now = parts[-1][:, -1]
    return np.concatenate(parts, 1)[:, :num_steps]


def draw_coloured_noise(
    spec: RobotSpec, rng: np.random.Generator, last_action: np.ndarray, num_steps: int
) -> np.ndarray:
    """Generate twice low-passed noise of random band and size, around the last action or a random target."""
    num_trajectories, motors = last_action.shape
    band = sample_log_uniform(rng, (0.4, 4.0), (num_trajectories, 1))
    keep = np.exp(-2 * np.pi * band * spec.dt)
    signal, low, lower = (
        np.empty((num_trajectories, num_steps, motors)),
        np.zeros_like(last_action),
        np.zeros_like(last_action),
    )
    for t in range(num_steps):
        low = keep * low + (1 - keep) * rng.standard_normal(last_action.shape)
        lower = keep * lower + (1 - keep) * low
        signal[:, t] = lower
    signal /= signal.std(1, keepdims=True) + 1e-6
    scale = sample_log_uniform(rng, (0.05, 0.4), (num_trajectories, 1)) * rng.uniform(
        0.3, 1.0, last_action.shape
    )
    size = scale * (spec.action_high - spec.action_low) / 2
    center = np.where(
        rng.random((num_trajectories, 1)) < 0.5, last_action, _draw_targets(spec, rng, num_trajectories)
    )
    return center[:, None] + size[:, None] * signal


def draw_moves_with_rests(
    spec: RobotSpec, rng: np.random.Generator, last_action: np.ndarray, num_steps: int
) -> np.ndarray:
    """Generate minimum-jerk moves between reachable poses, with a rest after each."""
    num_trajectories = len(last_action)
    count = int(num_steps * spec.dt / 0.5) + 1
    points = _draw_targets(spec, rng, num_trajectories * count).reshape(num_trajectories, count, -1)
    points = np.concatenate([last_action[:, None], points], 1)
    duration, rest = (
        rng.uniform(0.4, 2.0, (num_trajectories, count)),
        rng.uniform(0.1, 1.5, (num_trajectories, count)),
    )
    start = np.cumsum(duration + rest, 1) - duration - rest
    return interpolate_paths(points, start, duration, spec.dt * np.arange(1, num_steps + 1))


def draw_single_joint_noise(
    spec: RobotSpec, rng: np.random.Generator, last_action: np.ndarray, num_steps: int
) -> np.ndarray:
    """Generate coloured noise of one joint. The others keep the last action."""
    alone = np.zeros(last_action.shape, bool)
    alone[np.arange(len(last_action)), rng.integers(last_action.shape[1], size=len(last_action))] = True
    return np.where(
        alone[:, None], draw_coloured_noise(spec, rng, last_action, num_steps), last_action[:, None]
    )


def draw_random_jumps(
    spec: RobotSpec, rng: np.random.Generator, last_action: np.ndarray, num_steps: int
) -> np.ndarray:
    """Generate targets that jump at random steps and stay constant in between. The first step is a jump."""
    num_trajectories, motors = last_action.shape
    size = sample_log_uniform(rng, (0.1, 1.0), (num_trajectories, 1, 1))
    chance = sample_log_uniform(rng, (0.05, 0.3), (num_trajectories, 1, 1))
    targets = _draw_targets(spec, rng, num_trajectories * num_steps).reshape(
        num_trajectories, num_steps, motors
    )
    center = np.where(rng.random((num_trajectories, 1, 1)) < 0.5, last_action[:, None], targets[:, :1])
    values = np.concatenate([last_action[:, None], center + size * (targets - center)], 1)
    jump = rng.random((num_trajectories, num_steps, 1)) < chance
    jump[:, 0] = True
    latest = np.maximum.accumulate(jump * np.arange(1, num_steps + 1)[:, None], axis=1)
    return np.take_along_axis(values, latest, 1)


def draw_constant_target(
    spec: RobotSpec, rng: np.random.Generator, last_action: np.ndarray, num_steps: int
) -> np.ndarray:
    """Generate at most one move to a random target, then a constant action."""
    num_trajectories = len(last_action)
    there = np.where(
        rng.random((num_trajectories, 1)) < 0.4, last_action, _draw_targets(spec, rng, num_trajectories)
    )
    points = np.stack([last_action, there], 1)
    duration = rng.uniform(0.3, 1.5, (num_trajectories, 1))
    return interpolate_paths(points, np.zeros_like(duration), duration, spec.dt * np.arange(1, num_steps + 1))


def _draw_targets(spec: RobotSpec, rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw random actions, `count A`: reachable joint angles for servos, any value for motors."""
    wanted = rng.uniform(spec.action_low, spec.action_high, (count, spec.action_dim))
    servos = [a for a, actuator in enumerate(spec.actuators) if actuator.is_servo]
    if servos:
        joints = [spec.joint_names.index(spec.actuators[a].joint) for a in servos]
        wanted[:, servos] = sample_reachable_poses(spec, rng, count)[:, joints]
    return wanted
