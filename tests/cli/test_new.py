"""`wm-robot new` writes a spec from a model: it agrees with the model, says what it assumed, and its robot runs."""

import json
import struct

import numpy as np
import pytest

pytestmark = pytest.mark.sim
pytest.importorskip("mujoco")

from wm_robot.robots import load_spec
from wm_robot_cli.main import main
from wm_robot_sim.robot import SimRobot
from wm_robot_sim.worlds import DomainRandomization

HAND = """
<mujoco model="hand">
  <compiler angle="radian" meshdir="meshes"/>
  <option timestep="0.004" integrator="implicitfast"/>
  <default><position kp="60" kv="4" forcerange="-30 30"/><joint damping="0.4" frictionloss="0.1"/></default>
  <include file="parts/assets.xml"/>
  <worldbody>
    <geom type="plane" size="1 1 0.1"/>
    <body name="upper" pos="0 0 0.3">
      <joint name="1.shoulder" axis="0 1 0" range="-1.5 1.5"/><geom type="mesh" mesh="box" mass="1"/>
      <body name="fore" pos="0 0 0.2">
        <joint name="elbow" axis="0 1 0" range="-2 0"/><geom type="capsule" size="0.02 0.05" mass="0.5"/>
        <site name="grip_point" pos="0 0 0.1"/>
        <body name="left" pos="0 0.03 0.1">
          <joint name="left" type="slide" axis="0 1 0" range="0 0.03"/><geom size="0.01" mass="0.02"/>
        </body>
        <body name="right" pos="0 -0.03 0.1">
          <joint name="right" type="slide" axis="0 -1 0" range="0 0.03"/><geom size="0.01" mass="0.02"/>
        </body>
      </body>
    </body>
    <body name="ball" pos="0.4 0 0.1"><freejoint/><geom size="0.03" mass="0.1"/></body>
  </worldbody>
  <tendon><fixed name="fingers"><joint joint="left" coef="1"/><joint joint="right" coef="1"/></fixed></tendon>
  <actuator>
    <position name="shoulder" joint="1.shoulder" ctrlrange="-3 3"/>
    <position name="elbow" joint="elbow"/>
    <motor name="fingers" tendon="fingers" ctrlrange="-2 2"/>
    <general name="suction" site="grip_point"/>
  </actuator>
  <keyframe>
    <key name="zero" qpos="0 -0.5 0 0 0.4 0 0.1 1 0 0 0"/>
    <key name="home" qpos="0.25 -1.25 0.01 0.01 0.4 0 0.1 1 0 0 0"/>
  </keyframe>
</mujoco>
"""
LINK = """<inertial><origin xyz="0 0 0.1"/><mass value="1"/>
      <inertia ixx=".01" iyy=".01" izz=".001" ixy="0" ixz="0" iyz="0"/></inertial>"""
ARM = f"""
<robot name="two">
  <link name="base"/>
  <link name="upper">{LINK}
    <visual><geometry><mesh filename="package://two/visual/link.stl"/></geometry></visual>
    <visual><geometry><mesh filename="package://two/visual/link.dae"/></geometry></visual>
    <collision><geometry><mesh filename="package://two/collision/link.stl"/></geometry></collision>
  </link>
  <link name="fore">{LINK}</link>
  <link name="tool0"/>
  <joint name="shoulder" type="revolute"><parent link="base"/><child link="upper"/><axis xyz="0 1 0"/>
    <limit lower="-1.5" upper="1.0" effort="20" velocity="3"/></joint>
  <joint name="elbow" type="continuous"><parent link="upper"/><child link="fore"/><origin xyz="0 0 .25"/>
    <axis xyz="0 1 0"/></joint>
  <joint name="flange" type="fixed"><parent link="fore"/><child link="tool0"/><origin xyz="0 0 .25"/></joint>
</robot>
"""


def write_box(path, size):
    """Write a cube as a binary STL."""
    corners = [(x * size, y * size, z * size) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
    faces = ["013", "032", "467", "475", "045", "051", "237", "276", "026", "064", "157", "173"]
    shapes = [struct.pack("<12fH", 0, 0, 0, *sum((corners[int(n)] for n in face), ()), 0) for face in faces]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(80) + struct.pack("<I", len(faces)) + b"".join(shapes))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "robot" / "parts").mkdir(parents=True)
    write_box(tmp_path / "robot" / "meshes" / "box.stl", 0.03)
    (tmp_path / "robot" / "parts" / "assets.xml").write_text(
        '<mujoco><asset><mesh name="box" file="box.stl"/></asset></mujoco>'
    )
    (tmp_path / "robot" / "hand.xml").write_text(HAND)
    write_box(tmp_path / "two" / "visual" / "link.stl", 0.03)
    write_box(tmp_path / "two" / "collision" / "link.stl", 0.02)
    (tmp_path / "two" / "two.urdf").write_text(ARM)
    return tmp_path


def run(*words):
    try:
        main([str(word) for word in words])
    except SystemExit as exit:
        return exit.code
    return 0


def find_suite(name):
    control = pytest.importorskip("dm_control.suite", reason="dm_control is not installed")
    return f"{control.__path__[0]}/{name}.xml"


def create(capsys, *words, code=0):
    assert run("new", *words, "--json") == code
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def check_that_it_runs(path, capsys):
    """The written spec agrees with its model, its worlds are ones that the model can show, and its robot moves."""
    assert run("check", path, "--json") == 0
    assert not json.loads(capsys.readouterr().out.splitlines()[-1])["changed"]
    spec, rng = load_spec(path), np.random.default_rng(0)
    robot = SimRobot(spec, DomainRandomization(spec).sample(rng), seed=0)
    for _ in range(20):
        robot.write(rng.uniform(spec.action_low, spec.action_high).astype(np.float32))
        assert np.isfinite(robot.read().values).all()
    return spec


def test_a_model_with_includes_mesh_tendon_and_keyframe_becomes_a_spec(folder, capsys):
    said = create(capsys, "hand", "--mjcf", "robot/hand.xml", "--out", "specs")
    spec = check_that_it_runs(folder / "specs" / "hand.yaml", capsys)
    assert spec.model == "../robot/hand.xml" and spec.rate == 50 and said["rate"] == 50
    assert spec.joint_names == ("1.shoulder", "elbow", "left", "right")
    assert [(a.name, a.kind, a.range) for a in spec.actuators] == [
        ("shoulder", "position", (-1.5, 1.5)),
        ("elbow", "position", (-2.0, 0.0)),
        ("fingers", "effort", (-2.0, 2.0)),
    ]
    assert spec.joints[0].effort == 30 and spec.joints[2].kind == "slide"
    assert spec.tip_name == "grip_point" and [link.joint for link in spec.chain] == ["1.shoulder", "elbow"]
    assert list(spec.tasks) == ["reach"] and spec.safety.home["elbow"] == -1.25
    assert "torque" not in spec.world and "friction" in spec.world and spec.world["clearance"] == 0.02
    assert {check["check"]: check["result"] for check in said["checks"]}["limits hold"] == "passed"


def test_what_a_person_must_check_is_said_once_on_one_page(folder, capsys):
    create(capsys, "hand", "--mjcf", "robot/hand.xml")
    page = (folder / "hand.md").read_text()
    for sentence in (
        "No ROS names: '1.shoulder'. Such",
        "Actuator 'suction' is left out, and stays at zero: it moves no joint",
        "Actuator 'fingers' moves ['left', 'right'] through a tendon; the spec lists it on 'left'",
        "Range of actuator 'elbow': [-2, 0], that of its joint; the model has no ctrlrange",
        "Range of actuator 'shoulder': that of its joint, [-1.5, 1.5]; the model would accept [-3, 3]",
        "Joints without motor, which are observed: 'right'",
        "Home is keyframe 'home'",
        "Tip 'grip_point', by its name, 2 joints from the base",
        "World has no torque: the model has a forcerange that gain times ctrlrange never reaches",
    ):
        assert page.count(sentence) == 1, sentence
    assert "joint 'ball" not in page.lower().replace("(joint", "")


@pytest.mark.parametrize(
    ("name", "task", "joints"), [("finger", "hold", 2), ("cartpole", "balance", 2), ("point_mass", "hold", 2)]
)
def test_a_model_of_an_installed_package_is_named_by_it_and_passes(folder, capsys, name, task, joints):
    said = create(capsys, name, "--mjcf", find_suite(name))
    spec = check_that_it_runs(folder / f"{name}.yaml", capsys)
    assert spec.model == f"dm_control:suite/{name}.xml" and list(spec.tasks) == [task]
    assert said["joints"] == joints == len(spec.joints)
    assert "failed" not in {check["result"] for check in said["checks"]} and len(said["checks"]) == 5


def test_a_urdf_gets_servos_from_its_limits(folder, capsys):
    said = create(capsys, "two", "--urdf", "two/two.urdf", "--package", "two=two", "--out", "out")
    spec = check_that_it_runs(folder / "out" / "two.yaml", capsys)
    assert spec.model == "two.xml" and list(spec.tasks) == ["reach"] and spec.tip_name == "tool0"
    assert [(a.joint, a.kind) for a in spec.actuators] == [("shoulder", "position"), ("elbow", "position")]
    assert spec.joints[0].position == (-1.5, 1.0)
    assert (spec.joints[0].effort, spec.joints[0].velocity) == (20.0, 3.0)
    assert "failed" not in {check["result"] for check in said["checks"]}
    assert (
        "dropped, since MuJoCo reads .stl, .obj, .msh, and not '.dae': visual of link 'upper'"
        in said["to_check"]
    )
    assert any("a URDF has no actuators: 'shoulder' kp 200" in sentence for sentence in said["inferred"])
    model = (folder / "out" / "two.xml").read_text()
    assert "../two/visual/link.stl" in model and "../two/collision/link.stl" in model


def test_meshes_of_one_name_stay_two_meshes(folder, capsys):
    import mujoco

    create(capsys, "two", "--urdf", "two/two.urdf", "--package", "two=two")
    model = mujoco.MjModel.from_xml_path(str(folder / "two.xml"))
    sizes = sorted(round(float(model.geom_aabb[geom, 3]), 3) for geom in range(model.ngeom))
    assert sizes == [0.02, 0.03]


def test_inertias_that_no_body_can_have_are_corrected_and_said(folder, capsys):
    (folder / "two" / "two.urdf").write_text(ARM.replace('ixx=".01"', 'ixx=".1"'))
    said = create(capsys, "two", "--urdf", "two/two.urdf", "--package", "two=two")
    (sentence,) = [each for each in said["to_check"] if "inertias were made plausible" in each]
    assert "inertia" in sentence.partition("refuses them")[2]


def test_a_joint_that_mimics_another_gets_no_servo_and_follows_it(folder, capsys):
    mimic = '<axis xyz="0 1 0"/><mimic joint="shoulder" multiplier="0.5"/></joint>\n  <joint name="flange"'
    text = ARM.replace('<axis xyz="0 1 0"/></joint>\n  <joint name="flange"', mimic)
    assert text != ARM
    (folder / "two" / "two.urdf").write_text(text)
    said = create(capsys, "two", "--urdf", "two/two.urdf", "--package", "two=two")
    spec = check_that_it_runs(folder / "two.yaml", capsys)
    assert spec.action_names == ("shoulder",) and spec.joint_names == ("shoulder", "elbow")
    assert any("mimic another" in sentence and "'elbow'" in sentence for sentence in said["inferred"])
    assert any("ties joint 'elbow' to 'shoulder'" in sentence for sentence in said["to_check"])
    robot = SimRobot(spec, seed=0)
    for _ in range(100):
        robot.read()
        robot.write(np.array([0.8], np.float32))
    shoulder, elbow = robot.read().values[:2]
    assert abs(shoulder - 0.8) < 0.15 and abs(elbow - shoulder / 2) < 0.05


def test_a_failed_check_keeps_the_files_and_gives_the_reason(folder, capsys):
    weak = HAND.replace('kp="60" kv="4"', 'kp="0.5"').replace('forcerange="-30 30"', "")
    (folder / "robot" / "hand.xml").write_text(weak)
    said = create(capsys, "hand", "--mjcf", "robot/hand.xml", code=3)
    results = {check["check"]: check for check in said["checks"]}
    assert results["holds still at home"]["result"] == "failed"
    assert "drifts" in results["holds still at home"]["measured"] and (folder / "hand.yaml").exists()
    assert run("check", "hand.yaml", "--simulate") == 3
    assert "holds still at home" in capsys.readouterr().err
    (folder / "robot" / "hand.xml").write_text(HAND)
    assert run("check", "hand.yaml", "--simulate") == 0 and "faster than real time" in capsys.readouterr().out


def test_a_motor_that_turns_backwards_is_said(folder, capsys):
    motor = '<motor name="elbow" joint="elbow" gear="-5" ctrlrange="-1 1"/>'
    model = HAND.replace('<position name="elbow" joint="elbow"/>', motor)
    (folder / "robot" / "hand.xml").write_text(model)
    said = create(capsys, "hand", "--mjcf", "robot/hand.xml")
    results = {check["check"]: check["measured"] for check in said["checks"]}
    assert "a positive command moves 'elbow' backwards, by its gear" in results["actuators move their joints"]


def test_an_implausible_body_and_a_contact_at_rest_are_said(folder, capsys):
    heavy = '<geom name="lead" type="capsule" size="0.02 0.05" mass="500"/><geom pos="0 0 -1" size="0.05"/>'
    model = HAND.replace('<geom type="capsule" size="0.02 0.05" mass="0.5"/>', heavy)
    (folder / "robot" / "hand.xml").write_text(model)
    assert run("new", "hand", "--mjcf", "robot/hand.xml") in (0, 3)
    page = (folder / "hand.md").read_text()
    assert "Body 'fore' has 5" in page and "Check its mass and its units" in page
    assert "inside each other" in page


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (("<actuator>", "<actuator"), ("robot/hand.xml is not valid XML", "line")),
        (('damping="0.4"', 'dampng="0.4"'), ("robot/hand.xml", "dampng", "line", "correct it there")),
        (('damping="0.4"', 'damping="much"'), ("robot/hand.xml", "damping", "correct it there")),
        (("parts/assets.xml", "parts/asets.xml"), ("robot/hand.xml", "asets.xml")),
        (('mesh="box"', 'mesh="bax"'), ("robot/hand.xml", "bax")),
        (('joint="elbow"/>', 'joint="elbw"/>'), ("robot/hand.xml", "elbw")),
        (('mass="0.5"', 'mass="nan"'), ("robot/hand.xml", "mass", "nan")),
        (
            ('range="-1.5 1.5"', 'range="-1e30 1e30"'),
            ("robot/hand.xml", "range of jnt '1.shoulder'", "-1e+30"),
        ),
        (('timestep="0.004"', 'timestep="0.2"'), ("0.2 s", "option/timestep")),
    ],
)
def test_a_mistake_in_a_model_names_file_place_and_remedy(folder, capsys, change, names):
    assert change[0] in HAND
    (folder / "robot" / "hand.xml").write_text(HAND.replace(*change))
    assert run("new", "hand", "--mjcf", "robot/hand.xml") == 2
    said = capsys.readouterr().err
    assert said.startswith("SpecError: ") and all(name in said for name in names), said
    assert not list(folder.glob("hand.*"))


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["hand"], ("--mjcf FILE or --urdf FILE", "neither")),
        (["hand", "--mjcf", "a.xml", "--urdf", "b.urdf"], ("both are given",)),
        (["3rd hand", "--mjcf", "robot/hand.xml"], ("NAME is '3rd hand'", "letter")),
        (["hand", "--mjcf", "robot/hnd.xml"], ("robot/hnd.xml", "No such file")),
        (["hand", "--mjcf", "two/two.urdf"], ("<robot>", "--urdf two/two.urdf")),
        (["hand", "--urdf", "robot/hand.xml"], ("<mujoco>", "--mjcf robot/hand.xml")),
        (
            ["hand", "--mjcf", "robot/hand.xml", "--rate", "60"],
            ("60 Hz", "Rates that work: 50 and 62.5"),
        ),
        (["hand", "--mjcf", "robot/hand.xml", "--tip", "grip_pont"], ("Did you mean 'grip_point'?",)),
        (["hand", "--mjcf", "robot/hand.xml", "--tip", "ball"], ("'ball'", "no joint of the robot moves")),
        (["two", "--urdf", "two/two.urdf"], ("package://two/visual/link.stl", "--package two=PATH")),
        (["two", "--urdf", "two/two.urdf", "--package", "two"], ("'two'", "NAME=PATH")),
        (["two", "--urdf", "two/two.urdf", "--package", "two=none"], ("none is no folder",)),
    ],
)
def test_a_mistake_on_the_command_line_names_the_value_and_the_remedy(folder, capsys, words, names):
    assert run("new", *words) == 2
    said = capsys.readouterr().err
    assert "Error: " in said and all(name in said for name in names), said
    assert not list(folder.glob("*.yaml")) and not list(folder.glob("*.xml"))


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (('effort="20"', 'effort="strong"'), ("two.urdf", "'shoulder'", "'strong'", "finite number")),
        (('joint name="elbow"', 'joint name="shoulder"'), ("two.urdf", "2 joints are named 'shoulder'")),
        (("collision/link.stl", "collision/lnk.stl"), ("collision of link 'upper'", "lnk.stl")),
        (('<robot name="two">', '<robot name="${name}">'), ("xacro two/two.urdf > two.urdf",)),
        (('child link="fore"', 'child link="four"'), ("two.urdf", "joint 'elbow'", "'four'", "'fore'")),
        (('<mass value="1"/>', '<mass value="0"/>'), ("two.urdf", "mass")),
    ],
)
def test_a_mistake_in_a_urdf_names_file_place_and_remedy(folder, capsys, change, names):
    assert change[0] in ARM
    (folder / "two" / "two.urdf").write_text(ARM.replace(*change))
    assert run("new", "two", "--urdf", "two/two.urdf", "--package", "two=two") == 2
    said = capsys.readouterr().err
    assert said.startswith("SpecError: ") and all(name in said for name in names), said
    assert not (folder / "two.yaml").exists() and not (folder / "two.xml").exists()


def test_a_range_without_effect_is_said(folder, capsys):
    """MuJoCo takes a joint whose range ends before it begins for one without limits."""
    (folder / "robot" / "hand.xml").write_text(HAND.replace('range="-2 0"', 'range="0 -2"'))
    create(capsys, "hand", "--mjcf", "robot/hand.xml")
    page = (folder / "hand.md").read_text()
    assert "Joint 'elbow' has the range [0, -2] in the model, which has no effect" in page
    assert load_spec(folder / "hand.yaml").joints[1].position == (-100, 100)


def test_a_robot_that_exists_is_not_overwritten(folder, capsys):
    create(capsys, "hand", "--mjcf", "robot/hand.xml")
    before = (folder / "hand.yaml").read_text()
    assert run("new", "hand", "--mjcf", "robot/hand.xml", "--rate", "25") == 2
    assert "hand.yaml exists already" in capsys.readouterr().err
    assert (folder / "hand.yaml").read_text() == before


def test_parts_without_names_are_named_by_number_and_move(folder, capsys):
    model = HAND.replace('name="elbow" joint', "joint")
    (folder / "robot" / "hand.xml").write_text(model)
    said = create(capsys, "hand", "--mjcf", "robot/hand.xml")
    spec = check_that_it_runs(folder / "hand.yaml", capsys)
    assert "(actuator 1)" in spec.action_names
    assert "failed" not in {check["result"] for check in said["checks"]}


SPRING = """
<mujoco><compiler angle="radian"/><option timestep="0.004" gravity="{gravity}"/>
<worldbody><body name="link" pos="0 0 1"><joint name="swing" axis="0 1 0" damping="{damping}"/>
<geom pos="0 0 -0.1" size="0.02" mass="0.1"/></body></worldbody>
<actuator><general name="swing" joint="swing" ctrlrange="-1 1" gainprm="{gain}" biastype="affine"
 biasprm="0 0 {damper}"/></actuator></mujoco>
"""


def write_spring(folder, *, gravity="0 0 -9.81", gain=1, damper=0, damping=0.01):
    text = SPRING.format(gravity=gravity, gain=gain, damper=damper, damping=damping)
    (folder / "spring.xml").write_text(text)


def test_a_physics_step_that_diverges_is_divided_and_said(folder, capsys):
    """The damper of the motor is stable for steps below 2 I / d, which is 2.2 ms."""
    write_spring(folder, damper=-0.9)
    said = create(capsys, "spring", "--mjcf", "spring.xml")
    spec = check_that_it_runs(folder / "spring.yaml", capsys)
    assert spec.world["timestep"] == 0.002 and spec.rate == 50
    assert any("diverges with the model's physics step of 0.004 s" in each for each in said["to_check"])


def test_a_simulation_that_diverges_with_every_step_is_refused(folder, capsys):
    write_spring(folder, damper=-90)
    assert run("new", "spring", "--mjcf", "spring.xml") == 2
    said = capsys.readouterr().err
    assert "SpecError" in said and "diverges" in said and "option/timestep" in said
    assert not (folder / "spring.yaml").exists()


def test_a_model_without_gravity_has_none_in_its_worlds(folder, capsys):
    write_spring(folder, gravity="0 0 0")
    said = create(capsys, "spring", "--mjcf", "spring.xml")
    spec = check_that_it_runs(folder / "spring.yaml", capsys)
    assert "tilt" not in spec.world and "failed" not in {check["result"] for check in said["checks"]}
