"""`wm-robot bench memory --task arm`: families with a base, by steps of experience, after changes, and by cost."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wm_robot.errors import MissingExtraError
from wm_robot.evaluation.adaptation import (
    HORIZON,
    OFFSETS,
    TensorBatch,
    Variant,
    compute_error_after_false_history,
    compute_error_by_step,
    compute_open_loop_error,
    update_state,
)
from wm_robot.evaluation.gap import Comparison, compute_gap_closed
from wm_robot.model.world_model import WorldModel
from wm_robot.progress import Progress, make_part_progress
from wm_robot.types import Step, TrajectoryBatch
from wm_robot_benchmarks.adaptation import STAGE
from wm_robot_benchmarks.harness.result import (
    FAMILIES,
    Result,
    Setting,
    describe_seed_count,
    list_variants_with_base,
    load_bases,
    require,
)
from wm_robot_cli.worker_processes import in_processes

AGES = (1, 8, 32, 128)
"""Steps of experience in a constant world."""
OLD = 4096
"""Steps of a long trajectory in a constant world."""
REGIME, CHANGES = 128, 8
AFTER = 32
"""Steps after a change."""
PIECE = 256
"""Steps of a long trajectory after which it is reported, in whole pieces."""
SOON = 16
"""Steps after a return to the first context, and after the initial state in it."""
REST = ("robust", "oracle")
SLOW = 1
"""Level of `hope` from which the levels are slow."""


class _TrajectorySets(NamedTuple):
    still: TrajectoryBatch
    long: TrajectoryBatch
    changing: TrajectoryBatch


def compare_on_arm(
    setting: Setting, families: Sequence[str], worlds: int, figure: Path | None, progress: Progress
) -> Result:
    """Compare the families that have a base.

    Args:
        worlds: Held-out worlds for each seed.
        figure: SVG file for a plot of the errors.
    """
    require(worlds >= 4, f"worlds is {worlds}; it must be at least 4")
    worlds = max(4, worlds // 4) if setting.quick else worlds
    there = list_variants_with_base(setting)
    # Without names, all families with a base are used; named families must have one.
    wanted = [name for name in families if name in there] if set(families) == set(FAMILIES) else families
    missing = [family for family in families if family not in wanted]
    names = [*(wanted or families), *REST]
    bases = load_bases(setting, names)
    rows = in_processes(
        _measure_family, [(setting, name, worlds) for name in names], make_part_progress(progress, 0, 4, 5)
    )
    figures: dict[str, float | Comparison] = {
        name: row.pop(name) for row in rows for name in ("hope_slow_zeroed_ratio",) if name in row
    }
    for number, row in enumerate(rows):
        # One after another: in parallel they would slow each other down.
        row |= _measure_cost(bases[row["arm"]].model)
        make_part_progress(progress, 4, 1, 5)(number + 1, len(rows))
    of = {row["arm"]: row for row in rows}
    robust, oracle = (of[name][str(AGES[-1])] for name in REST)
    # The smallest error closes the largest gap.
    figures["control_other_life"] = compute_gap_closed(
        min(of[name]["other life"] for name in names if name not in REST), robust, oracle
    )
    if figure is not None:
        _plot_errors(rows, figure)
    return Result(
        setting=setting,
        figures=figures,
        table=[{"arm": row["arm"], **{k: row[k] for k in columns}} for columns in _COLUMNS for row in rows],
        bases={name: base.digest for name, base in bases.items()},
        notes=(
            f"{worlds} held-out worlds a seed, {describe_seed_count(setting.seeds)}; mean square error {HORIZON} "
            f"steps ahead, in units of the one-step change; after each change: {AFTER} steps after it; return: "
            f"{SOON} steps after the first context returns, compared with {SOON} steps after the initial state in "
            f"it; other life: after {AGES[-1]} steps of another robot, which must be worse than robust",
            "without a base: " + (", ".join(missing) or "none"),
        ),
    )


_ERRORS = tuple(str(age) for age in (*AGES, OLD))
_CHANGED = tuple(f"change {k}" for k in range(1, CHANGES + 1))
_RETURNED = ("born", "return")
_COST = ("updates", "state KiB", "write ms", "trained/s")
_COLUMNS = ((*_ERRORS, "other life"), _CHANGED, (*_RETURNED, *_COST))


def _measure_family(setting: Setting, name: str, worlds: int, *, progress: Progress) -> dict[str, Any]:
    base = load_bases(setting, [name])[name]
    arm = Variant(name=name, model=base.model)
    seen: list[dict[str, float]] = []
    for number, seed in enumerate(setting.seeds):
        # Shares of the time that each takes.
        first, second, third = (
            make_part_progress(make_part_progress(progress, number, 1, len(setting.seeds)), start, size, 8)
            for start, size in ((0, 1), (1, 5), (6, 2))
        )
        lives = _generate_trajectories(setting.robot, worlds, seed)
        unit = np.diff(lives.still.obs, axis=1).std((0, 1))
        errors = dict(
            zip(
                _ERRORS,
                compute_error_by_step(arm, lives.still, AGES, change_std=unit, progress=first).mean(0),
                strict=False,
            )
        )
        errors[str(OLD)], slow = _measure_old_age(arm, lives.long, unit, second)
        errors["other life"] = compute_error_after_false_history(
            arm, lives.still, num_steps=AGES[-1], change_std=unit, history="other_world", seed=seed
        ).mean()
        points = [SOON, *(REGIME * k + AFTER for k in range(1, CHANGES + 1)), REGIME * (CHANGES + 1) + SOON]
        born, *changed, returned = compute_error_by_step(
            arm, lives.changing, points, change_std=unit, progress=third
        ).mean(0)
        errors |= dict(zip(_CHANGED, changed, strict=True)) | {"born": born, "return": returned}
        seen.append({k: float(v) for k, v in errors.items()} | slow)
    row: dict[str, Any] = {"arm": name}
    row |= {k: round(float(np.mean([errors[k] for errors in seen])), 4) for k in seen[0]}
    return row | {"updates": base.manifest["card"]["train"]["updates"]}


def _measure_old_age(
    arm: Variant, lives: TrajectoryBatch, unit: np.ndarray, progress: Progress
) -> tuple[float, dict[str, float]]:
    """Compute the error of a long trajectory, and for `hope` the increase without its slow levels."""
    import torch

    view, scale = TensorBatch(lives), torch.from_numpy(unit)
    with torch.inference_mode():
        state = arm.model.initial_state(
            initial_action=view.initial_action, truth=view.get_privileged_physics(arm.model, 0)
        )
        at, whole, zeroed = 0, list[float](), list[float]()
        for end in range(PIECE, OLD + 1, PIECE):
            state, at = update_state(arm.model, state, view, at, end), end
            progress(at, OLD)
        # Levels of `hope` by number; other families have none.
        parts = state.memory[0]
        slow = [k for k in parts if k.startswith("level") and int(k.removeprefix("level")) >= SLOW]
        for point in (OLD + step for step in STAGE):
            state, at = update_state(arm.model, state, view, at, point), point
            whole.append(float(compute_open_loop_error(arm.model, state, view, point, scale).mean()))
            if slow:
                without = state
                for layer, own in enumerate(state.memory):
                    without = without.with_memory(layer, **{k: torch.zeros_like(own[k]) for k in slow})
                zeroed.append(float(compute_open_loop_error(arm.model, without, view, point, scale).mean()))
    error = float(np.mean(whole))
    return error, {"hope_slow_zeroed_ratio": float(np.mean(zeroed)) / error} if slow else {}


def _generate_trajectories(robot: str, worlds: int, seed: int) -> _TrajectorySets:
    from wm_robot.robots import load_spec
    from wm_robot_sim.rollouts import collect_trajectories
    from wm_robot_sim.worlds import DomainRandomization

    spec = load_spec(robot)
    draw, rng = DomainRandomization(spec).sample, np.random.default_rng([seed, 50_000])

    def generate(
        count: int,
        steps: int,
        number: int,
        conditions: int = 1,
        visits: Sequence[tuple[int, int]] | None = None,
    ) -> TrajectoryBatch:
        own = [[draw(rng) for _ in range(conditions)] for _ in range(count)]
        return collect_trajectories(
            spec,
            num_trajectories=count,
            num_steps=steps,
            seed=seed * 10 + number,
            held_out=True,
            worlds=own,
            world_schedule=visits,
        )

    # Nine contexts one after another, then the first again.
    visits = [(REGIME * k, k % (CHANGES + 1)) for k in range(CHANGES + 2)]
    return _TrajectorySets(
        still=generate(worlds, AGES[-1] + OFFSETS[-1] + 16, 5),
        long=generate(worlds // 4, OLD + STAGE[-1] + 16, 6),
        changing=generate(worlds // 2, REGIME * (CHANGES + 1) + SOON + 16, 7, CHANGES + 1, visits),
    )


def _plot_errors(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Plot the error by steps of experience and by steps after a change, one line for each variant."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("--figure", "report") from error
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "wm_robot", "font.size": 10}):
        picture = Figure(figsize=(8, 3.6), layout="constrained")
        axes = picture.subplots()
        for row in sorted(rows, key=lambda row: -row[str(OLD)]):
            ends = row["arm"] in REST
            dashes = {"robust": "--", "oracle": ":"}.get(row["arm"], "-")
            axes.plot(
                [*AGES, OLD],
                [row[name] for name in _ERRORS],
                label=row["arm"],
                color="0.55" if ends else None,
                linestyle=dashes,
                marker="o",
                markersize=3,
            )
        axes.set(xscale="log", yscale="log", xlabel="steps of experience in a held-out world")
        axes.set_ylabel(f"error {HORIZON} steps ahead")
        axes.set_xticks([*AGES, OLD], [str(age) for age in (*AGES, OLD)])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        picture.savefig(path, format="svg", metadata={"Date": None})


def _measure_cost(model: WorldModel) -> dict[str, float]:
    """Measure size and update time of one robot's state in torch, and transitions/s of one core in training."""
    import torch

    from wm_robot.memory.lifetime_state import list_values
    from wm_robot.training.loss import compute_segment_loss
    from wm_robot.training.train_config import TrainConfig

    config, train = model.config, TrainConfig()
    torch.manual_seed(0)
    state = model.initial_state(initial_action=torch.zeros(1, config.action))
    size = sum(value.numel() * value.element_size() for value in list_values(state))
    told = torch.zeros(1, config.truth) if model.uses_privileged_state else None
    step = Step(
        torch.zeros(1, config.obs),
        torch.zeros(1, config.action),
        torch.zeros(1, config.obs),
        torch.ones(1),
        truth=told,
    )
    writes, updates = [], []
    with torch.inference_mode():
        for _ in range(200):
            began = time.perf_counter()
            _, state = model.update(state, step)
            writes.append(time.perf_counter() - began)
    model.requires_grad_(True)
    rows, steps = train.batch_size, train.segment_steps
    state = model.initial_state(
        initial_action=torch.zeros(rows, config.action), truth=torch.zeros(rows, config.truth)
    )
    obs, truth = (torch.randn(rows, steps + 1, size) for size in (config.obs, config.truth))
    action = torch.randn(rows, steps, config.action)
    for _ in range(4):
        began = time.perf_counter()
        losses, _ = compute_segment_loss(model, state, obs, action, truth, horizon=train.horizon)
        (losses.surprise + losses.open_loop + losses.physics).backward()
        updates.append(time.perf_counter() - began)
    return {
        "state KiB": round(size / 1024, 1),
        "write ms": round(1e3 * float(np.median(writes)), 2),
        "trained/s": round(rows * steps / float(np.median(updates))),
    }
