"""A model that MuJoCo compiles is compiled, as its author wrote it where our options are the obstacle."""

from pathlib import Path

import mujoco
import numpy as np
import pytest

from tests.sim.small_robots import make_hinge
from wm_robot.errors import SpecError
from wm_robot.robots import load_spec
from wm_robot.spec import RobotSpec
from wm_robot_sim.model_compiler import compile_model
from wm_robot_sim.robot import SimRobot

pytestmark = pytest.mark.sim

SERVO = '<position name="swing" joint="swing" kp="20" kv="1" ctrlrange="-2 2"/>'
JOINT = '<joint name="swing" axis="0 1 0" range="-2 2" damping="0.1"/>'
CAPSULE = '<geom type="capsule" size="0.02" fromto="0 0 0 0.2 0 0" mass="0.3"/>'
BALL = '<geom type="sphere" size="0.03" pos="0.2 0 0" mass="0.1" contype="0" conaffinity="0"/>'
"""Without contact, so visual; it has mass all the same."""


def test_a_model_whose_inertia_comes_from_its_visuals_keeps_them(tmp_path):
    infer = '<compiler inertiafromgeom="true"/>'
    spec = make_hinge(tmp_path, JOINT + CAPSULE + BALL, SERVO, options=infer, world={"gain": [0.7, 1.4]})
    ours, author = compile_model(spec), mujoco.MjModel.from_xml_path(str(tmp_path / "hinge.xml"))
    assert ours.ngeom == author.ngeom == 2
    np.testing.assert_array_equal(ours.body_mass, author.body_mass)
    np.testing.assert_array_equal(ours.body_inertia, author.body_inertia)
    robot = SimRobot(spec, seed=0)
    robot.write(robot.last_action)


def test_a_timestep_of_the_spec_holds_in_a_model_that_keeps_its_visuals(tmp_path):
    infer = '<compiler inertiafromgeom="true"/>'
    spec = make_hinge(tmp_path, JOINT + CAPSULE + BALL, SERVO, options=infer, world={"timestep": 0.005})
    assert compile_model(spec).opt.timestep == 0.005
    assert compile_model(spec, visuals=True).opt.timestep == 0.005


def test_visuals_are_discarded_where_they_change_nothing():
    arm = load_spec("arm")
    assert compile_model(arm).ngeom < compile_model(arm, visuals=True).ngeom


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (JOINT + '<geom type="mesh" mesh="part"/>', "mesh"),
        (JOINT, "mass and inertia"),
        (JOINT + CAPSULE + "<geom", "XML"),
    ],
)
def test_a_model_that_mujoco_refuses_is_named_with_its_file_and_cause(tmp_path, body, cause):
    with pytest.raises(
        SpecError, match=rf"robot 'hinge' has model 'hinge.xml', .*hinge.xml: .*{cause}"
    ) as refusal:
        compile_model(make_hinge(tmp_path, body, SERVO))
    assert "\n" not in str(refusal.value)


SINGLE_AXIS = (int(mujoco.mjtJoint.mjJNT_SLIDE), int(mujoco.mjtJoint.mjJNT_HINGE))


def suite_models() -> list[Path]:
    import dm_control

    folder = Path(next(iter(dm_control.__path__))) / "suite"
    return sorted(path for path in folder.glob("*.xml") if "<worldbody" in path.read_text())


# The model of the cheetah has it.
@pytest.mark.filterwarnings("ignore:compiler attribute 'settotalmass' is deprecated")
@pytest.mark.parametrize("path", suite_models(), ids=lambda path: path.stem)
def test_every_model_of_the_control_suite_compiles_with_the_masses_that_its_author_gave(path):
    author = mujoco.MjModel.from_xml_path(str(path))
    named = [
        author.joint(number).name for number in range(author.njnt) if author.jnt_type[number] in SINGLE_AXIS
    ]
    # The joints of `lqr` are added by its Python code.
    joints = [name for name in named if name] or ["none"]
    spec = RobotSpec.from_dict(
        {
            "name": path.stem,
            "rate": min(1 / author.opt.timestep, 500.0),
            "model": f"dm_control:suite/{path.name}",
            "joints": [
                {"name": name, "position": [-1.0, 1.0], "velocity": 1.0, "effort": 1.0} for name in joints
            ],
            "actuators": [
                {"name": "none", "joint": joints[0], "kind": "effort", "range": [-1.0, 1.0], "rate": 1.0}
            ],
        }
    )
    model = compile_model(spec)
    np.testing.assert_allclose(model.body_mass, author.body_mass, rtol=1e-9)
    np.testing.assert_allclose(model.body_inertia, author.body_inertia, rtol=1e-9)
    assert model.opt.timestep == author.opt.timestep
