"""The experiment of 20: steps until a changed payload is known, of an arm with and without the torque of its servos.

    python docs/lab/20_effort.py --bases bases

Held-out worlds; both arms have the same worlds and random commands, and only the payload changes. The payload
is read from the lifetime state of family `ekf`. Not part of the library: this is how the numbers were made.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from wm_robot.evaluation.adaptation import TensorBatch, update_state
from wm_robot.model.base import load_base
from wm_robot.robots import load_spec
from wm_robot_sim.rollouts import collect_trajectories
from wm_robot_sim.worlds import PAYLOAD_SPREAD, DomainRandomization

ROBOTS = ("arm", "arm_effort")
CHANGE, STEPS = 128, 200
"""Step of the change, and steps after it."""
SHARE, KEPT = 0.2, 10
"""A payload is known from the first step on whose estimate, and the next `KEPT`, is within this share of it."""
LEAST, LEAST_CHANGE = 0.1, 0.15
"""Least payload after the change, and least change, in kg."""
RESAMPLES = 10_000


def draw_pairs(count, seed):
    """Draw worlds before and after: they differ in the payload alone."""
    rng, draw = np.random.default_rng([seed, 40_000]), DomainRandomization(load_spec("arm"))
    low, high = draw.ranges.payload
    pairs = []
    while len(pairs) < count:
        before, after = rng.uniform(low, high, 2)
        if after >= LEAST and abs(after - before) >= LEAST_CHANGE:
            world = draw.sample(rng)
            pairs.append([replace(world, payload=before), replace(world, payload=after)])
    return pairs


@torch.inference_mode()
def estimate_payloads(robot, base, pairs, seed):
    """Return the payload that the agent estimates before the change and after each later step, `B T+1`, in kg."""
    spec = load_spec(robot)
    noise = DomainRandomization(spec).ranges.effort_noise
    worlds = [[replace(world, effort_noise=noise) for world in pair] for pair in pairs]
    batch = collect_trajectories(
        spec,
        num_trajectories=len(pairs),
        num_steps=CHANGE + STEPS,
        seed=10 * seed + 4,
        held_out=True,
        worlds=worlds,
        world_schedule=[(0, 0), (CHANGE, 1)],
    )
    model, view = load_base(base).model, TensorBatch(batch)
    payload = DomainRandomization(spec).parameter_names.index("payload")
    state = model.initial_state(initial_action=view.initial_action)
    state = update_state(model, state, view, 0, CHANGE)
    found = [model.estimate_physics(state)[:, payload]]
    for step in range(CHANGE, CHANGE + STEPS):
        state = update_state(model, state, view, step, step + 1)
        found.append(model.estimate_physics(state)[:, payload])
    return PAYLOAD_SPREAD * torch.stack(found, 1).numpy(), batch.action


def count_steps_until_known(estimate, payload):
    """Count the steps after the change until the payload is known; `STEPS` where it never is, `B`."""
    is_near = np.abs(estimate[:, 1:] - payload[:, None]) <= SHARE * payload[:, None]
    windows = np.lib.stride_tricks.sliding_window_view(is_near, KEPT + 1, axis=1).all(-1)
    return np.where(windows.any(1), windows.argmax(1) + 1, STEPS)


def resample(values, statistic, rng):
    """Return the interval of 95 % of a statistic, by bootstrap over the worlds."""
    drawn = [statistic(values[rng.integers(len(values), size=len(values))]) for _ in range(RESAMPLES)]
    return np.quantile(drawn, [0.025, 0.975])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--bases", type=Path, default=Path("bases"), help="folder of arm-ekf and arm_effort-ekf"
    )
    parser.add_argument("--worlds", type=int, default=200, help="worlds of each seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    steps, errors = {robot: [] for robot in ROBOTS}, {robot: [] for robot in ROBOTS}
    for seed in options.seeds:
        pairs = draw_pairs(options.worlds, seed)
        payload, actions = np.array([after.payload for _, after in pairs]), []
        for robot in ROBOTS:
            estimate, action = estimate_payloads(robot, options.bases / f"{robot}-ekf", pairs, seed)
            steps[robot].append(count_steps_until_known(estimate, payload))
            errors[robot].append(np.abs(estimate - payload[:, None]))
            actions.append(action)
        np.testing.assert_array_equal(*actions)
        print(f"seed {seed}:", {robot: f"{steps[robot][-1].mean():.1f}" for robot in ROBOTS}, flush=True)
    table = np.stack([np.concatenate(steps[robot]) for robot in ROBOTS], 1)
    rng = np.random.default_rng(0)
    after = (0, 8, 16, 32, 64, 128, STEPS)
    for number, robot in enumerate(ROBOTS):
        own = table[:, number]
        error = np.concatenate(errors[robot])[:, list(after)].mean(0)
        low, high = resample(own, np.mean, rng)
        print(
            f"{robot}: mean {own.mean():.1f} [{low:.1f}, {high:.1f}] steps, median {np.median(own):g}, "
            f"known within {STEPS} steps in {100 * (own < STEPS).mean():.1f} % of {len(own)} worlds"
        )
        print("  mean error, kg, after", dict(zip(after, error.round(3).tolist(), strict=True)), "steps")
    difference = table[:, 1] - table[:, 0]
    for name, statistic in (("mean", np.mean), ("median", np.median)):
        low, high = resample(difference, statistic, rng)
        print(
            f"{' - '.join(reversed(ROBOTS))}: {name} {statistic(difference):.1f} [{low:.1f}, {high:.1f}] steps"
        )
    both = (table < STEPS).all(1)
    low, high = resample(difference[both], np.mean, rng)
    print(
        f"  known in both, {both.sum()} worlds: mean {difference[both].mean():.1f} [{low:.1f}, {high:.1f}] steps"
    )
    fewer, more = (difference < 0).mean(), (difference > 0).mean()
    print(f"  fewer steps with torques in {100 * fewer:.1f} % of the worlds, more in {100 * more:.1f} %")


if __name__ == "__main__":
    main()
