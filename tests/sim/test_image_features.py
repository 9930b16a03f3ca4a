"""The example of image features: what the node computes from a picture is what the robot is trained with."""

import os
from pathlib import Path

import mujoco
import numpy as np
import pytest

pytestmark = pytest.mark.sim
os.environ.setdefault("MUJOCO_GL", "egl")

from image_features.moments import compute_center, compute_redness
from wm_robot.robots import load_spec
from wm_robot_sim.camera import open_camera
from wm_robot_sim.model_compiler import compile_model
from wm_robot_sim.rollouts import collect_trajectories

POINTER = Path(__file__).parents[2] / "examples/image_features/pointer.yaml"
PIXELS = 96
POSES = [(0.0, 0.0), (0.8, -0.5), (-1.2, 0.9), (1.4, 1.4)]


@pytest.fixture(scope="module")
def camera():
    opened = open_camera(load_spec(POINTER), width=PIXELS, height=PIXELS, view="camera")
    if opened is None:
        pytest.skip("this machine cannot render")
    yield opened
    opened.close()


@pytest.mark.filterwarnings("ignore:no camera images:RuntimeWarning")
@pytest.mark.parametrize("pose", POSES)
def test_moments_of_a_rendered_image_are_where_the_model_projects_the_ball(camera, pose):
    model = compile_model(load_spec(POINTER))
    data = mujoco.MjData(model)
    data.qpos[:] = pose
    mujoco.mj_forward(model, data)
    found = compute_center(compute_redness(camera.render(np.array(pose))))
    np.testing.assert_allclose(found, data.sensor("ball_in_image").data, atol=0.015)


def test_the_center_of_one_pixel_is_that_pixel():
    weight = np.zeros((10, 20))
    weight[2, 15] = 1e4
    np.testing.assert_allclose(compute_center(weight), [15.5 / 20, 2.5 / 10])


def test_only_red_counts_and_an_image_without_a_ball_is_no_reading():
    image = np.full((10, 10, 3), 230, np.uint8)
    image[3, 4] = (20, 250, 20)
    assert compute_redness(image).max() == 0
    assert np.isnan(compute_center(compute_redness(image))).all()
    image[5:8, 5:8] = (250, 10, 10)
    np.testing.assert_allclose(compute_center(compute_redness(image)), [0.65, 0.65])


def test_the_sensor_of_the_spec_is_trained_with_readings_at_the_rate_of_the_images():
    spec = load_spec(POINTER)
    batch = collect_trajectories(spec, num_trajectories=8, num_steps=50, seed=0)
    seen = batch.obs[..., spec.layout.find_sensor("image")]
    assert np.isfinite(seen).all() and (np.abs(seen) < 1.5).all()
    # 20 images in a second of 50 steps.
    assert (((np.diff(seen[..., 0], axis=1) != 0).sum(1) - 20) <= 1).all()
