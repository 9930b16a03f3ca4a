"""Robots that ship with sensors beyond their joints: what those read where the answer is known."""

from dataclasses import replace

import numpy as np
import pytest

pytestmark = pytest.mark.sim

from wm_robot.robots import load_spec
from wm_robot.spec import RobotSpec
from wm_robot.spec.sensors import GRAVITY
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.rollouts import collect_trajectories
from wm_robot_sim.worlds import DomainRandomization

ROBOTS = 8
WHEEL_RADIUS, TRACK = 0.1, 0.4
"""Of `rover`, in m."""


def make_sim(spec: RobotSpec, **changes: object) -> BatchSim:
    """Robots of the nominal world with `changes`, in different poses."""
    world = replace(DomainRandomization(spec).make_nominal_world(), position_noise=0.0, velocity_noise=0.0)
    return BatchSim(spec, [replace(world, **changes)] * ROBOTS, seed=0)


def hold(sim: BatchSim, steps: int) -> np.ndarray:
    """Observations of robots that hold their first pose, `B T O`."""
    return sim.rollout(np.repeat(sim.last_action[:, None], steps, axis=1))[0]


def read(spec: RobotSpec, obs: np.ndarray, names: str) -> np.ndarray:
    """The channels whose names begin so."""
    return obs[..., [number for number, name in enumerate(spec.observation_names) if name.startswith(names)]]


def test_a_quadruped_stands_and_its_imu_feels_its_weight():
    spec = load_spec("quadruped")
    sim = make_sim(spec)
    start = sim.obs.copy()
    assert np.abs(read(spec, start, "base/linear_velocity")).max() == 0
    obs = hold(sim, 150)[:, 100:]
    assert (read(spec, obs, "base/height") > 0.3).all()
    force = read(spec, obs, "imu/linear_acceleration").mean(1)
    np.testing.assert_allclose(np.linalg.norm(force, axis=-1), GRAVITY, rtol=0.02)
    assert np.abs(read(spec, obs, "imu/angular_velocity").mean(1)).max() < 0.05
    turned = np.concatenate([read(spec, obs, f"base/{axis}_axis") for axis in "xy"], -1)
    np.testing.assert_allclose(read(spec, obs, "imu/orientation"), turned, atol=0.02)


def test_a_walker_starts_on_its_feet_and_its_imu_feels_the_ground_that_it_falls_to():
    spec = load_spec("walker")
    sim = make_sim(spec)
    # A height of zero is standing with straight legs.
    assert np.abs(read(spec, sim.obs, "rootz/position")).max() < 0.05
    obs = hold(sim, 400)[:, 300:]
    force = read(spec, obs, "imu/linear_acceleration").mean(1)
    np.testing.assert_allclose(np.linalg.norm(force, axis=-1), GRAVITY, rtol=0.05)
    turning = read(spec, obs, "rooty/velocity")[..., 0] - read(spec, obs, "imu/angular_velocity.y")[..., 0]
    assert np.abs(turning.mean(1)).max() < 0.05


@pytest.mark.parametrize(("left", "right"), [(5.0, 5.0), (2.0, 6.0)])
def test_a_rover_moves_as_its_wheels_turn_and_its_odometry_follows(left, right):
    spec = load_spec("rover")
    sim = make_sim(spec)
    action = np.tile(np.float32([left, right]), (ROBOTS, 150, 1))
    obs = sim.rollout(action)[0]
    late = obs[:, 100:]
    # Friction, and the damping of a velocity servo, hold the wheels back.
    turned = read(spec, late, "left_wheel/velocity"), read(spec, late, "right_wheel/velocity")
    for speed, wanted in zip(turned, (left, right), strict=True):
        np.testing.assert_allclose(speed.mean(), wanted, rtol=0.15)
    forward = WHEEL_RADIUS * (turned[0] + turned[1]).mean() / 2
    turn = WHEEL_RADIUS * (turned[1] - turned[0]).mean() / TRACK
    np.testing.assert_allclose(read(spec, late, "wheel_odom/linear_velocity.x").mean(), forward, rtol=0.05)
    np.testing.assert_allclose(
        read(spec, late, "wheel_odom/angular_velocity.z").mean(), turn, rtol=0.1, atol=0.02
    )
    np.testing.assert_allclose(read(spec, late, "imu/angular_velocity.z").mean(), turn, rtol=0.1, atol=0.02)
    gravity = read(spec, late, "imu/linear_acceleration.z").mean()
    # A turning wheel of a cylinder shakes a little.
    assert gravity == pytest.approx(GRAVITY, rel=0.05)
    # Ten readings a second, held in between.
    slow = read(spec, obs, "wheel_odom/linear_velocity.x")[..., 0]
    assert abs((np.diff(slow, axis=1) != 0).sum(1) - slow.shape[1] / 5).max() <= 1


def test_a_wrist_wrench_weighs_what_the_hand_carries():
    spec = load_spec("arm_wrist")
    forces = [
        np.linalg.norm(
            read(spec, hold(make_sim(spec, payload=payload), 200)[:, 150:], "wrist/force").mean(1), axis=-1
        )
        for payload in (0.0, 0.4)
    ]
    hand = 0.12 + 0.04
    np.testing.assert_allclose(forces[0], hand * GRAVITY, rtol=0.05)
    np.testing.assert_allclose(forces[1] - forces[0], 0.4 * GRAVITY, rtol=0.05)


def test_efforts_of_an_arm_at_rest_hold_its_payload():
    spec = load_spec("arm_effort")
    quiet = {"effort_noise": 0.0, "friction": np.full(6, 1e-3)}
    unloaded, loaded = (hold(make_sim(spec, payload=payload, **quiet), 400)[:, -1] for payload in (0.0, 0.3))
    assert spec.observation_names[12:] == tuple(f"{joint}/effort" for joint in spec.joint_names)
    more = loaded[:, 12:] - unloaded[:, 12:]
    # The gripper is 0.1 to 0.45 m from the shoulder, and yaw is about the vertical.
    assert np.abs(more[:, 0]).max() < 0.05
    assert 0.2 < np.abs(more[:, 1]).max() < 0.3 * GRAVITY * 0.5


@pytest.mark.parametrize("name", ["quadruped", "walker", "rover", "arm_wrist", "arm_effort"])
def test_no_channel_is_constant_and_no_reading_is_beyond_the_range_of_its_sensor(name):
    spec = load_spec(name)
    batch = collect_trajectories(spec, num_trajectories=32, num_steps=64, seed=0)
    flat = batch.obs.reshape(-1, spec.obs_dim)
    assert np.isfinite(flat).all() and (np.ptp(flat, axis=0) > 0).all()
    for sensor in spec.sensors:
        channels = spec.layout.find_sensor(sensor.name)
        # A reading further than 20 limits away is refused.
        assert (np.abs(flat[:, channels]) < 20 * spec.layout.limits[channels]).all()
        assert np.quantile(np.abs(flat[:, channels]) / spec.layout.limits[channels], 0.99) < 1
