"""Undeclared effects: each kind does what its name says, from any moment on, and leaves nothing behind."""

from dataclasses import replace

import numpy as np
import pytest

from tests.sim.robots import ARM, ARM_WORLDS, arms, held, silent, wander
from wm_robot.errors import SpecError
from wm_robot.robots import load_spec
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.effects.effect import EFFECT_KINDS, Effect, find_lack, list_kinds
from wm_robot_sim.effects.model_effects import CHANGED_FIELDS
from wm_robot_sim.robot import SimRobot
from wm_robot_sim.world_parameter import parse_world
from wm_robot_sim.worlds import DomainRandomization, World

pytestmark = pytest.mark.sim

FORCES = ("tether", "force_field", "passive_element", "stick_slip", "joint_cable", "pendulum", "gusts")


def affected(*kinds: str, seed: int = 0, strength: float = 1.0, **changes: object) -> World:
    effects = tuple(Effect(kind=kind, seed=seed, strength=strength) for kind in kinds)
    return silent(effects=effects, **changes)


def make_sims(*worlds: World, kinds: tuple[str, ...] = ()) -> BatchSim:
    sim = BatchSim(ARM, worlds, seed=0, effect_kinds=kinds)
    saved = sim.save()
    for name in ("physical", "commands"):
        saved[name][:] = saved[name][:1]
    sim.restore(saved)
    return sim


@pytest.mark.parametrize("kind", EFFECT_KINDS)
def test_an_effect_moves_the_arm_elsewhere_and_a_strength_of_zero_does_not(kind):
    sim = make_sims(silent(), affected(kind, strength=2.0), affected(kind, strength=0.0), kinds=(kind,))
    # A quarter of a minute has a gust.
    obs, _ = sim.rollout(wander(ARM, sim.last_action[:1], 150).repeat(3, 0))
    assert np.isfinite(obs).all()
    np.testing.assert_array_equal(obs[2], obs[0])
    steps = np.diff(obs[0], axis=0).std(0)
    assert np.sqrt((((obs[1] - obs[0]) / steps) ** 2).mean(-1).max()) > 0.3, "not to be seen"


@pytest.mark.parametrize("kind", EFFECT_KINDS)
def test_a_robot_in_a_batch_does_what_it_does_alone_and_after_it_was_saved(kind):
    worlds = [affected(kind, seed=seed) for seed in (3, 4)]
    many, alone = BatchSim(ARM, worlds, seed=0), BatchSim(ARM, worlds[1:], seed=0, first_row=1)
    plan = wander(ARM, many.last_action, 40)
    obs, _ = many.rollout(plan)
    parts = [alone.rollout(plan[1:, :13])[0]]
    saved, other = alone.save(), BatchSim(ARM, worlds[1:], seed=0, first_row=1)
    other.rollout(plan[1:, 20:])
    other.restore(saved)
    parts.append(other.rollout(plan[1:, 13:])[0])
    # The sines of a chain differ in their last bit by the size of the array.
    np.testing.assert_allclose(
        np.concatenate(parts, 1), obs[1:], rtol=0, atol=1e-6 if kind == "tether" else 0
    )


@pytest.mark.parametrize("kind", EFFECT_KINDS)
def test_an_effect_is_switched_on_and_off_in_mid_run(kind):
    sim = make_sims(silent(), silent(), kinds=(kind,))
    before, _ = sim.rollout(held(sim, 10))
    np.testing.assert_array_equal(before[0], before[1])
    sim.set_worlds([1], [affected(kind, strength=2.0)])
    moving = wander(ARM, sim.last_action[:1], 60).repeat(2, 0)
    obs, _ = sim.rollout(moving)
    assert (obs[0] != obs[1]).any()
    sim.set_worlds([1], [silent()])
    for name in CHANGED_FIELDS:
        model, nominal = (getattr(each, name) for each in sim._models[::-1])
        np.testing.assert_array_equal(model, nominal, err_msg=name)
    np.testing.assert_array_equal(*(each.opt.gravity for each in sim._models))
    # Where both are in one place they stay together, so nothing is left.
    saved = sim.save()
    for name in ("physical", "commands"):
        saved[name][1] = saved[name][0]
    sim.restore(saved)
    after, _ = sim.rollout(moving)
    np.testing.assert_array_equal(after[0], after[1])


@pytest.mark.parametrize("robot", ["cartpole", "so101", "quadruped"])
def test_every_robot_shows_the_effects_that_it_has_the_parts_for(robot):
    spec = load_spec(robot)
    nominal = DomainRandomization(spec).make_nominal_world()
    kinds = [kind for kind in EFFECT_KINDS if not find_lack(spec, kind)]
    sim = BatchSim(spec, [replace(nominal, effects=(Effect(kind=kind),)) for kind in kinds], seed=0)
    plan = wander(spec, sim.last_action[:1], 50).repeat(len(kinds), 0)
    assert np.isfinite(sim.rollout(plan)[0]).all() and len(kinds) > 15


def test_an_offset_is_that_of_a_horn_on_another_tooth():
    sim = make_sims(affected("command_offset"))
    offset = sim._path.compute_present_command(0) - sim.last_action[0]
    assert (np.abs(offset) <= 0.08 * (ARM.action_high - ARM.action_low)).all() and np.abs(offset).min() > 0


def test_exchanged_cables_exchange_two_commands():
    sim = make_sims(affected("exchanged_cables", seed=1))
    middle = (ARM.action_low + ARM.action_high) / 2
    asked = sim.last_action[0] - middle
    given = sim._path.compute_present_command(0) - middle
    moved = np.flatnonzero(~np.isclose(asked, given))
    assert len(moved) == 2
    np.testing.assert_allclose(given[moved], asked[moved[::-1]], rtol=1e-6)


def test_the_strength_of_exchanged_cables_is_the_number_of_exchanges():
    def find_order(strength: float) -> list[int]:
        sim = make_sims(affected("exchanged_cables", seed=1, strength=strength))
        mixing = sim.plant.compute_signal_changes(sim.worlds[0]).mixing
        np.testing.assert_array_equal(mixing @ mixing.T, np.eye(len(mixing)))
        return mixing.argmax(1).tolist()

    assert find_order(0.0) == list(range(6))
    once, twice = find_order(1.0), find_order(2.0)
    assert sum(channel != place for place, channel in enumerate(once)) == 2
    # One more exchange of two of its channels.
    assert sum(a != b for a, b in zip(once, twice, strict=True)) == 2


def test_end_stops_hold_two_joints_within_a_quarter_of_their_range():
    sim = make_sims(affected("end_stops", strength=1.0))
    ranges = sim._models[0].jnt_range[sim.plant.joint_ids]
    narrow = np.flatnonzero(np.ptp(ranges, axis=-1) < 0.3 * np.ptp(ARM.pose_limits, axis=-1))
    assert len(narrow) == 2
    far = np.where(np.isin(np.arange(6), narrow), ARM.action_high, sim.last_action[0]).astype(np.float32)
    sim.rollout(np.tile(far, (1, 120, 1)))
    reached = sim.true_joint_positions()[0, narrow]
    assert (reached < ranges[narrow, 1] + 0.1).all() and (reached > ranges[narrow, 1] - 0.1).all()


def test_play_keeps_a_set_point_until_the_command_has_crossed_it():
    sim = make_sims(affected("backlash"))
    start = sim.last_action[0].copy()
    path = start + np.concatenate([np.linspace(0, 0.6, 60), np.linspace(0.6, 0.0, 60)])[:, None]
    sim.rollout(path[None].astype(np.float32))
    (effect, _, hidden), *_ = sim._stepper._effects._groups
    ended = hidden[0] - start
    play = effect._play[0]
    np.testing.assert_allclose(ended, play, rtol=1e-3)
    assert (play > 0.01).all()


def test_friction_at_rest_is_more_than_in_motion():
    sim = make_sims(affected("stick_slip"))
    force = sim.plant.effect_scale.force
    at_rest = (
        sim._models[0].dof_frictionloss[sim.plant.dof_ids]
        - sim.plant.model.dof_frictionloss[sim.plant.dof_ids]
    )
    np.testing.assert_allclose(at_rest, 0.5 * force)
    sim.rollout(held(sim, 1))
    effect, _, hidden = sim._stepper._effects._groups[0]
    for sign in (-1.0, 1.0):
        motion = motion_of(sim, velocity=np.full((1, 6), sign * 2.0))
        np.testing.assert_allclose(effect.compute_force(motion, hidden)[0], sign * 0.35 * force, rtol=1e-3)


def motion_of(sim: BatchSim, **changes: object):
    from wm_robot_sim.effects.step_effects import Motion

    still = {
        "position": sim.true_joint_positions(),
        "velocity": np.zeros((1, 6)),
        "command": sim.last_action.astype(float),
        "motor_force": np.zeros((1, 6)),
        "number": 0,
    }
    return Motion(**{**still, **changes})


def test_a_warm_motor_is_weaker_and_recovers():
    sim = make_sims(affected("thermal_derating", strength=2.0))
    working = np.tile(np.array([0.0, 1.2, 0.0, 0.0, 1.2, 0.0], np.float32), (1, 250, 1))
    sim.rollout(working)
    warm = sim._stepper._effects._groups[0][2][0].copy()
    assert warm[1] > 0.05 and warm[1] > 10 * warm[0]
    sim.set_worlds([0], [affected("thermal_derating", strength=2.0, gain=np.zeros(6))])
    sim.rollout(working)
    assert sim._stepper._effects._groups[0][2][0, 1] < 0.5 * warm[1]


def test_a_pendulum_hangs_from_the_gripper_and_one_that_is_off_is_not_felt():
    plain, off, on = (
        arms([silent()]),
        make_sims(silent(), kinds=("pendulum",)),
        make_sims(affected("pendulum")),
    )
    plan = wander(ARM, plain.last_action, 60)
    seen = [sim.rollout(plan)[0] for sim in (plain, off, on)]
    assert np.abs(seen[1] - seen[0]).max() < 1e-3
    assert np.abs(seen[2] - seen[0]).max() > 1e-2
    assert on.qpos().shape == plain.qpos().shape
    assert on.plant.model.nq == plain.plant.model.nq + 4


def test_readings_that_lag_are_those_of_some_steps_before():
    sim = make_sims(silent(), affected("sensor_lag"))
    obs, _ = sim.rollout(wander(ARM, sim.last_action[:1], 30).repeat(2, 0))
    late = round(0.06 / ARM.dt)
    np.testing.assert_array_equal(obs[1, late:], obs[0, :-late])


def test_a_tether_pulls_the_gripper_towards_its_point():
    sim = make_sims(affected("tether", strength=3.0, seed=2))
    sim.rollout(held(sim, 1))
    effect, _, hidden = sim._stepper._effects._groups[0]
    near = np.random.default_rng(0).uniform(-1, 1, (200, 6))
    # The force is the slope of an energy: around a closed path it does no work.
    way = np.concatenate(
        [np.linspace(near[i], near[i + 1], 400) for i in (0, 1)] + [np.linspace(near[2], near[0], 400)]
    )
    forces = np.concatenate(
        [effect.compute_force(motion_of(sim, position=each[None]), hidden) for each in way]
    )
    steps = np.diff(way, axis=0)
    work = (0.5 * (forces[1:] + forces[:-1]) * steps).sum()
    assert abs(work) < 0.02 * np.abs((forces[1:] * steps).sum(-1)).sum()


def test_the_ground_is_at_an_angle_and_gravity_as_strong_as_before():
    sim = make_sims(affected("mounting"))
    gravity = sim._models[0].opt.gravity
    assert np.linalg.norm(gravity) == pytest.approx(9.81) and gravity[2] > -9.0


def test_the_kinds_of_training_and_of_tests_have_nothing_in_common():
    trained, tested = set(list_kinds(ARM, "training")), set(list_kinds(ARM, "test"))
    assert not trained & tested and len(trained) == 12 and len(tested) == 8
    assert set(EFFECT_KINDS) - trained - tested == {"gusts"}


def test_an_oracle_is_not_told_of_effects():
    np.testing.assert_array_equal(affected("tool").to_vector(), silent().to_vector())


def test_a_world_with_effects_is_written_and_read():
    world = parse_world('{"payload": 0.2, "effects": [{"kind": "backlash", "seed": 3}]}', ARM, seed=0)
    assert world.effects == (Effect(kind="backlash", seed=3),)
    assert World.from_dict(world.to_dict()).effects == world.effects
    assert "effects" not in ARM_WORLDS.make_nominal_world().to_dict()


def test_a_robot_gets_an_effect_while_it_moves():
    robot = SimRobot(ARM, silent(), seed=0, effect_kinds=("thermal_derating",))
    robot.write(robot.last_action)
    robot.set_world(affected("thermal_derating", "exchanged_cables"))
    robot.write(robot.last_action)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Effect(kind="magic"), "effect.kind is 'magic'; it must be one of"),
        (lambda: Effect(kind="tool", seed=-1), "effect.seed is -1"),
        (lambda: Effect(kind="tool", strength=float("nan")), "effect.strength is nan"),
        (
            lambda: Effect.from_dict({"kind": "tool", "size": 3}),
            "must have kind, and may have seed and strength",
        ),
        (lambda: affected("tool", "tool"), "each may occur once"),
        (lambda: arms([silent()]).set_worlds([0], [affected("pendulum")]), "Name its kind in effect_kinds"),
    ],
)
def test_what_cannot_be_is_refused(make, words):
    with pytest.raises(SpecError, match=words):
        make()


def test_a_robot_without_a_gripper_has_no_tether():
    spec = load_spec("cartpole")
    world = replace(DomainRandomization(spec).make_nominal_world(), effects=(Effect(kind="tether"),))
    with pytest.raises(SpecError, match="has no gripper"):
        BatchSim(spec, [world], seed=0)


def test_forces_act_on_the_joints_of_the_spec():
    # The jaw is a joint of the model that the spec does not name, and no effect pushes it.
    for kind in FORCES[:-2]:
        sim = make_sims(affected(kind))
        commands = sim._path.compute_commands(held(sim, 1))
        sim._stepper.run(sim._physics_state, commands, 0)
        _, force = sim._stepper._effects.change_step(motion_of(sim, velocity=np.ones((1, 6))))
        assert force.shape == (1, 6) and (np.abs(force).max() > 0 or kind in ("tether", "joint_cable"))


def test_a_force_field_is_smooth():
    sim = make_sims(affected("force_field"))
    sim.rollout(held(sim, 1))
    effect, _, hidden = sim._stepper._effects._groups[0]
    at = sim.true_joint_positions()
    here, near, far = (
        effect.compute_force(motion_of(sim, position=at + step), hidden) for step in (0.0, 0.01, 0.5)
    )
    assert np.abs(near - here).max() < 0.1 * np.abs(far - here).max()


@pytest.mark.parametrize("kind", EFFECT_KINDS)
def test_a_twin_moves_as_the_robots_whose_motion_it_copies(kind):
    worlds = [affected(kind, seed=seed) for seed in (3, 4)]
    rows = np.array([1, 1, 0])
    sim, twin = BatchSim(ARM, worlds, seed=0), BatchSim(ARM, [worlds[row] for row in rows], seed=9)
    plan = wander(ARM, sim.last_action, 30)
    # The second time the twin's effects are on already.
    for first in (0, 15):
        sim.rollout(plan[:, first : first + 5])
        twin.copy_motion(sim.save_motion(), rows)
        np.testing.assert_array_equal(twin.last_action, sim.last_action[rows])
        _, applied = sim.rollout(plan[:, first + 5 : first + 15])
        true = twin.rollout_true_obs(applied[rows])
        np.testing.assert_allclose(true[:, -1], sim.compute_true_obs()[rows], rtol=0, atol=2e-6)


def test_a_nominal_twin_moves_as_a_robot_without_the_effect():
    sim = BatchSim(ARM, [affected("pendulum")], seed=0)
    twin = BatchSim(ARM, [silent()], seed=0, effect_kinds=("pendulum",))
    saved, plan = sim.save_motion(), wander(ARM, sim.last_action, 20)
    twin.copy_motion(saved, np.array([0]))
    sim.set_worlds([0], [silent()])
    obs, applied = sim.rollout(plan)
    expected = twin.rollout_true_obs(applied)
    np.testing.assert_allclose(expected, obs, rtol=0, atol=2e-6)


def test_a_twin_advances_delayed_readings_to_now():
    world = silent(sensor_delay=4, delay=7)
    sim, twin = BatchSim(ARM, [world], seed=0), BatchSim(ARM, [world], seed=1)
    sim.rollout(wander(ARM, sim.last_action, 12))
    twin.copy_motion(sim.save_motion(), np.array([0]))
    twin.place_joints(sim.obs)
    late = np.abs(twin.compute_true_obs() - sim.compute_true_obs()).max()
    twin.advance_readings()
    assert np.abs(twin.compute_true_obs() - sim.compute_true_obs()).max() < 1e-5 < 1e-2 < late


def test_a_twin_tries_plans_that_no_robot_could_follow():
    sim, twin = (BatchSim(ARM, [silent()], seed=0) for _ in range(2))
    sim.rollout(wander(ARM, sim.last_action, 5))
    twin.copy_motion(sim.save_motion(), np.array([0]))
    # For finite differences each action must have an effect, at the limits of rate and range too.
    jump = sim.last_action[:, None] + 3 * ARM.action_step * np.ones((1, 4, 1), np.float32)
    free, (limited, _) = twin.rollout_true_obs(jump), sim.rollout(jump)
    np.testing.assert_array_equal(twin.last_action, jump[:, -1])
    assert np.abs(free[:, 0] - limited[:, 0])[:, 6:].max() > 0.5
