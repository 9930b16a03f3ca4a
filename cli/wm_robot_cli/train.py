"""Verb `wm-robot train`: trains a base and writes its card."""

import json
import shlex
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from wm_robot.errors import ConfigError, MissingExtraError, OnnxMismatchError, SnapshotError
from wm_robot.memory.registry import DEFAULT_MEMORY, find_family
from wm_robot_cli.check import load_described_spec
from wm_robot_cli.export import exit_without_onnx_models
from wm_robot_cli.output_folder import check_writable, lock_output_folder
from wm_robot_cli.semiparametric_training import (
    FROZEN_MEMORY,
    PHYSICS_MEMORY,
    check_started,
    find_started,
    join_networks,
    train_correction,
)
from wm_robot_cli.task_choice import choose_task, print_notice
from wm_robot_cli.training_size import (
    CORRECTION_UPDATES,
    DEFAULT_UPDATES,
    EFFECT_SHARE,
    TrainingEstimate,
    choose_training_size,
    count_recent_actions,
    estimate_base_training,
    sum_estimates,
)
from wm_robot_cli.trajectory_collector import TrajectoryCollector
from wm_robot_cli.values import Count, CountOrZero, Seed, Share, Threads
from wm_robot_cli.variants import COMPARED_VARIANTS, MEMORY_OF_VARIANT, check_variant

if TYPE_CHECKING:
    from wm_robot.model.base import Base
    from wm_robot.model.config import ModelConfig
    from wm_robot.model.world_model import WorldModel
    from wm_robot.spec import RobotSpec
    from wm_robot.training.train_config import TrainConfig
    from wm_robot.training.trainer import Trainer


def train_base(
    robot: Annotated[str, tyro.conf.Positional] = "arm",
    /,
    *,
    memory: str = DEFAULT_MEMORY,
    variant: Literal["adaptive", "robust", "nominal", "oracle"] = "adaptive",
    task: str | None = None,
    reward: str | None = None,
    goal_size: CountOrZero | None = None,
    out: Path | None = None,
    work: Path = Path("runs/train"),
    data: Path | None = None,
    start: tuple[Path, ...] = (),
    updates: Count = DEFAULT_UPDATES,
    batch_size: Count = 32,
    steps: Count | None = None,
    random_trajectories: Count | None = None,
    planned_trajectories: Count | None = None,
    effect_trajectories: CountOrZero | None = None,
    trajectory_steps: Count | None = None,
    static_share: Share = 0.0,
    sensor_fault_share: Share = 0.5,
    calibration_trajectories: Count = 256,
    correction_updates: Count = CORRECTION_UPDATES,
    curriculum: bool = True,
    pretrain_state: bool = True,
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
        variant: `adaptive` learns in its lifetime state; `robust` and `nominal` have fixed weights, trained in all
            worlds or in the nominal one; `oracle` receives the true physics.
        task: Task of the planner that collects trajectories; the robot's first by default.
        reward: Reward in place of that in the spec, for this command alone: FILE.py:FUNCTION, PACKAGE:NAME of an
            installed package, or a built-in name. The task is then named by --task, or by the function.
        goal_size: Number of goal values of a task with --reward; that of the spec's task by default, or 0.
        out: Folder of the finished base; `bases/ROBOT-MEMORY` or `bases/ROBOT-VARIANT` by default. With `--all`:
            folder of the bases.
        work: Folder of checkpoints and curves.
        data: Folder of trajectories; trainings with the same folder use the same data.
        start: Base of another memory to start from, such as the oracle's: only the memory starts untrained, and a
            third of the updates is enough. For the semiparametric memory: trained bases of `ekf` and `robust`, whose
            networks are taken as they are.
        updates: Number of gradient steps.
        batch_size: Number of segments in a gradient step.
        steps: Length of a segment, in steps; gradients propagate over it. A long-term memory needs long segments. By
            default 1.28 s, at least 32 and at most 128 steps.
        random_trajectories: Number of trajectories with random actions; 1.6 million steps by default.
        planned_trajectories: Number of trajectories with the planner in the loop, in each of two rounds; 0.2 million
            steps by default.
        effect_trajectories: Number of trajectories in worlds with undeclared effects, for networks that are not told
            the physics; two thirds of the random ones by default.
        trajectory_steps: Length of a trajectory, in steps; 10.24 s by default, at least 256 and at most 2048 steps.
        static_share: Share of trajectories whose world never changes. A long-term memory needs some.
        calibration_trajectories: Number of new trajectories for the calibration of the finished base; see `wm-robot
            calibrate`.
        correction_updates: Number of gradient steps of the semiparametric memory's correction, in each of two rounds.
        curriculum: Start with short trajectories in mild worlds.
        pretrain_state: Pretrain a lifetime state of the finished adaptive base; see `wm-robot pretrain-state`.
        all_bases: Train all bases of the comparison benches from the same trajectories: adaptive, robust and oracle.
            Complete ones stay unchanged.
        seed: Seed of weights, data and their order.
        threads: Threads of the simulator; training itself uses one thread.
    """
    try:
        import torch

        from wm_robot_sim.worlds import DomainRandomization
    except ImportError as error:
        raise MissingExtraError("wm-robot train", "learn,sim") from error
    from wm_robot.model.base import load_base
    from wm_robot.model.config import ModelConfig
    from wm_robot.spec import make_home_obs
    from wm_robot.tasks import make_reward
    from wm_robot.training.curriculum import DEFAULT_STAGES
    from wm_robot.training.sensor_faults import SensorFaultConfig
    from wm_robot.training.train_config import TrainConfig

    check_variant(variant, memory, all_bases)
    torch.set_num_threads(1)
    spec = load_described_spec(robot)
    spec, task = choose_task(spec, task, reward, goal_size)
    print_notice(spec, task)
    # Before any simulation: the task exists, and the robot has what its reward needs.
    make_reward(spec, spec.find_task(task)).features(make_home_obs(spec))
    num_recent = count_recent_actions(spec)
    size = choose_training_size(spec, trajectory_steps)
    steps, trajectory_steps = steps or size.segment_steps, size.trajectory_steps
    num_trajectories = (
        random_trajectories or size.random_trajectories,
        planned_trajectories or size.planned_trajectories,
    )
    num_effects = effect_trajectories
    if num_effects is None:
        num_effects = max(1, round(EFFECT_SHARE * num_trajectories[0]))
    if not TrainConfig.horizon <= steps <= trajectory_steps:
        raise ConfigError(
            f"steps is {steps}; a segment needs at least {TrainConfig.horizon} steps, and at most "
            f"{trajectory_steps}, the length of a trajectory. Set --steps between them, or a larger "
            "--trajectory-steps"
        )
    begin_from = tuple(load_base(folder) for folder in start)
    is_joined = memory == "semiparametric" and (variant == "adaptive" or all_bases)
    if is_joined:
        check_started(begin_from)
        if not num_effects:
            raise ConfigError(
                "effect_trajectories is 0; the correction of a semiparametric base needs some. Leave it out, or "
                "choose --memory ekf"
            )
    elif len(begin_from) > 1:
        raise ConfigError(f"start has {len(begin_from)} bases; memory '{memory}' starts from one")
    bases: list[_BaseTraining] = []
    for each in COMPARED_VARIANTS if all_bases else (variant,):
        name = f"{spec.name}-{memory if each == 'adaptive' else each}"
        nominal_only = each == "nominal"
        folder = out or Path("bases") / name
        bases.append(
            _BaseTraining(
                spec=spec,
                task=task,
                config=TrainConfig(
                    updates=updates,
                    batch_size=batch_size,
                    segment_steps=steps,
                    seed=seed,
                    stages=DEFAULT_STAGES if curriculum else (),
                    sensor_faults=SensorFaultConfig(batch_fraction=sensor_fault_share),
                ),
                shape=ModelConfig.from_spec(
                    spec,
                    truth=len(DomainRandomization(spec).parameter_names),
                    memory=MEMORY_OF_VARIANT.get(each, memory),
                    recent=num_recent,
                    width=size.width,
                ),
                collector=TrajectoryCollector(
                    spec=spec,
                    task=task,
                    num_trajectories=num_trajectories,
                    steps=trajectory_steps,
                    static_share=static_share,
                    seed=seed,
                    threads=threads,
                    nominal_only=nominal_only,
                    num_effect_trajectories=0 if nominal_only else num_effects,
                ),
                work=work / name,
                data=data or Path("runs/data") / (f"{spec.name}-nominal" if nominal_only else spec.name),
                start=begin_from if each == "adaptive" or not is_joined else (),
                out=folder / name if all_bases and out else folder,
                calibration_trajectories=calibration_trajectories,
                correction_updates=correction_updates,
                pretrains_state=pretrain_state and each == "adaptive",
            )
        )
    for base in bases:
        if base.out.absolute() == base.work.absolute():
            raise ConfigError(
                f"--out and --work would both write {base.out}; the base and its checkpoints need two folders. Set "
                f"--work {base.work.parent}/work"
            )
        for folder, argument in ((base.out, "--out"), (base.work, "--work"), (base.data, "--data")):
            check_writable(folder, argument)
    refused, waiting = [], [base for base in bases if not (all_bases and base.find_complete())]
    if waiting:
        print(f"{spec.name}: {_estimate_all(waiting).describe()}")
    for base in bases:
        if all_bases and (found := base.find_complete()):
            print(f"base {found.digest[:12]} in {found.folder} is complete")
            continue
        try:
            with lock_output_folder(base.out, "--out"), lock_output_folder(base.work, "--work"):
                base.train_and_write()
        except OnnxMismatchError as error:
            refused.append(error)
    if refused:
        exit_without_onnx_models(". ".join(map(str, refused)))


def _estimate_all(bases: "list[_BaseTraining]") -> TrainingEstimate:
    """Estimate several trainings from the same trajectories, which are simulated once."""
    config = bases[0].config
    return sum_estimates(
        estimate_base_training(
            base.collector,
            base.shape,
            updates=config.updates,
            batch_size=config.batch_size,
            segment_steps=config.segment_steps,
            horizon=config.horizon,
            num_planned_rounds=len(config.collect_at),
            fault_share=config.sensor_faults.batch_fraction,
            started=[each.config["memory"] for each in base.start],
        )
        for base in bases
    )


@dataclass(frozen=True, kw_only=True)
class _BaseTraining:
    """Training of one base: settings and output folders."""

    spec: "RobotSpec"
    task: str
    config: "TrainConfig"
    shape: "ModelConfig"
    collector: TrajectoryCollector
    work: Path
    """Checkpoints and curves of this base."""
    data: Path
    start: "tuple[Base, ...]"
    out: Path
    calibration_trajectories: int
    correction_updates: int
    pretrains_state: bool

    def train_and_write(self) -> None:
        """Train the base; then write it with its calibration, ONNX models and pretrained state.

        Raises:
            OnnxMismatchError: If its ONNX models compute other values than torch. Everything else is written then.
        """
        from wm_robot.model.base import load_base, save_base
        from wm_robot.model.calibration import save_calibration
        from wm_robot.planning.mppi import MppiConfig
        from wm_robot.training.export.base_graphs import (
            export_graphs,
            export_posture_plan,
            remove_foreign_graphs,
        )
        from wm_robot_cli.calibrate import measure_calibration
        from wm_robot_cli.export import describe_onnx_models
        from wm_robot_cli.pretrain_state import remove_foreign_state, run_curriculum
        from wm_robot_cli.provenance import read_commit

        made_by = read_commit()
        model, card = self._train_model()
        card |= {"commit": made_by, "trained_on": self._describe_worlds()}
        if self.start:
            card["start"] = [base.digest for base in self.start]
        save_base(self.out, model, self.spec, card)
        base = load_base(self.out)
        remove_foreign_graphs(self.out, base)
        remove_foreign_state(self.out, base)
        save_calibration(
            self.out,
            base,
            measure_calibration(base, self.spec, num_trajectories=self.calibration_trajectories),
        )
        refusal = None
        try:
            differences = export_graphs(self.out, base, self.spec, task=self.task)
            differences |= export_posture_plan(self.out, base, self.spec, task=self.task)
            print(describe_onnx_models(self.out, MppiConfig(), differences))
        except OnnxMismatchError as error:
            refusal = error
        if self.pretrains_state:
            run_curriculum(self.out, base, self.spec, task=self.task)
        print(f"base {base.digest[:12]} in {self.out}{' without ONNX models' if refusal else ''}")
        if refusal:
            raise OnnxMismatchError(
                f"base {base.digest[:12]} in {self.out} is usable in torch, and has no ONNX models: {refusal}"
            ) from refusal

    def _train_model(self) -> "tuple[WorldModel, dict[str, Any]]":
        """Train the model; return it and its card."""
        if self.shape.memory != "semiparametric":
            return self._train_network(self.shape, self.work, self.start[0] if self.start else None)
        networks, cards = [], {}
        for memory in (PHYSICS_MEMORY, FROZEN_MEMORY):
            shape = replace(self.shape, memory=memory)
            started = find_started(self.start, memory)
            if started:
                networks.append(started.model)
                continue
            # That of the robust variant is the same training.
            name = "robust" if memory == FROZEN_MEMORY else memory
            network, cards[name] = self._train_network(shape, self.work.parent / f"{self.spec.name}-{name}")
            networks.append(network)
        physics, frozen = networks
        model = join_networks(self.shape, physics, frozen, seed=self.config.seed)
        correction = train_correction(
            model, self.collector, self.data, updates=self.correction_updates, seed=self.config.seed
        )
        return model, {
            **(cards.get(PHYSICS_MEMORY) or _make_empty_card(self.spec.name, self.config)),
            "networks": cards,
            "correction": correction,
        }

    def _train_network(
        self, shape: "ModelConfig", work: Path, start: "Base | None" = None
    ) -> "tuple[WorldModel, dict[str, Any]]":
        """Train one network; return it and its card."""
        import torch

        from wm_robot.model.world_model import WorldModel
        from wm_robot.training.sensor_faults import SensorFaults
        from wm_robot.training.trainer import Trainer

        torch.manual_seed(self.config.seed)
        trainer = Trainer(
            WorldModel(shape),
            self.config,
            folder=work,
            data=self.data,
            trajectory_source=self.collector,
            initial_model=start.model if start else None,
            sensor_faults=SensorFaults(self.spec.layout, self.config.sensor_faults, seed=self.config.seed),
        )
        seconds = _run_training(trainer, self.config.updates, work)
        return trainer.model, _make_card(trainer, self.spec.name, seconds, self.config, self.data)

    def find_complete(self) -> "Base | None":
        """Return the existing complete base of this training; None without one."""
        from wm_robot.agent.onnx_files import load_functions
        from wm_robot.model.base import load_base
        from wm_robot.model.calibration import load_calibration
        from wm_robot_cli.pretrain_state import has_curriculum_record

        try:
            base = load_base(self.out)
            base.check_spec(self.spec)
            load_calibration(base.folder, base)
            graphs = load_functions(base.folder, base)
        except SnapshotError:
            return None
        has_curriculum = not self.pretrains_state or has_curriculum_record(Path(base.folder), base)
        return base if graphs and has_curriculum and self._matches_card(base) else None

    def _describe_worlds(self) -> list[str]:
        """Return in words from which worlds the trajectories come."""
        from wm_robot_sim.world_description import NOMINAL_WORLD, describe_effects, describe_worlds

        if self.collector.nominal_only:
            return [NOMINAL_WORLD]
        family = find_family(self.shape.memory).memory_class
        given = self.collector.num_effect_trajectories and self.config.effect_fraction
        if not given or family.outcome_is_physics and not family.corrects_prediction:
            return describe_worlds(self.spec)
        return [*describe_worlds(self.spec), describe_effects(self.spec)]

    def _matches_card(self, base: "Base") -> bool:
        """Whether the card of a base has the settings of this training."""
        from wm_robot.io.durable import compute_digest

        card = base.manifest["card"]
        wanted, trained = json.loads(json.dumps(asdict(self.config))), card.get("train", {})
        worlds = self._describe_worlds()
        # Cards of earlier versions have fewer settings, and trajectories may have been removed since.
        settings = all(trained[name] == wanted[name] for name in trained.keys() & wanted.keys())
        trajectories = {self.data / name: sha256 for name, sha256 in card.get("data_sha256", {}).items()}
        same_trajectories = all(
            compute_digest(path.read_bytes()) == sha256
            for path, sha256 in trajectories.items()
            if path.exists()
        )
        return (
            settings
            and same_trajectories
            and card.get("trained_on", worlds) == worlds
            and base.config["memory"] == self.shape.memory
            # Without --start any will do.
            and (not self.start or _list_starts(card) == [base.digest for base in self.start])
        )


def _list_starts(card: dict[str, Any]) -> list[str]:
    """List the digests of the bases from which the base of a card started."""
    started = card.get("start") or []
    return [started] if isinstance(started, str) else list(started)


def _run_training(trainer: "Trainer", updates: int, folder: Path) -> float:
    """Train to the end with a progress bar, or single lines without a terminal."""
    import time

    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from torch.utils.tensorboard import SummaryWriter

    from wm_robot.training.trainer import CURVE_INTERVAL

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
            if update % CURVE_INTERVAL and update != updates:
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


def _make_empty_card(robot: str, config: "TrainConfig") -> dict[str, Any]:
    """Write the card of a base whose networks were trained before."""
    from wm_robot_cli.provenance import read_versions

    return {
        "command": shlex.join(["wm-robot", *sys.argv[1:]]),
        "robot": robot,
        "seed": config.seed,
        "versions": read_versions(),
        "curve": [],
    }


def _make_card(
    trainer: "Trainer", robot: str, seconds: float, config: "TrainConfig", data: Path
) -> dict[str, Any]:
    """Write how the base was made: command, seed, data, curves."""
    from wm_robot.io.durable import compute_digest
    from wm_robot.training.trainer import EFFECTS_FILE
    from wm_robot_cli.provenance import read_versions

    digests = {
        path.name: compute_digest(path.read_bytes())
        for path in sorted(data.glob("trajectories-*.safetensors"))
        if path.name != EFFECTS_FILE or trainer.uses_effects
    }
    return {
        "command": shlex.join(["wm-robot", *sys.argv[1:]]),
        "robot": robot,
        "seed": config.seed,
        "versions": read_versions(),
        "train": asdict(config),
        "minutes_since_resume": round(seconds / 60, 1),
        "data_sha256": digests,
        "transitions": config.updates * config.batch_size * config.segment_steps,
        "curve": trainer.history,
    }
