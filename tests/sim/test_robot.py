import warnings

import numpy as np
import pytest

from tests.sim.robots import ARM, ARM_WORLDS
from wm_robot.errors import UnsafeActionError
from wm_robot_sim import make_robot
from wm_robot_sim.camera import frames, open_camera
from wm_robot_sim.robot import SimRobot

pytestmark = pytest.mark.sim


def test_reading_twice_gives_the_same_and_writing_moves_time_on():
    robot = make_robot("arm", seed=0)
    one, two = robot.read(), robot.read()
    assert one.stamp == two.stamp == 0
    np.testing.assert_array_equal(one.values, two.values)
    robot.write(robot.hold)
    after = robot.read()
    assert after.stamp == pytest.approx(0.02)
    assert (after.values != one.values).any()


def test_a_reading_cannot_be_changed_by_its_reader():
    robot = make_robot(ARM, seed=0)
    reading = robot.read().values
    reading[:] = 99
    assert (robot.read().values < 99).all()


def test_a_robot_is_a_batch_of_one():
    robot = SimRobot(ARM, seed=4)
    np.testing.assert_array_equal(robot.write(robot.hold + np.float32(0.01)), robot.hold)
    assert robot.hold.shape == (6,) and robot.tip().shape == (3,)


def test_a_change_makes_it_droop():
    robot = make_robot("arm", seed=2)
    for _ in range(50):
        robot.write(robot.hold)
    before = robot.tip()[2]
    robot.change(ARM_WORLDS.loaded(payload=0.35, weak_joint="shoulder_pitch", gain=0.4))
    for _ in range(100):
        robot.write(robot.hold)
    assert robot.tip()[2] < before - 0.005
    assert robot.world.fault[1] == "weak"


def test_an_action_that_is_not_finite_is_refused():
    with pytest.raises(UnsafeActionError, match="'base_yaw'"):
        make_robot("arm", seed=0).write(np.full(6, np.nan))


@pytest.fixture(params=["arm", "reacher"])
def scene(request):
    robot = make_robot(request.param, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        camera = open_camera(robot.spec, width=96, height=72)
    if camera is None:
        pytest.skip("this machine cannot draw")
    yield robot, camera
    camera.close()


def test_a_camera_sees_the_robot_and_its_target(scene):
    robot, camera = scene
    place = np.array([0.05, 0.1, 0.2]) if robot.spec.name == "arm" else np.array([0.05, 0.1, 0.01])
    bare, aimed = frames(camera, [robot.qpos()] * 2, targets=[None, place])
    assert bare.shape == (72, 96, 3) and bare.dtype == np.uint8 and bare.std() > 5
    assert (bare != aimed).any(-1).sum() > 4


def test_where_nothing_draws_there_is_one_warning_and_no_camera(monkeypatch):
    monkeypatch.setattr("wm_robot_sim.camera.BACKENDS", ("no_such_way",))
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.warns(RuntimeWarning, match="no pictures: no_such_way") as caught:
        assert open_camera(ARM) is None
    assert len(caught) == 1
