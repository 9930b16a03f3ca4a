"""The SO-101 that ships: it holds, follows, has the published backlash, and stays finite in its worlds."""

import time

import mujoco
import numpy as np
import pytest

from tests.sim.robots import held, some_worlds
from wm_robot.robots import load_spec
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.goals import MovingTarget
from wm_robot_sim.model_compiler import compile_model
from wm_robot_sim.motion import draw_random_actions
from wm_robot_sim.plant import Plant
from wm_robot_sim.reachable_poses import compute_gripper_positions, sample_reachable_poses
from wm_robot_sim.worlds import DomainRandomization

pytestmark = pytest.mark.sim

SPEC = load_spec("so101")
NOMINAL = DomainRandomization(SPEC).make_nominal_world()
BACKLASH = np.deg2rad(0.5)


@pytest.fixture
def compiled():
    model = compile_model(SPEC)
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, model.key("home").id)
    return model, data


def test_its_joints_have_the_names_and_the_order_that_lerobot_uses():
    names = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
    assert SPEC.joint_names == SPEC.action_names == names


def test_it_holds_home_without_drift_or_contact(compiled):
    model, data = compiled
    places = Plant(SPEC, model).qpos_ids
    np.testing.assert_array_equal(data.qpos[places], SPEC.home_position)
    np.testing.assert_array_equal(data.ctrl, SPEC.home_action)
    kept = []
    for _ in range(2500):
        mujoco.mj_step(model, data)
        assert data.ncon == 0
        kept.append(data.qpos.copy())
    assert np.abs(kept[-1][places] - SPEC.home_position).max() < 0.03
    assert np.abs(kept[-1] - kept[-1250]).max() < 1e-4
    assert np.abs(data.qvel).max() < 1e-3


def test_backlash_sets_the_loaded_gripper_some_millimetres_from_where_its_joints_place_it(compiled):
    model, data = compiled
    places, apart = Plant(SPEC, model).qpos_ids, []
    for pose in sample_reachable_poses(SPEC, np.random.default_rng(0), 40):
        mujoco.mj_resetData(model, data)
        data.qpos[places] = data.ctrl[:] = pose
        for _ in range(250):
            mujoco.mj_step(model, data)
        apart.append(
            np.linalg.norm(data.site("gripper").xpos - compute_gripper_positions(SPEC, data.qpos[places]))
        )
    assert 0.003 < np.mean(apart) and max(apart) < 0.009


def test_its_chain_is_that_of_the_model():
    model = compile_model(SPEC)
    data, places = mujoco.MjData(model), Plant(SPEC, model).qpos_ids
    poses = np.random.default_rng(0).uniform(*SPEC.pose_limits.T, (1000, 6))
    for pose, point in zip(poses, compute_gripper_positions(SPEC, poses), strict=True):
        data.qpos[places] = pose
        mujoco.mj_kinematics(model, data)
        np.testing.assert_allclose(data.site("gripper").xpos, point, atol=1e-6)


def test_at_zero_the_upper_arm_points_up_and_the_gripper_forward():
    x, y, z = compute_gripper_positions(SPEC, np.zeros(6))
    assert 0.38 < x < 0.40 and y == 0 and 0.22 < z < 0.24
    lowered = compute_gripper_positions(SPEC, 0.2 * np.eye(6)[1:4])
    assert (lowered[:, 2] < z).all(), "a positive angle of lift, elbow or wrist lowers the gripper"
    assert compute_gripper_positions(SPEC, 0.2 * np.eye(6)[0])[1] < 0, "positive pan turns to the right"


def test_it_starts_in_poses_that_cover_the_ranges_with_the_gripper_above_the_table():
    poses = sample_reachable_poses(SPEC, np.random.default_rng(0), 2000)
    assert compute_gripper_positions(SPEC, poses)[:, 2].min() >= SPEC.world["clearance"]
    assert (np.ptp(poses, axis=0) > 0.55 * np.diff(SPEC.pose_limits)[:, 0]).all()


def test_its_servos_follow_a_slow_path_and_hold_its_end():
    sim = BatchSim(SPEC, [NOMINAL] * 16, seed=0)
    start = sim.true_joint_positions()
    paths = [MovingTarget(SPEC, seed=seed).compute_phantom_poses(np.arange(400)) for seed in range(16)]
    lead = np.linspace(0, 1, 100)[:, None]
    there = [one + lead * (path[0] - one) for one, path in zip(start, paths, strict=True)]
    actions = np.concatenate([np.stack(there), np.stack(paths)], 1).astype(np.float32)
    obs, applied = sim.rollout(actions)
    np.testing.assert_allclose(applied, actions, atol=1e-6)
    error = np.abs(obs[:, 100:, :6] - actions[:, 100:])
    assert error.mean() < 0.04 and error.max() < 0.25
    sim.rollout(held(sim, 150))
    assert np.abs(sim.true_joint_positions() - sim.last_action).max() < 0.05


def test_each_joint_has_a_degree_of_backlash_that_its_encoder_does_not_see(compiled):
    model, data = compiled
    model.opt.gravity[:] = 0
    for joint in SPEC.joint_names:
        servo, gap = model.joint(joint), model.joint(f"{joint}_backlash")
        np.testing.assert_array_equal(servo.axis, gap.axis)
        turned, seen = [], []
        for torque in (0.1, -0.1):
            mujoco.mj_resetDataKeyframe(model, data, 0)
            data.qfrc_applied[gap.dofadr] = torque
            for _ in range(200):
                mujoco.mj_step(model, data)
            turned.append(float(data.qpos[gap.qposadr][0])), seen.append(float(data.qpos[servo.qposadr][0]))
        assert turned[0] - turned[1] == pytest.approx(2 * BACKLASH, rel=0.1)
        assert abs(seen[0] - seen[1]) < BACKLASH / 2


def test_it_is_stable_in_its_worlds_and_much_faster_than_real_time():
    sim = BatchSim(SPEC, some_worlds(SPEC, 200), seed=1)
    actions = draw_random_actions(SPEC, np.random.default_rng(2), sim.last_action, 500)
    begin = time.perf_counter()
    obs, _ = sim.rollout(actions)
    assert 200 * 500 * SPEC.dt > 20 * (time.perf_counter() - begin)
    assert np.isfinite(obs).all() and np.abs(obs[..., 6:]).max() < 15
    low, high = SPEC.pose_limits.T
    assert (obs[..., :6] > low - 0.15).all() and (obs[..., :6] < high + 0.15).all()
