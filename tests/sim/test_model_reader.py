"""A spec that contradicts its model is refused with both values, and kinematics are read off the model."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.sim
mujoco = pytest.importorskip("mujoco")


from wm_robot import robots
from wm_robot.errors import SpecError
from wm_robot.math.kinematics import compute_tip_position
from wm_robot.robots import load_spec
from wm_robot.robots.model_check import attach_model, find_contradictions
from wm_robot.robots.robot_model import RobotModel
from wm_robot.spec import RobotSpec
from wm_robot_sim.model_compiler import compile_model
from wm_robot_sim.model_reader import compute_model_digest, read_model
from wm_robot_sim.plant import Plant, describe_model

MODEL = """
<mujoco model="turned">
  <compiler angle="radian"/>
  <worldbody>
    <body name="column" pos="0.1 0 0.1" quat="0.6 0 0 0.8">
      <joint name="lift" type="slide" axis="0 0 1" range="0 0.4" ref="0.1"/>
      <geom size="0.02" mass="1"/>
      <body name="arm" pos="0.1 0 0.05" quat="0.7071068 0.7071068 0 0">
        <joint name="passive" type="hinge" axis="1 0 0" stiffness="5"/>
        <joint name="bend" type="hinge" axis="0 0 1" pos="0.02 0.01 0" range="-1.5 1.5" ref="0.3"/>
        <geom size="0.02" mass="1"/>
        <body name="hand" pos="0.2 0 0" quat="0.5 0.5 0.5 0.5">
          <joint name="roll" type="hinge" axis="0.6 0 0.8" range="-2 2"/>
          <geom size="0.02" mass="1"/>
          <body name="finger" pos="0 0 0.05">
            <geom size="0.01" mass="0.1"/><site name="tip" pos="0.03 0.02 0.01"/>
          </body>
        </body>
      </body>
    </body>
    <body name="ball"><joint name="ball" type="ball"/><geom size="0.1"/></body>
    <body name="float" pos="1 0 0"><freejoint name="float"/><geom size="0.1"/></body>
  </worldbody>
  <tendon><fixed name="both"><joint joint="bend" coef="1"/><joint joint="roll" coef="-1"/></fixed></tendon>
  <actuator>
    <position name="lift" joint="lift" kp="40" ctrlrange="0 0.3"/>
    <motor name="bend" joint="bend" ctrlrange="-1 1"/>
    <velocity name="roll" joint="roll" kv="3"/>
    <position name="geared" joint="roll" kp="10" gear="2"/>
    <motor name="pull" tendon="both" ctrlrange="0 1"/>
  </actuator>
</mujoco>
"""
JOINTS = {
    "lift": {"kind": "slide", "position": [0.0, 0.4], "velocity": 1.0, "effort": 50.0},
    "bend": {"position": [-1.5, 1.5], "velocity": 5.0, "effort": 5.0},
    "roll": {"position": [-2.0, 2.0], "velocity": 5.0, "effort": 5.0},
}
ACTUATORS = {
    "lift": {"joint": "lift", "kind": "position", "range": [0.0, 0.3], "rate": 1.0},
    "bend": {"joint": "bend", "kind": "effort", "range": [-1.0, 1.0], "rate": 50.0},
}


@pytest.fixture(scope="module")
def compiled():
    return mujoco.MjModel.from_xml_string(MODEL)


@pytest.fixture(scope="module")
def model(compiled):
    return read_model(compiled)


def spec_of(joints=(), actuators=(), **more):
    """A spec that agrees with the model, but for the given changes by name."""
    changed = {name: JOINTS[name] | dict(joints).get(name, {}) for name in JOINTS}
    changed |= {name: values for name, values in dict(joints).items() if name not in JOINTS}
    motors = {name: ACTUATORS[name] | dict(actuators).get(name, {}) for name in ACTUATORS}
    motors |= {name: values for name, values in dict(actuators).items() if name not in ACTUATORS}
    return RobotSpec.from_dict(
        {
            "name": "turned",
            "rate": 50,
            "model": "turned.xml",
            "joints": [{"name": name, **values} for name, values in changed.items()],
            "actuators": [{"name": name, **values} for name, values in motors.items()],
            **more,
        }
    )


def chain_of(model, **change):
    """The chain that the model has, as a spec says it, with a change of its last link or its tip."""
    chain = model.read_chain(list(JOINTS), *model.find_point("tip"))
    links = [
        {name: getattr(link, name) for name in ("joint", "origin", "axis", "rotation", "kind", "zero")}
        for link in chain.links
    ]
    links[-1] |= {name: value for name, value in change.items() if name != "tip"}
    return {"chain": links, "tip": change.get("tip", chain.tip)}


def test_a_spec_that_agrees_is_accepted(model):
    assert find_contradictions(spec_of(**chain_of(model)), model) == []


ANY = {"position": [-1.0, 1.0], "velocity": 1.0, "effort": 1.0}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"actuators": {"bend": {"joint": "roll"}}}, "moves 'roll' in the spec, ['bend'] in the model"),
        ({"actuators": {"lift": {"range": [0, 0.4]}}}, "'lift' has the range [0, 0.4] in the spec, [0, 0.3]"),
        ({"actuators": {"bend": {"kind": "position"}}}, "kind 'position' in the spec, 'effort' in the model"),
        ({"actuators": {"lift": {"kind": "effort"}}}, "kind 'effort' in the spec, 'position' in the model"),
        ({"actuators": {"geared": {"joint": "roll", "kind": "position", "range": [-1, 1], "rate": 1}}}, "has gear 2"),
        ({"actuators": {"mute": {"joint": "roll", "kind": "effort", "range": [-1, 1], "rate": 1}}}, "'mute' is not"),
        ({"joints": {"bend": {"position": [-2.0, 1.5]}}}, "[-2.0, 1.5] in the spec, [-1.5, 1.5] in the model"),
        ({"joints": {"ball": ANY}}, "'ball' is a hinge in the spec, a ball in the model"),
        ({"joints": {"float": ANY}}, "'float' is a hinge in the spec, a free in the model"),
        ({"joints": {"elbow": ANY}}, "joint 'elbow' is not in the model, which has ['lift', 'passive', 'bend'"),
    ],
)  # fmt: skip
def test_a_contradiction_is_told_with_both_values(model, change, said):
    (found,) = find_contradictions(spec_of(**change), model)
    assert said in found


@pytest.mark.parametrize(
    "change",
    [{"rotation": (1.0, 0.0, 0.0, 0.0)}, {"zero": 0.1}, {"axis": (0.0, 0.0, 1.0)}],
)
def test_a_chain_that_puts_the_tip_elsewhere_is_told(model, change):
    (found,) = find_contradictions(spec_of(**chain_of(model, **change)), model)
    assert "the tip of the chain is at [" in found and "m apart (with lift" in found


def test_a_spec_may_allow_less(model):
    less = spec_of({"bend": {"position": [-0.5, 0.5]}}, {"lift": {"range": [0.1, 0.2]}})
    assert find_contradictions(less, model) == []


def test_the_simulator_refuses_what_contradicts(compiled):
    with pytest.raises(
        SpecError, match="'turned' contradicts its model turned.xml: actuator 'bend' moves 'roll'"
    ):
        Plant(spec_of(actuators={"bend": {"joint": "roll"}}), compiled)


def test_a_named_tip_is_read_off_the_model(model):
    spec = attach_model(spec_of(tip="tip"), model)
    assert [link.joint for link in spec.chain] == [
        "lift",
        "bend",
        "roll",
    ] and spec.model_digest == model.digest
    assert find_contradictions(spec, model) == []
    moved = attach_model(spec_of(tip="hand"), model)
    assert moved.chain == spec.chain and moved.tip != spec.tip
    with pytest.raises(SpecError, match="no site and no body 'gripper'; it has \\['tip', 'column'"):
        attach_model(spec_of(tip="gripper"), model)


def test_kinds_and_joints_of_actuators_are_read(model):
    assert [a.kind for a in model.actuators] == ["position", "effort", "velocity", "position", "effort"]
    assert model.actuators[-1].joints == ("bend", "roll")
    kinds = {joint.name: joint.kind for joint in model.joints}
    assert [kinds[n] for n in ("lift", "passive", "ball", "float")] == ["slide", "hinge", "ball", "free"]


def test_a_model_that_was_stored_is_the_same(model):
    assert RobotModel.parse(model.encode(), Path("turned.model.json")) == model


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('model="turned"', 'model="other"'),
        ("<worldbody>", "<!-- a comment --><worldbody>"),
        ('<geom size="0.02" mass="1"/>', '<geom size="0.02" mass="1" rgba="1 0 0 1"/>'),
        ('kp="40"', 'kp="40.0000000001"'),
    ],
)
def test_the_digest_is_of_what_decides_how_a_model_moves(compiled, old, new):
    assert old in MODEL
    changed = mujoco.MjModel.from_xml_string(MODEL.replace(old, new))
    assert compute_model_digest(changed) == compute_model_digest(compiled)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('mass="1"', 'mass="1.001"'),
        ('kp="40"', 'kp="41"'),
        ('ref="0.3"', 'ref="0.31"'),
        ('quat="0.6 0 0 0.8"', 'quat="0.6 0 0.8 0"'),
        ('stiffness="5"', 'stiffness="6"'),
        ('ctrlrange="0 0.3"', 'ctrlrange="0 0.4"'),
        ('range="-2 2"', 'range="-2 1"'),
        ('gear="2"', 'gear="3"'),
        ('coef="-1"', 'coef="1"'),
        ("<worldbody>", '<option timestep="0.001"/><worldbody>'),
        ("<worldbody>", '<option gravity="0 0 -9"/><worldbody>'),
        ('<geom size="0.1"/>', '<geom size="0.1" friction="0.5"/>'),
    ],
)
def test_what_decides_how_a_model_moves_changes_its_digest(compiled, old, new):
    assert old in MODEL
    changed = mujoco.MjModel.from_xml_string(MODEL.replace(old, new))
    assert compute_model_digest(changed) != compute_model_digest(compiled)


def suite(name, body):
    found = find_spec("dm_control")
    if found is None:
        pytest.skip("dm_control is not installed")
    path = Path(next(iter(found.submodule_search_locations)), "suite", f"{name}.xml")
    return mujoco.MjModel.from_xml_path(str(path))


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("own", "finger"),
        ("reacher", "finger"),
        ("finger", "distal"),
        ("acrobot", "lower_arm"),
        ("manipulator", "hand"),
        ("walker", "right_foot"),
        ("swimmer", "head"),
        ("fish", "tail2"),
        ("cheetah", "bfoot"),
        ("hopper", "foot"),
    ],
)
def test_the_chain_that_was_read_is_where_the_model_is(compiled, name, body):
    tried, point = compiled if name == "own" else suite(name, body), (0.03, -0.02, 0.01)
    read, data = read_model(tried), mujoco.MjData(tried)
    names = [j.name for j in read.joints if j.kind in ("hinge", "slide") and j.name != "passive"]
    chain = read.read_chain(names, body, point)
    places = [tried.jnt_qposadr[tried.joint(link.joint).id] for link in chain.links]
    poses = np.random.default_rng(0).uniform(-2, 2, (1000, len(places)))
    found, number = compute_tip_position(poses, chain.links, chain.tip), tried.body(body).id
    for pose, tip in zip(poses, found, strict=True):
        data.qpos[:] = tried.qpos0
        data.qpos[places] = pose
        mujoco.mj_kinematics(tried, data)
        true = data.xpos[number] + data.xmat[number].reshape(3, 3) @ point
        np.testing.assert_allclose(tip, true, atol=1e-9)
    assert places


def test_the_chain_of_the_arm_is_that_of_its_model():
    spec = load_spec("arm")
    model = read_model(compile_model(spec))
    chain = model.read_chain(spec.joint_names, *model.find_point("gripper"))
    poses = np.random.default_rng(0).uniform(-2, 2, (1000, 6))
    said, true = (compute_tip_position(poses, *each) for each in ((spec.chain, spec.tip), chain))
    assert np.abs(said - true).max() < 1e-6


@pytest.fixture
def folder(tmp_path):
    """A robot whose model includes a file and has a mesh, as `wm-robot check` leaves it."""
    corners = "v 0 0 0\nv 0.1 0 0\nv 0 0.1 0\nv 0 0 0.1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
    (tmp_path / "meshes").mkdir()
    (tmp_path / "meshes/part.obj").write_text(corners)
    (tmp_path / "hand.xml").write_text(
        "<mujoco><body name='added'><geom type='mesh' mesh='part'/></body></mujoco>"
    )
    text = MODEL.replace("<worldbody>", "<asset><mesh name='part' file='part.obj'/></asset><worldbody>")
    text = text.replace('<compiler angle="radian"/>', '<compiler angle="radian" meshdir="meshes"/>')
    text = text.replace('<body name="ball">', '<include file="hand.xml"/><body name="ball">')
    (tmp_path / "turned.xml").write_text(text)
    values = spec_of(tip="tip").to_dict()
    (tmp_path / "turned.yaml").write_text(json.dumps(values))
    described = describe_model(RobotSpec.load(tmp_path / "turned.yaml"))
    (tmp_path / "turned.model.json").write_bytes(described.encode())
    return tmp_path


def test_the_files_of_a_model_are_those_that_it_includes_and_its_meshes(folder):
    stored = RobotModel.parse((folder / "turned.model.json").read_bytes(), folder)
    assert list(stored.sources) == ["hand.xml", "meshes/part.obj", "turned.xml"]
    assert load_spec(folder / "turned.yaml").model_digest == stored.digest


def test_a_comment_in_a_file_of_the_model_changes_nothing(folder):
    before = load_spec(folder / "turned.yaml")
    (folder / "turned.xml").write_text((folder / "turned.xml").read_text() + "<!-- new -->")
    (folder / "meshes/part.obj").write_text("# new\n" + (folder / "meshes/part.obj").read_text())
    assert load_spec(folder / "turned.yaml") == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("turned.xml", 'mass="0.1"', 'mass="0.2"'),
        ("hand.xml", "mesh='part'", "mesh='part' density='500'"),
        ("meshes/part.obj", "v 0.1 0 0", "v 0.2 0 0"),
    ],
)
def test_a_model_that_behaves_otherwise_than_the_stored_one_is_refused(folder, file, old, new):
    assert old in (folder / file).read_text()
    (folder / file).write_text((folder / file).read_text().replace(old, new))
    with pytest.raises(
        SpecError, match=f"{file} of robot 'turned' changed since .* it behaves otherwise. Run"
    ):
        load_spec(folder / "turned.yaml")


def test_without_a_reader_a_changed_file_is_refused(folder, monkeypatch):
    monkeypatch.setattr(robots, "entry_points", lambda group: [])
    assert load_spec(folder / "turned.yaml").chain
    (folder / "turned.xml").write_text((folder / "turned.xml").read_text() + "<!-- new -->")
    with pytest.raises(SpecError, match="no MuJoCo is installed here .* Run where MuJoCo is installed"):
        load_spec(folder / "turned.yaml")


def test_a_named_tip_needs_the_stored_model(folder):
    (folder / "turned.model.json").unlink()
    with pytest.raises(SpecError, match="there is no turned.model.json beside it. Run: wm-robot check"):
        load_spec(folder / "turned.yaml")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"kind": "robot-model", "format": 7}'])
def test_a_damaged_stored_model_says_how_to_write_it_again(folder, content):
    (folder / "turned.model.json").write_text(content)
    with pytest.raises(SpecError, match="turned.model.json is .* Write it again: wm-robot check turned.yaml"):
        load_spec(folder / "turned.yaml")
