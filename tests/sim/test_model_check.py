"""A spec that contradicts its model is refused with both values, and kinematics are read off the model."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.sim
mujoco = pytest.importorskip("mujoco")

from wm_robot.errors import SpecError
from wm_robot.math.kinematics import compute_tip_position
from wm_robot.robots import load_spec
from wm_robot.spec import RobotSpec
from wm_robot_sim.model_check import find_contradictions
from wm_robot_sim.model_reader import (
    compute_point,
    read_actuator_kind,
    read_chain,
    read_joint_kind,
    read_moved_joints,
)
from wm_robot_sim.plant import Plant

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
def model():
    return mujoco.MjModel.from_xml_string(MODEL)


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
    site = model.site("tip")
    chain = read_chain(model, list(JOINTS), int(model.site_bodyid[site.id]), model.site_pos[site.id])
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
        ({"actuators": {"bend": {"kind": "position"}}}, "'bend' has kind 'position' in the spec, 'effort' in the model"),
        ({"actuators": {"lift": {"kind": "effort"}}}, "'lift' has kind 'effort' in the spec, 'position' in the model"),
        ({"actuators": {"geared": {"joint": "roll", "kind": "position", "range": [-1, 1], "rate": 1}}}, "has gear 2"),
        ({"actuators": {"mute": {"joint": "roll", "kind": "effort", "range": [-1, 1], "rate": 1}}}, "'mute' is not in"),
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


def test_the_simulator_refuses_what_contradicts(model):
    with pytest.raises(
        SpecError, match="'turned' contradicts its model turned.xml: actuator 'bend' moves 'roll'"
    ):
        Plant(spec_of(actuators={"bend": {"joint": "roll"}}), model)


def test_kinds_and_joints_of_actuators_are_read(model):
    kinds = [read_actuator_kind(model, number) for number in range(model.nu)]
    assert kinds == ["position", "effort", "velocity", "position", "effort"]
    assert read_moved_joints(model, model.actuator("pull").id) == ("bend", "roll")
    joints = ("lift", "passive", "ball", "float")
    assert [read_joint_kind(model, model.joint(n).id) for n in joints] == ["slide", "hinge", "ball", "free"]


def suite(name, body):
    found = find_spec("dm_control")
    if found is None:
        pytest.skip("dm_control is not installed")
    path = Path(next(iter(found.submodule_search_locations)), "suite", f"{name}.xml")
    loaded = mujoco.MjModel.from_xml_path(str(path))
    return loaded, loaded.body(body).id, np.array([0.01, -0.02, 0.03])


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
def test_the_chain_that_was_read_is_where_the_model_is(model, name, body):
    if name == "own":
        tried, number, point = model, model.body(body).id, np.array([0.03, 0.02, 0.01])
    else:
        tried, number, point = suite(name, body)
    hinges = [j for j in range(tried.njnt) if read_joint_kind(tried, j) in ("hinge", "slide")]
    names = [tried.joint(j).name for j in hinges if tried.joint(j).name != "passive"]
    chain = read_chain(tried, names, number, point)
    ids = np.array([tried.joint(link.joint).id for link in chain.links])
    poses = np.random.default_rng(0).uniform(-2, 2, (1000, len(ids)))
    found = compute_tip_position(poses, chain.links, chain.tip)
    data = mujoco.MjData(tried)
    true = np.array([compute_point(tried, data, ids, pose, number, point) for pose in poses])
    assert len(ids) > 0 and np.abs(found - true).max() < 1e-9


def test_the_chain_of_the_arm_is_that_of_its_model():
    spec = load_spec("arm")
    from wm_robot_sim.plant import compile_model

    arm = compile_model(spec)
    site = arm.site("gripper")
    chain = read_chain(arm, spec.joint_names, int(arm.site_bodyid[site.id]), arm.site_pos[site.id])
    poses = np.random.default_rng(0).uniform(-2, 2, (1000, 6))
    said, true = (compute_tip_position(poses, *each) for each in ((spec.chain, spec.tip), chain))
    assert np.abs(said - true).max() < 1e-6
