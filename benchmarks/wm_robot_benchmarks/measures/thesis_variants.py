"""Thesis variants: what their weights contain at the start of a rollout, and where their trained networks are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from wm_robot.errors import SnapshotError
from wm_robot.memory.registry import find_family
from wm_robot_benchmarks.harness.result import Setting, list_variants_with_base, load_bases
from wm_robot_cli.variants import MEMORY_OF_VARIANT

if TYPE_CHECKING:
    from wm_robot.evaluation.adaptation import LearningModel
    from wm_robot_benchmarks.measures.online_tuning import OnlineConfig

FROZEN, ORACLE, NOMINAL_WEIGHTS, PHYSICS, DEFAULT = "robust", "oracle", "nominal", "ekf", "semiparametric"
GRADIENT, LAST_LAYER, LEAST_SQUARES = "robust-gradient", "robust-rls", "rls"
ONLINE = (GRADIENT, LAST_LAYER, LEAST_SQUARES)
"""Variants that need no training of their own: they begin with the network of `robust`, or with its units alone."""
REPEATED = (FROZEN, PHYSICS, "gru", DEFAULT)
"""Variants that are trained with every training seed; the others with the first alone."""
SHIPPED = "shipped"
"""Name of the training whose bases ship, in place of a seed."""


def list_trained_variants(families: Sequence[str]) -> tuple[str, ...]:
    """List the variants with a training of their own, in the order of the tables.

    Args:
        families: Learned memories.
    """
    return (NOMINAL_WEIGHTS, FROZEN, PHYSICS, *families, DEFAULT, ORACLE)


def list_variants(families: Sequence[str]) -> tuple[str, ...]:
    """List all variants, in the order of the tables."""
    trained = list_trained_variants(families)
    return (*trained[:2], *ONLINE, *trained[2:])


def list_trainings(variant: str, seeds: Sequence[int]) -> tuple[int, ...]:
    """List the training seeds of a variant."""
    return tuple(seeds) if variant in REPEATED else tuple(seeds[:1])


def find_memory(variant: str) -> str:
    """Return the memory family of a trained variant."""
    return MEMORY_OF_VARIANT.get(variant, variant)


def learns_online(variant: str) -> bool:
    """Whether the state of a variant changes by what the robot lives."""
    return variant in ONLINE or find_family(find_memory(variant)).is_learned


def make_seed_folder(work: Path, seed: int) -> Path:
    """Return the folder of the bases of a training seed."""
    return work / f"seed-{seed}"


@dataclass(frozen=True)
class TrainingRun:
    """Bases that were trained from the same trajectories: those of a seed, or those that ship."""

    label: str
    """The seed, or `SHIPPED`."""
    setting: Setting
    """Setting whose bases are these."""
    variants: tuple[str, ...]
    """Variants that are measured with them, in the order of the tables."""


def find_training_runs(
    setting: Setting, work: Path, seeds: Sequence[int], families: Sequence[str]
) -> list[TrainingRun]:
    """Find the bases of each variant: in the work folder, or else those that ship.

    Raises:
        SnapshotError: If there is no base of `robust`.
    """
    runs, found = list[TrainingRun](), set[str]()
    for seed in seeds:
        own = replace(setting, bases=make_seed_folder(work, seed))
        names = _select_variants(list_variants_with_base(own) if own.bases.is_dir() else [], families)
        if FROZEN in names:
            runs.append(TrainingRun(str(seed), own, names))
            found |= set(names)
    shipped = _select_variants(list_variants_with_base(setting), families)
    if missing := set(shipped) - found:
        if FROZEN not in shipped:
            raise SnapshotError(
                f"no base of variant '{FROZEN}' is in {work} or {setting.bases}. Train all: wm-robot bench thesis "
                f"--robot {setting.robot} --train"
            )
        # The shipped `robust` is what the others of that run are compared with.
        names = tuple(name for name in shipped if name in missing or name == FROZEN)
        runs.append(TrainingRun(SHIPPED, setting, names))
    if not runs:
        raise SnapshotError(
            f"no base of variant '{FROZEN}' is in {work} or {setting.bases}. Train all: wm-robot bench thesis "
            f"--robot {setting.robot} --train"
        )
    return runs


def _select_variants(there: Sequence[str], families: Sequence[str]) -> tuple[str, ...]:
    """Select the variants that can be measured, from those with a base."""
    known = [*there, *(ONLINE if FROZEN in there else ())]
    return tuple(name for name in list_variants(families) if name in known)


def load_models(run: TrainingRun, online: "OnlineConfig") -> "dict[str, LearningModel]":
    """Load the model of each variant of a run, or make it from the network of `robust`."""
    from wm_robot.evaluation.least_squares_learner import LastLayerLearner, LinearLearner
    from wm_robot_benchmarks.measures.gradient_learner import GradientLearner

    trained = [name for name in run.variants if name not in ONLINE]
    models: dict[str, LearningModel] = {
        name: base.model for name, base in load_bases(run.setting, trained).items()
    }
    frozen = load_bases(run.setting, [FROZEN])[FROZEN].model
    models |= {
        GRADIENT: GradientLearner(frozen, online.gradient),
        LAST_LAYER: LastLayerLearner(frozen, online.last_layer),
        LEAST_SQUARES: LinearLearner(frozen, online.linear),
    }
    return {name: models[name] for name in run.variants}
