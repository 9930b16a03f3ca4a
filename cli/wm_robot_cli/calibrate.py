"""Verb `wm-robot calibrate`: measures a base's prediction errors against its predicted deviations."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from wm_robot.errors import MissingExtraError
from wm_robot_cli.output_folder import check_writable
from wm_robot_cli.progress import ProgressMeter
from wm_robot_cli.values import Count, Seed

if TYPE_CHECKING:
    from wm_robot.model.base import Base
    from wm_robot.model.calibration import Calibration
    from wm_robot.progress import Progress
    from wm_robot.spec import RobotSpec

SEED_OFFSET = 7_000_000
"""Seed offset, far from the seeds of training trajectories: a base has small errors on its training data."""


def calibrate_base(
    base: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    robot: str | None = None,
    trajectories: Count = 256,
    seed: Seed = 0,
) -> None:
    """Measure prediction errors on new trajectories and write `calibration.json` into the base's folder.

    Args:
        base: Folder of the base.
        robot: Name of the robot, or the path of its spec; the robot of the base by default.
        trajectories: Trajectories in new worlds from the training distribution.
        seed: Seed of worlds, motion and noise.
    """
    from wm_robot.io.base_file import find_base
    from wm_robot.robots import load_spec

    try:
        from wm_robot.model.base import load_base
        from wm_robot.model.calibration import CALIBRATION_FILE, save_calibration
    except ImportError as error:
        raise MissingExtraError("wm-robot calibrate", "learn,sim") from error
    base = find_base(base)
    check_writable(base, "BASE")
    loaded = load_base(base)
    spec = load_spec(robot or loaded.manifest["robot"])
    with ProgressMeter("calibrate") as progress:
        calibration = measure_calibration(
            loaded, spec, num_trajectories=trajectories, seed=seed, progress=progress
        )
    save_calibration(base, loaded, calibration)
    print(f"{base / CALIBRATION_FILE}: deviations at {', '.join(map(str, calibration.horizons))} steps ahead")


def measure_calibration(
    base: "Base",
    spec: "RobotSpec",
    *,
    num_trajectories: int = 256,
    seed: int = 0,
    progress: "Progress | None" = None,
) -> "Calibration":
    """Measure the calibration of a base on new trajectories."""
    import numpy as np
    import torch

    from wm_robot.evaluation.calibration import HORIZONS, UPDATE_COUNTS, compute_standardised_errors
    from wm_robot.model.calibration import Calibration
    from wm_robot.progress import ignore_progress
    from wm_robot_sim.rollouts import collect_trajectories
    from wm_robot_sim.worlds import DomainRandomization

    torch.set_num_threads(1)
    base.check_spec(spec)
    rng, draw = np.random.default_rng([seed, SEED_OFFSET]), DomainRandomization(spec).sample
    lived = collect_trajectories(
        spec,
        num_trajectories=num_trajectories,
        num_steps=max(UPDATE_COUNTS) + max(HORIZONS),
        seed=SEED_OFFSET + seed,
        worlds=[[draw(rng)] for _ in range(num_trajectories)],
    )
    errors, _ = compute_standardised_errors(base.model, lived, progress=progress or ignore_progress)
    return Calibration.fit(HORIZONS, errors.reshape(-1, *errors.shape[2:]))
