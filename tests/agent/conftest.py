"""A robot of one joint, for what needs a spec and no simulator, and a base of it with graphs."""

from pathlib import Path

import pytest

from tests.agent.exports import PLANNER, POINT, in_one_worker, make_base
from wm_robot.model.base import Base
from wm_robot.spec import RobotSpec


@pytest.fixture(scope="session")
def spec() -> RobotSpec:
    return POINT


@pytest.fixture(scope="session", params=[in_one_worker("gru")])
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, spec: RobotSpec
) -> tuple[Path, Base]:
    """Folder and base with graphs for task `reach` and `PLANNER`, which no test changes."""
    from wm_robot.training.export.base_graphs import export_graphs

    folder = tmp_path_factory.mktemp("exported")
    base = make_base(folder, spec, request.param)
    export_graphs(folder, base, spec, task="reach", planner=PLANNER, num_steps=20)
    return folder, base
