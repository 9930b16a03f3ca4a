"""Motion generation: minimum-jerk paths through points, and random actions for data collection."""

from collections.abc import Callable

import numpy as np

from wm_robot.spec import RobotSpec
from wm_robot_sim.reachable_poses import comfortable
from wm_robot_sim.worlds import log_uniform

SEGMENT = 64
"""Steps between two changes of the kind of random motion."""


def minimum_jerk(fraction: np.ndarray) -> np.ndarray:
    """Return the part of the way done, 0 to 1, at a fraction of the time of a minimum-jerk move.

    Source: Flash and Hogan (1985), J. Neurosci. 5(7).
    """
    t = np.clip(fraction, 0.0, 1.0)
    return t**3 * (10 + t * (6 * t - 15))


def along(points: np.ndarray, start: np.ndarray, duration: np.ndarray, times: np.ndarray) -> np.ndarray:
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


def random_actions(spec: RobotSpec, rng: np.random.Generator, hold: np.ndarray, steps: int) -> np.ndarray:
    """Return random actions of `B` trajectories. Each segment has one random kind of motion.

    Kinds: coloured noise, jumps, moves with rests, one moving joint, standing still. A planner's
    actions are jumpy and a settled robot's are not, so training data needs both. A trajectory starts
    with one of the first two kinds, which move every joint: a joint at rest gives no information.

    Args:
        last_action: Last action before, `B A`.

    Returns:
        `B T A`, within range. The robot's own rate limit still applies.
    """
    lives = len(hold)
    segments = -(-steps // SEGMENT)
    kinds: list[Callable[..., np.ndarray]] = [coloured, jumps, moves, single, still]
    drawn = rng.choice(len(kinds), (lives, segments), p=[0.42, 0.24, 0.2, 0.08, 0.06])
    drawn[:, 0] = rng.choice(2, lives, p=[0.6, 0.4])
    parts, now = [], hold.astype(np.float32)
    for segment in range(segments):
        part = np.empty((lives, SEGMENT, spec.action_dim), np.float32)
        for k, kind in enumerate(kinds):
            rows = np.flatnonzero(drawn[:, segment] == k)
            if len(rows):
                part[rows] = kind(spec, rng, now[rows], SEGMENT)
        parts.append(np.clip(part, spec.action_low, spec.action_high))
        now = parts[-1][:, -1]
    return np.concatenate(parts, 1)[:, :steps]


def coloured(spec: RobotSpec, rng: np.random.Generator, hold: np.ndarray, steps: int) -> np.ndarray:
    """Generate twice low-passed noise of random band and size, around the last action or a random target."""
    lives, motors = hold.shape
    band = log_uniform(rng, (0.4, 4.0), (lives, 1))
    keep = np.exp(-2 * np.pi * band * spec.dt)
    signal, low, lower = np.empty((lives, steps, motors)), np.zeros_like(hold), np.zeros_like(hold)
    for t in range(steps):
        low = keep * low + (1 - keep) * rng.standard_normal(hold.shape)
        lower = keep * lower + (1 - keep) * low
        signal[:, t] = lower
    signal /= signal.std(1, keepdims=True) + 1e-6
    scale = log_uniform(rng, (0.05, 0.4), (lives, 1)) * rng.uniform(0.3, 1.0, hold.shape)
    size = scale * (spec.action_high - spec.action_low) / 2
    center = np.where(rng.random((lives, 1)) < 0.5, hold, _targets(spec, rng, lives))
    return center[:, None] + size[:, None] * signal


def moves(spec: RobotSpec, rng: np.random.Generator, hold: np.ndarray, steps: int) -> np.ndarray:
    """Generate minimum-jerk moves between reachable poses, with a rest after each."""
    lives = len(hold)
    count = int(steps * spec.dt / 0.5) + 1
    points = _targets(spec, rng, lives * count).reshape(lives, count, -1)
    points = np.concatenate([hold[:, None], points], 1)
    duration, rest = rng.uniform(0.4, 2.0, (lives, count)), rng.uniform(0.1, 1.5, (lives, count))
    start = np.cumsum(duration + rest, 1) - duration - rest
    return along(points, start, duration, spec.dt * np.arange(1, steps + 1))


def single(spec: RobotSpec, rng: np.random.Generator, hold: np.ndarray, steps: int) -> np.ndarray:
    """Generate coloured noise of one joint. The others keep the last action."""
    alone = np.zeros(hold.shape, bool)
    alone[np.arange(len(hold)), rng.integers(hold.shape[1], size=len(hold))] = True
    return np.where(alone[:, None], coloured(spec, rng, hold, steps), hold[:, None])


def jumps(spec: RobotSpec, rng: np.random.Generator, hold: np.ndarray, steps: int) -> np.ndarray:
    """Generate targets that jump at random steps and stay constant in between. The first step is a jump."""
    lives, motors = hold.shape
    size = log_uniform(rng, (0.1, 1.0), (lives, 1, 1))
    chance = log_uniform(rng, (0.05, 0.3), (lives, 1, 1))
    targets = _targets(spec, rng, lives * steps).reshape(lives, steps, motors)
    center = np.where(rng.random((lives, 1, 1)) < 0.5, hold[:, None], targets[:, :1])
    values = np.concatenate([hold[:, None], center + size * (targets - center)], 1)
    jump = rng.random((lives, steps, 1)) < chance
    jump[:, 0] = True
    latest = np.maximum.accumulate(jump * np.arange(1, steps + 1)[:, None], axis=1)
    return np.take_along_axis(values, latest, 1)


def still(spec: RobotSpec, rng: np.random.Generator, hold: np.ndarray, steps: int) -> np.ndarray:
    """Generate at most one move to a random target, then a constant action."""
    lives = len(hold)
    there = np.where(rng.random((lives, 1)) < 0.4, hold, _targets(spec, rng, lives))
    points = np.stack([hold, there], 1)
    duration = rng.uniform(0.3, 1.5, (lives, 1))
    return along(points, np.zeros_like(duration), duration, spec.dt * np.arange(1, steps + 1))


def _targets(spec: RobotSpec, rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw random actions, `count A`: reachable joint angles for servos, any value for motors."""
    wanted = rng.uniform(spec.action_low, spec.action_high, (count, spec.action_dim))
    servos = [a for a, actuator in enumerate(spec.actuators) if actuator.unit == "rad"]
    if servos:
        joints = [spec.joint_names.index(spec.actuators[a].joint) for a in servos]
        wanted[:, servos] = comfortable(spec, rng, count)[:, joints]
    return wanted
