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

SEED = 7_000_000
"""Seed offset, far from the seeds of training trajectories: a base has small errors on its training data."""


def calibrate(
    base: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    robot: str | None = None,
    lives: Count = 256,
    seed: Seed = 0,
) -> None:
    """Measure prediction errors on new trajectories and write `calibration.json` into the base's folder.

    Args:
        base: Folder of the base.
        robot: Name of the robot, or the path of its spec; the robot of the base by default.
        lives: Trajectories in new worlds from the training distribution.
        seed: Of worlds, motion and noise.
    """
    from wm_robot.io.base_file import find_base
    from wm_robot.robots import load_spec

    try:
        from wm_robot.model.base import load_base
        from wm_robot.model.calibration import CARD, save_calibration
    except ImportError as error:
        raise MissingExtraError("wm-robot calibrate", "learn,sim") from error
    base = find_base(base)
    check_writable(base, "BASE")
    loaded = load_base(base)
    spec = load_spec(robot or loaded.manifest["robot"])
    with ProgressMeter("calibrate") as progress:
        calibration = measure(loaded, spec, lives=lives, seed=seed, progress=progress)
    save_calibration(base, loaded, calibration)
    print(f"{base / CARD}: deviations at {', '.join(map(str, calibration.horizons))} steps ahead")


def measure(
    base: "Base",
    spec: "RobotSpec",
    *,
    lives: int = 256,
    seed: int = 0,
    progress: "Progress | None" = None,
) -> "Calibration":
    """Measure the calibration of a base on new trajectories."""
    import numpy as np
    import torch

    from wm_robot.evaluation.calibration import AGES, HORIZONS, standardised_errors
    from wm_robot.model.calibration import Calibration
    from wm_robot.progress import unreported
    from wm_robot_sim.rollouts import gather
    from wm_robot_sim.worlds import WorldDistribution

    torch.set_num_threads(1)
    base.check_spec(spec)
    rng, draw = np.random.default_rng([seed, SEED]), WorldDistribution(spec).sample
    lived = gather(
        spec,
        lives=lives,
        steps=max(AGES) + max(HORIZONS),
        seed=SEED + seed,
        worlds=[[draw(rng)] for _ in range(lives)],
    )
    errors, _ = standardised_errors(base.model, lived, progress=progress or unreported)
    return Calibration.fit(HORIZONS, errors.reshape(-1, *errors.shape[2:]))
