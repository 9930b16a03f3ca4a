"""What re-reading a day is worth: a robot returns to the conditions of its day, with a state of its own recordings.

Usage: python docs/lab/24_rereading.py [BASE…] [--robots N] [--seed N]
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from wm_robot.adaptation.context_bank import ContextBank
from wm_robot.evaluation.adaptation import HORIZON, TensorBatch, compute_open_loop_error
from wm_robot.memory.lifetime_state import map_values
from wm_robot.model.base import load_base
from wm_robot.model.torch_backend import TorchBackend, to_tensors
from wm_robot.robots import load_spec
from wm_robot.sharing.assimilate import RecordedSteps, replay_recordings
from wm_robot.types import Step
from wm_robot_sim.rollouts import collect_trajectories
from wm_robot_sim.worlds import DomainRandomization

VISIT = 200
DAY = (0, 1, 0, 2, 1, 3, 2, 4)
"""Condition of each visit of the day that is recorded and re-read."""
AFTER = (0, 1, 2, 3, 4)
"""Conditions afterwards: one visit each, so that every one is a first return."""
VARIANTS = ("initial state", "another's day", "its day")
POINTS = {"0": (0,), "4-12": (4, 8, 12), "16-60": (16, 28, 44, 60), "from 64": (80, 100, 120, 140, 160, 180)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bases", nargs="*", default=["arm-semiparametric", "arm-gru"])
    parser.add_argument("--robots", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    spec, count = load_spec("arm"), args.robots
    draw, rng = DomainRandomization(spec).sample, np.random.default_rng([args.seed, 90_000])
    order = (*DAY, *AFTER)
    lives = collect_trajectories(
        spec,
        num_trajectories=count,
        num_steps=VISIT * len(order) + HORIZON,
        seed=args.seed + 90_000,
        held_out=True,
        worlds=[[draw(rng) for _ in AFTER] for _ in range(count)],
        world_schedule=[(VISIT * number, world) for number, world in enumerate(order)],
    )
    unit = torch.from_numpy(np.diff(lives.obs, axis=1).std((0, 1)))
    day, valid = VISIT * len(DAY), np.ones(lives.action.shape[:2], np.float32)
    recording = RecordedSteps(lives.obs, lives.action, lives.initial_action, valid).select_steps(0, day)
    for name in args.bases:
        model = load_base(Path("bases") / name).model
        bank = ContextBank(TorchBackend(model))
        initial = bank.initial_state(initial_action=lives.initial_action)
        own = replay_recordings(bank.backend, initial, [recording])
        other = map_values(lambda value: np.roll(value, 1, 0), own)
        states = [replace(each, recent=own.recent) for each in (initial, other, own)]
        # All variants in one batch.
        state = map_values(lambda *rows: np.concatenate(rows), *states)
        rows = np.tile(np.arange(count), len(VARIANTS))
        all_lives = lives.select_rows(rows)
        view, errors = TensorBatch(all_lives), {point: [] for each in POINTS.values() for point in each}
        with torch.inference_mode():
            for t in range(day, VISIT * len(order)):
                since = t % VISIT
                if since in errors:
                    now = to_tensors(state.model_part())
                    errors[since].append(compute_open_loop_error(model, now, view, t, unit).numpy())
                obs, action, after = all_lives.obs[:, t], all_lives.action[:, t], all_lives.obs[:, t + 1]
                _, state = bank.update(state, Step(obs, action, after, np.ones(len(rows), np.float32)))
        print(f"| {name} | {' | '.join(POINTS)} |")
        for number, variant in enumerate(VARIANTS):
            part = slice(number * count, (number + 1) * count)
            means = [np.mean([e[part] for p in points for e in errors[p]]) for points in POINTS.values()]
            print(f"| {variant} | {' | '.join(f'{mean:.3g}' for mean in means)} |", flush=True)


if __name__ == "__main__":
    main()
