"""The experiments of 03: physics fitted to what was lived, by gradient through the oracle's own predictions.

    python docs/lab/03_infer.py fit --worlds 60       # after 50 steps, to convergence
    python docs/lab/03_infer.py online --worlds 40    # one gradient step a control step, with a change at 128

Validation worlds, never those of the benches. Not part of the library: this is how the numbers were made.
"""

import argparse
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from wm_robot.evaluation.adaptation import HORIZON, MOMENTS, Arm, _open_loop, _Tensors, error_by_step
from wm_robot.model.base import load_base
from wm_robot.robots import load_spec
from wm_robot_sim.rollouts import gather
from wm_robot_sim.worlds import WorldDistribution

SPEC = load_spec("arm")
WORLDS = WorldDistribution(SPEC)
ORACLE = load_base("bases/arm-oracle").model
RNG = np.random.default_rng(0)
PRIOR = np.stack([WORLDS.sample(RNG).vector() for _ in range(4000)])
MEAN, SPREAD = torch.tensor(PRIOR.mean(0)), torch.tensor(PRIOR.std(0) + 1e-3)
LOW, HIGH = torch.tensor(PRIOR.min(0)), torch.tensor(PRIOR.max(0))
MOTORS = SPEC.action_dim
TURNED = -2 / 0.65
"""Two healthy gains in the oracle's units: what turns a motor round."""


def draws(*shape):
    return torch.tensor(PRIOR[RNG.integers(len(PRIOR), size=shape)])


def known_actions(view):
    return torch.cat([view.hold[:, None].expand(-1, 3, -1), view.action], 1)


def told_state(physics, recent):
    """Initial states of the oracle with these physics, `B P`, and actions on their way, `B 3 A`."""
    return replace(ORACLE.birth(hold=recent[:, -1], truth=physics), recent=recent)


def misfit(physics, view, stop, window, half_life=None, open_loop=0.0):
    """Negative log posterior of physics `B M P`, from the last `window` steps before `stop`: `B M`."""
    robots, many = physics.shape[:2]
    start = max(0, stop - window)
    steps, known = stop - start, known_actions(view)

    def each(x):
        return x.repeat_interleave(many, 0)

    told = physics.flatten(0, 1)
    state = told_state(told, each(known[:, start : start + 3]))
    obs, action = each(view.obs[:, start : stop + 1]), each(view.action[:, start:stop])
    truth = told[:, None].expand(-1, steps + 1, -1)
    predicted, _ = ORACLE.scan(state, obs, action, torch.ones(len(told), steps), truth)
    unit = ORACLE.change_std
    error, spread = (predicted.mean - obs[:, 1:]) / unit, predicted.log_variance - 2 * unit.log()
    each_step = 0.5 * (error.square() * torch.exp(-spread) + spread).sum(2)
    if half_life:
        each_step = each_step * 0.5 ** (torch.arange(steps, 0, -1.0) / half_life)
    total = each_step.sum(1)
    for at in range(start, stop - HORIZON + 1, 8) if open_loop else ():
        now = replace(state, recent=each(known[:, at : at + 3]))
        plans = each(view.action[:, None, at : at + HORIZON])
        mean, _ = ORACLE.imagine(now, ORACLE.observe(now, each(view.obs[:, at])), plans)
        error = (mean[:, 0] - each(view.obs[:, at + 1 : at + 1 + HORIZON])) / unit
        ahead = 0.02 * torch.arange(1, HORIZON + 1)[:, None]
        total = total + open_loop * (F.huber_loss(error, 0 * error, delta=3.0, reduction="none") / ahead).sum(
            (1, 2)
        )
    return total.view(robots, many) + 0.5 * ((physics - MEAN) / SPREAD).square().sum(2)


def error_with(physics, view, step, unit):
    """8-step error of the oracle told these physics, `B`, as the benches take it."""
    known, errors = known_actions(view), []
    for moment in MOMENTS:
        at = step + moment
        errors.append(_open_loop(ORACLE, told_state(physics, known[:, at : at + 3]), view, at, unit))
    return torch.stack(errors).mean(0)


def compare(lives, points, unit, found, name):
    rows = {name: np.stack([found[p].numpy() for p in points], 1)}
    for arm in ("robust", "kalman", "oracle"):
        model = load_base(f"bases/arm-{arm}").model
        rows[arm] = error_by_step(Arm(name=arm, model=model), lives, points, change_std=unit.numpy())
    for arm, error in rows.items():
        print(
            f"{arm:8}",
            "mean",
            error.mean(0).round(3).tolist(),
            "median",
            np.median(error, 0).round(3).tolist(),
        )


def fit(worlds, starts=6, iterations=100, steps=50):
    lives = gather(SPEC, lives=worlds, steps=96, seed=987_654, change_rate=0.0)
    view, unit = _Tensors(lives), torch.from_numpy(np.diff(lives.obs, axis=1).std((0, 1)))
    physics = draws(worlds, starts)
    with torch.no_grad():
        best = misfit(physics, view, steps, steps, open_loop=0.3)
        for _ in range(12):
            other = draws(worlds, starts)
            score = misfit(other, view, steps, steps, open_loop=0.3)
            physics = torch.where((score < best)[..., None], other, physics)
            best = torch.minimum(score, best)
    physics.requires_grad_(True)
    optimizer = torch.optim.Adam([physics], lr=0.1)
    for i in range(iterations):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - i / iterations) + 0.005
        optimizer.zero_grad()
        misfit(physics, view, steps, steps, open_loop=0.3).sum().backward()
        optimizer.step()
        with torch.no_grad():
            physics.copy_(torch.minimum(torch.maximum(physics, LOW), HIGH))
    with torch.no_grad():
        chosen = misfit(physics, view, steps, steps, open_loop=0.3).argmin(1)
        found = physics[torch.arange(worlds), chosen]
        compare(lives, (steps,), unit, {steps: error_with(found, view, steps, unit)}, "fitted")


def online(worlds, many=8, window=64, rate=0.1):
    rng = np.random.default_rng(4242)
    pairs = [[WORLDS.sample(rng), WORLDS.sample(rng)] for _ in range(worlds)]
    lives = gather(SPEC, lives=worlds, steps=248, seed=31_337, worlds=pairs, visits=[(0, 0), (128, 1)])
    view, unit = _Tensors(lives), torch.from_numpy(np.diff(lives.obs, axis=1).std((0, 1)))
    physics = draws(worlds, many)
    first, second, count = torch.zeros_like(physics), torch.zeros_like(physics), torch.zeros(worlds, many, 1)
    points, rows, chosen = (16, 32, 50, 112, 144, 160, 178, 228), torch.arange(worlds), {}
    for t in range(1, 241):
        physics.requires_grad_(True)
        score = misfit(physics, view, t, window, half_life=window / 2)
        (slope,) = torch.autograd.grad(score.sum(), physics)
        score, physics = score.detach(), physics.detach()
        count += 1
        first, second = 0.8 * first + 0.2 * slope, 0.95 * second + 0.05 * slope.square()
        step = first / (1 - 0.8**count) / ((second / (1 - 0.95**count)).sqrt() + 1e-6)
        physics = torch.minimum(torch.maximum(physics - rate * step, LOW), HIGH)
        best, worst = score.argmin(1), score.argmax(1)
        if t % 4 == 0:
            # The worst is born again: as the best with one motor turned round, or as a draw of the prior.
            reborn, motor = physics[rows, best].clone(), torch.tensor(RNG.integers(MOTORS, size=worlds))
            reborn[rows, motor] = TURNED - reborn[rows, motor]
            turned = torch.tensor(RNG.random(worlds) < 0.6)[:, None]
            physics[rows, worst] = torch.where(turned, reborn, draws(worlds))
            for moment in (first, second, count):
                moment[rows, worst] = 0
        if t in points:
            chosen[t] = physics[rows, best].clone()
    with torch.no_grad():
        compare(lives, points, unit, {p: error_with(chosen[p], view, p, unit) for p in points}, "online")


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("fit", "online"))
    parser.add_argument("--worlds", type=int, default=40)
    asked = parser.parse_args()
    {"fit": fit, "online": online}[asked.what](asked.worlds)
