import copy
from dataclasses import replace

import mujoco
import numpy as np
import pytest

from tests.sim.robots import ARM, ARM_WORLDS, ROBOTS, arms, held, silent, some_worlds, wander
from wm_robot.errors import SpecError, UnsafeActionError
from wm_robot.robots import load_spec
from wm_robot.spec import Task
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.model_compiler import compile_model
from wm_robot_sim.plant import Plant
from wm_robot_sim.reachable_poses import compute_gripper_positions, sample_reachable_poses

pytestmark = pytest.mark.sim


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_robot_loads_and_steps(robot):
    spec = load_spec(robot)
    sim = BatchSim(spec, some_worlds(spec, 3), seed=0)
    obs, applied = sim.step(sim.last_action)
    assert obs.shape == (3, spec.obs_dim) and obs.dtype == np.float32
    assert applied.shape == (3, spec.action_dim) and np.isfinite(obs).all()
    np.testing.assert_array_equal(obs, sim.obs)


@pytest.mark.parametrize("visuals", [False, True])
def test_the_chain_of_the_spec_is_the_model_s(visuals):
    model = compile_model(ARM, visuals=visuals)
    data = mujoco.MjData(model)
    poses = sample_reachable_poses(ARM, np.random.default_rng(0), 50) * 1.3
    for pose, point in zip(poses, compute_gripper_positions(ARM, poses), strict=True):
        data.qpos[Plant(ARM, model).qpos_ids] = pose
        mujoco.mj_kinematics(model, data)
        np.testing.assert_allclose(data.site("gripper").xpos, point, atol=1e-6)


def test_the_reacher_s_chain_is_the_model_s():
    spec = load_spec("reacher")
    model = compile_model(spec)
    data = mujoco.MjData(model)
    data.qpos[:] = 0.7, -1.9
    mujoco.mj_kinematics(model, data)
    np.testing.assert_allclose(
        data.body("finger").xpos, compute_gripper_positions(spec, data.qpos), atol=1e-6
    )


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_model_without_visuals_has_the_same_dynamics(robot):
    spec = load_spec(robot)
    bare, full = compile_model(spec), compile_model(spec, visuals=True)
    for name in ("body_mass", "body_inertia", "dof_damping", "actuator_gainprm", "jnt_range"):
        np.testing.assert_allclose(getattr(bare, name), getattr(full, name), atol=1e-12, err_msg=name)
    assert bare.ntex == 0 and bare.nbuffer < full.nbuffer / 20


def test_a_task_says_where_its_episodes_start():
    spec = load_spec("cartpole")
    worlds = some_worlds(spec, 40)
    free, near = BatchSim(spec, worlds, seed=0), BatchSim(spec, worlds, seed=0, task="balance")
    assert (np.abs(free.true_joint_positions()[:, 1]) > 2.5).all()
    for _ in range(2):
        slide, hinge = near.true_joint_positions().T
        assert (np.abs(slide) <= 0.3).all() and (np.abs(hinge) <= 0.1).all() and np.ptp(hinge) > 0.1
        near.reset()
    elsewhere = replace(spec, tasks={"stay": Task(reward="hold", start={"hinge_1": [3.0, 3.0]})})
    slide, hinge = BatchSim(elsewhere, worlds, seed=0, task="stay").true_joint_positions().T
    np.testing.assert_array_equal(slide, free.true_joint_positions()[:, 0])
    np.testing.assert_array_equal(hinge, 3.0)


def test_the_true_observation_has_no_noise_bias_or_delay():
    spec = load_spec("cartpole")
    worlds = [
        replace(world, position_noise=0.5, velocity_noise=0.5, sensor_delay=1)
        for world in some_worlds(spec, 3)
    ]
    sim = BatchSim(spec, worlds, seed=0)
    sim.step(np.full((3, 1), 0.5, np.float32))
    true = sim.compute_true_obs()
    np.testing.assert_array_equal(true[:, :2], sim.true_joint_positions().astype(np.float32))
    assert np.abs(true - sim.obs).max() > 0.1 and true.dtype == np.float32


def test_same_seed_same_run():
    runs = []
    for _ in range(2):
        sim = BatchSim(ARM, some_worlds(ARM, 4), seed=5)
        runs.append(sim.rollout(wander(ARM, sim.last_action, 30))[0])
    np.testing.assert_array_equal(*runs)


def test_another_seed_is_another_run():
    one, two = (BatchSim(ARM, some_worlds(ARM, 2), seed=seed) for seed in (1, 2))
    assert (one.obs != two.obs).all()


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_batch_of_one_equals_a_row_of_many(robot):
    spec = load_spec(robot)
    worlds = some_worlds(spec, 5)
    many = BatchSim(spec, worlds, seed=9)
    one = BatchSim(spec, worlds[3:4], seed=9, first_row=3)
    np.testing.assert_array_equal(one.obs[0], many.obs[3])
    actions = wander(spec, many.last_action, 40)
    np.testing.assert_array_equal(one.rollout(actions[3:4])[0][0], many.rollout(actions)[0][3])


def test_two_threads_give_what_one_gives():
    worlds = some_worlds(ARM, 12)
    one, two = (BatchSim(ARM, worlds, seed=0, num_threads=threads) for threads in (1, 2))
    actions = wander(ARM, one.last_action, 20)
    np.testing.assert_array_equal(one.rollout(actions)[0], two.rollout(actions)[0])


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_rollout_equals_its_steps(robot):
    spec = load_spec(robot)
    worlds = some_worlds(spec, 4)
    whole, stepped = (BatchSim(spec, worlds, seed=0) for _ in range(2))
    # More steps than a block of noise.
    actions = wander(spec, whole.last_action, 80)
    obs, applied = whole.rollout(actions)
    for t in range(80):
        now, got = stepped.step(actions[:, t])
        np.testing.assert_array_equal(got, applied[:, t])
        np.testing.assert_allclose(now, obs[:, t], atol=1e-5)
    np.testing.assert_array_equal(whole.last_action, stepped.last_action)


def test_saved_and_restored_equals_never_stopped():
    worlds = some_worlds(ARM, 3)
    never = BatchSim(ARM, worlds, seed=2)
    actions = wander(ARM, never.last_action, 100)
    never.rollout(actions[:, :37])
    saved = copy.deepcopy(never.save())
    resumed = BatchSim(ARM, some_worlds(ARM, 3, seed=1), seed=2)
    resumed.restore(saved)
    np.testing.assert_array_equal(resumed.obs, never.obs)
    np.testing.assert_array_equal(resumed.rollout(actions[:, 37:])[0], never.rollout(actions[:, 37:])[0])
    np.testing.assert_array_equal(resumed.reset(), never.reset())


def test_a_world_that_returns_is_the_one_that_was():
    first, other = some_worlds(ARM, 2)
    plain, changed = (BatchSim(ARM, [first], seed=0) for _ in range(2))
    saved = plain.save()
    changed.set_worlds([0], [other])
    changed.rollout(held(changed, 10))
    assert not np.allclose(changed.true_joint_positions(), plain.true_joint_positions(), atol=1e-3)
    changed.set_worlds([0], [first])
    changed.restore(saved)
    actions = wander(ARM, plain.last_action, 20)
    np.testing.assert_array_equal(changed.rollout(actions)[0], plain.rollout(actions)[0])


def test_a_change_of_world_leaves_the_robot_where_it_is():
    sim = BatchSim(ARM, some_worlds(ARM, 2), seed=0)
    sim.rollout(wander(ARM, sim.last_action, 10))
    pose, hold = sim.true_joint_positions().copy(), sim.last_action
    sim.set_worlds([1], [ARM_WORLDS.make_nominal_world()])
    np.testing.assert_array_equal(sim.true_joint_positions(), pose)
    np.testing.assert_array_equal(sim.last_action, hold)


def test_only_the_row_that_changes_changes():
    worlds = some_worlds(ARM, 2)
    one, two = (BatchSim(ARM, worlds, seed=0) for _ in range(2))
    two.set_worlds([1], [ARM_WORLDS.make_loaded_world(payload=0.5, weak_joint="elbow_pitch", gain=0.3)])
    a, b = (sim.rollout(held(sim, 20))[0] for sim in (one, two))
    np.testing.assert_array_equal(a[0], b[0])
    assert not np.allclose(a[1], b[1], atol=1e-3)


def test_a_reversed_joint_goes_the_other_way():
    gain = np.ones(6)
    gain[0] = -1
    sim = arms([silent(), silent(gain=gain)])
    sim.rollout(held(sim, 1))
    target = sim.last_action
    target[:, 0] = 0.8
    for _ in range(60):
        sim.step(target)
    ahead, behind = sim.true_joint_positions()[:, 0]
    assert ahead == pytest.approx(0.8, abs=0.03) and behind == pytest.approx(-0.8, abs=0.03)


def test_a_command_is_late_by_exactly_its_delay():
    sim = BatchSim(ARM, [silent(delay=delay) for delay in range(11)], seed=0)
    before = sim.last_action
    applied = sim._limit_action((before + 0.05)[:, None].repeat(3, axis=1))
    control = sim._path.compute_commands(applied)[:, :, 1]
    for delay, row in enumerate(control):
        np.testing.assert_allclose(row[:delay], before[delay, 1])
        np.testing.assert_allclose(row[delay:], before[delay, 1] + 0.05, rtol=1e-6)


def test_a_late_robot_does_later_what_a_prompt_one_does():
    sim = arms([silent(delay=0), silent(delay=10)])
    still = held(sim, 2)
    actions = np.concatenate([still, still + 0.1, still, still, still], axis=1)
    obs, _ = sim.rollout(np.repeat(actions, 1, axis=1))
    # Both droop alike until the command comes, so compare what the command adds.
    calm = arms([silent(delay=0), silent(delay=10)])
    drift, _ = calm.rollout(np.repeat(still[:, :1], actions.shape[1], axis=1))
    moved = np.abs(obs - drift)[..., :6].max(-1)
    assert moved[0, 2] > 1e-3 and moved[0, 1] < 1e-6
    assert moved[1, 4] > 1e-3 and moved[1, 3] < 1e-6


def test_readings_are_as_old_as_the_sensor_delay():
    sim = arms([silent(), silent(sensor_delay=3)])
    action = sim.last_action + 0.1
    obs, _ = sim.step(action)
    late = arms([silent()])
    commands = late._path.compute_commands(late._limit_action(action[:1, None]))
    states, _ = late._stepper.run(late._physics_state, commands, 0)
    np.testing.assert_allclose(obs[0, :6], states[0, 4, late._qpos], atol=1e-6)
    np.testing.assert_allclose(obs[1, :6], states[0, 1, late._qpos], atol=1e-6)


def test_a_dead_joint_gives_no_torque():
    gain = np.ones(6)
    gain[1] = 0
    sim = arms([silent(gain=gain)])
    model = sim._models[0]
    data = mujoco.MjData(model)
    data.ctrl[:] = 1.0
    mujoco.mj_forward(model, data)
    torque = data.actuator_force[sim.plant.actuator_ids]
    assert torque[1] == 0 and (np.abs(torque[[0, 2, 3, 4, 5]]) > 0.1).all()


def test_the_torque_limit_limits():
    torque = np.full(6, 0.2)
    model = BatchSim(ARM, [silent(torque=torque)], seed=0)._models[0]
    data = mujoco.MjData(model)
    data.ctrl[:] = 1.0
    mujoco.mj_forward(model, data)
    np.testing.assert_allclose(data.actuator_force[:6], [1.6, 1.6, 1.6, 0.5, 0.5, 0.5])


def test_a_payload_weighs_what_it_weighs():
    light, heavy = (BatchSim(ARM, [silent(payload=p)], seed=0)._models[0] for p in (0.0, 0.4))
    assert heavy.body_mass.sum() - light.body_mass.sum() == pytest.approx(0.4)


def test_the_sensor_bias_is_read_and_not_true():
    bias = np.arange(1, 7) / 100
    sim = arms([silent(), silent(bias=bias)])
    sim.step(sim.last_action)
    np.testing.assert_allclose((sim.obs[1] - sim.obs[0])[:6], bias, atol=1e-6)
    np.testing.assert_array_equal(sim.compute_gripper_position()[0], sim.compute_gripper_position()[1])


def test_noise_is_as_large_as_declared():
    sim = arms([silent(), silent(position_noise=0.002, velocity_noise=0.03)])
    obs, _ = sim.rollout(held(sim, 400))
    error = (obs[1] - obs[0]).std(0)
    np.testing.assert_allclose(error, [0.002] * 6 + [0.03] * 6, rtol=0.15)


def test_a_nominal_arm_holds_a_pose_with_a_small_droop():
    sim = BatchSim(ARM, [ARM_WORLDS.make_nominal_world()] * 32, seed=0)
    wanted = compute_gripper_positions(ARM, sim.last_action)
    sim.rollout(held(sim, 150))
    droop = np.linalg.norm(sim.compute_gripper_position() - wanted, axis=1)
    assert 0.002 < np.median(droop) < 0.04 and droop.max() < 0.08


def test_a_tilted_world_pulls_sideways():
    sim = BatchSim(ARM, [silent(tilt=np.array([0.1, 0.0]))], seed=0)
    gravity = sim._models[0].opt.gravity
    assert np.linalg.norm(gravity) == pytest.approx(9.81) and gravity[0] == pytest.approx(0.98, abs=0.01)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_action_that_is_not_finite_moves_nothing(bad):
    sim = BatchSim(ARM, some_worlds(ARM, 2), seed=0)
    saved = sim.save()
    action = sim.last_action
    action[1, 2] = bad
    with pytest.raises(UnsafeActionError, match="motor 'elbow_pitch' in row 1 is not finite"):
        sim.step(action)
    np.testing.assert_array_equal(sim.save()["physical"], saved["physical"])
    assert sim.steps == 0


def test_applied_keeps_range_and_rate():
    sim = BatchSim(ARM, some_worlds(ARM, 3), seed=0)
    before = sim.last_action
    wild = np.random.default_rng(0).normal(size=(3, 50, 6)) * 5
    _, applied = sim.rollout(wild)
    change = np.abs(np.diff(np.concatenate([before[:, None], applied], 1), axis=1))
    assert (change <= ARM.action_step + 1e-6).all() and change.max() > 0.11
    assert (applied >= ARM.action_low).all() and (applied <= ARM.action_high).all()


def test_an_action_within_limits_is_applied_as_it_is():
    sim = BatchSim(ARM, some_worlds(ARM, 2), seed=0)
    action = sim.last_action + np.float32(0.01)
    np.testing.assert_array_equal(sim.step(action)[1], action)


def test_a_robot_starts_at_rest_clear_of_the_table():
    sim = BatchSim(ARM, [silent()] * 64, seed=0)
    np.testing.assert_allclose(sim.obs[:, :6], sim.last_action, atol=1e-6)
    assert not sim.obs[:, 6:].any()
    assert (sim.compute_gripper_position()[:, 2] >= ARM_WORLDS.ranges.clearance).all()
    assert sim.true_joint_positions().std(0).min() > 0.2


def test_a_reset_row_starts_elsewhere_and_the_others_go_on():
    sim = BatchSim(ARM, [ARM_WORLDS.make_nominal_world()] * 2, seed=0)
    first = sim.obs.copy()
    sim.reset([1])
    np.testing.assert_array_equal(sim.obs[0], first[0])
    assert not np.allclose(sim.obs[1, :6], first[1, :6], atol=0.05)


def test_a_delay_beyond_the_ranges_is_refused():
    with pytest.raises(SpecError, match="delay is 11 physics steps; world.delay allows 10"):
        BatchSim(ARM, [silent(delay=11)], seed=0)


def test_a_wrong_shape_is_refused():
    sim = BatchSim(ARM, [ARM_WORLDS.make_nominal_world()], seed=0)
    with pytest.raises(SpecError, match=r"action is \(1, 1, 5\)"):
        sim.step(np.zeros((1, 5)))


def test_a_rate_that_is_no_whole_number_of_physics_steps_is_refused():
    with pytest.raises(SpecError, match="Set world.timestep"):
        BatchSim(replace(ARM, rate=60.0), [ARM_WORLDS.make_nominal_world()], seed=0)
