"""`wm-robot train`: from nothing to a base with its card."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from wm_robot.cli.values import Count, Seed, Share, Threads
from wm_robot.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from wm_robot.models.world_model import WorldModel
    from wm_robot.spec import RobotSpec
    from wm_robot.types import Lives

MEMORY_OF_ARM = {"robust": "none", "nominal": "none", "oracle": "told"}


def train(
    robot: Annotated[str, tyro.conf.Positional] = "arm",
    /,
    *,
    memory: str = "ekf",
    arm: Literal["adaptive", "robust", "nominal", "oracle"] = "adaptive",
    task: str | None = None,
    out: Path | None = None,
    work: Path = Path("runs/train"),
    data: Path | None = None,
    start: Path | None = None,
    updates: Count = 14_000,
    rows: Count = 32,
    steps: Count = 64,
    random_lives: Count = 3072,
    planned_lives: Count = 384,
    life_steps: Count = 512,
    still: Share = 0.0,
    calibration_lives: Count = 256,
    curriculum: bool = True,
    seed: Seed = 0,
    threads: Threads = 1,
) -> None:
    """Train a base: random lives first, then lives lived by the planner itself.

    Killed at any moment, the same command goes on from its last checkpoint to the same result.

    Args:
        robot: Name of a robot, or the path of its spec.
        memory: Family of the lifetime state, for the adaptive arm; a name that is none is answered with all.
        arm: `adaptive` learns in its state; `robust` and `nominal` know only by weights, from all worlds or
            the nominal one; `oracle` is told the true physics.
        task: Task whose planner gathers lives; the robot's first by default.
        out: Folder of the finished base; `bases/ROBOT-MEMORY` or `bases/ROBOT-ARM` by default.
        work: Folder of checkpoints and curves.
        data: Folder of lives; trainings that name the same folder see the same data.
        start: Base of another memory to begin from, such as the oracle's: all but the memory is known then, and
            a third of the updates does.
        updates: Gradient steps.
        rows: Segments in an update.
        steps: Length of a segment: as far as gradients reach back. A memory that is to keep something for long needs
            long ones.
        random_lives: Lives with random behaviour.
        planned_lives: Lives with the planner in the loop, in each of two rounds.
        life_steps: Length of a life.
        still: Share of lives whose world never changes. A memory that is to keep something for long needs some.
        calibration_lives: New lives on which the finished base's deviations are measured; see `wm-robot calibrate`.
        curriculum: Begin with short lives in mild worlds.
        seed: Of weights, data and their order.
        threads: Of the simulator; training itself uses one.
    """
    try:
        import torch

        from wm_robot_sim import load_spec
        from wm_robot_sim.worlds import WorldDistribution
    except ImportError as error:
        raise MissingExtraError("wm-robot train", "learn,sim") from error
    from wm_robot.cli.calibrate import measure
    from wm_robot.cli.graduate import school
    from wm_robot.cli.provenance import commit
    from wm_robot.learning.curriculum import STAGES
    from wm_robot.learning.trainer import TrainConfig, Trainer
    from wm_robot.models.base import load_base, save_base
    from wm_robot.models.calibration import save_calibration
    from wm_robot.models.world_model import ModelConfig, WorldModel
    from wm_robot.onboard.export.files import export_graphs
    from wm_robot.tasks import reward_of

    if memory in MEMORY_OF_ARM.values():
        raise ConfigError(f"memory is '{memory}', which learns nothing; --arm robust or oracle trains that")
    torch.set_num_threads(1)
    made_by = commit()
    spec = load_spec(robot)
    task = task or next(iter(spec.tasks))
    name = f"{spec.name}-{memory if arm == 'adaptive' else arm}"
    nominal_only = arm == "nominal"
    data = data or Path("runs/data") / (f"{spec.name}-nominal" if nominal_only else spec.name)
    config = TrainConfig(
        updates=updates, rows=rows, steps=steps, seed=seed, stages=STAGES if curriculum else ()
    )
    if life_steps < config.steps:
        raise ConfigError(f"life_steps is {life_steps}; a training segment needs at least {config.steps}")
    truth = len(WorldDistribution(spec).names)
    shape = ModelConfig.of(
        spec, goal=spec.task(task).goal, truth=truth, memory=MEMORY_OF_ARM.get(arm, memory)
    )
    torch.manual_seed(seed)
    trainer = Trainer(
        WorldModel(shape),
        config,
        folder=work / name,
        data=data,
        gather=_Gather(
            spec=spec,
            task=task,
            lives=(random_lives, planned_lives),
            steps=life_steps,
            still=still,
            seed=seed,
            threads=threads,
            nominal_only=nominal_only,
        ),
        reward=reward_of(spec, spec.task(task)),
        start=load_base(start).model if start else None,
    )
    seconds = _run(trainer, config.updates, work / name)
    card = _card(trainer, spec.name, seconds, config, data) | {"commit": made_by}
    if start:
        card["start"] = load_base(start).digest
    out = out or Path("bases") / name
    digest = save_base(out, trainer.model, spec, card)
    base = load_base(out)
    export_graphs(out, base, spec, task=task)
    save_calibration(out, base, measure(base, spec, lives=calibration_lives))
    if arm == "adaptive":
        school(out, base, spec, task=task)
    print(f"base {digest[:12]} in {out}")


@dataclass(frozen=True, kw_only=True)
class _Gather:
    """Lives from the simulator: the first round at random, the others with the planner in the loop."""

    spec: "RobotSpec"
    task: str
    lives: tuple[int, int]
    """In the first round, and in each of the others."""
    steps: int
    still: float
    seed: int
    threads: int
    nominal_only: bool

    def recipe(self, number: int) -> dict[str, Any]:
        """See `wm_robot.learning.trainer.Gather`."""
        from wm_robot.io.durable import digest
        from wm_robot.spec import canonical_json

        return {
            "robot": self.spec.digest(),
            "worlds": digest(canonical_json(self.spec.world)),
            "task": self.task,
            "round": number,
            "lives": self.lives[min(number, 1)],
            "steps": self.steps,
            "still": self.still,
            "seed": self.seed,
            "nominal_only": self.nominal_only,
        }

    def __call__(self, number: int, model: "WorldModel | None") -> "Lives":
        from wm_robot.onboard.in_torch import torch_agents
        from wm_robot.planning.mppi import MppiConfig
        from wm_robot_sim.lives import gather as gather_lives
        from wm_robot_sim.worlds import WorldDistribution

        count, policy = self.lives[min(number, 1)], None
        if model is not None:
            # A coarser search than the robot's: its mistakes are wanted in the data, and it costs a quarter.
            planner = MppiConfig(samples=32, iterations=1, rounds=0)
            policy = torch_agents(model, self.spec, task=self.task, planner=planner, seed=self.seed + number)
        print(
            f"gathering {count} lives of {self.steps} steps: {'planner in the loop' if policy else 'random'}"
        )
        nominal = [WorldDistribution(self.spec).nominal()]
        return gather_lives(
            self.spec,
            lives=count,
            steps=self.steps,
            still=self.still,
            seed=self.seed * 1000 + number,
            policy=policy,
            threads=self.threads,
            worlds=[nominal] * count if self.nominal_only else None,
        )


def _run(trainer: Any, updates: int, folder: Path) -> float:
    """Train to the end with a bar, or a line now and then where there is no terminal."""
    import time

    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from torch.utils.tensorboard import SummaryWriter

    from wm_robot.learning.trainer import CURVE

    started = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    live = sys.stdout.isatty()
    with (
        SummaryWriter(str(folder / "tensorboard")) as board,
        Progress(*columns, TimeRemainingColumn(), disable=not live) as bar,
    ):
        row = bar.add_task("gathering", total=updates)
        for metrics in trainer.run():
            update = int(metrics["update"])
            bar.update(row, completed=update)
            if update % CURVE and update != updates:
                continue
            mean = trainer.history[-1]
            for name, value in mean.items():
                board.add_scalar(name, value, update)
            late = mean[max((k for k in mean if k.startswith("error_at_")), key=lambda k: int(k[9:]))]
            words = (
                f"surprise {mean['surprise']:.3f} nats  open loop {mean['open_loop']:.3f}  "
                f"error at birth {mean['error_at_0']:.2f}, later {late:.2f}  stage {mean['stage']:.0f}"
            )
            bar.update(row, description=words)
            if not live:
                print(f"{update}/{updates}  {words}  {mean['seconds_left'] / 60:.0f} min left", flush=True)
    return time.monotonic() - started


def _card(trainer: Any, robot: str, seconds: float, config: Any, data: Path) -> dict[str, Any]:
    """How the base was made: command, seed, data, curves."""
    from dataclasses import asdict

    from wm_robot.cli.provenance import versions
    from wm_robot.io.durable import digest

    lives = {path.name: digest(path.read_bytes()) for path in sorted(data.glob("lives-*.safetensors"))}
    return {
        "command": shlex.join(["wm-robot", *sys.argv[1:]]),
        "robot": robot,
        "seed": config.seed,
        "versions": versions(),
        "train": asdict(config),
        "minutes_since_resume": round(seconds / 60, 1),
        "data_sha256": lives,
        "transitions": config.updates * config.rows * config.steps,
        "curve": trainer.history,
    }
