"""`wm-robot bench life`: one long lifetime in worlds that change and return, and whether it degrades with age."""

import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from wm_robot.evaluation.gap import Comparison, require_gap
from wm_robot.progress import Progress
from wm_robot_benchmarks.harness.bench import FirstSeedBench, MemoryBench
from wm_robot_benchmarks.harness.result import Result, load_bases, require
from wm_robot_cli.values import Count, Seed

if TYPE_CHECKING:
    from torch import Tensor

    from wm_robot.memory.lifetime_state import LifetimeState
    from wm_robot.model.world_model import WorldModel

PIECE = 1024
"""Steps of a simulated piece; between two pieces the world may change."""
CONDITIONS, STAY = 6, 0.7
"""Number of worlds, and probability to stay in one for another piece."""
LOOK = 64
"""Steps between two imagined rollouts."""
PARTS = 10


class _Piece(NamedTuple):
    obs: "Tensor"
    """`T+1 O`."""
    action: "Tensor"
    physics: "Tensor"


@dataclass(frozen=True, kw_only=True)
class LifeBench(MemoryBench, FirstSeedBench):
    """One long lifetime in simulated time: whether its step time, its state or its error grow with age."""

    steps: Count = 1_000_000
    """Steps of the lifetime; a million are 5.5 hours at 50 Hz, and take about 1.5 hours."""
    seeds: tuple[Seed, ...] = (0,)
    """Seeds; the first is used for worlds, motion and noise."""
    quick: bool = False
    """A hundredth of the steps."""

    def run(self, progress: Progress) -> Result:
        setting = self.make_setting()
        require(self.steps >= PARTS * PIECE, f"steps is {self.steps}; it must be at least {PARTS * PIECE}")
        steps = max(PARTS * PIECE, self.steps // 100) if self.quick else self.steps
        import torch

        from wm_robot.adaptation.context_bank import ContextBank, get_bank
        from wm_robot.evaluation.adaptation import HORIZON
        from wm_robot.memory.lifetime_state import LifetimeState, list_values
        from wm_robot.model.torch_backend import TorchBackend, to_tensors
        from wm_robot.types import Step

        bases = load_bases(setting, [self.memory, "oracle"])
        model, oracle = bases[self.memory].model, bases["oracle"].model
        recall = ContextBank(TorchBackend(model))
        rows: list[dict[str, Any]] = []
        pieces = _generate_pieces(setting.robot, setting.seeds[0])
        with torch.inference_mode():
            state: LifetimeState[np.ndarray] | None = None
            one, lived = np.ones(1, np.float32), 0
            for part in range(PARTS):
                writes: list[float] = []
                errors: list[list[float]] = []
                while lived < (part + 1) * steps // PARTS:
                    obs, action, physics = next(pieces)
                    if state is None:
                        hold = action[:1]
                        newborn = model.initial_state(initial_action=hold)
                        state = recall.initial_state(initial_action=hold.numpy())
                        told = oracle.initial_state(initial_action=hold, truth=physics)
                    for t in range(len(action)):
                        if t % LOOK == LOOK // 2 and t + HORIZON <= len(action):
                            own = to_tensors(state.model_part())
                            told = replace(oracle.set_true_physics(told, physics), recent=own.recent)
                            newborn = replace(newborn, recent=own.recent)
                            plan, then = action[None, None, t : t + HORIZON], obs[t + HORIZON]
                            errors.append(
                                [
                                    float(
                                        (
                                            (_predict_plan_end(arm, life, obs[t], plan) - then)
                                            / model.change_std
                                        )
                                        .square()
                                        .mean()
                                    )
                                    for arm, life in ((model, own), (oracle, told), (model, newborn))
                                ]
                            )
                        step = Step(
                            obs[t, None].numpy(), action[t, None].numpy(), obs[t + 1, None].numpy(), one
                        )
                        began = time.perf_counter()
                        _, state = recall.update(state, step)
                        writes.append(time.perf_counter() - began)
                    lived += len(action)
                    progress(lived, steps)
                own, best, unlearned = np.mean(errors, 0)
                rows.append(
                    {
                        "steps": lived,
                        "error": round(float(own), 4),
                        "oracle": round(float(best), 4),
                        "newborn": round(float(unlearned), 4),
                        "write ms": round(1e3 * float(np.median(writes)), 3),
                        "p99 ms": round(1e3 * float(np.quantile(writes, 0.99)), 3),
                        "state KiB": sum(x.nbytes for x in list_values(state)) / 1024,
                        "process MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                    }
                )
            assert state is not None
            counted, switches = int(state.step[0]), int(get_bank(state).switches[0])
        first, last = rows[0], rows[-1]
        return Result(
            setting=setting,
            figures={
                "error_vs_oracle_first": _compare_with_oracle(first),
                "error_vs_oracle_last": _compare_with_oracle(last),
                "write_time_ratio": last["write ms"] / first["write ms"],
                "state_size_ratio": last["state KiB"] / first["state KiB"],
                "process_growth_mib": float(last["process MiB"] - first["process MiB"]),
                "counter_off_by": float(abs(counted - lived)),
            },
            table=rows,
            bases={name: base.digest for name, base in bases.items()},
            notes=(
                f"one lifetime of {lived} steps ({lived * model.config.dt / 3600:.1f} h of robot time), {CONDITIONS} "
                f"worlds that change and return; {switches} switches to a stored context; each row is a tenth of it; "
                "newborn: predictions of the initial state at the same steps",
            ),
        )


def _compare_with_oracle(row: dict[str, Any]) -> Comparison:
    return require_gap(
        row["error"] / row["oracle"], row["newborn"], row["oracle"], names=("newborn", "oracle")
    )


def _predict_plan_end(
    model: "WorldModel", state: "LifetimeState[Tensor]", obs: "Tensor", plan: "Tensor"
) -> "Tensor":
    """Predict the observation at the end of a plan."""
    mean, _ = model.imagine(state, model.observe(state, obs[None]), plan)
    return mean[0, 0, -1]


def _generate_pieces(robot: str, seed: int) -> Iterator[_Piece]:
    """Yield the pieces of one robot's lifetime."""
    import torch

    from wm_robot.robots import load_spec
    from wm_robot_sim.batch import BatchSim
    from wm_robot_sim.motion import draw_random_actions
    from wm_robot_sim.worlds import DomainRandomization

    spec = load_spec(robot)
    rng = np.random.default_rng([seed, 60_000])
    worlds = [DomainRandomization(spec).sample(rng) for _ in range(CONDITIONS)]
    now = worlds[0]
    sim = BatchSim(spec, [now], seed=int(rng.integers(2**62)))
    hold = sim.last_action
    while True:
        before = sim.obs.copy()
        following, applied = sim.rollout(draw_random_actions(spec, rng, hold, PIECE))
        obs = torch.from_numpy(np.concatenate([before, following[0]]))
        yield _Piece(
            obs, torch.from_numpy(applied[0]), torch.from_numpy(now.to_vector().astype(np.float32))[None]
        )
        hold = applied[:, -1]
        if rng.random() > STAY:
            now = worlds[int(rng.integers(CONDITIONS))]
            sim.set_worlds([0], [now])
