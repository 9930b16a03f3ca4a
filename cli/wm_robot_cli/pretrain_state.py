"""Verb `wm-robot pretrain-state`: pretrains a lifetime state in simulation, as an alternative initial state."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from wm_robot.errors import ConfigError, MissingExtraError
from wm_robot_cli.output_folder import check_writable
from wm_robot_cli.progress import ProgressMeter
from wm_robot_cli.task_choice import choose_task, print_notice
from wm_robot_cli.values import Count, CountOrZero, Seed, Share

if TYPE_CHECKING:
    from wm_robot.model.base import Base
    from wm_robot.progress import Progress
    from wm_robot.spec import RobotSpec

STATE_FOLDER, RECORD_FILE = "pretrained", "curriculum.json"
FAILED_RECORD_FILE = "curriculum-failed.json"
"""Record of a curriculum without a passed stage. It is in the base's folder, because there is no pretrained state."""
SEED_OFFSET = 8_000_000
"""Seed offset of the worlds and targets, far from those of training and of every measurement."""
NUM_CANDIDATES = 256
"""Number of sampled worlds. The stages are picked from them, evenly by their distance from the nominal world."""


def pretrain_state(
    base: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    robot: str | None = None,
    task: str | None = None,
    reward: str | None = None,
    goal_size: CountOrZero | None = None,
    worlds: CountOrZero = 6,
    min_competence: Share = 0.97,
    min_steps: Count = 250,
    max_steps: Count = 1500,
    seed: Seed = 0,
) -> None:
    """Pretrain a lifetime state: in the nominal world, in worlds from mild to extreme, and in the nominal one again.

    Each stage ends when the state is competent in it. The final state is written to a store in the base's folder, as
    an initial state for an agent (`initial_state`). It contains the nominal robot, and its context bank the worlds of
    the stages. If no stage is passed, no state is written.

    Args:
        base: Folder of the base.
        robot: Name of the robot, or the path of its spec; the robot of the base by default.
        task: Task of all stages; the robot's first by default.
        reward: Reward in place of that in the spec, for this command alone: FILE.py:FUNCTION, PACKAGE:NAME of an
            installed package, or a built-in name. The task is then named by --task, or by the function.
        goal_size: Number of goal values of a task with --reward; that of the spec's task by default, or 0.
        worlds: Worlds between the two stages in the nominal one.
        min_competence: Competence that passes a stage: the predicted part of the change in the next half second.
        min_steps: Smallest number of steps in a stage.
        max_steps: Largest number of steps in a stage; after them the stage is failed.
        seed: Seed of worlds, goals and noise.
    """
    from wm_robot.io.base_file import find_base
    from wm_robot.robots import load_spec

    if min_steps > max_steps:
        raise ConfigError(
            f"--min-steps is {min_steps} and --max-steps is {max_steps}; the first must be at most the second"
        )
    try:
        from wm_robot.model.base import load_base
    except ImportError as error:
        raise MissingExtraError("wm-robot pretrain-state", "learn,sim") from error
    base = find_base(base)
    check_writable(base, "BASE")
    loaded = load_base(base)
    spec, task = choose_task(load_spec(robot or loaded.manifest["robot"]), task, reward, goal_size)
    print_notice(spec, task)
    with ProgressMeter("pretrain-state") as progress:
        run_curriculum(
            base,
            loaded,
            spec,
            task=task,
            worlds=worlds,
            min_competence=min_competence,
            steps=(min_steps, max_steps),
            seed=seed,
            progress=progress,
        )


def run_curriculum(
    folder: Path,
    base: "Base",
    spec: "RobotSpec",
    *,
    task: str,
    worlds: int = 6,
    min_competence: float = 0.97,
    steps: tuple[int, int] = (250, 1500),
    seed: int = 0,
    progress: "Progress | None" = None,
) -> list[dict[str, Any]]:
    """Run the curriculum of `pretrain_state`. Return a row for each stage."""
    import numpy as np
    import torch

    from wm_robot.agent.agent import Agent
    from wm_robot.agent.onnx_files import load_functions
    from wm_robot.model.torch_backend import to_tensors
    from wm_robot.store.store import PRETRAINED_NOTE
    from wm_robot.tasks import make_reward
    from wm_robot.training.competence import CompetenceEstimator
    from wm_robot_sim.robot import SimRobot
    from wm_robot_sim.task_goals import TaskGoals
    from wm_robot_sim.worlds import DomainRandomization

    torch.set_num_threads(1)
    agent = Agent(base, spec, task=task, functions=load_functions(folder, base, task), seed=seed)
    competence_estimator, reward = CompetenceEstimator(base.model), make_reward(spec, spec.find_task(task))
    distribution = DomainRandomization(spec)
    rng = np.random.default_rng([seed, SEED_OFFSET])
    drawn = sorted(
        (distribution.sample(rng) for _ in range(NUM_CANDIDATES)),
        key=lambda world: float(np.square(world.to_vector()).mean()),
    )
    picked = [drawn[i] for i in np.linspace(0, NUM_CANDIDATES - 1, worlds + 2).astype(int)[1:-1]]
    stages = [distribution.make_nominal_world(), *picked, distribution.make_nominal_world()]
    robot = SimRobot(spec, seed=SEED_OFFSET + seed)
    target = TaskGoals(spec, spec.find_task(task), seed=SEED_OFFSET + seed)
    agent.begin(robot.last_action)
    rows: list[dict[str, Any]] = []
    now = 0
    for number, world in enumerate(stages):
        robot.set_world(world)
        competence_estimator.clear_scores()
        rewards: list[float] = []
        while len(rewards) < steps[1]:
            obs, state = robot.read().values, agent.state
            applied = robot.write(agent.act(obs, target.compute_goal(now)))
            following, now = robot.read().values, now + 1
            step = [torch.from_numpy(x)[None] for x in (obs, applied, following, target.compute_goal(now))]
            competence_estimator.add_step(to_tensors(state.model_part()), *step[:2])
            agent.observe(obs, applied, following)
            rewards.append(float(reward(*step)[0]))
            if progress is not None:
                # A passed stage counts as a whole stage.
                progress(number * steps[1] + len(rewards), len(stages) * steps[1])
            competence = competence_estimator.competence
            if len(rewards) >= steps[0] and competence is not None and competence >= min_competence:
                break
        rows.append(
            {
                "stage": number,
                "world": ", ".join(f for f in world.fault if f != "ok") or "no fault",
                "payload g": round(1e3 * world.payload),
                "deviation": round(float(np.square(world.to_vector()).mean()), 2),
                "steps": len(rewards),
                "competence": None if competence is None else round(competence, 3),
                "passed": competence is not None and competence >= min_competence,
                "reward": [
                    round(float(np.mean(part)), 4) for part in np.array_split(rewards, min(4, len(rewards)))
                ],
            }
        )
        print(_format_stage(rows[-1]), flush=True)
    remove_foreign_state(folder, base)
    if not any(row["passed"] for row in rows):
        _write_record(folder / FAILED_RECORD_FILE, base, None, rows, seed)
        left = (
            f"; the earlier one in {folder / STATE_FOLDER} stays" if (folder / STATE_FOLDER).exists() else ""
        )
        print(
            f"no pretrained state: all {len(rows)} stages failed{left}. A base with more training may pass them"
        )
        return rows
    # An existing one is replaced: the same command can create it again.
    shutil.rmtree(folder / STATE_FOLDER, ignore_errors=True)
    digest = agent.save(folder / STATE_FOLDER, note=PRETRAINED_NOTE)
    _write_record(folder / STATE_FOLDER / RECORD_FILE, base, digest, rows, seed)
    (folder / FAILED_RECORD_FILE).unlink(missing_ok=True)
    print(f"pretrained state {digest[:12]} in {folder / STATE_FOLDER}: {now} steps")
    return rows


def has_curriculum_record(folder: Path, base: "Base") -> bool:
    """Whether this base has a completed curriculum, with or without a passed stage."""
    return base.digest in (
        _read_base_digest(folder / STATE_FOLDER / RECORD_FILE),
        _read_base_digest(folder / FAILED_RECORD_FILE),
    )


def remove_foreign_state(folder: Path, base: "Base") -> None:
    """Remove the pretrained state in a base's folder if it belongs to another base: no agent can start from it."""
    if _read_base_digest(folder / STATE_FOLDER / RECORD_FILE) != base.digest:
        shutil.rmtree(folder / STATE_FOLDER, ignore_errors=True)
    if _read_base_digest(folder / FAILED_RECORD_FILE) != base.digest:
        (folder / FAILED_RECORD_FILE).unlink(missing_ok=True)


def _read_base_digest(path: Path) -> str | None:
    """Read the digest of the base in a record; None without a record."""
    try:
        return str(json.loads(path.read_bytes())["base"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _format_stage(row: dict[str, Any]) -> str:
    return (
        f"stage {row['stage']}: {row['world']}, {row['payload g']} g  {row['steps']} steps  "
        f"competence {row['competence']}  {'passed' if row['passed'] else 'failed'}"
    )


def _write_record(
    path: Path, base: "Base", digest: str | None, rows: Sequence[dict[str, Any]], seed: int
) -> None:
    from wm_robot.io.durable import write_file
    from wm_robot_cli.provenance import read_commit

    card = {"base": base.digest, "snapshot": digest, "commit": read_commit(), "seed": seed, "stages": rows}
    write_file(path, json.dumps(card, indent=1).encode())
