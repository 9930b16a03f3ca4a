import warnings

import numpy as np
import pytest

from tests.sim.robots import ARM, ARM_WORLDS, ROBOTS
from wm_robot.errors import SpecError
from wm_robot.robots import model_files
from wm_robot_sim import make_robot
from wm_robot_sim.camera import Line, open_camera, render_frames
from wm_robot_sim.robot import SimRobot

pytestmark = pytest.mark.sim


def test_reading_twice_gives_the_same_and_writing_moves_time_on():
    robot = make_robot("arm", seed=0)
    one, two = robot.read(), robot.read()
    assert one.stamp == two.stamp == 0
    np.testing.assert_array_equal(one.values, two.values)
    robot.write(robot.last_action)
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
    np.testing.assert_array_equal(robot.write(robot.last_action + np.float32(0.01)), robot.last_action)
    assert robot.last_action.shape == (6,) and robot.compute_gripper_position().shape == (3,)


def test_a_change_makes_it_droop():
    robot = make_robot("arm", seed=2)
    for _ in range(50):
        robot.write(robot.last_action)
    before = robot.compute_gripper_position()[2]
    robot.set_world(ARM_WORLDS.make_loaded_world(payload=0.35, weak_joint="shoulder_pitch", gain=0.4))
    for _ in range(100):
        robot.write(robot.last_action)
    assert robot.compute_gripper_position()[2] < before - 0.005
    assert robot.world.fault[1] == "weak"


def test_an_action_that_is_not_finite_is_a_hold():
    robot = make_robot("arm", seed=0)
    before = robot.last_action
    robot.read()
    np.testing.assert_array_equal(robot.write(np.full(6, np.nan)), before)
    assert str(robot.gate.violations[0]).startswith("finite: base_yaw is nan")


def test_after_a_reset_the_gate_goes_on_from_the_new_pose():
    robot = make_robot("arm", seed=0)
    robot.read()
    robot.write(robot.last_action + np.float32(0.1))
    robot.reset()
    placed = robot.last_action
    np.testing.assert_array_equal(robot.write(placed), placed)
    assert not robot.gate.violations


@pytest.mark.parametrize("name", ROBOTS)
def test_the_gate_of_a_shipped_robot_is_range_and_rate_as_in_training(name):
    robot, rng = make_robot(name, seed=0), np.random.default_rng(1)
    spec, before = robot.spec, robot.last_action
    middle, width = 0.5 * (spec.action_low + spec.action_high), spec.action_high - spec.action_low
    for _ in range(200):
        sensed = robot.read().values
        action = (middle + width * rng.uniform(-1, 1, spec.action_dim)).astype(np.float32)
        clipped = np.minimum(np.maximum(action, spec.action_low), spec.action_high)
        trained = np.minimum(np.maximum(clipped, before - spec.action_step), before + spec.action_step)
        before = robot.write(action)
        if (
            np.abs(sensed[spec.layout.find_channels("velocity")]) <= [joint.velocity for joint in spec.joints]
        ).all():
            np.testing.assert_array_equal(before, trained)


@pytest.fixture(params=["arm", "reacher", "so101"])
def scene(request):
    robot = make_robot(request.param, seed=1)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", RuntimeWarning)
        camera = open_camera(robot.spec, width=96, height=72)
    if camera is None:
        pytest.skip(str(told[-1].message))
    yield robot, camera
    camera.close()


def test_a_camera_sees_the_robot_and_its_target(scene):
    robot, camera = scene
    place = np.array([0.05, 0.1, 0.01 if robot.spec.name == "reacher" else 0.2])
    bare, aimed = render_frames(camera, [robot.qpos()] * 2, targets=[None, place])
    assert bare.shape == (72, 96, 3) and bare.dtype == np.uint8 and bare.std() > 5
    assert (bare != aimed).any(-1).sum() > 4


def test_a_camera_draws_lines_in_space_for_one_image_only(scene):
    robot, camera = scene
    points = np.array([[-0.1, 0.1, 0.3], [0.1, 0.1, 0.3], [0.1, 0.1, 0.3], [0.1, -0.1, 0.3]])
    bare = camera.render(robot.qpos())
    drawn = camera.render(robot.qpos(), lines=[Line(points=points, color=(1.0, 0.0, 0.0, 1.0), radius=0.01)])
    assert (bare != drawn).any(-1).sum() > 20
    one = camera.render(
        robot.qpos(), lines=[Line(points=points[:1], color=(1.0, 0.0, 0.0, 1.0), radius=0.02)]
    )
    assert (bare != one).any()
    np.testing.assert_array_equal(camera.render(robot.qpos()), bare)


def test_where_nothing_draws_there_is_one_warning_and_no_camera(monkeypatch):
    monkeypatch.setattr("wm_robot_sim.camera.BACKENDS", ("no_such_way",))
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.warns(RuntimeWarning, match="no camera images: no_such_way") as caught:
        assert open_camera(ARM) is None
    assert len(caught) == 1


def test_a_model_of_a_package_that_is_not_installed_names_the_command_that_brings_it(monkeypatch):
    monkeypatch.setattr(model_files, "find_spec", lambda name: None)
    with pytest.raises(SpecError, match=r"package 'dm_control' is not .*: pip install --no-deps dm-control$"):
        make_robot("cartpole", seed=0)
