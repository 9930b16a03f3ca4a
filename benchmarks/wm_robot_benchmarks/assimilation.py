"""`wm-robot bench assimilation`: robots assimilate each other's sessions; errors in both worlds."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_robot.evaluation.gap import Comparison, require_gap
from wm_robot.evaluation.intervals import bootstrap_ratio_interval
from wm_robot.progress import Progress, make_part_progress
from wm_robot.types import TrajectoryBatch
from wm_robot_benchmarks.harness.bench import MemoryBench, SeededBench
from wm_robot_benchmarks.harness.result import Result, Setting, describe_seed_count, load_bases, require
from wm_robot_cli.values import Count, Seed
from wm_robot_cli.worker_processes import in_processes

if TYPE_CHECKING:
    from wm_robot.memory.state_arrays import ArrayState
    from wm_robot_sim.worlds import World

VISIT, VISITS = 400, 4
"""Steps of each visit of a session, and number of visits: two payloads in turn."""
FRESH = 264
"""Steps with each of both payloads after the session, on which the states are compared."""
SESSION = VISIT * VISITS
ARMS = {
    "stranger": "the other's world, before",
    "assimilated": "the other's world, its session lived",
    "third": "the other's world, a third arm's session lived",
    "owner": "the other's world, its owner",
    "own before": "its own world, before",
    "own after": "its own world, the other's session lived",
}
RATIOS = {
    "other_vs_owner": ("owner", "assimilated"),
    "own_worse": ("own after", "own before"),
    "control_stranger_vs_owner": ("owner", "stranger"),
    "control_third_vs_owner": ("owner", "third"),
}
"""Name → numerator and denominator of the ratio."""
AGAINST_OWNER = ("other_vs_owner", "control_third_vs_owner")


@dataclass(frozen=True, kw_only=True)
class AssimilationBench(MemoryBench, SeededBench):
    """Pairs of robots that assimilate each other's sessions: prediction errors in the other's and the own world."""

    pairs: Count = 64
    """Pairs for each seed."""
    seeds: tuple[Seed, ...] = (0, 1)
    """Seeds of bodies, payloads, motion and noise."""
    quick: bool = False
    """A quarter of the pairs, one seed."""

    def run(self, progress: Progress) -> Result:
        setting = self.make_setting()
        require(self.pairs >= 2, f"pairs is {self.pairs}; it must be at least 2: a third arm is a control")
        pairs = max(2, self.pairs // 4) if self.quick else self.pairs
        _require_payload(setting)
        base = load_bases(setting, [self.memory])[self.memory]
        parts = in_processes(
            _measure_pairs, [(setting, self.memory, pairs, seed) for seed in setting.seeds], progress
        )
        errors = {arm: np.concatenate([part[arm] for part in parts]) for arm in parts[0]}
        errors["owner"] = errors["own before"][_assign_partners(len(errors["own before"]))]
        each = {arm: np.nanmean(_select_steps(found), (1, 2)) for arm, found in errors.items()}
        figures: dict[str, float | Comparison] = {}
        stranger, owner = (float(each[name].mean()) for name in ("stranger", "owner"))
        for name, (above, below) in RATIOS.items():
            found = (
                float(each[above].mean() / each[below].mean()),
                *bootstrap_ratio_interval(each[above], each[below]),
            )
            for suffix, value in zip(("", "_low", "_high"), found, strict=True):
                # If the owner predicts its world no better than a stranger, an equal error means nothing.
                judged = require_gap(value, stranger, owner, names=("stranger", "owner"))
                figures[f"{name}{suffix}"] = judged if name in AGAINST_OWNER else value
        return Result(
            setting=setting,
            figures=figures,
            table=[_make_row(arm, told, errors[arm]) for arm, told in ARMS.items()],
            bases={self.memory: base.digest},
            notes=(
                f"{2 * pairs} arms a seed, {describe_seed_count(setting.seeds)}, each with a body and two payloads "
                f"of its own; sessions of {SESSION} steps; error: mean square error of predictions ahead, in units "
                "of the one-step change, by steps since the start of the visit; figures from step 16 on, after "
                "recognition",
                "other_vs_owner: the owner's error over that of the robot that assimilated its session; 1 is equal",
                "low and high: 95 % bootstrap interval of the ratio over robots",
            ),
        )


def _require_payload(setting: Setting) -> None:
    """Reject a robot without payloads, before bases are trained for it."""
    from wm_robot.robots import load_spec
    from wm_robot_sim.world_ranges import WorldRanges

    light, heavy = WorldRanges.from_spec(load_spec(setting.robot)).payload
    require(
        heavy > light,
        f"robot is '{setting.robot}', whose spec has no range of world: payload; bench {setting.bench} compares two "
        "payloads. Use a robot with one: --robot arm",
    )


def _assign_partners(arms: int) -> np.ndarray:
    """Return whose session each robot assimilates."""
    return np.arange(arms) ^ 1


def _select_steps(errors: np.ndarray) -> np.ndarray:
    from wm_robot.evaluation.acceptance import PREDICTION_INTERVAL, SETTLE_STEPS

    return errors[..., SETTLE_STEPS // PREDICTION_INTERVAL :]


def _make_row(arm: str, told: str, errors: np.ndarray) -> dict[str, Any]:
    from wm_robot.evaluation.acceptance import PREDICTION_INTERVAL

    at = {"0": (0, 1), "4-12": (1, 4), "16-60": (4, 16), "64-": (16, None)}
    assert PREDICTION_INTERVAL * 16 == 64
    return {"life": arm, "foresees": told} | {
        steps: round(float(np.nanmean(errors[..., slice(*part)])), 4) for steps, part in at.items()
    }


def _measure_pairs(
    setting: Setting, memory: str, pairs: int, seed: int, *, progress: Progress
) -> dict[str, np.ndarray]:
    """Compute the errors of each robot with both payloads, `B 2 K`, by condition."""
    import torch

    from wm_robot.adaptation.context_bank import ContextBank
    from wm_robot.evaluation.acceptance import compute_errors
    from wm_robot.model.torch_backend import TorchBackend
    from wm_robot.sharing.assimilate import RecordedSteps, assimilate_experience, replay_recordings

    torch.set_num_threads(1)
    model = load_bases(setting, [memory])[memory].model
    backend, lives = TorchBackend(model), _generate_trajectories(setting.robot, 2 * pairs, seed)
    arms = np.arange(2 * pairs)
    partner, third = _assign_partners(len(arms)), np.roll(arms, 2)

    def cut_stretch(owner: np.ndarray, start: int, stop: int) -> RecordedSteps:
        rows = lives.select_rows(owner)
        valid = np.ones(rows.action.shape[:2], np.float32)
        return RecordedSteps(rows.obs, rows.action, rows.initial_action, valid).select_steps(start, stop)

    steps = [SESSION] * 3 + [FRESH] * 10
    starts = iter(np.cumsum([0, *steps]).tolist())

    def make_progress(size: int) -> Progress:
        return make_part_progress(progress, next(starts), size, sum(steps))

    def predict_errors(state: "ArrayState", owner: np.ndarray) -> np.ndarray:
        fresh = (cut_stretch(owner, start, start + FRESH) for start in (SESSION, SESSION + FRESH))
        return np.stack(
            [compute_errors(model, backend, state, part, make_progress(FRESH)) for part in fresh], 1
        )

    def cut_session(owner: np.ndarray) -> list[RecordedSteps]:
        return [cut_stretch(owner, 0, SESSION)]

    born = ContextBank(backend).initial_state(initial_action=lives.initial_action)
    own = replay_recordings(backend, born, cut_session(arms), make_progress(SESSION))
    taught = assimilate_experience(backend, own, cut_session(partner), make_progress(SESSION))
    strange = assimilate_experience(backend, own, cut_session(third), make_progress(SESSION))
    return {
        "stranger": predict_errors(own, partner),
        "assimilated": predict_errors(taught, partner),
        "third": predict_errors(strange, partner),
        "own before": predict_errors(own, arms),
        "own after": predict_errors(taught, arms),
    }


def _generate_trajectories(robot: str, arms: int, seed: int) -> TrajectoryBatch:
    from wm_robot.robots import load_spec
    from wm_robot_sim.rollouts import collect_trajectories
    from wm_robot_sim.worlds import DomainRandomization

    spec = load_spec(robot)
    distribution, rng = DomainRandomization(spec), np.random.default_rng([seed, 70_000])
    light, heavy = distribution.ranges.payload

    def worlds() -> "list[World]":
        body, middle = distribution.sample(rng), (light + heavy) / 2
        return [
            replace(body, payload=float(rng.uniform(*part))) for part in ((light, middle), (middle, heavy))
        ]

    sessions = [(VISIT * number, number % 2) for number in range(VISITS)]
    return collect_trajectories(
        spec,
        num_trajectories=arms,
        num_steps=SESSION + 2 * FRESH,
        seed=seed * 1000 + 7,
        held_out=True,
        worlds=[worlds() for _ in range(arms)],
        world_schedule=[*sessions, (SESSION, 0), (SESSION + FRESH, 1)],
    )
