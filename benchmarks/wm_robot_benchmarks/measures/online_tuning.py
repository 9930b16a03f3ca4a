"""Online tuning: chooses the settings of learners without training, by their error in training worlds alone."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_robot.evaluation.least_squares_learner import (
    LastLayerLearner,
    LeastSquaresConfig,
    LinearLearner,
)
from wm_robot.io.durable import lock_exclusive, make_folder, write_file
from wm_robot.progress import Progress
from wm_robot_benchmarks.harness.result import Setting
from wm_robot_benchmarks.measures.effect_strength import get_strengths
from wm_robot_benchmarks.measures.gradient_learner import GradientConfig, GradientLearner
from wm_robot_benchmarks.undeclared import DECLARED, NOMINAL, make_lives

if TYPE_CHECKING:
    from wm_robot.evaluation.adaptation import LearningModel
    from wm_robot.model.world_model import WorldModel
    from wm_robot_benchmarks.measures.effect_lives import EffectLives

FILE = "online.json"
POINTS = (1, 4, 16, 32, 64, 128)
"""Steps of experience at which a setting is judged."""
SEED = 20_000
"""Seed of the robots, which no bench uses."""
SCALES, LOG_DECAYS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0), (0.0, -0.002, -0.01)
RATES = {"all": (1e-4, 3e-4, 1e-3), "last": (3e-4, 1e-3, 3e-3)}
SGD_RATES = (3e-3, 1e-2, 3e-2)


@dataclass(frozen=True, kw_only=True)
class OnlineConfig:
    """Settings of the learners without training of their own."""

    gradient: GradientConfig = GradientConfig()
    last_layer: LeastSquaresConfig = LeastSquaresConfig(scale=0.03)
    linear: LeastSquaresConfig = LeastSquaresConfig(scale=0.1)

    def save(self, path: Path, scores: Sequence[dict[str, Any]]) -> None:
        """Write the settings, and what was tried for them."""
        write_file(path, json.dumps({"settings": asdict(self), "tried": list(scores)}, indent=1).encode())

    @classmethod
    def load(cls, path: Path) -> "OnlineConfig":
        """Read chosen settings; the defaults if there are none."""
        if not path.exists():
            return cls()
        found = json.loads(path.read_bytes())["settings"]
        return cls(
            gradient=GradientConfig(**found["gradient"]),
            last_layer=LeastSquaresConfig(**found["last_layer"]),
            linear=LeastSquaresConfig(**found["linear"]),
        )


@dataclass(frozen=True)
class _DevelopmentLives:
    """Robots in training worlds, and the error of frozen weights for each of their groups."""

    lives: "EffectLives"
    groups: Sequence[slice]
    frozen: np.ndarray

    def score(self, model: "LearningModel") -> float:
        """Compute the error relative to frozen weights: geometric mean over groups and steps."""
        return float(np.exp(np.log(self.measure(model) / self.frozen).mean()))

    def measure(self, model: "LearningModel") -> np.ndarray:
        """Compute the mean error of each group, by steps."""
        from wm_robot.evaluation.adaptation import Variant, compute_error_by_step

        variant, unit = Variant(name="tuned", model=model), self.lives.unit
        error = compute_error_by_step(variant, self.lives.trajectories, POINTS, change_std=unit)
        # A learner that diverges is no better than a very bad one.
        error = np.nan_to_num(error, nan=1e6, posinf=1e6).clip(max=1e6)
        return np.stack([error[rows].mean(0) for rows in self.groups])


def choose_online_config(
    setting: Setting, frozen: "WorldModel", path: Path, num_robots: int, progress: Progress
) -> OnlineConfig:
    """Choose the settings by training worlds, or return those that were chosen before.

    Args:
        frozen: Network of the variant `robust`.
        path: File of the settings.
        num_robots: Robots of each kind of world.
    """
    make_folder(path.parent)
    # A second process with the same settings waits for those of the first.
    with lock_exclusive(path.with_suffix(".lock")):
        if not path.exists():
            chosen, tried = _search_online_config(setting, frozen, num_robots, progress)
            chosen.save(path, tried)
    return OnlineConfig.load(path)


def _search_online_config(
    setting: Setting, frozen: "WorldModel", num_robots: int, progress: Progress
) -> tuple[OnlineConfig, list[dict[str, Any]]]:
    """Return the best settings, and all that were tried."""
    development = _simulate_development_lives(setting, frozen, num_robots)
    tried = list[dict[str, Any]]()
    total = 2 * len(SCALES) * len(LOG_DECAYS) + _count_gradient_configs()

    def judge(name: str, model: "LearningModel", config: Any) -> float:
        score = development.score(model)
        tried.append({"learner": name, **asdict(config), "error_vs_robust": round(score, 4)})
        print(f"{name}: {score:.3f} times the error of robust with {asdict(config)}", flush=True)
        progress(len(tried), total)
        return score

    squares = [LeastSquaresConfig(scale=scale, log_decay=decay) for scale in SCALES for decay in LOG_DECAYS]
    chosen = OnlineConfig(
        linear=min(squares, key=lambda c: judge("rls", LinearLearner(frozen, c), c)),
        last_layer=min(squares, key=lambda c: judge("robust-rls", LastLayerLearner(frozen, c), c)),
        gradient=_choose_gradient_config(lambda c: judge("robust-gradient", GradientLearner(frozen, c), c)),
    )
    return chosen, tried


def _choose_gradient_config(judge: Callable[[GradientConfig], float]) -> GradientConfig:
    """Choose layers and rate first, then one setting after another with the others as they are."""
    scores = dict[GradientConfig, float]()

    def choose(candidates: Iterable[GradientConfig]) -> GradientConfig:
        for each in candidates:
            if each not in scores:
                scores[each] = judge(each)
        return min(scores, key=scores.__getitem__)

    best = choose(
        GradientConfig(layers=layers, learning_rate=rate)  # type: ignore[arg-type]
        for layers, rates in RATES.items()
        for rate in rates
    )
    best = choose(replace(best, horizon=horizon) for horizon in (1, 3))
    best = choose(replace(best, num_segments=number) for number in (4, 16))
    best = choose([replace(best, decay=0.01), replace(best, steps_per_update=4)])
    return choose(replace(best, optimizer="sgd", learning_rate=rate) for rate in SGD_RATES)


def _count_gradient_configs() -> int:
    return sum(map(len, RATES.values())) + 6 + len(SGD_RATES)


def _simulate_development_lives(setting: Setting, frozen: "WorldModel", num_robots: int) -> _DevelopmentLives:
    from wm_robot.robots import load_spec
    from wm_robot.types import TrajectoryBatch
    from wm_robot_benchmarks.measures.effect_lives import EffectLives
    from wm_robot_sim.effects.effect import list_kinds

    kinds = list_kinds(load_spec(setting.robot), "training")
    strengths = get_strengths(setting, kinds)
    rows = [
        make_lives(setting, row, strengths.get(row, 0.0), num_robots, SEED, points=POINTS)
        for row in (NOMINAL, DECLARED, *kinds)
    ]
    names = TrajectoryBatch.__dataclass_fields__
    together = TrajectoryBatch(
        **{name: np.concatenate([getattr(row.trajectories, name) for row in rows]) for name in names}
    )
    # One unit for all: a score is a ratio.
    lives = EffectLives(together, np.concatenate([row.floor for row in rows]), rows[0].unit)
    groups = [slice(num_robots * number, num_robots * (number + 1)) for number in range(len(rows))]
    empty = _DevelopmentLives(lives, groups, np.zeros(0))
    return replace(empty, frozen=empty.measure(frozen))
