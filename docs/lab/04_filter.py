"""The experiments of 04: family `ekf` on validation worlds, with other constants, and the planner on others' paths.

    python docs/lab/04_filter.py infer --set DRIFT=0.05 --set DOUBT=0.03
    python docs/lab/04_filter.py infer --change
    python docs/lab/04_filter.py plan --set iterations=2 --set samples=64 --set elites=12 --set control_cost=0

Validation worlds, never those of the benches. Not part of the library: this is how the numbers were made.
"""

import argparse

import numpy as np
import torch

from wm_robot.agent.batch_agent import BatchAgent
from wm_robot.agent.rollout_objective import TorchPlanner
from wm_robot.evaluation.adaptation import Variant, compute_error_by_step
from wm_robot.evaluation.control import HiddenChange, measure_task_error
from wm_robot.model.base import load_base
from wm_robot.model.torch_backend import TorchBackend
from wm_robot.planning.mppi import MppiConfig
from wm_robot.robots import load_spec
from wm_robot.tasks import TaskError
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.goals import MovingTarget
from wm_robot_sim.rollouts import collect_trajectories
from wm_robot_sim.worlds import DomainRandomization

SPEC = load_spec("arm")
REACH = TaskError(SPEC, SPEC.find_task("reach"))
WORLDS = DomainRandomization(SPEC)


def infer(worlds, seed, changed, constants):
    rng = np.random.default_rng(seed)
    drawn = [[WORLDS.sample(rng) for _ in range(1 + changed)] for _ in range(worlds)]
    steps, visits = (248, [(0, 0), (128, 1)]) if changed else (136, [(0, 0)])
    lives = collect_trajectories(
        SPEC, num_trajectories=worlds, num_steps=steps, seed=seed, worlds=drawn, world_schedule=visits
    )
    points = (136, 144, 160, 178, 228) if changed else (0, 16, 32, 50, 112)
    unit, errors = np.diff(lives.obs, axis=1).std((0, 1)), {}
    for arm in ("robust", "oracle", "ekf"):
        model = load_base(f"bases/arm-{arm}").model
        for name, value in constants.items() if arm == "ekf" else ():
            setattr(model.memories[0], name, value)
        errors[arm] = compute_error_by_step(Variant(name=arm, model=model), lives, points, change_std=unit)
    robust, oracle, own = (errors[arm].mean(0) for arm in ("robust", "oracle", "ekf"))
    for what, row in {
        "steps": np.array(points),
        "robust": robust,
        "oracle": oracle,
        "ekf": own,
        "median": np.median(errors["ekf"], 0),
        "gap closed": (robust - own) / (robust - oracle),
    }.items():
        print(f"{what:10}", row.round(3).tolist())


def plan(worlds, seed, arm, constants, steps=300, settled=50):
    rngs = [np.random.default_rng([seed, 1, i]) for i in range(worlds)]
    drawn = [WORLDS.sample(rng) for rng in rngs]
    sim = BatchSim(SPEC, drawn, seed=seed)
    targets = [MovingTarget(SPEC, seed=np.random.SeedSequence([seed, 2, i])) for i in range(worlds)]
    truth = np.stack([world.to_vector() for world in drawn])
    change = HiddenChange(step=-1, apply=lambda: None, truth_before=truth, truth_after=truth)
    planner = MppiConfig(**{k: v if k == "control_cost" else int(v) for k, v in constants.items()})
    model = load_base(f"bases/arm-{arm}").model
    plans = TorchPlanner(model, SPEC, task="reach", planner=planner)
    crew = BatchAgent(TorchBackend(model), plans, SPEC, seed=seed)
    error = measure_task_error(
        sim, crew, np.stack([target.compute_path(steps + 1) for target in targets]), change, REACH
    )
    own = np.sort(1000 * error[:, settled:].mean(1))
    trimmed = own[: int(0.9 * worlds)].mean()
    print(f"mean {own.mean():.2f} mm, median {np.median(own):.2f}, without the worst tenth {trimmed:.2f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("infer", "plan"))
    parser.add_argument("--worlds", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--change", action="store_true")
    parser.add_argument("--arm", default="oracle")
    parser.add_argument("--set", action="append", default=[])
    asked = parser.parse_args()
    constants = {name: float(value) for name, value in (pair.split("=") for pair in asked.set)}
    if asked.what == "infer":
        infer(asked.worlds or 300, asked.seed or (77 if asked.change else 31_337), asked.change, constants)
    else:
        plan(asked.worlds or 64, asked.seed or 99, asked.arm, constants)
