"""What the tests of the simulator share."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from wm_robot.robots import ROBOTS_FOLDER, load_spec
from wm_robot.spec import RobotSpec
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.worlds import DomainRandomization, World

ROBOTS = tuple(sorted(path.stem for path in ROBOTS_FOLDER.glob("*.yaml")))
"""All that ship."""
ARM = load_spec("arm")
ARM_WORLDS = DomainRandomization(ARM)


def silent(world: World | None = None, **changes: object) -> World:
    """A world, nominal by default, whose sensors tell the truth at once."""
    clean = {"position_noise": 0.0, "velocity_noise": 0.0, "sensor_delay": 0, "bias": np.zeros(6)}
    return replace(world or ARM_WORLDS.make_nominal_world(), **{**clean, **changes})


def some_worlds(spec: RobotSpec, count: int, *, seed: int = 0) -> list[World]:
    rng = np.random.default_rng(seed)
    return [DomainRandomization(spec).sample(rng) for _ in range(count)]


def wander(spec: RobotSpec, hold: np.ndarray, steps: int, *, seed: int = 0) -> np.ndarray:
    """A random walk of actions, `B T A`, from the one in force."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(len(hold), steps, spec.action_dim)) * spec.action_step
    return np.clip(hold[:, None] + noise.cumsum(1), spec.action_low, spec.action_high).astype(np.float32)


def arms(worlds: Sequence[World], *, seed: int = 0) -> BatchSim:
    """Arms that all start in one pose, so that only their worlds differ."""
    sim = BatchSim(ARM, worlds, seed=seed)
    saved = sim.save()
    for name in ("physical", "commands"):
        saved[name][:] = saved[name][:1]
    sim.restore(saved)
    return sim


def held(sim: BatchSim, steps: int) -> np.ndarray:
    """The action in force, `B T A`."""
    return np.repeat(sim.last_action[:, None], steps, axis=1)
