"""Untrained bases with graphs; an export takes some 20 s."""

from pathlib import Path
from typing import Any

import pytest

from wm_robot.model.base import Base, load_base, save_base
from wm_robot.model.config import ModelConfig
from wm_robot.planning.mppi import MppiConfig
from wm_robot.spec import RobotSpec

JOINT = {"position": [-1.0, 1.0], "velocity": 1.0, "effort": 1.0}
POINT = RobotSpec.from_dict(
    {
        "name": "point",
        "rate": 50,
        "model": "point.xml",
        "joints": [{"name": "x", **JOINT}],
        "actuators": [{"name": "x", "joint": "x", "kind": "position", "range": [-1.0, 1.0], "rate": 5.0}],
        "chain": [{"joint": "x", "origin": [0, 0, 0], "axis": [0, 0, 1.0]}],
        "tip": [1.0, 0.0, 0.0],
        "tasks": {"reach": {"reward": "reach", "goal": 3}},
    }
)
"""A robot of one joint."""
PLANNER = MppiConfig(num_samples=16, horizon=4, num_iterations=2, refine_iterations=0, num_elites=4)


def make_base(folder: Path, spec: RobotSpec, memory: str, seed: int = 0) -> Base:
    import torch

    from wm_robot.model.world_model import WorldModel

    torch.manual_seed(seed)
    shape = ModelConfig.from_spec(spec, truth=1, memory=memory, width=16, context=4, outcome=8)
    save_base(folder, WorldModel(shape), spec, {})
    return load_base(folder)


def in_one_worker(family: str, *marks: Any) -> Any:
    """A parameter whose tests share one export; on a busy machine the first of them waits long."""
    group, limit = pytest.mark.xdist_group(f"graphs of {family}"), pytest.mark.timeout(300)
    return pytest.param(family, marks=(group, limit, *marks))
