"""What a robot without torch says of a task that it has no plan for."""

from dataclasses import replace

import pytest

from wm_robot.agent.backends import select_backends
from wm_robot.agent.onnx_files import load_functions
from wm_robot.errors import MissingExtraError
from wm_robot.model.base import Base, load_base
from wm_robot.planning.mppi import MppiConfig
from wm_robot.robots import load_spec
from wm_robot.spec import Task


@pytest.fixture
def without_torch(monkeypatch):
    def refuse(self):
        raise MissingExtraError("the model of a base", "learn")

    monkeypatch.setattr(Base, "model", property(refuse))


def test_a_robot_without_torch_and_without_the_plan_gets_the_export_command(without_torch):
    base = load_base("arm-semiparametric")
    arm = load_spec("arm")
    spec = replace(arm, tasks={**arm.tasks, "hold": Task(reward="hold")})
    functions = load_functions("arm-semiparametric", base, "hold")
    assert functions is not None and functions.plan is None
    with pytest.raises(MissingExtraError) as refused:
        select_backends(base, functions, spec, task="hold", planner=MppiConfig())
    words = str(refused.value)
    assert "has no plan here for task 'hold'" in words
    assert f"wm-robot export {base.folder} --task hold" in words and 'pip install "wm_robot[learn]"' in words


def test_a_robot_without_torch_plans_its_exported_task(without_torch):
    base, spec = load_base("arm-semiparametric"), load_spec("arm")
    functions = load_functions("arm-semiparametric", base, "reach")
    _, _, why = select_backends(base, functions, spec, task="reach", planner=MppiConfig())
    assert why == ""
