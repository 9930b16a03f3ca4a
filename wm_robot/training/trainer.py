"""Trainer: the training loop of a base, resumable after a kill at any time with the same result."""

import json
import math
import time
from collections.abc import Container, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from wm_robot.errors import ConfigError, SnapshotError, check_at_least
from wm_robot.io.durable import digest, locked, make_folder, write_file
from wm_robot.memory.lifetime_state import LifetimeState, map_values
from wm_robot.model.world_model import WorldModel
from wm_robot.recording.trajectory_file import describe_mismatch, load_lives, save_lives
from wm_robot.training.curriculum import Stage
from wm_robot.training.input_scales import fit_prior, fit_scales
from wm_robot.training.loss import ANCHORS, segment_loss
from wm_robot.training.segments import Segments, SegmentSampler
from wm_robot.types import Lives

OF_MEMORY = ("memories.", "physics_head.")
"""Name prefixes of the tensors that belong to one memory family."""
CURVE = 50
"""Gradient steps averaged in one point of the learning curve."""


@runtime_checkable
class Gather(Protocol):
    """Source of training trajectories."""

    def recipe(self, number: int) -> dict[str, Any]:
        """Return all settings of a collection round, besides the model that plans in it."""

    def __call__(self, number: int, model: WorldModel | None) -> Lives:
        """Collect the trajectories of a round.

        Args:
            model: Model of the planner; None for random actions.
        """


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Config of the training of a base. Equal config, data and seed give an equal base."""

    updates: int = 14_000
    rows: int = 32
    """Segments per gradient step. Many small steps learn more in an hour than few large ones."""
    steps: int = 64
    """Length of a segment."""
    horizon: int = 10
    """Steps imagined open-loop; 0 for none."""
    carried: float = 0.5
    """Share of rows that continue with the state of the previous gradient step."""
    learning_rate: float = 2e-3
    """Learning rate of AdamW, for biases, norms, heads and initial states."""
    matrix_rate: float = 8e-3
    """Learning rate of Muon, for the matrices of hidden layers."""
    warmup: int = 100
    open_loop: float = 1.0
    """Weight of the open-loop loss; the one-step loss has weight 1."""
    physics: float = 1.0
    """Weight of the error of the physics estimated from the state."""
    rounds: tuple[float, ...] = (0.25, 0.5)
    """Shares of the training after which trajectories are collected with the planner in the loop."""
    planned: float = 0.4
    """Share of rows drawn from planned trajectories, once there are some."""
    stages: tuple[Stage, ...] = ()
    """Easier stages before the full training."""
    checkpoint: int = 250
    """Gradient steps between checkpoints."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_at_least(1, self, "updates", "rows", "steps", "checkpoint", part="train")
        if not 0 <= self.horizon <= self.steps:
            raise ConfigError(f"train.horizon is {self.horizon}; it must be from 0 to steps, {self.steps}")


class Trainer:
    """Trainer of one base in one folder. A new trainer on the same folder resumes the training."""

    def __init__(
        self,
        model: WorldModel,
        config: TrainConfig,
        *,
        folder: Path,
        data: Path,
        gather: Gather,
        start: WorldModel | None = None,
    ):
        """Args:
        folder: Folder of the checkpoints and curves of this training.
        data: Folder of the trajectories, shared by trainings on the same data.
        trajectory_source: Called once for each round whose trajectories are not in `data` yet.
        initial_model: Trained model of another memory family, which initialises the other layers and the scales.
        """
        self.model, self.config, self.folder, self.data = model, config, folder, data
        self._gather, self._begin_from = gather, start
        self._optimizers = _optimizers(model)
        self._pools: list[Lives] = []
        self._lives: list[str] = []
        """SHA-256 of each trajectory file, recorded in checkpoints."""
        self._state: LifetimeState[Tensor] | None = None
        self.update = 0
        self.passed = 0
        """Number of completed curriculum stages."""
        self.history: list[dict[str, float]] = []
        self._recent: list[dict[str, float]] = []
        self._sampler: SegmentSampler | None = None

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    def run(self) -> Iterator[dict[str, float]]:
        """Train to the end; yield metrics after each gradient step, and store their means in `history`."""
        self._begin()
        started, first = time.monotonic(), self.update
        while self.update < self.config.updates:
            for number, part in enumerate(self.config.rounds, start=1):
                if self.update >= part * self.config.updates and len(self._pools) == number:
                    self._add_pool(number)
            metrics = self._train(self._draw())
            self.update += 1
            done = self.update - first
            metrics["update"] = self.update
            metrics["seconds_left"] = (
                (time.monotonic() - started) / done * (self.config.updates - self.update)
            )
            self._recent.append(metrics)
            if self.update % CURVE == 0 or self.update == self.config.updates:
                # The mean of a single batch depends on a few worlds.
                averaged = {name: float(np.mean([m[name] for m in self._recent])) for name in metrics}
                self.history.append(averaged | {"update": self.update, "stage": self.passed})
                self._recent.clear()
                if self._stage.ends(averaged["competence"], self.update / self.config.updates):
                    self._promote()
            if self.update % self.config.checkpoint == 0 or self.update == self.config.updates:
                self._save()
            yield metrics

    @property
    def _stage(self) -> Stage:
        stages = self.config.stages
        return stages[self.passed] if self.passed < len(stages) else Stage()

    def _promote(self) -> None:
        if self.passed < len(self.config.stages):
            self.passed += 1
            self._state = None
            self._shape()

    def _shape(self) -> None:
        """Set the segment shape of the present stage, with all rows in the initial state."""
        assert self._sampler is not None
        config, stage = self.config, self._stage
        steps = max(round(stage.length * config.steps), config.horizon, 1)
        self._sampler.shape(
            rows=max(1, config.rows * config.steps // steps),
            steps=steps,
            carried=stage.carried * config.carried,
            worlds=stage.worlds,
        )

    def _begin(self) -> None:
        torch.manual_seed(self.config.seed)
        found = self._read_checkpoint()
        self._add_pool(0)
        if found is not None:
            self._restore(*found)
        else:
            lives = self._pools[0]
            fit_scales(self.model, lives.obs, lives.action)
            fit_prior(self.model, lives.physics.reshape(-1, lives.physics.shape[-1]))
            if self._begin_from is not None:
                _take_over(self.model, self._begin_from)
            self._shape()

    def _lives_file(self, number: int) -> Path:
        return self.data / f"lives-{number}.safetensors"

    def _add_pool(self, number: int) -> None:
        path = self._lives_file(number)
        # Checked before locking: another training may hold the lock for minutes, to collect a later round.
        make_folder(self.data)
        with nullcontext() if path.exists() else locked(self.data / ".lock"):
            if not path.exists():
                recipe = self._gather.recipe(number)
                save_lives(path, self._gather(number, self.model if number else None), recipe)
        self._pools.append(load_lives(path, self._gather.recipe(number)))
        self._lives.append(digest(path.read_bytes()))
        planned = len(self._pools) - 1
        share = self.config.planned if planned else 0.0
        pools = [(self._pools[0], 1.0 - share)] + [(pool, share / planned) for pool in self._pools[1:]]
        if self._sampler is None:
            self._sampler = SegmentSampler(
                pools,
                rows=self.config.rows,
                steps=self.config.steps,
                recent=self.model.config.recent,
                carried=self.config.carried,
                seed=self.config.seed,
            )
        else:
            self._sampler.set_pools(pools)

    def _draw(self) -> Segments:
        assert self._sampler is not None
        return self._sampler.draw()

    def _train(self, segments: Segments) -> dict[str, float]:
        config = self.config
        obs, action, recent, truth = (
            torch.from_numpy(np.ascontiguousarray(x))
            for x in (segments.obs, segments.action, segments.recent, segments.truth)
        )
        part = _schedule(self.update, config)
        for optimizer, rate in zip(self._optimizers, (config.matrix_rate, config.learning_rate), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = part * rate
        state = self._start(segments, recent, truth)
        losses, state = segment_loss(self.model, state, obs, action, truth, horizon=config.horizon)
        loss = losses.surprise + config.open_loop * losses.open_loop
        loss = loss + config.physics * self._stage.physics * losses.physics
        self.model.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if not torch.isfinite(norm):
            raise ConfigError(
                f"the gradient is not finite at update {self.update} of the training in {self.folder}. Train with "
                "another seed in another folder, or in Python with a lower TrainConfig.matrix_rate"
            )
        for optimizer in self._optimizers:
            optimizer.step()
        self._state = map_values(lambda value: value[segments.fresh :].detach(), state)
        metrics = {
            "loss": float(loss.detach()),
            "surprise": float(losses.surprise.detach()),
            "open_loop": float(losses.open_loop.detach()),
            "physics": float(losses.physics.detach()),
            "gradient": float(norm),
            "competence": float(losses.competence),
            "learning_rate": part * config.learning_rate,
        }
        return metrics | {f"error_at_{t}": float(e) for t, e in zip(ANCHORS, losses.by_anchor, strict=False)}

    def _start(self, segments: Segments, recent: Tensor, truth: Tensor) -> LifetimeState[Tensor]:
        birth = self.model.birth(hold=recent[:, -1], truth=truth[:, 0])
        if self._state is not None:
            born = torch.from_numpy(segments.born)

            def carry(fresh: Tensor, carried: Tensor) -> Tensor:
                kept = torch.cat([fresh[: segments.fresh], carried])
                return torch.where(born.view(-1, *[1] * (kept.ndim - 1)), fresh, kept)

            birth = map_values(carry, birth, self._state)
        # A continued row may have switched to another trajectory: physics and recent actions are of that one.
        return replace(self.model.tell(birth, truth[:, 0]), recent=recent)

    def _save(self) -> None:
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
            "passed": self.passed,
            "lives": self._lives,
            "sampler": self._sampler.state(),
            "history": self.history,
            "recent": self._recent,
            "config": asdict(self.config),
            "model": self.model.config.to_dict(),
        }
        content = save(
            {k: v.detach().contiguous() for k, v in tensors.items()}, {"progress": json.dumps(progress)}
        )
        write_file(self.checkpoint, content)

    def _read_checkpoint(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """Read progress and tensors of the checkpoint, if there is one.

        Raises:
            SnapshotError: If checkpoint or trajectories are damaged or of another training. The message names all of
                them, so that its one remedy is enough.
        """
        files = {number: self._lives_file(number) for number in range(len(self.config.rounds) + 1)}
        wrong_lives = {
            number: reason
            for number, path in files.items()
            if path.exists() and (reason := describe_mismatch(path, self._gather.recipe(number)))
        }
        of_checkpoint: list[str] = []
        progress: dict[str, Any] = {}
        tensors: dict[str, Tensor] = {}
        if self.checkpoint.exists():
            try:
                with safe_open(self.checkpoint, framework="pt") as file:
                    progress = json.loads(file.metadata()["progress"])
                    tensors = {name: file.get_tensor(name) for name in file.keys()}
                of_checkpoint = self._differences_of(progress, wrong_lives)
            except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
                of_checkpoint = [f"{self.checkpoint} cannot be read: {error}"]
        if wrong_lives or of_checkpoint:
            # The trajectories of every round have the same fault: one reason is enough.
            reasons = [*list(wrong_lives.values())[:1], *of_checkpoint]
            remedy = self._remedy([files[number] for number in wrong_lives], own=bool(of_checkpoint))
            raise SnapshotError(". ".join([*reasons, remedy]))
        return (progress, tensors) if progress else None

    def _differences_of(self, progress: dict[str, Any], wrong_lives: Container[int]) -> list[str]:
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
                reasons.append(f"{self.checkpoint} was made with another {part}: {told}")
        used = range(len(progress["lives"]))
        if any(number in wrong_lives for number in used):
            reasons.append(f"{self.checkpoint} was trained on such trajectories")
        # Random trajectories are reproducible; planned ones would now be collected with a later model.
        missing = [str(self._lives_file(n)) for n in used if n and not self._lives_file(n).exists()]
        if missing:
            reasons.append(f"{self.checkpoint} was trained on missing files: {', '.join(missing)}")
        return reasons

    def _remedy(self, lives: Sequence[Path], *, own: bool) -> str:
        """Compose the next move of a message, for trajectory files and, if `own`, for the checkpoint."""
        elsewhere = [f"--work {_unused(self.folder.parent)}"] * own
        elsewhere += [f"--data {_unused(self.data)}"] * bool(lives)
        files = [*([self.checkpoint] * own), *lives]
        return (
            f"Train in another folder: {' '.join(elsewhere)}. "
            f"Or delete, to start again here: {' '.join(map(str, files))}"
        )

    def _restore(self, progress: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self.model.load_state_dict(_strip(tensors, "model."))
        state = _strip(tensors, "state.")
        self._state = LifetimeState.unflatten(state) if state else None
        parameters = dict(self.model.named_parameters())
        owner = {id(p): o for o in self._optimizers for group in o.param_groups for p in group["params"]}
        for key, value in _strip(tensors, "moment.").items():
            moment, _, name = key.partition(".")
            owner[id(parameters[name])].state[parameters[name]][moment] = value
        self.update, self.history = progress["update"], progress["history"]
        self._recent = progress["recent"]
        for number in range(1, len(progress["lives"])):
            self._add_pool(number)
        if self._lives != progress["lives"]:
            raise SnapshotError(
                f"{self.checkpoint} was trained on other trajectories than those in {self.data}. "
                + self._remedy([], own=True)
            )
        self.passed = progress["passed"]
        self._shape()
        assert self._sampler is not None
        self._sampler.restore(progress["sampler"])


def _optimizers(model: nn.Module) -> tuple[torch.optim.Muon, torch.optim.AdamW]:
    """Create Muon for the matrices of hidden layers, and AdamW for the rest.

    Weight decay applies to matrices only: never to biases, norms, decays or initial states. Source of Muon: Jordan
    et al. (2024), https://kellerjordan.github.io/posts/muon.
    """
    hidden: list[nn.Parameter] = []
    heads: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.ndim != 2 or "weight" not in name:
            free.append(parameter)
        elif "head" in name:
            heads.append(parameter)
        else:
            hidden.append(parameter)
    muon = torch.optim.Muon(hidden, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    groups = [{"params": heads, "weight_decay": 0.01}, {"params": free, "weight_decay": 0.0}]
    return muon, torch.optim.AdamW(groups, betas=(0.9, 0.98))


def _take_over(model: WorldModel, start: WorldModel) -> None:
    """Copy all tensors that do not depend on the memory family.

    Raises:
        ConfigError: If the models differ in robot or width.
    """
    own = {name: value for name, value in model.state_dict().items() if not name.startswith(OF_MEMORY)}
    others = {name: value for name, value in start.state_dict().items() if name in own}
    differ = sorted(name for name in own if name not in others or own[name].shape != others[name].shape)
    if differ:
        raise ConfigError(
            f"start has other shapes than this model: {differ}. Use a base of the same robot and width"
        )
    model.load_state_dict(others, strict=False)


def _schedule(update: int, config: TrainConfig) -> float:
    """Compute the share of the full learning rate: a ramp, then half a cosine."""
    if update < config.warmup:
        return (update + 1) / config.warmup
    part = (update - config.warmup) / max(1, config.updates - config.warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part))


def _unused(folder: Path) -> Path:
    """Find an unused sibling name of a folder."""
    return next(path for n in count(2) if not (path := folder.with_name(f"{folder.name}-{n}")).exists())


def _strip(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
