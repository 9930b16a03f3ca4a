"""Verb `wm-robot train`: trains a base and writes its card."""

import json
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from wm_robot.errors import ConfigError, GraphError, MissingExtraError, SnapshotError
from wm_robot_cli.export import end_without_graphs
from wm_robot_cli.output_folder import check_writable, sole_writer
from wm_robot_cli.values import Count, Seed, Share, Threads

if TYPE_CHECKING:
    from wm_robot.model.base import Base
    from wm_robot.model.config import ModelConfig
    from wm_robot.model.world_model import WorldModel
    from wm_robot.spec import RobotSpec
    from wm_robot.training.trainer import TrainConfig, Trainer
    from wm_robot.types import Lives

MEMORY_OF_ARM = {"robust": "none", "nominal": "none", "oracle": "told"}
COMPARED = ("adaptive", "robust", "oracle")
"""Variants whose bases the comparison benches need; `--all` trains them in this order."""


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
    graduate: bool = True,
    all_bases: Annotated[bool, tyro.conf.arg(name="all")] = False,
    seed: Seed = 0,
    threads: Threads = 1,
) -> None:
    """Train a base: first on random trajectories, then on trajectories of the planner itself.

    After an interrupt, the same command continues from its last checkpoint to the same result. Exit code 3: the base,
    its calibration and its pretrained state were written. Its ONNX models compute other values than torch and were
    not written; agents use torch.

    Args:
        robot: Name of a robot, or the path of its spec.
        memory: Memory family, for the adaptive variant; the error for an unknown name lists all.
        arm: `adaptive` learns in its lifetime state; `robust` and `nominal` have fixed weights, trained in all worlds
            or the nominal one; `oracle` receives the true physics.
        task: Task of the planner that collects trajectories; the robot's first by default.
        out: Folder of the finished base; `bases/ROBOT-MEMORY` or `bases/ROBOT-ARM` by default. With `--all`: folder
            of the bases.
        work: Folder of checkpoints and curves.
        data: Folder of trajectories; trainings with the same folder use the same data.
        start: Base of another memory to start from, such as the oracle's: only the memory starts untrained, and a
            third of the updates is enough.
        updates: Gradient steps.
        rows: Segments in an update.
        steps: Length of a segment, over which gradients propagate. A long-term memory needs long segments.
        random_lives: Trajectories with random actions.
        planned_lives: Trajectories with the planner in the loop, in each of two rounds.
        life_steps: Length of a trajectory.
        still: Share of trajectories whose world never changes. A long-term memory needs some.
        calibration_lives: New trajectories for the calibration of the finished base; see `wm-robot calibrate`.
        curriculum: Start with short trajectories in mild worlds.
        graduate: Pretrain a lifetime state of the finished adaptive base; see `wm-robot graduate`.
        all_bases: Train all bases of the comparison benches from the same trajectories: adaptive, robust and oracle.
            Complete ones stay unchanged.
        seed: Of weights, data and their order.
        threads: Of the simulator; training itself uses one.
    """
    try:
        import torch

        from wm_robot_sim.worlds import WorldDistribution
    except ImportError as error:
        raise MissingExtraError("wm-robot train", "learn,sim") from error
    from wm_robot.model.base import load_base
    from wm_robot.model.config import ModelConfig
    from wm_robot.robots import load_spec
    from wm_robot.training.curriculum import STAGES
    from wm_robot.training.trainer import TrainConfig

    _check_arm(arm, memory, all_bases)
    torch.set_num_threads(1)
    spec = load_spec(robot)
    task = task or next(iter(spec.tasks))
    if not TrainConfig.horizon <= steps <= life_steps:
        raise ConfigError(
            f"steps is {steps}; a segment needs at least {TrainConfig.horizon} steps, and at most {life_steps}, the "
            "length of a trajectory. Set --steps between them, or a larger --life-steps"
        )
    begin_from = load_base(start) if start else None
    bases: list[_BaseTraining] = []
    for each in COMPARED if all_bases else (arm,):
        name = f"{spec.name}-{memory if each == 'adaptive' else each}"
        nominal_only = each == "nominal"
        folder = out or Path("bases") / name
        bases.append(
            _BaseTraining(
                spec=spec,
                task=task,
                config=TrainConfig(
                    updates=updates, rows=rows, steps=steps, seed=seed, stages=STAGES if curriculum else ()
                ),
                shape=ModelConfig.of(
                    spec,
                    truth=len(WorldDistribution(spec).names),
                    memory=MEMORY_OF_ARM.get(each, memory),
                ),
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
                work=work / name,
                data=data or Path("runs/data") / (f"{spec.name}-nominal" if nominal_only else spec.name),
                start=begin_from,
                out=folder / name if all_bases and out else folder,
                calibration_lives=calibration_lives,
                graduate=graduate and each == "adaptive",
            )
        )
    for base in bases:
        for folder, argument in ((base.out, "--out"), (base.work, "--work"), (base.data, "--data")):
            check_writable(folder, argument)
    refused = []
    for base in bases:
        if all_bases and (found := base.find_complete()):
            print(f"base {found.digest[:12]} in {found.where} is complete")
            continue
        try:
            with sole_writer(base.out, "--out"), sole_writer(base.work, "--work"):
                base.make()
        except GraphError as error:
            refused.append(error)
    if refused:
        end_without_graphs(". ".join(map(str, refused)))


def _check_arm(arm: str, memory: str, all_bases: bool) -> None:
    """Reject a variant and a memory that do not match.

    Raises:
        ConfigError: If they do not match.
    """
    if all_bases and arm != "adaptive":
        raise ConfigError(f"arm is '{arm}', and --all makes {', '.join(COMPARED)}. Leave out one of the two")
    of_memory = [name for name, kept in MEMORY_OF_ARM.items() if kept == memory]
    if of_memory and arm not in of_memory:
        raise ConfigError(
            f"memory is '{memory}', which learns nothing, and arm is '{arm}'. To train a base with it: "
            f"--arm {of_memory[0]}"
        )


@dataclass(frozen=True, kw_only=True)
class _BaseTraining:
    """Training of one base: settings and output folders."""

    spec: "RobotSpec"
    task: str
    config: "TrainConfig"
    shape: "ModelConfig"
    gather: "_Gather"
    work: Path
    """Checkpoints and curves of this base."""
    data: Path
    start: "Base | None"
    out: Path
    calibration_lives: int
    graduate: bool

    def make(self) -> None:
        """Train the base; then write it with its calibration, ONNX models and pretrained state.

        Raises:
            GraphError: If its ONNX models compute other values than torch. Everything else is written then.
        """
        import torch

        from wm_robot.model.base import load_base, save_base
        from wm_robot.model.calibration import save_calibration
        from wm_robot.model.world_model import WorldModel
        from wm_robot.planning.mppi import MppiConfig
        from wm_robot.training.export.base_graphs import export_graphs, remove_foreign_graphs
        from wm_robot.training.trainer import Trainer
        from wm_robot_cli.calibrate import measure
        from wm_robot_cli.export import graphs_in_words
        from wm_robot_cli.graduate import remove_foreign_graduate, school
        from wm_robot_cli.provenance import commit

        made_by = commit()
        torch.manual_seed(self.config.seed)
        trainer = Trainer(
            WorldModel(self.shape),
            self.config,
            folder=self.work,
            data=self.data,
            gather=self.gather,
            start=self.start.model if self.start else None,
        )
        seconds = _run(trainer, self.config.updates, self.work)
        card = _card(trainer, self.spec.name, seconds, self.config, self.data) | {"commit": made_by}
        if self.start:
            card["start"] = self.start.digest
        save_base(self.out, trainer.model, self.spec, card)
        base = load_base(self.out)
        remove_foreign_graphs(self.out, base)
        remove_foreign_graduate(self.out, base)
        save_calibration(self.out, base, measure(base, self.spec, lives=self.calibration_lives))
        refusal = None
        try:
            differences = export_graphs(self.out, base, self.spec, task=self.task)
            print(graphs_in_words(self.out, MppiConfig(), differences))
        except GraphError as error:
            refusal = error
        if self.graduate:
            school(self.out, base, self.spec, task=self.task)
        print(f"base {base.digest[:12]} in {self.out}{' without ONNX models' if refusal else ''}")
        if refusal:
            raise GraphError(
                f"base {base.digest[:12]} in {self.out} is usable in torch, and has no ONNX models: {refusal}"
            ) from refusal

    def find_complete(self) -> "Base | None":
        """Return the existing complete base of this training; None without one."""
        from wm_robot.agent.onnx_files import load_graphs
        from wm_robot.model.base import load_base
        from wm_robot.model.calibration import load_calibration
        from wm_robot_cli.graduate import has_attended

        try:
            base = load_base(self.out)
            base.check_spec(self.spec)
            load_calibration(base.where, base)
            graphs = load_graphs(base.where, base)
        except SnapshotError:
            return None
        attended = not self.graduate or has_attended(Path(base.where), base)
        return base if graphs and attended and self._made(base) else None

    def _made(self, base: "Base") -> bool:
        """Whether the card of a base has the settings of this training."""
        from wm_robot.io.durable import digest

        card = base.manifest["card"]
        wanted, trained = json.loads(json.dumps(asdict(self.config))), card.get("train", {})
        # Cards of earlier versions have fewer settings, and trajectories may have been removed since.
        settings = all(trained[name] == wanted[name] for name in trained.keys() & wanted.keys())
        lives = {self.data / name: sha256 for name, sha256 in card.get("data_sha256", {}).items()}
        same_lives = all(
            digest(path.read_bytes()) == sha256 for path, sha256 in lives.items() if path.exists()
        )
        return (
            settings
            and same_lives
            and base.config["memory"] == self.shape.memory
            and card.get("start") == (self.start.digest if self.start else None)
        )


@dataclass(frozen=True, kw_only=True)
class _Gather:
    """Trajectory collector: the first round with random actions, the others with the planner in the loop."""

    spec: "RobotSpec"
    task: str
    lives: tuple[int, int]
    """In the first round, and in each later one."""
    steps: int
    still: float
    seed: int
    threads: int
    nominal_only: bool

    def recipe(self, number: int) -> dict[str, Any]:
        """See `wm_robot.training.trainer.Gather`."""
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
        from wm_robot.agent.batch_agent import BatchAgent
        from wm_robot.agent.rollout_objective import ImaginedPlans
        from wm_robot.model.torch_backend import ModelLives
        from wm_robot.planning.mppi import MppiConfig
        from wm_robot_sim.rollouts import gather as gather_lives
        from wm_robot_sim.worlds import WorldDistribution

        count, policy = self.lives[min(number, 1)], None
        if model is not None:
            # A coarser search than the robot's: its mistakes are useful data, and it costs a quarter.
            planner = MppiConfig(samples=32, iterations=1, rounds=0)
            plans = ImaginedPlans(model, self.spec, task=self.task, planner=planner)
            policy = BatchAgent(ModelLives(model), plans, self.spec, seed=self.seed + number)
        print(
            f"collecting {count} trajectories of {self.steps} steps: {'planner in the loop' if policy else 'random'}"
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


def _run(trainer: "Trainer", updates: int, folder: Path) -> float:
    """Train to the end with a progress bar, or single lines without a terminal."""
    import time

    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from torch.utils.tensorboard import SummaryWriter

    from wm_robot.training.trainer import CURVE

    started = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    live = sys.stdout.isatty()
    with (
        SummaryWriter(str(folder / "tensorboard")) as board,
        Progress(*columns, TimeRemainingColumn(), disable=not live) as bar,
    ):
        row = bar.add_task("collecting", total=updates)
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
                f"initial error {mean['error_at_0']:.2f}, later {late:.2f}  stage {mean['stage']:.0f}"
            )
            bar.update(row, description=words)
            if not live:
                print(f"{update}/{updates}  {words}  {mean['seconds_left'] / 60:.0f} min left", flush=True)
    return time.monotonic() - started


def _card(
    trainer: "Trainer", robot: str, seconds: float, config: "TrainConfig", data: Path
) -> dict[str, Any]:
    """Write how the base was made: command, seed, data, curves."""
    from wm_robot.io.durable import digest
    from wm_robot_cli.provenance import versions

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
