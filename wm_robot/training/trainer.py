"""Trainer: the training loop of a base, resumable after a kill at any time with the same result."""

import json
import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from wm_robot.errors import ConfigError, SnapshotError
from wm_robot.io.durable import write_file
from wm_robot.memory.lifetime_state import LifetimeState, map_values
from wm_robot.model.world_model import WorldModel
from wm_robot.recording.trajectory_file import describe_mismatch, load_or_collect
from wm_robot.training.curriculum import Stage
from wm_robot.training.input_scales import fit_physics_prior, fit_scales
from wm_robot.training.loss import ANCHOR_STEPS, compute_segment_loss
from wm_robot.training.optimizers import compute_rate_share, make_optimizers
from wm_robot.training.segments import SegmentBatch, SegmentSampler
from wm_robot.training.sensor_faults import SensorFaults
from wm_robot.training.train_config import TrainConfig
from wm_robot.training.warm_start import copy_base_tensors
from wm_robot.types import TrajectoryBatch

EFFECTS_FILE = "trajectories-effects.safetensors"
CURVE_INTERVAL = 50
"""Gradient steps averaged in one point of the learning curve."""


@runtime_checkable
class TrajectorySource(Protocol):
    """Source of training trajectories."""

    def describe_round(self, number: int) -> dict[str, Any]:
        """Return all settings of a collection round, besides the model that plans in it."""

    def __call__(self, number: int, model: WorldModel | None) -> TrajectoryBatch:
        """Collect the trajectories of a round.

        Args:
            model: Model of the planner; None for random actions.
        """


@runtime_checkable
class EffectSource(Protocol):
    """Source of trajectories with effects that no parameter of the physics describes."""

    num_effect_trajectories: int
    """0: there are none."""

    def describe_effects(self) -> dict[str, Any]:
        """Return all settings of these trajectories."""

    def collect_effects(self) -> TrajectoryBatch:
        """Collect them."""


class Trainer:
    """Trainer of one base in one folder. A new trainer on the same folder resumes the training."""

    def __init__(
        self,
        model: WorldModel,
        config: TrainConfig,
        *,
        folder: Path,
        data: Path,
        trajectory_source: TrajectorySource,
        initial_model: WorldModel | None = None,
        sensor_faults: SensorFaults | None = None,
    ):
        """Args:
        folder: Folder of the checkpoints and curves of this training.
        data: Folder of the trajectories, shared by trainings on the same data.
        trajectory_source: Called once for each round whose trajectories are not in `data` yet.
        initial_model: Trained model of another memory family, which initialises the other layers and the scales.
        sensor_faults: Faults of the optional sensors.
        """
        self.model, self.config, self.folder, self.data = model, config, folder, data
        self._trajectory_source, self._initial_model = trajectory_source, initial_model
        self._sensor_faults = sensor_faults
        self._optimizers = make_optimizers(model)
        self._pools: list[TrajectoryBatch] = []
        self._pool_digests: list[str] = []
        """SHA-256 of each trajectory file, recorded in checkpoints."""
        self._effects: TrajectoryBatch | None = None
        self._effects_digest = ""
        self._state: LifetimeState[Tensor] | None = None
        self.update = 0
        self.num_completed_stages = 0
        """Number of completed curriculum stages."""
        self.history: list[dict[str, float]] = []
        self._recent_metrics: list[dict[str, float]] = []
        self._sampler: SegmentSampler | None = None

    @property
    def uses_effects(self) -> bool:
        """Whether some of its trajectories have undeclared effects."""
        return self._effects is not None

    @property
    def checkpoint_path(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    def run(self) -> Iterator[dict[str, float]]:
        """Train to the end; yield metrics after each gradient step, and store their means in `history`."""
        self._start_or_resume()
        started, first = time.monotonic(), self.update
        while self.update < self.config.updates:
            for number, part in enumerate(self.config.collect_at, start=1):
                if self.update >= part * self.config.updates and len(self._pools) == number:
                    self._add_pool(number)
            metrics = self._take_gradient_step(self._draw_segments())
            self.update += 1
            done = self.update - first
            metrics["update"] = self.update
            metrics["seconds_left"] = (
                (time.monotonic() - started) / done * (self.config.updates - self.update)
            )
            self._recent_metrics.append(metrics)
            if self.update % CURVE_INTERVAL == 0 or self.update == self.config.updates:
                # The mean of a single batch depends on a few worlds.
                averaged = {name: float(np.mean([m[name] for m in self._recent_metrics])) for name in metrics}
                self.history.append(averaged | {"update": self.update, "stage": self.num_completed_stages})
                self._recent_metrics.clear()
                if self._stage.is_complete(averaged["competence"], self.update / self.config.updates):
                    self._advance_stage()
            if self.update % self.config.checkpoint_interval == 0 or self.update == self.config.updates:
                self._save_checkpoint()
            yield metrics

    @property
    def _stage(self) -> Stage:
        stages = self.config.stages
        return stages[self.num_completed_stages] if self.num_completed_stages < len(stages) else Stage()

    def _advance_stage(self) -> None:
        if self.num_completed_stages < len(self.config.stages):
            self.num_completed_stages += 1
            self._state = None
            self._set_segment_shape()

    def _set_segment_shape(self) -> None:
        """Set the segment shape of the present stage, with all rows in the initial state."""
        assert self._sampler is not None
        config, stage = self.config, self._stage
        steps = max(round(stage.segment_fraction * config.segment_steps), config.horizon, 1)
        self._sampler.set_shape(
            num_rows=max(1, config.batch_size * config.segment_steps // steps),
            num_steps=steps,
            continued_share=stage.carry_fraction * config.carry_fraction,
            world_share=stage.world_fraction,
        )

    def _start_or_resume(self) -> None:
        torch.manual_seed(self.config.seed)
        found = self._read_checkpoint()
        self._load_effects()
        self._add_pool(0)
        if found is not None:
            self._restore_checkpoint(*found)
        else:
            lives = self._pools[0]
            fit_scales(self.model, lives.obs, lives.action)
            fit_physics_prior(self.model, lives.physics.reshape(-1, lives.physics.shape[-1]))
            if self._initial_model is not None:
                copy_base_tensors(self.model, self._initial_model)
            self._set_segment_shape()

    def _trajectory_path(self, round_number: int) -> Path:
        return self.data / f"trajectories-{round_number}.safetensors"

    def _add_pool(self, round_number: int) -> None:
        source = self._trajectory_source
        pool, digest = load_or_collect(
            self._trajectory_path(round_number),
            source.describe_round(round_number),
            lambda: source(round_number, self.model if round_number else None),
        )
        self._pools.append(pool)
        self._pool_digests.append(digest)
        planned = len(self._pools) - 1
        share = self.config.planned_fraction if planned else 0.0
        pools = [(self._pools[0], 1.0 - share)] + [(pool, share / planned) for pool in self._pools[1:]]
        if self._effects is not None:
            # The first in the list: rows continue in the pool of their position.
            part = self.config.effect_fraction
            pools = [(self._effects, part), *((pool, (1 - part) * weight) for pool, weight in pools)]
        if self._sampler is None:
            self._sampler = SegmentSampler(
                pools,
                num_rows=self.config.batch_size,
                num_steps=self.config.segment_steps,
                num_recent=self.model.config.recent,
                continued_share=self.config.carry_fraction,
                seed=self.config.seed,
            )
        else:
            self._sampler.set_pools(pools)

    def _load_effects(self) -> None:
        """Load the trajectories with undeclared effects, for a memory that is not told the physics."""
        source = self._trajectory_source
        if (
            isinstance(source, EffectSource)
            and source.num_effect_trajectories
            and self.config.effect_fraction
            and not any(memory.outcome_is_physics for memory in self.model.memory_layers)
        ):
            self._effects, self._effects_digest = load_or_collect(
                self.data / EFFECTS_FILE, source.describe_effects(), source.collect_effects
            )

    def _draw_segments(self) -> SegmentBatch:
        assert self._sampler is not None
        return self._sampler.draw_segments()

    def _take_gradient_step(self, segments: SegmentBatch) -> dict[str, float]:
        config = self.config
        obs, action, recent, truth = (
            torch.from_numpy(np.ascontiguousarray(x))
            for x in (segments.obs, segments.action, segments.recent, segments.truth)
        )
        part = compute_rate_share(self.update, updates=config.updates, warmup=config.warmup_updates)
        for optimizer, rate in zip(
            self._optimizers, (config.matrix_learning_rate, config.learning_rate), strict=True
        ):
            for group in optimizer.param_groups:
                group["lr"] = part * rate
        state = self._make_start_state(segments, recent, truth)
        disturbed = self._sensor_faults.disturb(segments.obs, self.update) if self._sensor_faults else None
        losses, state = compute_segment_loss(
            self.model,
            state,
            obs,
            action,
            truth,
            horizon=config.horizon,
            sensed=None if disturbed is None else torch.from_numpy(disturbed),
        )
        loss = losses.surprise + config.open_loop_weight * losses.open_loop
        loss = loss + config.physics_weight * self._stage.physics_factor * losses.physics
        self.model.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if not torch.isfinite(norm):
            raise ConfigError(
                f"the gradient is not finite at update {self.update} of the training in {self.folder}. Train with "
                "another seed in another folder, or in Python with a lower TrainConfig.matrix_learning_rate"
            )
        for optimizer in self._optimizers:
            optimizer.step()
        self._state = map_values(lambda value: value[segments.num_fresh :].detach(), state)
        metrics = {
            "loss": float(loss.detach()),
            "surprise": float(losses.surprise.detach()),
            "open_loop": float(losses.open_loop.detach()),
            "physics": float(losses.physics.detach()),
            "gradient": float(norm),
            "competence": float(losses.competence),
            "learning_rate": part * config.learning_rate,
        }
        return metrics | {
            f"error_at_{t}": float(e) for t, e in zip(ANCHOR_STEPS, losses.by_anchor, strict=False)
        }

    def _make_start_state(
        self, segments: SegmentBatch, recent: Tensor, truth: Tensor
    ) -> LifetimeState[Tensor]:
        birth = self.model.initial_state(initial_action=recent[:, -1], truth=truth[:, 0])
        if self._state is not None:
            born = torch.from_numpy(segments.is_initial)

            def carry(fresh: Tensor, carried: Tensor) -> Tensor:
                kept = torch.cat([fresh[: segments.num_fresh], carried])
                return torch.where(born.view(-1, *[1] * (kept.ndim - 1)), fresh, kept)

            birth = map_values(carry, birth, self._state)
        # A continued row may have switched to another trajectory: physics and recent actions are of that one.
        return replace(self.model.set_true_physics(birth, truth[:, 0]), recent=recent)

    def _save_checkpoint(self) -> None:
        assert self._sampler is not None
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        state = self._state.flatten() if self._state else {}
        tensors |= {f"state.{name}": value for name, value in state.items()}
        names = {id(p): name for name, p in self.model.named_parameters()}
        for optimizer in self._optimizers:
            for parameter, moments in optimizer.state.items():
                for key, value in moments.items():
                    tensors[f"moment.{key}.{names[id(parameter)]}"] = value
        progress = {
            "update": self.update,
            "passed": self.num_completed_stages,
            "lives": self._pool_digests,
            "effects": self._effects_digest,
            "sampler": self._sampler.get_state(),
            "history": self.history,
            "recent": self._recent_metrics,
            "config": asdict(self.config),
            "model": self.model.config.to_dict(),
        }
        content = save(
            {k: v.detach().contiguous() for k, v in tensors.items()}, {"progress": json.dumps(progress)}
        )
        write_file(self.checkpoint_path, content)

    def _read_checkpoint(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """Read progress and tensors of the checkpoint, if there is one.

        Raises:
            SnapshotError: If checkpoint or trajectories are damaged or of another training. The message names all of
                them, so that its one remedy is enough.
        """
        files = {number: self._trajectory_path(number) for number in range(len(self.config.collect_at) + 1)}
        wrong_lives = {
            number: reason
            for number, path in files.items()
            if path.exists()
            and (reason := describe_mismatch(path, self._trajectory_source.describe_round(number)))
        }
        of_checkpoint: list[str] = []
        progress: dict[str, Any] = {}
        tensors: dict[str, Tensor] = {}
        if self.checkpoint_path.exists():
            try:
                with safe_open(self.checkpoint_path, framework="pt") as file:
                    progress = json.loads(file.metadata()["progress"])
                    tensors = {name: file.get_tensor(name) for name in file.keys()}
                of_checkpoint = self._describe_differences(progress, wrong_lives)
            except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
                of_checkpoint = [f"{self.checkpoint_path} cannot be read: {error}"]
        if wrong_lives or of_checkpoint:
            # The trajectories of every round have the same fault: one reason is enough.
            reasons = [*list(wrong_lives.values())[:1], *of_checkpoint]
            remedy = self._compose_remedy([files[number] for number in wrong_lives], own=bool(of_checkpoint))
            raise SnapshotError(". ".join([*reasons, remedy]))
        return (progress, tensors) if progress else None

    def _describe_differences(self, progress: dict[str, Any], wrong_rounds: Container[int]) -> list[str]:
        """List the reasons why a checkpoint cannot be resumed here, as sentences.

        Args:
            wrong_rounds: Rounds whose trajectory file is of another training.
        """
        reasons = []
        wanted = json.loads(json.dumps({"config": asdict(self.config), "model": self.model.config.to_dict()}))
        for part, values in wanted.items():
            changed = sorted(k for k in values if progress[part].get(k) != values[k])
            told = ", ".join(f"{k} {progress[part].get(k)} instead of {values[k]}" for k in changed)
            if changed:
                reasons.append(f"{self.checkpoint_path} was made with another {part}: {told}")
        used = range(len(progress["lives"]))
        if any(number in wrong_rounds for number in used):
            reasons.append(f"{self.checkpoint_path} was trained on such trajectories")
        # Random trajectories are reproducible; planned ones would now be collected with a later model.
        missing = [str(self._trajectory_path(n)) for n in used if n and not self._trajectory_path(n).exists()]
        if missing:
            reasons.append(f"{self.checkpoint_path} was trained on missing files: {', '.join(missing)}")
        return reasons

    def _compose_remedy(self, lives: Sequence[Path], *, own: bool) -> str:
        """Compose the next move of a message, for trajectory files and, if `own`, for the checkpoint."""
        elsewhere = [f"--work {_find_unused_name(self.folder.parent)}"] * own
        elsewhere += [f"--data {_find_unused_name(self.data)}"] * bool(lives)
        files = [*([self.checkpoint_path] * own), *lives]
        return (
            f"Train in another folder: {' '.join(elsewhere)}. "
            f"Or delete, to start again here: {' '.join(map(str, files))}"
        )

    def _restore_checkpoint(self, progress: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self.model.load_state_dict(_strip_prefix(tensors, "model."))
        state = _strip_prefix(tensors, "state.")
        self._state = LifetimeState.unflatten(state) if state else None
        parameters = dict(self.model.named_parameters())
        owner = {id(p): o for o in self._optimizers for group in o.param_groups for p in group["params"]}
        for key, value in _strip_prefix(tensors, "moment.").items():
            moment, _, name = key.partition(".")
            owner[id(parameters[name])].state[parameters[name]][moment] = value
        self.update, self.history = progress["update"], progress["history"]
        self._recent_metrics = progress["recent"]
        for number in range(1, len(progress["lives"])):
            self._add_pool(number)
        if (self._pool_digests, self._effects_digest) != (progress["lives"], progress.get("effects", "")):
            raise SnapshotError(
                f"{self.checkpoint_path} was trained on other trajectories than those in {self.data}. "
                + self._compose_remedy([], own=True)
            )
        self.num_completed_stages = progress["passed"]
        self._set_segment_shape()
        assert self._sampler is not None
        self._sampler.restore_state(progress["sampler"])


def _find_unused_name(folder: Path) -> Path:
    """Find an unused sibling name of a folder."""
    return next(path for n in count(2) if not (path := folder.with_name(f"{folder.name}-{n}")).exists())


def _strip_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
