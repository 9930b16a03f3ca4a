import pytest

from tests.contracts.robot_contract import RobotContract
from wm_robot.robots import load_spec
from wm_robot_sim.robot import SimRobot
from wm_robot_sim.standins.standin import StandIn

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


class TestStandIn(RobotContract):
    def make(self):
        return SimRobot(load_spec("so101"), seed=0, standin=StandIn(name="sts3215"))
