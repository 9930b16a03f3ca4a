"""A robot of one joint, for what needs a spec and no simulator, and a base of it with graphs."""

from pathlib import Path

import pytest

from tests.agent.exports import PLANNER, in_one_worker, make_base
from wm_robot.model.base import Base
from wm_robot.spec import RobotSpec


@pytest.fixture(scope="session")
def spec() -> RobotSpec:
    joint = {"position": [-1.0, 1.0], "velocity": 1.0, "effort": 1.0}
    return RobotSpec.from_dict(
        {
            "name": "point",
            "rate": 50,
            "model": "point.xml",
            "joints": [{"name": "x", **joint}],
            "actuators": [{"name": "x", "joint": "x", "kind": "position", "range": [-1.0, 1.0], "rate": 5.0}],
            "chain": [{"joint": "x", "origin": [0, 0, 0], "axis": [0, 0, 1.0]}],
            "tip": [1.0, 0.0, 0.0],
            "tasks": {"reach": {"reward": "reach", "goal": 3}},
        }
    )


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
