import pytest

from tests.contracts.robot_contract import RobotContract
from wm_robot.robots import load_spec
from wm_robot_sim.robot import SimRobot

pytestmark = pytest.mark.sim


class TestArm(RobotContract):
    def make(self):
        return SimRobot(load_spec("arm"), seed=0)


class TestCartpole(RobotContract):
    def make(self):
        return SimRobot(load_spec("cartpole"), seed=0)


class TestReacher(RobotContract):
    def make(self):
        return SimRobot(load_spec("reacher"), seed=0)
