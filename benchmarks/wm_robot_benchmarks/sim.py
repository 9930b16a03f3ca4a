"""`wm-robot bench sim`: speed of a batched rollout, compared with MuJoCo alone."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wm_robot.errors import MissingExtraError
from wm_robot.progress import Progress
from wm_robot_benchmarks.harness.bench import RobotBench
from wm_robot_benchmarks.harness.result import Result
from wm_robot_cli.values import Duration, Threads

LIVES, STEPS = 256, 32


@dataclass(frozen=True, kw_only=True)
class SimBench(RobotBench):
    """Transitions per second of a batched rollout, compared with a bare `mujoco.rollout` loop in the same run."""

    seconds: Duration = 20.0
    """Time for each of the two."""
    threads: Threads = 1
    """Physics threads of both."""
    quick: bool = False
    """A quarter of the time."""

    def run(self, progress: Progress) -> Result:
        setting = self.make_setting()
        try:
            import mujoco
            from mujoco import rollout

            from wm_robot_sim.batch import BatchSim
            from wm_robot_sim.model_compiler import compile_model
            from wm_robot_sim.plant import Plant
            from wm_robot_sim.worlds import DomainRandomization
        except ImportError as error:
            raise MissingExtraError("wm-robot bench sim", "sim") from error
        from wm_robot.robots import load_spec

        seconds = self.seconds / 4 if self.quick else self.seconds
        spec = load_spec(setting.robot)
        rng = np.random.default_rng(0)
        draw = DomainRandomization(spec).sample
        ours = BatchSim(spec, [draw(rng) for _ in range(LIVES)], seed=0, num_threads=self.threads)
        action = rng.uniform(spec.action_low, spec.action_high, (LIVES, STEPS, spec.action_dim)).astype(
            np.float32
        )

        # The same physics without wm_robot: one compiled model, its state, the same commands.
        plant = Plant(spec, compile_model(spec))
        data = [mujoco.MjData(plant.model) for _ in range(self.threads)]
        pool = rollout.Rollout(nthread=self.threads if self.threads > 1 else 0)
        size = mujoco.mj_stateSize(plant.model, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        start = np.zeros((LIVES, size))
        start[:, 1 : 1 + plant.model.nq] = plant.model.qpos0
        control = np.zeros((LIVES, STEPS * plant.substeps, plant.model.nu))
        control[:, :, plant.actuator_ids] = np.repeat(action, plant.substeps, axis=1)
        states = [start]

        def run_bare_loop() -> None:
            after, _ = pool.rollout([plant.model] * LIVES, data, states[-1], control)
            states[-1] = after[:, -1].copy()

        rates = _measure_loops(
            {"wm_robot_sim": lambda: ours.rollout(action), "bare mujoco.rollout": run_bare_loop},
            seconds,
            progress,
        )
        own, other = (np.array(rates[name]) for name in ("wm_robot_sim", "bare mujoco.rollout"))
        return Result(
            setting=setting,
            figures={
                "ratio_to_bare": float(np.median(own / other)),
                "transitions_per_second": float(np.median(own)),
            },
            table=[
                {
                    "loop": name,
                    "transitions/s median": round(float(np.median(r))),
                    "slowest": round(float(np.min(r))),
                    "fastest": round(float(np.max(r))),
                }
                for name, r in rates.items()
            ],
            notes=(f"{self.threads} thread(s), {LIVES} robots, {STEPS} steps a call, calls in turn",),
        )


def _measure_loops(
    loops: dict[str, Callable[[], object]], seconds: float, progress: Progress
) -> dict[str, list[float]]:
    """Measure transitions per second of each loop, called in turn so that machine speed drift affects all equally."""
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for loop in loops.values():
        loop()
    end = time.monotonic() + len(loops) * seconds
    while time.monotonic() < end:
        for name, loop in loops.items():
            started = time.perf_counter()
            loop()
            rates[name].append(LIVES * STEPS / (time.perf_counter() - started))
        left = max(0.0, end - time.monotonic()) / (len(loops) * seconds)
        progress(round(1000 * (1 - left)), 1000)
    return rates
