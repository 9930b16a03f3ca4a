"""Thesis training: all variants one after another, with equal data, gradient steps and number of parameters."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wm_robot.errors import SnapshotError
from wm_robot.io.durable import is_locked, lock_exclusive, make_folder, write_file
from wm_robot_benchmarks.measures.thesis_variants import (
    DEFAULT,
    FROZEN,
    NOMINAL_WEIGHTS,
    PHYSICS,
    find_memory,
    list_trained_variants,
    list_trainings,
    make_seed_folder,
)

if TYPE_CHECKING:
    from wm_robot.model.config import ModelConfig
    from wm_robot.model.world_model import WorldModel
    from wm_robot.spec import RobotSpec
    from wm_robot_cli.trajectory_collector import TrajectoryCollector

CPU_FILE = "cpu_seconds.json"
MOST_MINUTES = 30
"""Time of one core that a variant may take for a seed."""
WIDTH_STEP, LARGEST_WIDTH = 4, 512
UNUSED_PART = "physics_head"
"""Layer that only training uses."""


@dataclass(frozen=True, kw_only=True)
class ThesisTraining:
    """Trainings of all variants of a robot in one folder. A killed one continues from its last checkpoint."""

    spec: "RobotSpec"
    work: Path
    updates: int
    """Gradient steps of each network."""
    correction_updates: int
    seeds: Sequence[int]
    families: Sequence[str]
    """Learned memories."""
    num_trajectories: int | None = None
    """Random trajectories; the default of `wm-robot train` where it is None."""

    def train_missing(self) -> None:
        """Train each variant and seed that has no base in the work folder.

        A second process with the same settings takes other variants, and so uses a second core.

        Raises:
            SnapshotError: If a base there is of another training.
        """
        jobs = [
            (variant, seed)
            for seed in self.seeds
            for variant in list_trained_variants(self.families)
            if seed in list_trainings(variant, self.seeds)
        ]
        waiting = [job for job in jobs if not self._is_trained(*job)]
        while waiting:
            job = next((each for each in waiting if not is_locked(self._make_lock(*each))), waiting[0])
            with lock_exclusive(self._make_lock(*job)):
                if not self._is_trained(*job):
                    print(f"training {job[0]}, seed {job[1]}; {len(waiting) - 1} more", flush=True)
                    self._train_variant(*job)
            waiting.remove(job)

    def _make_lock(self, variant: str, seed: int) -> Path:
        """Return the lock of a training, in an existing folder."""
        folder = make_seed_folder(self.work, seed) / "training"
        make_folder(folder)
        return folder / f"{variant}.lock"

    def _find_base_folder(self, variant: str, seed: int) -> Path:
        return make_seed_folder(self.work, seed) / f"{self.spec.name}-{variant}"

    def _is_trained(self, variant: str, seed: int) -> bool:
        from wm_robot.io.base_file import CARD
        from wm_robot.model.base import load_base

        folder = self._find_base_folder(variant, seed)
        if not (folder / CARD).exists():
            return False
        base = load_base(folder)
        base.check_spec(self.spec)
        card = base.manifest["card"]
        wanted = self._describe_training(variant, seed)
        if changed := sorted(name for name in wanted if card.get(name) != wanted[name]):
            differences = ", ".join(f"{name} {card.get(name)} instead of {wanted[name]}" for name in changed)
            raise SnapshotError(
                f"base in {folder} was trained with {differences}. Use another folder: --work {self.work}-2"
            )
        return True

    def _describe_training(self, variant: str, seed: int) -> dict[str, Any]:
        """Return the settings that a base must have been trained with."""
        wanted = {"updates": self.updates, "seed": seed, "trajectories": self._count_trajectories()}
        return wanted | ({"correction_updates": self.correction_updates} if variant == DEFAULT else {})

    def _train_variant(self, variant: str, seed: int) -> None:
        """Train one variant and write its base."""
        import torch

        from wm_robot.model.base import save_base
        from wm_robot_cli.provenance import read_commit, read_versions

        torch.set_num_threads(1)
        shape = self._make_shape(find_memory(variant))
        collector = self._make_collector(seed, nominal_only=variant == NOMINAL_WEIGHTS)
        if variant == DEFAULT:
            model, seconds = self._train_joined(shape, collector)
        else:
            model, seconds = self._train_network(shape, collector, variant)
        save_base(
            self._find_base_folder(variant, seed),
            model,
            self.spec,
            {
                **self._describe_training(variant, seed),
                "train": {"updates": self.updates},
                "parameters": count_parameters(model),
                "cpu_minutes": round(seconds / 60, 1),
                "commit": read_commit(),
                "versions": read_versions(),
            },
        )

    def _train_network(
        self, shape: "ModelConfig", collector: "TrajectoryCollector", name: str
    ) -> "tuple[WorldModel, float]":
        """Train one network; return it and its time on one core, in s."""
        import torch

        from wm_robot.model.world_model import WorldModel
        from wm_robot.training.curriculum import DEFAULT_STAGES
        from wm_robot.training.sensor_faults import SensorFaults
        from wm_robot.training.train_config import TrainConfig
        from wm_robot.training.trainer import CURVE_INTERVAL, Trainer
        from wm_robot_cli.training_size import choose_training_size

        seed = collector.seed
        torch.manual_seed(seed)
        config = TrainConfig(
            updates=self.updates,
            segment_steps=choose_training_size(self.spec).segment_steps,
            stages=DEFAULT_STAGES,
            seed=seed,
            # Random motion alone: trajectories of a planner would be those of one variant.
            collect_at=(),
        )
        folder = make_seed_folder(self.work, seed) / "training" / name
        trainer = Trainer(
            WorldModel(shape),
            config,
            folder=folder,
            data=self._find_data_folder(collector),
            trajectory_source=collector,
            sensor_faults=SensorFaults(self.spec.layout, config.sensor_faults, seed=seed),
        )
        clock = _CpuClock(folder / CPU_FILE)
        for metrics in trainer.run():
            update = int(metrics["update"])
            clock.start_if_stopped()
            if update % config.checkpoint_interval == 0 or update == config.updates:
                clock.save()
            if update % (10 * CURVE_INTERVAL) == 0 or update == config.updates:
                mean = trainer.history[-1]
                print(
                    f"{name}: {update}/{config.updates}  surprise {mean['surprise']:.3f} nats  open loop "
                    f"{mean['open_loop']:.3f}  {clock.seconds / 60:.1f} min of one core",
                    flush=True,
                )
        return trainer.model.eval().requires_grad_(False), clock.seconds

    def _train_joined(
        self, shape: "ModelConfig", collector: "TrajectoryCollector"
    ) -> "tuple[WorldModel, float]":
        """Train the two smaller networks of the semiparametric memory, and join them."""
        from wm_robot_cli.semiparametric_training import join_networks, train_correction

        networks, total = [], 0.0
        for variant in (PHYSICS, FROZEN):
            network, seconds = self._train_network(
                replace(shape, memory=find_memory(variant)), collector, f"{DEFAULT}-{variant}"
            )
            networks.append(network)
            total += seconds
        model = join_networks(shape, *networks, seed=collector.seed)
        started = time.process_time()
        train_correction(
            model,
            collector,
            self._find_data_folder(collector),
            updates=self.correction_updates,
            seed=collector.seed,
        )
        return model, total + time.process_time() - started

    def _make_shape(self, memory: str) -> "ModelConfig":
        """Return the config of a model with as many parameters as the default memory has at its own width."""
        from wm_robot.model.config import ModelConfig
        from wm_robot_cli.training_size import choose_training_size, count_recent_actions
        from wm_robot_sim.worlds import DomainRandomization

        shape = ModelConfig.from_spec(
            self.spec,
            truth=len(DomainRandomization(self.spec).parameter_names),
            memory=DEFAULT,
            recent=count_recent_actions(self.spec),
            width=choose_training_size(self.spec).width,
        )
        wanted = count_parameters_of(shape)
        return shape if memory == DEFAULT else find_width(replace(shape, memory=memory), wanted)

    def _make_collector(self, seed: int, *, nominal_only: bool) -> "TrajectoryCollector":
        from wm_robot_cli.training_size import EFFECT_SHARE, choose_training_size
        from wm_robot_cli.trajectory_collector import TrajectoryCollector

        count, effects = self._count_trajectories(), 0
        if not nominal_only:
            effects = max(1, round(EFFECT_SHARE * count))
        return TrajectoryCollector(
            spec=self.spec,
            task=next(iter(self.spec.tasks)),
            num_trajectories=(count, 0),
            steps=choose_training_size(self.spec).trajectory_steps,
            static_share=0.0,
            seed=seed,
            threads=1,
            nominal_only=nominal_only,
            num_effect_trajectories=effects,
        )

    def _count_trajectories(self) -> int:
        from wm_robot_cli.training_size import choose_training_size

        return self.num_trajectories or choose_training_size(self.spec).random_trajectories

    def _find_data_folder(self, collector: "TrajectoryCollector") -> Path:
        kind = "data-nominal" if collector.nominal_only else "data"
        return make_seed_folder(self.work, collector.seed) / kind


class _CpuClock:
    """Clock of the time on one core, which continues after a kill from its last save."""

    def __init__(self, path: Path):
        self.path = path
        self._before = float(json.loads(path.read_bytes())["seconds"]) if path.exists() else 0.0
        self._started: float | None = None

    @property
    def seconds(self) -> float:
        return self._before + (0.0 if self._started is None else time.process_time() - self._started)

    def start_if_stopped(self) -> None:
        """Start after the first step: what was before it is the simulation of trajectories, which variants share."""
        if self._started is None:
            self._started = time.process_time()

    def save(self) -> None:
        write_file(self.path, json.dumps({"seconds": self.seconds}).encode())


def count_parameters(model: "WorldModel") -> int:
    """Count the parameters that a model predicts with."""
    return sum(
        value.numel() for name, value in model.named_parameters() if UNUSED_PART not in name.split(".")
    )


def count_parameters_of(shape: "ModelConfig") -> int:
    """Count the parameters of models with a config."""
    import torch

    from wm_robot.model.world_model import WorldModel

    state = torch.get_rng_state()
    count = count_parameters(WorldModel(shape))
    torch.set_rng_state(state)
    return count


def find_width(shape: "ModelConfig", num_parameters: int) -> "ModelConfig":
    """Return the same config with the width whose number of parameters is nearest to the wanted one."""
    low, high = 1, LARGEST_WIDTH // WIDTH_STEP
    while high - low > 1:
        middle = (low + high) // 2
        if count_parameters_of(replace(shape, width=WIDTH_STEP * middle)) < num_parameters:
            low = middle
        else:
            high = middle
    shapes = [replace(shape, width=WIDTH_STEP * number) for number in (low, high)]
    return min(shapes, key=lambda each: abs(count_parameters_of(each) - num_parameters))
