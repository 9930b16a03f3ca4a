"""Effect lives: trajectories of robots with an undeclared effect, and how well physics itself predicts them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from wm_robot.evaluation.adaptation import HORIZON, OFFSETS
from wm_robot.spec import RobotSpec
from wm_robot.types import TrajectoryBatch

if TYPE_CHECKING:
    from wm_robot_sim.batch import BatchSim
    from wm_robot_sim.worlds import World


@dataclass(frozen=True)
class EffectLives:
    """Lives of `B` robots in random motion, each in one world."""

    trajectories: TrajectoryBatch
    floor: Float[np.ndarray, "B P"]
    """Squared error of the simulator with the true effect, started from the noisy observation, in units of the
    one-step change: mean over channels, and over the offsets of each point."""
    unit: Float[np.ndarray, "O"]
    """Standard deviation of the one-step change of all robots."""


def simulate_lives(
    spec: RobotSpec, worlds: Sequence["World"], *, seed: int, points: Sequence[int]
) -> EffectLives:
    """Simulate robots in random motion, and predict at some steps by the simulator itself.

    Args:
        points: Steps, the last of which ends the trajectories.
    """
    from wm_robot_sim.batch import BatchSim
    from wm_robot_sim.motion import draw_random_actions

    sim = BatchSim(spec, worlds, seed=seed)
    twin = BatchSim(spec, worlds, seed=seed)
    hold, first = sim.last_action, sim.obs.copy()
    steps = points[-1] + OFFSETS[-1] + HORIZON
    planned = draw_random_actions(spec, np.random.default_rng([seed, 1]), hold, steps)
    late = _count_late_steps(sim)
    # The reading of a step is of the state `late` steps before, and that of the first steps is of the start.
    wanted = sorted({point + offset for point in points for offset in OFFSETS})
    starts = {step: max(0, step - late) for step in wanted}
    saved, seen, applied = dict[int, dict[str, Any]](), [first], list[np.ndarray]()
    for step in range(steps):
        if step in starts.values():
            saved[step] = sim.save()
        obs, action = sim.step(planned[:, step])
        seen.append(obs)
        applied.append(action)
    obs, action = np.stack(seen, 1), np.stack(applied, 1)
    unit = np.diff(spec.layout.count_turns(obs), axis=1).std((0, 1))
    error = {}
    for step, start in starts.items():
        twin.restore(saved[start])
        twin.place_joints(obs[:, step])
        if (end := step + HORIZON - late) > start:
            twin.rollout(planned[:, start:end])
        difference = spec.layout.subtract(twin.compute_true_obs(), obs[:, step + HORIZON])
        error[step] = ((difference / unit) ** 2).mean(-1)
    floor = [np.stack([error[point + offset] for offset in OFFSETS]).mean(0) for point in points]
    return EffectLives(
        TrajectoryBatch(
            obs=spec.layout.count_turns(obs),
            action=action,
            initial_action=hold,
            goal=np.zeros((len(worlds), steps + 1, 0), np.float32),
            physics=np.stack([world.to_vector() for world in worlds])[:, None],
            world=np.zeros((len(worlds), steps), np.int64),
        ),
        np.stack(floor, 1),
        unit,
    )


def _count_late_steps(sim: "BatchSim") -> int:
    """Count the control steps by which the readings of the robots lag."""
    lags = [sim.plant.compute_signal_changes(world).lag for world in sim.worlds]
    return round(max(lags) / sim.plant.substeps)
