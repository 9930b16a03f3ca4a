"""Checks of a bundle without a closed loop: its files, its weights and scales, and whether its state resumes."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wm_robot.errors import WmRobotError
from wm_robot.evaluation.validation.battery import Check
from wm_robot_cli.validation.runner import ValidationTarget

if TYPE_CHECKING:
    from wm_robot.agent.agent import Agent
    from wm_robot.spec import RobotSpec

SCALE_FACTOR = 4.0
"""A scale of the base that differs by more than this factor from that of the robot's motion is stale."""
SCALE_SECONDS, SCALE_ROBOTS, SCALE_SEED = 8.0, 16, 11
FEW_LIMITS = 1e-4
"""Scale below which a channel does not move, as a share of its limit."""


def check_model(target: ValidationTarget) -> list[str]:
    """Run the checks of the robot's spec against its model; return what failed, each a sentence."""
    from wm_robot_cli.robot_checks import run_checks

    try:
        spec = target.load_spec()
    except WmRobotError as error:
        return [str(error)]
    return [f"{each['check']}: {each['measured']}" for each in run_checks(spec) if each["result"] == "failed"]


def check_bundle(target: ValidationTarget) -> list[str]:
    """Check files, weights and scales of base and state; return what is wrong, each a sentence."""
    from wm_robot.io.tensor_file import is_finite, parse_tensors
    from wm_robot.model.base import load_base
    from wm_robot.store.store import parse_reference

    try:
        spec, base = target.load_spec(), load_base(target.base)
        base.check_spec(spec)
        if target.state:
            store, reference = parse_reference(target.state)
            store.load(reference, base_digest=base.digest, spec_digest=spec.compute_digest())
        agent = target.load_agent()
        agent.begin(spec.home_action, target.state or None)
    except WmRobotError as error:
        return [str(error)]
    tensors = parse_tensors(base.weights, f"base in {target.base}")
    found = [
        f"tensor {name} of the base holds only zeros"
        for name, value in tensors.items()
        if value.ndim > 1 and value.dtype.kind == "f" and not value.any()
    ]
    found += [
        f"tensor {name} of the base holds a number that is not finite"
        for name, value in tensors.items()
        if name.endswith("weight") and not is_finite(value)
    ]
    found += _find_stale_scales(spec, target.task, tensors)
    return found


def _find_stale_scales(spec: "RobotSpec", task: str, tensors: dict[str, np.ndarray]) -> list[str]:
    """Compare the scales of the base with those of random motion of this robot."""
    from wm_robot_sim.rollouts import collect_trajectories

    if "change_std" not in tensors or "obs_std" not in tensors:
        return []
    lived = collect_trajectories(
        spec,
        num_trajectories=SCALE_ROBOTS,
        num_steps=round(SCALE_SECONDS * spec.rate),
        seed=SCALE_SEED,
        task=task,
    )
    found = []
    change = spec.layout.subtract(lived.obs[:, 1:], lived.obs[:, :-1])
    for name, what, measured in (
        ("change_std", "one-step change", change.std((0, 1))),
        ("obs_std", "readings", lived.obs.std((0, 1))),
    ):
        scale = np.asarray(tensors[name], np.float64)
        if scale.shape != measured.shape:
            # Encoded channels: rotations have other numbers than readings.
            continue
        still = measured < FEW_LIMITS * np.array(spec.layout.limits)
        ratio = np.where(still, 1.0, scale / np.maximum(measured, 1e-12))
        found += [
            f"scale of the {what} of {channel} is {value:.3g} times that of this robot's motion"
            for channel, value in zip(spec.observation_names, ratio, strict=True)
            if not 1 / SCALE_FACTOR <= value <= SCALE_FACTOR
        ]
    return found


def measure_resume(target: ValidationTarget, check: Check, seconds: float) -> dict[str, float]:
    """Measure whether a saved and resumed lifetime equals one that never stopped, and a reset one the first.

    Returns:
        Largest differences, which must be 0, and the settled error from the initial state.
    """
    from wm_robot_cli.validation.runner import run_scenario
    from wm_robot_cli.validation.worlds import ScenarioSource

    spec = target.load_spec()
    drawn = Check(name=check.name, group="", measure="control", severity="major")
    source = ScenarioSource(spec, target.task, seed=target.seed)
    scenarios = source.draw(drawn, {"worlds": "declared", "episodes": 1, "seconds": 2 * seconds})
    obs, applied = _drive(target, scenarios[0])
    half = len(applied) // 2
    first, second = target.load_agent(), target.load_agent()
    first.begin(applied[0], target.state or None)
    _watch(first, obs, applied, 0, half)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        first.save(store)
        count = first.state.recent.shape[1]
        second.begin(applied[max(0, half - count) : half], store)
    _watch(first, obs, applied, half, len(applied))
    _watch(second, obs, applied, half, len(applied))
    resumed = _compare(first, second)
    first.begin(applied[0])
    second.begin(applied[0])
    reset = _compare(first, second)
    cold = source.draw(drawn, {"worlds": "nominal", "episodes": 1, "seconds": max(3.0, seconds)})[0]
    cold = type(cold).from_dict(cold.to_dict() | {"start": "initial"})
    settled = run_scenario({}, target, cold, target.read_change_std()).settled[0]
    return {"resume_difference": resumed, "reset_difference": reset, "cold_settled": settled}


def _drive(target: ValidationTarget, scenario: "object") -> tuple[np.ndarray, np.ndarray]:
    """Move a plant at random. Return the observations, `T+1 O`, and the applied actions, `T A`."""
    from wm_robot.evaluation.validation.scenario import Scenario
    from wm_robot_cli.validation.plant import ScenarioPlant

    assert isinstance(scenario, Scenario)
    plant = ScenarioPlant(target.load_spec(), scenario)
    obs, applied = [plant.read().values], []
    for action in plant.draw_random_actions(scenario.num_steps):
        applied.append(plant.write(action))
        obs.append(plant.read().values)
    return np.stack(obs), np.stack(applied)


def _watch(agent: "Agent", obs: np.ndarray, applied: np.ndarray, first: int, last: int) -> None:
    for step in range(first, last):
        agent.observe(obs[step], applied[step], obs[step + 1])


def _compare(first: "Agent", second: "Agent") -> float:
    """Return the largest difference of two lifetime states."""
    one, other = first.state.flatten(), second.state.flatten()
    if one.keys() != other.keys():
        return float("inf")
    differences = [
        np.abs(np.nan_to_num(one[name].astype(np.float64)) - np.nan_to_num(other[name].astype(np.float64)))
        for name in one
    ]
    return float(max((each.max() for each in differences if each.size), default=0.0))
