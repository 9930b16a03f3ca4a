"""`wm-robot bench resume`: lifetimes killed and resumed, compared with those never stopped."""

import multiprocessing
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_robot.memory.registry import DEFAULT_MEMORY
from wm_robot.progress import Progress, make_part_progress
from wm_robot.spec import RobotSpec
from wm_robot_benchmarks.harness.bench import BasesBench, FirstSeedBench, RobotBench
from wm_robot_benchmarks.harness.result import (
    Result,
    Setting,
    find_base_folder,
    list_variants_with_base,
    load_bases,
    require,
)
from wm_robot_cli.values import Count, CountOrZero, Seed
from wm_robot_cli.worker_processes import end_with_parent, in_processes

if TYPE_CHECKING:
    from wm_robot_benchmarks.measures.resumed_lifetime import RobotLog

EVERY = 250
"""Steps between saves."""
CONDITIONS, VISIT = 3, 504
INVALID = 0.05
"""Fraction of the steps that must not be learned from."""
NOT_ADAPTIVE = ("robust", "oracle", "nominal")
CONTROL_STEPS = 500
"""Steps of the control, which is stopped once."""


@dataclass(frozen=True, kw_only=True)
class ResumeBench(RobotBench, BasesBench, FirstSeedBench):
    """Whether lifetimes that are killed and resumed from their last snapshot equal those never stopped."""

    families: tuple[str, ...] = ()
    """Memory families to test; by default all with a base."""
    steps: Count = 10_000
    """Steps of each lifetime."""
    interruptions: CountOrZero = 10
    """Number of kills of each lifetime."""
    seeds: tuple[Seed, ...] = (0,)
    """Seeds; the first is used for worlds, motion and times of kills."""
    quick: bool = False
    """A twentieth of the steps."""

    def run(self, progress: Progress) -> Result:
        setting = self.make_setting()
        require(self.steps >= CONTROL_STEPS, f"steps is {self.steps}; it must be at least {CONTROL_STEPS}")
        require(self.interruptions >= 1, f"interruptions is {self.interruptions}; it must be at least 1")
        steps = max(CONTROL_STEPS, self.steps // 20) if self.quick else self.steps
        adaptive = [name for name in list_variants_with_base(setting) if name not in NOT_ADAPTIVE]
        names = self.families or tuple(adaptive) or (DEFAULT_MEMORY,)
        bases = load_bases(setting, names)
        rows = in_processes(
            _measure_family, [(setting, name, steps, self.interruptions) for name in names], progress
        )
        return Result(
            setting=setting,
            figures={
                "equal_fraction": float(np.mean([row["equal"] for row in rows])),
                "control_equal_fraction": float(np.mean([row["control equal"] for row in rows])),
                "killed": float(min(row["killed"] for row in rows)),
            },
            table=rows,
            bases={name: base.digest for name, base in bases.items()},
            notes=(
                f"lifetimes of {steps} steps in {CONDITIONS} worlds that change and return, saved every {EVERY} "
                f"steps and killed {self.interruptions} times at random steps; each resumes from its last snapshot "
                "in a new process. Equal: the SHA-256 of all tensors of the last snapshot, bank and counters too",
                "control: resumes without the actions in transit to the motors; it must differ",
            ),
        )


def _measure_family(
    setting: Setting, name: str, steps: int, interruptions: int, *, progress: Progress
) -> dict[str, Any]:
    from wm_robot.robots import load_spec
    from wm_robot.store.store import Store
    from wm_robot_benchmarks.measures.resumed_lifetime import resume_lifetime

    spec, base = load_spec(setting.robot), find_base_folder(setting, name)
    log, rng = _make_log(setting, steps), np.random.default_rng(setting.seeds[0])
    kill_steps = sorted(rng.choice(np.arange(1, steps - 1), interruptions, replace=False).tolist())
    # Within a few steps after a save, so that the error of a wrong resume is visible at the next save.
    short = _make_log(setting, CONTROL_STEPS)
    done, total = 0, 2 * (steps + CONTROL_STEPS)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)

        def run_lifetime(into: str, log: "RobotLog", ends: list[int], **how: Any) -> tuple[str, int]:
            nonlocal done
            killed, began = 0, done
            for end in ends:
                killed += _run_until_killed(base, spec, log, place / into, die_at=end, **how)
                done = began + end
                progress(done, total)
            steps = len(log.action)
            resume_lifetime(
                base,
                spec,
                log,
                place / into,
                every=EVERY,
                progress=make_part_progress(progress, began, steps, total),
                **how,
            )
            done = began + steps
            return Store(place / into).read_manifest().object, killed

        whole, _ = run_lifetime("whole", log, [])
        resumed, killed = run_lifetime("resumed", log, kill_steps)
        short_whole, _ = run_lifetime("short", short, [])
        control, _ = run_lifetime("control", short, [EVERY + 1], forgetful=True)
        size = Store(place / "whole").read_manifest().size
    return {
        "family": name,
        "steps": steps,
        "killed": killed,
        "equal": whole == resumed,
        "control equal": short_whole == control,
        "state KiB": round(size / 1024),
    }


def _run_until_killed(base: Path, spec: RobotSpec, log: "RobotLog", place: Path, **how: Any) -> bool:
    """Run a lifetime in its own process until it kills itself."""
    import signal

    context = multiprocessing.get_context("spawn")
    process = context.Process(
        target=_resume_in_child, args=(os.getpid(), base, spec, log, place), kwargs={"every": EVERY, **how}
    )
    process.start()
    process.join()
    return process.exitcode == -signal.SIGKILL


def _resume_in_child(parent: int, *args: Any, **how: Any) -> None:
    """Run `resume_lifetime`; end when the parent ends."""
    from wm_robot_benchmarks.measures.resumed_lifetime import resume_lifetime

    end_with_parent(parent)
    resume_lifetime(*args, **how)


def _make_log(setting: Setting, steps: int) -> "RobotLog":
    from wm_robot.robots import load_spec
    from wm_robot_benchmarks.measures.resumed_lifetime import RobotLog
    from wm_robot_sim.rollouts import collect_trajectories
    from wm_robot_sim.worlds import DomainRandomization

    spec, rng = load_spec(setting.robot), np.random.default_rng([setting.seeds[0], 80_000])
    draw = DomainRandomization(spec).sample
    lives = collect_trajectories(
        spec,
        num_trajectories=1,
        num_steps=steps,
        seed=setting.seeds[0],
        held_out=True,
        worlds=[[draw(rng) for _ in range(CONDITIONS)]],
        world_schedule=[(start, number % CONDITIONS) for number, start in enumerate(range(0, steps, VISIT))],
    )
    return RobotLog(
        obs=lives.obs[0],
        action=lives.action[0],
        initial_action=lives.initial_action[0],
        valid=rng.random(steps) > INVALID,
    )
