"""A robot with hinges that wrap, from its model to its observations and trajectories."""

import numpy as np
import pytest

pytestmark = pytest.mark.sim
pytest.importorskip("mujoco")

from wm_robot.errors import SpecError
from wm_robot.robots import load_spec
from wm_robot.robots.model_check import attach_model
from wm_robot.spec import RobotSpec
from wm_robot_cli.main import main
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.plant import describe_model
from wm_robot_sim.reachable_poses import sample_reachable_poses
from wm_robot_sim.rollouts import collect_trajectories
from wm_robot_sim.worlds import DomainRandomization

SPINNER = """
<mujoco model="spinner">
  <compiler angle="radian"/>
  <option timestep="0.004"/>
  <worldbody>
    <body name="rotor" pos="0 0 0.5">
      <joint name="spin" axis="0 1 0" damping="0.02"/>
      <geom type="capsule" size="0.02" fromto="0 0 0 0 0 -0.2" mass="0.3"/>
      <body name="tail" pos="0 0 -0.2">
        <joint name="swing" axis="0 1 0" damping="0.005"/>
        <geom type="capsule" size="0.015" fromto="0 0 0 0 0 -0.15" mass="0.1"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor name="spin" joint="spin" ctrlrange="-1 1"/></actuator>
</mujoco>
"""
"""A motor that turns a free tail: neither hinge has an end."""


@pytest.fixture
def spinner(tmp_path, monkeypatch, capsys) -> RobotSpec:
    """The spinner, as `wm-robot new` writes it; its checks passed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spinner.xml").write_text(SPINNER)
    main(["new", "spinner", "--mjcf", "spinner.xml"])
    assert "failed" not in capsys.readouterr().out
    return load_spec("spinner.yaml")


def test_hinges_without_limit_wrap_in_a_new_spec_and_their_observation_stays_in_one_turn(spinner):
    assert [joint.wraps for joint in spinner.joints] == [True, True]
    world = DomainRandomization(spinner).make_nominal_world()
    sim = BatchSim(spinner, [world], seed=0)
    obs = np.array([sim.step(np.ones((1, 1)))[0][0] for _ in range(100)])
    turned = sim.qpos()[0]
    assert np.abs(turned).max() > 2 * np.pi and np.abs(obs[:, :2]).max() <= np.pi + 1e-6
    np.testing.assert_allclose(np.exp(1j * obs[-1, :2]), np.exp(1j * turned), atol=0.01)
    assert (np.abs(np.diff(obs[:, 0])) > np.pi).sum() >= 1
    assert np.abs(np.diff(spinner.layout.count_turns(obs)[:, 0])).max() < 1.5


def test_trajectories_count_turns(spinner):
    batch = collect_trajectories(spinner, num_trajectories=2, num_steps=96, seed=0)
    fastest = np.abs(batch.obs[..., 2:]).max()
    assert np.abs(np.diff(batch.obs[..., :2], axis=1)).max() < 1.5 * fastest * spinner.dt + 0.05


def test_a_joint_that_wraps_and_has_a_range_in_its_model_contradicts_it(spinner, tmp_path):
    limited = SPINNER.replace('damping="0.005"', 'damping="0.005" range="-1 1"')
    (tmp_path / "spinner.xml").write_text(limited)
    with pytest.raises(
        SpecError, match=r"'swing' wraps in the spec, and has the range \[-1, 1\] in the model"
    ):
        attach_model(spinner, describe_model(spinner))


def test_start_poses_about_half_a_turn_are_on_both_sides_of_it():
    poses = sample_reachable_poses(load_spec("cartpole"), np.random.default_rng(0), 500)[:, 1]
    assert poses.min() == pytest.approx(np.pi - 0.3, abs=0.01) and poses.max() == pytest.approx(
        np.pi + 0.3, abs=0.01
    )
