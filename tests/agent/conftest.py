"""A robot of one joint, for what needs a spec and no simulator."""

import pytest

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
