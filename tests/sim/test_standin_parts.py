"""Parts of stand-ins: motors, gears, springs, cables, encoders and tools have the physics that their numbers say."""

from dataclasses import fields, replace
from pathlib import Path

import mujoco
import numpy as np
import pytest

from tests.sim.small_robots import make_hinge
from tests.sim.test_standins import clean_world, make_sim, swing
from wm_robot.errors import SpecError
from wm_robot.robots import load_spec
from wm_robot.spec import RobotSpec
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.standins import motor_drive
from wm_robot_sim.standins.catalog import build_plant
from wm_robot_sim.standins.motor_drive import compute_gear_friction, find_largest_torques
from wm_robot_sim.standins.servo_motor import MX106, STS3215, ServoMotor
from wm_robot_sim.standins.standin import STANDINS, StandIn
from wm_robot_sim.standins.standin_part import StandInMotion

pytestmark = pytest.mark.sim

SPINDLE = (
    '<joint name="swing" axis="0 0 1" armature="0.001"/>'
    '<geom type="capsule" size="0.02" fromto="-0.1 0 0 0.1 0 0" mass="0.5"/>'
)
"""A rod that turns about a vertical axis: nothing brakes it but its motor."""
LEVER = (
    '<joint name="swing" axis="0 1 0" armature="0.01" damping="0.1"/>'
    '<geom type="sphere" size="0.02" pos="0.2 0 0" mass="{mass}"/>'
)
"""A weight at 0.2 m from a horizontal axis."""
SERVO = '<position name="swing" joint="swing" kp="20" forcerange="-3 3"/>'
WITHOUT_FRICTION = {
    field.name: 0.0 for field in fields(ServoMotor) if "friction" in field.name and field.name != "friction"
}


@pytest.fixture
def exact(monkeypatch):
    """Makes a kind of stand-in exact: one size in place of its ranges, and other motors."""

    def change(name: str, motor: ServoMotor, **changes: object) -> StandIn:
        kind = replace(
            STANDINS[name], motor=motor, supply=(motor.supply,) * 2, gain=(1.0, 1.0), delay=(0.0, 0.0)
        )
        monkeypatch.setitem(STANDINS, name, replace(kind, **changes))
        monkeypatch.setattr(motor_drive, "UNIT_SPREAD", (1.0, 1.0))
        return StandIn(name=name)

    return change


def make_spindle(folder: Path, kind: str, *, speed: float = 5.0) -> RobotSpec:
    """A spindle that is given a torque, at most 3 N m, or a position."""
    motor = '<motor name="swing" joint="swing" gear="3" ctrlrange="-1 1"/>' if kind == "effort" else SERVO
    high = 1.0 if kind == "effort" else 100.0
    joint = {"name": "swing", "velocity": speed, "effort": 3.0}
    return make_hinge(
        folder,
        SPINDLE,
        motor,
        joints=[joint | ({"wraps": True} if kind == "effort" else {"position": [-100.0, 100.0]})],
        actuators=[{"name": "swing", "joint": "swing", "kind": kind, "range": [-high, high], "rate": 1e4}],
    )


def make_lever(folder: Path, mass: float) -> RobotSpec:
    joint = {"name": "swing", "position": [-2.0, 2.0], "velocity": 5.0, "effort": 3.0}
    return make_hinge(folder, LEVER.format(mass=mass), SERVO, joints=[joint])


def run(spec: RobotSpec, standin: StandIn, command: float, steps: int) -> BatchSim:
    sim = BatchSim(spec, [clean_world(spec)], seed=0, standin=standin)
    saved = sim.save()
    saved["physical"][:], saved["commands"][:] = 0.0, command
    sim.restore(saved)
    sim.rollout(np.full((1, steps, 1), command, np.float32))
    return sim


def read_torques(sim: BatchSim) -> np.ndarray:
    """Torque of the motor, and that which the joint passes on, `2 J`."""
    return sim._stepper._standin.torques[:, 0]


def read_friction(sim: BatchSim) -> np.ndarray:
    return sim._models[0].dof_frictionloss[sim.plant.dof_ids]


def test_published_motors_have_the_torques_and_speeds_of_their_constants():
    assert STS3215.stall_torque == pytest.approx(1.27532 * 7.4 * 0.97 / 2.75342, rel=1e-9)
    assert STS3215.no_load_speed == pytest.approx(7.4 * 0.97 / 1.27532, rel=1e-9)
    assert MX106.stall_torque == pytest.approx(15.69, abs=0.01)
    # The proportional gain of 32 gives the largest duty at an error of 9 degrees.
    assert STS3215.largest_voltage / (STS3215.supply * STS3215.position_gain) == pytest.approx(
        0.157, abs=1e-3
    )


@pytest.mark.parametrize("kind", ["effort", "position"])
@pytest.mark.parametrize("motor", [STS3215, MX106], ids=["sts3215", "mx106"])
def test_a_motor_without_load_turns_at_the_speed_that_its_voltage_allows(tmp_path, exact, kind, motor):
    free = replace(motor, **WITHOUT_FRICTION)
    spec = make_spindle(tmp_path, kind)
    sim = run(spec, exact("sts3215", free), spec.action_high[0], 150)
    # The joint's own torque is smaller than that of a MX-106, which has a gear more then, not another speed.
    (own,) = sim.plant.parts.drive.motors
    assert own.no_load_speed == pytest.approx(free.largest_voltage / free.torque_constant, rel=1e-9)
    speed = sim._physics_state[0, sim._qvel][0]
    assert speed == pytest.approx(free.largest_voltage / free.torque_constant, rel=1e-3)


@pytest.mark.parametrize("motor", [STS3215, MX106], ids=["sts3215", "mx106"])
def test_friction_takes_its_part_of_the_speed_without_load(tmp_path, exact, motor):
    spec = make_spindle(tmp_path, "position")
    sim = run(spec, exact("sts3215", motor), spec.action_high[0], 150)
    (own,) = sim.plant.parts.drive.motors
    speed = sim._physics_state[0, sim._qvel][0]
    motor_torque = own.stall_torque - own.back_emf_damping * speed
    assert 0.8 * own.no_load_speed < speed < 0.99 * own.no_load_speed
    # Nothing is left for the link: the motor's torque is all friction.
    braked = own.friction_viscous * speed + read_friction(sim)[0]
    assert motor_torque == pytest.approx(braked, rel=1e-3)


@pytest.mark.parametrize("motor", [STS3215, MX106], ids=["sts3215", "mx106"])
def test_a_blocked_motor_has_its_stall_torque(tmp_path, exact, motor):
    body = SPINDLE.replace('axis="0 0 1"', 'axis="0 0 1" limited="true" range="-0.2 0.2"')
    joint = {"name": "swing", "position": [-0.2, 0.2], "velocity": 5.0, "effort": 3.0}
    spec = make_hinge(tmp_path, body, SERVO, joints=[joint])
    sim = run(spec, exact("sts3215", motor), 2.0, 100)
    (own,) = sim.plant.parts.drive.motors
    stall = own.torque_constant * own.supply * own.max_duty / own.resistance
    assert read_torques(sim)[0, 0] == pytest.approx(stall, rel=1e-6)


def test_a_motor_is_scaled_to_the_joint_where_it_does_not_suit_it():
    same = STS3215.fit(3.0, 5.0)
    assert same == STS3215
    for torque, speed in ((8.0, 4.0), (120.0, 40.0), (0.05, 20.0), (3.0, 30.0)):
        own = STS3215.fit(torque, speed)
        assert 1 / 1.5 <= own.stall_torque / torque <= 1.5 and 1 / 1.5 <= own.no_load_speed / speed <= 1.5
        # Friction keeps its share of the torque, and the error of full duty its share of a turn of the motors.
        assert own.friction_base / own.stall_torque == pytest.approx(
            STS3215.friction_base / STS3215.stall_torque
        )
        assert own.load_friction_external == STS3215.load_friction_external
        gear = STS3215.no_load_speed / own.no_load_speed
        assert own.stall_torque / own.stiffness == pytest.approx(
            STS3215.stall_torque / STS3215.stiffness / gear
        )
        assert own.back_emf_damping * own.no_load_speed == pytest.approx(own.stall_torque)


def test_several_motors_on_a_gear_have_the_friction_of_each():
    motors, gear, torque, load, speed = 3.0, 2.5, 4.0, -1.5, 0.3
    whole, one = list_numbers(MX106.scale(motors, gear)), list_numbers(MX106)
    found = compute_gear_friction(whole, *(np.array([[x]]) for x in (speed, torque, load)))
    share = motors * gear
    each = compute_gear_friction(
        one, *(np.array([[x]]) for x in (speed * gear, torque / share, load / share))
    )
    np.testing.assert_allclose(found, share * each, rtol=1e-12)


def list_numbers(motor: ServoMotor) -> dict[str, np.ndarray]:
    return {field.name: np.array([getattr(motor, field.name)]) for field in fields(ServoMotor)}


def compute_published_friction(motor: ServoMotor, speed: float, torque: float, load: float) -> float:
    """Model m6 of BAM for one joint, as its authors write it, sums in place of branches."""
    slow = np.exp(-((abs(speed) / motor.stribeck_speed) ** motor.stribeck_exponent))
    total = motor.friction_base + slow * motor.friction_stribeck
    total += abs(load * motor.load_friction_external - torque * motor.load_friction_motor)
    total += slow * abs(
        load * motor.load_friction_external_stribeck - torque * motor.load_friction_motor_stribeck
    )
    if load * torque < 0:
        quad = (
            motor.load_friction_external_quad * load**2
            if abs(load) < abs(torque)
            else motor.load_friction_motor_quad * torque**2
        )
        total += slow * quad
    return float(total)


@pytest.mark.parametrize("motor", [STS3215, MX106], ids=["sts3215", "mx106"])
def test_gear_friction_is_that_of_the_published_model(motor):
    rng = np.random.default_rng(0)
    speed, torque, load = rng.normal(size=(3, 40, 1)) * np.array([0.5, 2.0, 2.0])[:, None, None]
    found = compute_gear_friction(list_numbers(motor), speed, torque, load)[:, 0]
    wanted = [
        compute_published_friction(motor, *row)
        for row in zip(speed[:, 0], torque[:, 0], load[:, 0], strict=True)
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_friction_grows_with_the_weight_that_a_joint_holds(tmp_path, exact):
    standin, frictions = exact("sts3215", STS3215), []
    for mass in (0.05, 0.2, 0.4):
        (folder := tmp_path / f"{mass}").mkdir()
        sim = run(make_lever(folder, mass), standin, 0.0, 200)
        torque, passed = read_torques(sim)[:, 0]
        # At rest the joint passes on the weight; the motor holds a part of it, and friction the rest.
        angle = sim.true_joint_positions()[0, 0]
        assert passed == pytest.approx(-mass * 9.81 * 0.2 * np.cos(angle), rel=1e-3)
        friction = read_friction(sim)[0]
        assert friction == pytest.approx(compute_published_friction(STS3215, 0.0, torque, -passed), rel=1e-3)
        assert abs(torque - passed) <= friction * 1.001
        frictions.append(friction)
    assert np.diff(frictions).min() > 0.02


def test_a_world_scales_the_friction_under_load_too():
    found = []
    for factor in (1.0, 4.0):
        (sim,) = make_sim("arm", StandIn(name="mx106"), friction=np.full(6, factor))
        sim.rollout(np.tile(sim.spec.home_action, (1, 60, 1)))
        at_rest = factor * sim.plant.model.dof_frictionloss[sim.plant.dof_ids]
        found.append((read_friction(sim) - at_rest) / factor)
    assert found[0][1] > 0.05
    assert found[1][1] > 0.05


def test_servos_have_back_emf_as_damping_and_stall_torque_as_force_limit():
    plant = build_plant(load_spec("so101"), StandIn(name="sts3215", seed=2))
    motors, model = plant.parts.drive.motors, plant.model
    damping = [m.torque_constant**2 / m.resistance + m.friction_viscous for m in motors]
    np.testing.assert_allclose(model.dof_damping[plant.dof_ids], damping, rtol=1e-12)
    np.testing.assert_allclose(
        model.actuator_forcerange[plant.actuator_ids, 1], [m.stall_torque for m in motors], rtol=1e-12
    )
    # A motor of 2.4 N m is a STS3215 as it is.
    assert {m.resistance for m in motors} == {STS3215.resistance}
    constants = np.array([m.torque_constant for m in motors]) / STS3215.torque_constant
    assert (np.abs(constants - 1) <= 0.1).all() and np.ptp(constants) > 0.01


@pytest.mark.parametrize("robot", ["arm", "so101"])
def test_a_spring_deflects_by_its_torque_over_its_stiffness(robot):
    (sim,) = make_sim(robot, StandIn(name="flexible", seed=3))
    plant = sim.plant
    sim.rollout(np.tile(sim.spec.home_action, (1, 300, 1)))
    model, data = sim._models[0], mujoco.MjData(sim._models[0])
    mujoco.mj_setState(model, data, sim._physics_state[0], int(mujoco.mjtState.mjSTATE_FULLPHYSICS))
    mujoco.mj_forward(model, data)
    transmission = plant.parts.transmission
    dofs = [int(model.joint(f"wm_robot/standin/{name}/spring").dofadr[0]) for name in transmission.joints]
    deflection = sim._physics_state[0, 1 + plant.spring_ids]
    np.testing.assert_allclose(deflection, -data.qfrc_bias[dofs] / transmission.stiffness, atol=2e-6)
    assert np.abs(deflection).max() > 2e-3
    assert np.allclose(sim.true_link_positions() - sim.true_joint_positions(), deflection)
    # One to three degrees at the largest torque.
    largest = find_largest_torques(build_plant(sim.spec)) / transmission.stiffness
    assert (np.rad2deg(largest) >= 1).all() and (np.rad2deg(largest) <= 3).all()


def test_an_encoder_of_a_flexible_arm_sits_on_the_motor():
    (sim,) = make_sim("arm", StandIn(name="flexible", seed=3))
    obs, _ = sim.rollout(np.tile(sim.spec.home_action, (1, 100, 1)))
    step = sim.plant.parts.encoder.position_step
    assert (np.abs(obs[0, -1, :6] - sim.true_joint_positions()[0]) <= step / 2 + 1e-6).all()


@pytest.mark.parametrize("robot", ["arm", "so101", "cartpole", "cheetah"])
@pytest.mark.parametrize("name", STANDINS)
def test_readings_and_commands_are_multiples_of_the_encoders_steps(robot, name):
    (sim,) = make_sim(robot, StandIn(name=name, seed=1), position_noise=0.001, velocity_noise=0.01)
    spec, encoder = sim.spec, sim.plant.parts.encoder
    obs, _ = sim.rollout(swing(spec, 20, 0.3))
    steps = np.concatenate([encoder.position_step, encoder.velocity_step])
    counts = obs[0].astype(float) / steps
    # A hinge that wraps by whole turns stays on its steps; float32 rounds.
    np.testing.assert_allclose(counts, np.round(counts), atol=2e-3)
    commands = sim._path.compute_present_command(0) / encoder.command_step
    np.testing.assert_allclose(commands, np.round(commands), atol=1e-9)
    turn = 2 * np.pi / encoder.position_step[[joint.kind == "hinge" for joint in spec.joints]]
    low, high = STANDINS[name].counts
    assert ((turn > low - 0.5) & (turn < high + 0.5)).all()


def test_a_tool_adds_its_weight_where_it_is():
    spec = load_spec("arm")
    nominal, plant = build_plant(spec), build_plant(spec, StandIn(name="unmodelled-tool", seed=4))
    tool, torques = plant.parts.tool, []
    assert tool.body == "hand"
    share = tool.mass / nominal.effect_scale.moving_mass
    assert 0.1 <= share <= 0.2
    assert plant.model.body_mass.sum() - nominal.model.body_mass.sum() == pytest.approx(tool.mass)
    for each in (nominal, plant):
        data = mujoco.MjData(each.model)
        data.qpos[each.qpos_ids] = spec.home_position
        mujoco.mj_forward(each.model, data)
        torques.append(data.qfrc_bias[each.dof_ids])
    body = plant.model.body("wm_robot/standin/tool").id
    jacobian = np.zeros((3, plant.model.nv))
    mujoco.mj_jacBodyCom(plant.model, data, jacobian, None, body)
    weight = 9.81 * tool.mass * jacobian[2, plant.dof_ids]
    np.testing.assert_allclose(torques[1] - torques[0], weight, atol=1e-9)
    assert np.abs(weight).max() > 0.05
    # A slim body: it is harder to turn across its length than about it.
    assert tool.inertia[0] > 3 * tool.inertia[2] > 0


def test_a_tool_of_a_gripper_is_on_the_hand_and_not_on_its_jaw():
    assert build_plant(load_spec("so101"), StandIn(name="unmodelled-tool")).parts.tool.body == "gripper"


def make_motion(position: np.ndarray) -> StandInMotion:
    still = np.zeros_like(position)
    return StandInMotion(position, still, still, still)


def test_a_cable_bends_back_and_rubs_more_the_more_it_is_bent():
    loom = build_plant(load_spec("arm"), StandIn(name="cable-drag", seed=2)).parts.loom
    at_rest = make_motion(loom.rest[None].copy())
    np.testing.assert_array_equal(loom.compute_force(at_rest), 0.0)
    np.testing.assert_allclose(loom.compute_friction(at_rest)[0], loom.drag)
    bent = make_motion((loom.rest + loom.half_range)[None])
    np.testing.assert_allclose(loom.compute_force(bent)[0], -loom.bending)
    # The bend of one joint presses the cables in the clips of all joints behind it, and of none before it.
    one = loom.rest.copy()
    one[2] += 1.0
    grown = loom.compute_friction(make_motion(one[None]))[0] / loom.drag
    np.testing.assert_allclose(grown, [1, 1, *[np.exp(loom.clip_friction)] * 4])
    limit = loom.compute_friction(make_motion(loom.rest[None] + 100.0))[0]
    np.testing.assert_allclose(limit, loom.largest_drag)


def test_cable_drag_is_friction_of_the_model():
    (sim,) = make_sim("arm", StandIn(name="cable-drag", seed=2))
    sim.rollout(swing(sim.spec, 20, 0.4))
    before = sim._physics_state.copy()
    sim.step(sim.last_action)
    loom, own = sim.plant.parts.loom, sim.plant.model.dof_frictionloss[sim.plant.dof_ids]
    near = loom.compute_friction(make_motion(before[:, sim._qpos]))[0]
    np.testing.assert_allclose(read_friction(sim) - own, near, rtol=0.05)


def test_torque_ripple_repeats_with_the_angle():
    ripple = build_plant(load_spec("arm"), StandIn(name="coarse", seed=2)).parts.ripple
    angles = np.linspace(-1, 1, 2001)[:, None].repeat(6, 1)
    force = ripple.compute_force(make_motion(angles))
    np.testing.assert_allclose(np.abs(force).max(0), ripple.amplitude, rtol=1e-2)
    turned = ripple.compute_force(make_motion(angles + 2 * np.pi))
    np.testing.assert_allclose(turned, force, atol=1e-9)
    share = ripple.amplitude / find_largest_torques(build_plant(load_spec("arm")))
    assert ((share >= 0.03) & (share <= 0.06)).all()


def test_largest_torques_are_those_of_the_model():
    arm, cheetah = (find_largest_torques(build_plant(load_spec(name))) for name in ("arm", "cheetah"))
    np.testing.assert_array_equal(arm, [8.0, 8.0, 8.0, 2.5, 2.5, 2.5])
    np.testing.assert_array_equal(cheetah, [0, 0, 0, 120, 90, 60, 90, 60, 30])


@pytest.mark.parametrize(
    ("motor", "options", "words"),
    [
        ('<position name="swing" joint="swing" kp="20" timeconst="0.1"/>', "", "a force at once"),
        (
            '<general name="swing" joint="swing" gaintype="affine" gainprm="20 1" biastype="affine" '
            'biasprm="0 -20"/>',
            "",
            "a fixed gain of actuator 'swing'",
        ),
        (SERVO, '<option><flag frictionloss="disable"/></option>', "frictionloss of joints"),
    ],
)
def test_motors_that_cannot_be_replaced_are_named(tmp_path, motor, options, words):
    spec = make_hinge(tmp_path, LEVER.format(mass=0.2), motor, options=options)
    with pytest.raises(SpecError, match=words):
        build_plant(spec, StandIn(name="mx106"))


@pytest.mark.parametrize("seed", [-1, 1.5, True, 2**63])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(SpecError, match=r"standin.seed"):
        StandIn(name="coarse", seed=seed)


def test_an_unknown_standin_is_refused():
    with pytest.raises(SpecError, match="there is no stand-in 'real'; there are sts3215"):
        StandIn(name="real")
