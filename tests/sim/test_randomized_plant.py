"""Each quantity of `randomize:` is found in MuJoCo's model, in the commands or in the readings."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest

from tests.sim.small_robots import make_leg
from wm_robot.errors import SpecError
from wm_robot.robots import load_spec
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.model_compiler import compile_model
from wm_robot_sim.rollouts import collect_trajectories
from wm_robot_sim.worlds import DomainRandomization

pytestmark = pytest.mark.sim

FULL = {"joint": 'frictionloss="0.1" armature="0.01" stiffness="1"', "actuator": 'forcerange="-20 20"'}
TWICE = {"factor": [0.5, 2.0]}
MODEL_ARRAYS = [
    name
    for name in dir(mujoco.MjModel)
    if name.split("_")[0] in ("body", "jnt", "dof", "actuator", "geom", "tendon", "eq")
    and not callable(getattr(mujoco.MjModel, name))
]


def read_arrays(model: mujoco.MjModel) -> dict[str, np.ndarray]:
    arrays = {name: np.array(getattr(model, name)) for name in MODEL_ARRAYS}
    return {**arrays, "gravity": model.opt.gravity.copy(), "density": np.array(model.opt.density)}


def make_sim(spec, **values):
    """One robot, nominal but for some parameters."""
    nominal = DomainRandomization(spec).make_nominal_world()
    named = {name.replace("__", "/"): value for name, value in values.items()}
    assert set(named) <= set(nominal.parameters)
    return BatchSim(spec, [replace(nominal, parameters={**nominal.parameters, **named})], seed=0)


def changed_arrays(spec, **values) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Arrays of the model that differ from MuJoCo's own, without those that MuJoCo computes from them."""
    sim = make_sim(spec, **values)
    untouched = compile_model(spec)
    mujoco.mj_setConst(untouched, mujoco.MjData(untouched))
    before, after = read_arrays(untouched), read_arrays(sim._models[0])
    derived = (
        "body_subtreemass",
        "body_invweight0",
        "dof_invweight0",
        "dof_M0",
        "actuator_acc0",
        "dof_length",
    )
    return {
        name: (before[name], after[name])
        for name in before
        if name not in derived and not np.array_equal(before[name], after[name])
    }


EVERYTHING = {
    "body/*/mass": TWICE,
    "joint/*/damping": TWICE,
    "joint/*/armature": TWICE,
    "joint/*/frictionloss": TWICE,
    "joint/*/stiffness": TWICE,
    "joint/*/range": {"shift": [0.0, 0.01]},
    "actuator/*/gain": TWICE,
    "actuator/*/force_limit": TWICE,
    "actuator/*/delay": {"seconds": [0.0, 0.04]},
    "actuator/*/scale": TWICE,
    "actuator/*/offset": {"shift": [-0.1, 0.1]},
    "option/gravity": TWICE,
    "payload/*/mass": {"kg": [0.0, 1.0]},
    "sensor/*/position_bias": {"shift": [0.0, 0.1]},
    "sensor/delay": {"seconds": [0.0, 0.01]},
}


def test_the_nominal_world_is_the_untouched_model_to_the_bit(tmp_path):
    leg = make_leg(tmp_path, **FULL, randomize=EVERYTHING)
    assert not changed_arrays(leg)
    plain = make_leg(tmp_path, **FULL)
    one, two = (BatchSim(s, [DomainRandomization(s).make_nominal_world()], seed=3) for s in (leg, plain))
    plan = np.repeat(two.last_action[:, None], 40, 1) + np.linspace(0, 0.3, 40)[None, :, None].astype(
        np.float32
    )
    for first, second in zip(one.rollout(plan), two.rollout(plan), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("robot", ["arm", "cartpole", "reacher"])
def test_a_shipped_robot_with_named_quantities_begins_as_it_is(robot):
    spec = load_spec(robot)
    named = replace(spec, world={}, randomize={"body/*/mass": TWICE, "joint/*/damping": TWICE})
    plain = replace(spec, world={})
    one, two = (BatchSim(s, [DomainRandomization(s).make_nominal_world()], seed=3) for s in (named, plain))
    plan = np.repeat(two.last_action[:, None], 20, 1)
    np.testing.assert_array_equal(one.rollout(plan)[0], two.rollout(plan)[0])


def check_one_row(found, name, row, factor):
    before, after = found.pop(name)
    assert not found, list(found)
    expected = before.copy()
    expected[row] *= factor
    np.testing.assert_array_equal(after, expected)
    assert not np.array_equal(before, after)


@pytest.mark.parametrize(
    ("key", "array", "row"),
    [
        ("joint/knee/damping", "dof_damping", 1),
        ("joint/toe/armature", "dof_armature", 2),
        ("joint/hip/frictionloss", "dof_frictionloss", 0),
        ("joint/knee/stiffness", "jnt_stiffness", 1),
        ("actuator/toe/force_limit", "actuator_forcerange", 2),
    ],
)
def test_a_factor_scales_one_element_and_nothing_else(tmp_path, key, array, row):
    leg = make_leg(tmp_path, **FULL, randomize={key: TWICE})
    check_one_row(changed_arrays(leg, **{key: 1.5}), array, row, 1.5)


def test_a_mass_comes_with_its_inertia(tmp_path):
    leg = make_leg(tmp_path, **FULL, randomize={"body/shin/mass": TWICE})
    found = changed_arrays(leg, body__shin__mass=1.25)
    before, after = found.pop("body_mass")
    assert after[2] == 0.2 * 1.25 and after.sum() == pytest.approx(before.sum() + 0.05)
    check_one_row(found, "body_inertia", 2, 1.25)


def test_a_payload_is_a_ball_at_the_center_of_its_body(tmp_path):
    leg = make_leg(tmp_path, **FULL, randomize={"payload/thigh/mass": {"kg": [0.0, 1.0]}})
    found = changed_arrays(leg, payload__thigh__mass=0.4)
    assert found["body_mass"][1][1] == pytest.approx(0.9)
    difference = found["body_inertia"][1] - found["body_inertia"][0]
    np.testing.assert_allclose(difference[1], 0.4 * 0.4 * 0.02**2, rtol=1e-9)
    assert set(found) == {"body_mass", "body_inertia"}


def test_a_gain_scales_a_servo_with_its_damping(tmp_path):
    leg = make_leg(tmp_path, **FULL, randomize={"actuator/knee/gain": TWICE})
    found = changed_arrays(leg, actuator__knee__gain=1.5)
    assert set(found) == {"actuator_gainprm", "actuator_biasprm"}
    assert found["actuator_gainprm"][1][1, 0] == 60
    np.testing.assert_array_equal(found["actuator_biasprm"][1][1, :3], [0, -60, -3])


def test_the_range_of_a_joint_is_shifted_or_shrunk(tmp_path):
    ranges = {"joint/hip/range": {"shift": [-0.2, 0.2]}, "joint/knee/range": {"shrink": [0.0, 0.3]}}
    leg = make_leg(tmp_path, **FULL, randomize=ranges)
    found = changed_arrays(leg, joint__hip__range__shift=0.2, joint__knee__range__shrink=0.3)
    np.testing.assert_allclose(found.pop("jnt_range")[1], [[-0.8, 1.2], [-2.4, -1.15], [0, 0.1]])
    assert not found
    with pytest.raises(
        SpecError, match=r"range/shrink of joint 'knee' is 1, and its range is \[-1.7, -1.85\]"
    ):
        make_sim(leg, joint__knee__range__shrink=1.0)


def test_a_robot_starts_within_the_range_that_its_world_has(tmp_path):
    leg = make_leg(tmp_path, **FULL, randomize={"joint/knee/range": {"shrink": [0.0, 0.9]}})
    sim = make_sim(leg, joint__knee__range__shrink=0.9)
    assert sim.true_joint_positions()[0, 1] == pytest.approx(-1.775, abs=0.026)


@pytest.mark.parametrize(
    ("randomize", "values", "expected"),
    [
        (TWICE, {"option/gravity/factor": 1.5}, [0, 0, -9.81 * 1.5]),
        (
            {"shift": [[-1, 1], [-1, 1], [-1, 1]]},
            {"option/gravity/x": 0.5, "option/gravity/z": -0.25},
            [0.5, 0, -10.06],
        ),
    ],
)
def test_gravity_is_scaled_or_shifted(tmp_path, randomize, values, expected):
    leg = make_leg(tmp_path, **FULL, randomize={"option/gravity": randomize})
    found = changed_arrays(leg, **values)
    np.testing.assert_allclose(found.pop("gravity")[1], expected)
    assert not found


MEDIUM = """
<mujoco><compiler angle="radian"/><option density="1.2"/>
  <worldbody><geom name="floor" type="plane" size="1 1 0.1"/>
    <body name="link" pos="0 0 0.3"><joint name="swing" axis="0 1 0" range="-2 2" damping="0.1"/>
      <geom name="rod" type="capsule" size="0.02" fromto="0 0 0 0.2 0 0" mass="0.3" friction="0.8 0.01 0.001"/>
      <geom name="ghost" size="0.01" mass="0.1" contype="0" conaffinity="0" group="0"/>
    </body>
    <body name="ball" pos="1 0 1"><joint name="spin" type="ball" damping="0.2"/>
      <geom size="0.05" mass="0.2"/></body>
  </worldbody>
  <actuator><position name="swing" joint="swing" kp="20" ctrlrange="-2 2"/>
    <position name="held" joint="swing" kp="5" ctrlrange="-2 2" forcerange="-3 3"/></actuator>
</mujoco>"""


def make_swing(folder, randomize):
    (folder / "swing.xml").write_text(MEDIUM)
    swing = {"name": "swing", "position": [-2.0, 2.0], "velocity": 10.0, "effort": 10.0}
    motor = {"name": "swing", "joint": "swing", "kind": "position", "range": [-2.0, 2.0], "rate": 6.0}
    values = {"name": "swing", "rate": 50, "model": "swing.xml", "joints": [swing], "actuators": [motor]}
    return type(load_spec("arm")).from_dict({**values, "randomize": randomize}, folder=folder)


def test_friction_density_and_a_ball_joint_are_scaled(tmp_path):
    keys = ("geom/rod/friction", "option/density", "joint/spin/damping", "actuator/held/force_limit")
    spec = make_swing(tmp_path, dict.fromkeys(keys, TWICE))
    found = changed_arrays(spec, **dict.fromkeys(keys, 2.0))
    rod = compile_model(spec).geom("rod").id
    np.testing.assert_array_equal(found.pop("geom_friction")[1][rod], [1.6, 0.02, 0.002])
    assert found.pop("density")[1] == 2.4
    np.testing.assert_array_equal(found.pop("dof_damping")[1], [0.1, 0.4, 0.4, 0.4])
    np.testing.assert_array_equal(found.pop("actuator_forcerange")[1][1], [-6, 6])
    assert not found


@pytest.mark.parametrize(
    ("randomize", "is_refused"),
    [
        ({"geom/rod/friction": {"factor": [0.5, 1.2]}}, True),
        ({"geom/rod/friction": {"factor": [0.5, 1.5]}}, False),
        ({"geom/floor/friction": {"factor": [0.2, 1.0]}}, False),
        ({"geom/*/friction": {"factor": [0.5, 1.2]}}, False),
    ],
)
def test_friction_that_no_contact_has_is_refused(tmp_path, randomize, is_refused):
    # Floor and ball have friction 1, the rod 0.8; a contact has the larger one.
    spec = make_swing(tmp_path, randomize)
    if is_refused:
        with pytest.raises(SpecError, match="every geom that 'rod' touches has more friction, or priority"):
            DomainRandomization(spec)
    else:
        assert DomainRandomization(spec).randomized.names


def test_the_friction_of_a_contact_is_that_of_the_world(tmp_path):
    spec = make_swing(tmp_path, {"geom/floor/friction": {"factor": [0.2, 3.0]}})
    for factor, expected in ((1.0, 1.0), (3.0, 3.0), (0.2, 0.8)):
        model = make_sim(spec, geom__floor__friction=factor)._models[0]
        data = mujoco.MjData(model)
        data.qpos[model.joint("swing").qposadr[0]] = 1.5
        model.body("link").pos[2] = 0.1
        mujoco.mj_forward(model, data)
        contacts = [contact for contact in data.contact if model.geom("rod").id in contact.geom]
        assert contacts and contacts[0].friction[0] == pytest.approx(expected)


def test_a_pattern_leaves_out_what_has_no_effect(tmp_path):
    spec = make_swing(tmp_path, {"geom/*/friction": TWICE, "body/*/mass": TWICE, "joint/*/damping": TWICE})
    names = DomainRandomization(spec).parameter_names
    assert {n for n in names if n.count("/") == 2} == {
        "geom/floor/friction", "geom/rod/friction", "body/link/mass", "body/ball/mass", "joint/swing/damping",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("actuator/held/scale", "no actuator of the robot has that name"),
        ("geom/ghost/friction", "no geom of the robot has that name.* Name one of 'floor', 'rod'"),
        ("body/floor/mass", "no body of the robot has that name. Name one of 'link', 'ball'"),
    ],
)
def test_what_nothing_commands_or_touches_is_refused(tmp_path, key, words):
    with pytest.raises(SpecError, match=words):
        DomainRandomization(make_swing(tmp_path, {key: TWICE}))


def test_each_actuator_has_its_own_delay(tmp_path):
    leg = make_leg(tmp_path, **FULL, randomize={"actuator/*/delay": {"seconds": [0.0, 0.04]}})
    sim = make_sim(leg, actuator__knee__delay=0.024, actuator__toe__delay=0.04)
    hold = sim.last_action
    plan = np.stack([hold + np.float32(0.01) * k for k in range(1, 5)], 1)
    control = sim._path.compute_commands(plan)[0]
    # Five physics steps of 4 ms in a control period: delays of 0, 6 and 10 steps.
    expected = [[(hold[0, m] if n < 0 else plan[0, n, m]) for n in ((t - d) // 5 for t in range(20))]
                for m, d in enumerate((0, 6, 10))]  # fmt: skip
    np.testing.assert_array_equal(control, np.array(expected).T)
    same = make_sim(leg, actuator__hip__delay=0.02, actuator__knee__delay=0.02, actuator__toe__delay=0.02)
    np.testing.assert_array_equal(same._path.compute_commands(plan)[0, 5:], plan[0].repeat(5, 0)[:-5])
    with pytest.raises(
        SpecError, match=r"delay is 12 physics steps; randomize 'actuator/\*/delay' allows 10"
    ):
        make_sim(leg, actuator__hip__delay=0.048)


def test_scale_and_offset_change_the_command_that_a_motor_gets(tmp_path):
    changes = {"actuator/knee/scale": TWICE, "actuator/hip/offset": {"shift": [-0.2, 0.2]}}
    leg = make_leg(tmp_path, **FULL, randomize=changes)
    sim = make_sim(leg, actuator__knee__scale=0.5, actuator__hip__offset=0.1)
    command = np.array([[[0.3, -1.0, 0.02]]], np.float32)
    middle = (-2.7 - 0.85) / 2
    expected = [0.3 + 0.1, middle + 0.5 * (-1.0 - middle), 0.02]
    np.testing.assert_allclose(sim._path.compute_commands(command)[0, -1], expected, rtol=1e-6)


def test_a_reading_is_shifted_and_late(tmp_path):
    changes = {"sensor/knee/position_bias": {"shift": [-0.1, 0.1]}, "sensor/delay": {"seconds": [0.0, 0.016]}}
    leg = make_leg(tmp_path, **FULL, randomize=changes)
    clean, late = make_sim(leg), make_sim(leg, sensor__knee__position_bias=0.05, sensor__delay=0.008)
    np.testing.assert_allclose(late.obs[0, :3] - clean.obs[0, :3], [0, 0.05, 0], atol=1e-6)
    plan = clean._limit_action(np.repeat(clean.last_action[:, None], 4, 1) + np.float32(0.05))
    model, data, positions = clean._models[0], mujoco.MjData(clean._models[0]), []
    data.qpos[:] = clean.qpos()[0]
    for control in clean._path.compute_commands(plan)[0]:
        data.ctrl[:] = control
        mujoco.mj_step(model, data)
        positions.append(data.qpos.copy())
    # Periods of five physics steps; a reading is two steps old.
    np.testing.assert_allclose(clean.rollout(plan)[0][0, :, :3], np.array(positions)[4::5], atol=1e-6)
    expected = np.array(positions)[2::5] + [0, 0.05, 0]
    np.testing.assert_allclose(late.rollout(plan)[0][0, :, :3], expected, atol=1e-6)


def test_a_world_leaves_nothing_behind_in_the_model(tmp_path):
    leg = make_leg(tmp_path, **FULL, randomize=EVERYTHING)
    distribution, rng = DomainRandomization(leg), np.random.default_rng(0)
    sim = make_sim(leg)
    before = read_arrays(sim._models[0])
    sim.set_worlds([0], [distribution.sample(rng)])
    assert any(not np.array_equal(a, before[n]) for n, a in read_arrays(sim._models[0]).items())
    sim.set_worlds([0], [distribution.make_nominal_world()])
    for name, array in read_arrays(sim._models[0]).items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


def test_trajectories_have_the_named_parameters_in_their_physics(tmp_path):
    leg = make_leg(tmp_path, **FULL, randomize=EVERYTHING)
    batch = collect_trajectories(leg, num_trajectories=4, num_steps=64, seed=0, change_rate=1 / 16)
    assert batch.physics.shape[-1] == len(DomainRandomization(leg).parameter_names)
    assert np.isfinite(batch.obs).all() and batch.physics[..., -20:].std() > 0.3
