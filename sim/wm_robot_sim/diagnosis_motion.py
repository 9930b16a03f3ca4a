"""Diagnosis motion: a minute in which each joint moves, and visits both of its stops, and its simulated recording."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from wm_robot.spec import RobotSpec
from wm_robot.types import Episode, Fault
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.injected_faults import add_faults
from wm_robot_sim.motion import draw_random_actions, minimum_jerk
from wm_robot_sim.worlds import DomainRandomization, World

VISIT_SECONDS, PRESS_SECONDS = 0.9, 0.5
"""Time of a move to a stop, and time there."""
MILD = 0.5
"""Power of the factors of a healthy robot: those of its spec's ranges are of all robots that training meets."""


def draw_healthy_world(spec: RobotSpec, rng: np.random.Generator) -> World:
    """Draw a healthy robot: mild factors within the ranges of its spec, without load, fault and long delay."""
    distribution = DomainRandomization(spec)
    ranges, nominal = distribution.ranges, distribution.make_nominal_world()

    def draw_factors(bounds: tuple[float, float], size: int) -> np.ndarray:
        low, high = MILD * np.log(bounds[0]), MILD * np.log(bounds[1])
        return np.exp(rng.uniform(low, high, size))

    motors, joints = spec.action_dim, len(spec.joints)
    return replace(
        nominal,
        gain=draw_factors(ranges.gain, motors),
        torque=draw_factors(ranges.torque, motors),
        friction=draw_factors(ranges.friction, joints),
        damping=draw_factors(ranges.damping, joints),
        mass=draw_factors(ranges.mass, joints),
        bias=ranges.bias * rng.standard_normal(joints),
        tilt=MILD * ranges.tilt * rng.uniform(-1, 1, 2),
        delay=int(rng.integers(0, ranges.delay[1] // 2 + 1)),
    )


def make_motion(
    spec: RobotSpec, rng: np.random.Generator, start: np.ndarray, num_steps: int, *, stops: bool
) -> np.ndarray:
    """Make actions, `T A`: random motion, and where asked moves of each servo to both ends of its range.

    Args:
        start: Action before the first, `A`.
    """
    visits = _visit_stops(spec) if stops else np.zeros((0, spec.action_dim))
    visits = visits[: num_steps // 2]
    random = draw_random_actions(spec, rng, start[None], num_steps - len(visits))[0]
    if not len(visits):
        return random
    return np.concatenate([random, visits.astype(np.float32)])


def _visit_stops(spec: RobotSpec) -> np.ndarray:
    """Make moves of one servo after the other to both ends of its range, from home and back."""
    home, parts = spec.home_action.astype(np.float64), []
    move, press = round(VISIT_SECONDS * spec.rate), round(PRESS_SECONDS * spec.rate)
    done = minimum_jerk(np.arange(1, move + 1) / move)[:, None]
    for number, actuator in enumerate(spec.actuators):
        if not actuator.is_servo:
            continue
        now = home
        for target in (actuator.range[0], actuator.range[1], home[number]):
            goal = home.copy()
            goal[number] = target
            parts += [now + done * (goal - now), np.repeat(goal[None], press, 0)]
            now = goal
    return np.concatenate(parts) if parts else np.zeros((0, spec.action_dim))


def simulate_recording(
    spec: RobotSpec,
    faults: Sequence[Fault] = (),
    *,
    seed: int,
    seconds: float = 60.0,
    stops: bool = True,
    world: World | None = None,
    make_sim: Callable[..., BatchSim] = BatchSim,
) -> Episode:
    """Simulate a robot with faults in the diagnosis motion, and return the recording.

    Args:
        stops: Whether each joint visits both of its stops.
        world: Robot that gets the faults; by default a healthy one of that seed.
        make_sim: Makes the simulation, with the arguments of `BatchSim`, such as one of a stand-in.
    """
    rng = np.random.default_rng([seed, 28])
    healthy = draw_healthy_world(spec, rng) if world is None else world
    faulty = add_faults(healthy, spec, faults)
    sim = make_sim(spec, [faulty], seed=seed)
    num_steps = round(seconds * spec.rate)
    initial, first = sim.last_action[0], sim.obs[0].copy()
    actions = make_motion(spec, rng, initial, num_steps, stops=stops)
    obs, applied = sim.rollout(actions[None])
    return make_episode(spec, np.concatenate([first[None], obs[0]]), applied[0], initial)


def make_episode(spec: RobotSpec, obs: np.ndarray, action: np.ndarray, initial_action: np.ndarray) -> Episode:
    """Make the episode of a simulated robot."""
    steps = len(action)
    return Episode(
        stamp=np.arange(steps + 1) * round(1e9 * spec.dt),
        obs=obs,
        action=action,
        initial_action=initial_action,
        reward=np.full(steps, np.nan),
        goal=np.zeros((steps + 1, 0)),
        valid=np.ones(steps, bool),
    )
