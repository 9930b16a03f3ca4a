"""The experiment of 21: the gap after 64 steps of `wm-robot bench adaptation`, without its changes and long lives.

    python docs/lab/21_bodies.py --robot walker --bases bases

The same held-out worlds, errors and counted worlds as in the bench, up to step 80. Not part of the library: this is
how the numbers were made.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from wm_robot.evaluation.adaptation import Variant, compute_error_by_step
from wm_robot.model.base import load_base
from wm_robot.robots import load_spec
from wm_robot_benchmarks.adaptation import COUNTED_RATIO
from wm_robot_sim.rollouts import collect_trajectories
from wm_robot_sim.worlds import DomainRandomization

POINTS = (0, 8, 16, 32, 50, 64, 80)
AT = POINTS.index(64)
VARIANTS = ("robust", "ekf", "oracle")
RESAMPLES = 2000


def measure(robot, bases, worlds, seed):
    """Return the error of each variant, `B P`."""
    spec = load_spec(robot)
    draw, rng = DomainRandomization(spec).sample, np.random.default_rng([seed, 20_000])
    lives = collect_trajectories(
        spec,
        num_trajectories=worlds,
        num_steps=256,
        seed=10 * seed + 1,
        held_out=True,
        worlds=[[draw(rng)] for _ in range(worlds)],
    )
    unit = np.diff(lives.obs, axis=1).std((0, 1))
    models = {name: load_base(bases / f"{robot}-{name}").model for name in VARIANTS}
    return {
        name: compute_error_by_step(Variant(name=name, model=model), lives, POINTS, change_std=unit)
        for name, model in models.items()
    }


def close_gap(errors, rows):
    robust, own, oracle = (errors[name][rows, AT].mean() for name in VARIANTS)
    return (robust - own) / (robust - oracle)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--robot", default="walker")
    parser.add_argument(
        "--bases", type=Path, default=Path("bases"), help="folder of its ekf, robust and oracle"
    )
    parser.add_argument("--worlds", type=int, default=100, help="worlds of each seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    others = [number for number in range(len(POINTS)) if number != AT]
    found = []
    for seed in options.seeds:
        errors = measure(options.robot, options.bases, options.worlds, seed)
        means = {name: errors[name][:, others].mean(1) for name in VARIANTS}
        errors["counted"] = means["robust"] >= COUNTED_RATIO * means["oracle"]
        rows = np.flatnonzero(errors["counted"])
        print(
            f"seed {seed}: gap closed {close_gap(errors, rows):.3f} in {len(rows)} counted worlds of "
            f"{options.worlds}; in all {close_gap(errors, slice(None)):.3f}",
            flush=True,
        )
        found.append(errors)
    errors = {name: np.concatenate([each[name] for each in found]) for name in (*VARIANTS, "counted")}
    print("steps", POINTS)
    for label, rows in (("all", slice(None)), ("counted", np.flatnonzero(errors["counted"]))):
        for name in VARIANTS:
            print(f"{label:8}{name:8}", errors[name][rows].mean(0).round(2).tolist())
        median = [float(np.median(errors[name][rows, AT])) for name in VARIANTS]
        print(f"{label:8}medians at 64", np.round(median, 2).tolist())
    rows, rng = np.flatnonzero(errors["counted"]), np.random.default_rng(0)
    drawn = [close_gap(errors, rng.choice(rows, len(rows))) for _ in range(RESAMPLES)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    print(f"counted {len(rows)} worlds: gap closed {close_gap(errors, rows):.3f} [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()
