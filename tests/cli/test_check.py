"""`wm-robot check` holds a spec against its model; `upgrade-spec` brings a spec of version 1 to today's."""

import json

import pytest
import yaml

pytestmark = pytest.mark.sim
pytest.importorskip("mujoco")

from wm_robot.errors import SpecError
from wm_robot.robots import ROBOTS_FOLDER, load_spec
from wm_robot.robots.robot_model import RobotModel
from wm_robot.spec import RobotSpec
from wm_robot_cli.main import main

MODEL = """
<mujoco>
  <compiler angle="radian"/>
  <worldbody>
    <body pos="0 0 0.1">
      <joint name="lift" type="slide" axis="0 0 1" range="0 0.4"/><geom size="0.02" mass="1"/>
      <body pos="0.1 0 0" quat="0.6 0.8 0 0">
        <joint name="bend" axis="0 1 0" range="-1 1"/><geom size="0.02" mass="1"/><site name="tip" pos="0.2 0 0"/>
      </body>
    </body>
  </worldbody>
  <actuator>
    <position name="lift" joint="lift" kp="40"/><motor name="bend" joint="bend" ctrlrange="-1 1"/>
  </actuator>
</mujoco>
"""
OLD = """# Of a version before.
name: crane
rate: 50
mjcf: crane.xml
joints:
  - {name: lift, position: [0.0, 0.4], velocity: 1.0, effort: 50.0}  # a slide
  - {name: bend, position: [-1.0, 1.0], velocity: 5.0, effort: 5.0}
actuators:
  - {name: lift, joint: lift, unit: rad, range: [0.0, 0.3], rate: 1.0}
  - {name: bend, joint: bend, unit: "1", range: [-1.0, 1.0], rate: 50.0}
safety:
  surprises: [2, 6]
  cuts: 20
"""


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "crane.xml").write_text(MODEL)
    (tmp_path / "crane.yaml").write_text(OLD)
    return tmp_path / "crane.yaml"


def run(*words):
    try:
        main(list(words))
    except SystemExit as exit:
        return exit.code
    return 0


def test_a_spec_of_version_1_says_the_command_that_upgrades_it(path):
    with pytest.raises(SpecError, match="has version 1; this program reads version 2. Run: wm-robot upgrade"):
        RobotSpec.load(path)


def test_an_upgraded_spec_keeps_its_comments_and_says_what_the_model_says(path):
    assert run("upgrade-spec", str(path)) == 0
    spec = RobotSpec.load(path)
    assert "# a slide" in path.read_text() and "# Of a version before." in path.read_text()
    assert [joint.kind for joint in spec.joints] == ["slide", "hinge"]
    assert [actuator.kind for actuator in spec.actuators] == ["position", "effort"]
    assert spec.action_units == ("m", "1") and spec.model == "crane.xml"
    assert spec.safety.surprise_count_window == (2, 6) and spec.safety.consecutive_violation_limit == 20
    assert run("upgrade-spec", str(path)) == 2


def test_a_spec_that_is_written_otherwise_is_upgraded_too(path, capsys):
    path.write_text(yaml.safe_dump(yaml.safe_load(OLD)))
    assert run("upgrade-spec", str(path)) == 0 and "comments were lost" in capsys.readouterr().out
    assert [joint.kind for joint in RobotSpec.load(path).joints] == ["slide", "hinge"]


def test_check_writes_what_the_model_says_and_the_next_load_takes_it(path, capsys):
    run("upgrade-spec", str(path))
    path.write_text(path.read_text() + "tip: tip\n")
    with pytest.raises(SpecError, match="Run: wm-robot check"):
        load_spec(path)
    capsys.readouterr()
    assert run("check", str(path), "--json") == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    spec, stored = load_spec(path), RobotModel.parse(path.with_name("crane.model.json").read_bytes(), path)
    assert said["changed"] and said["chain"] == ["lift", "bend"] == [link.joint for link in spec.chain]
    assert (
        said["digest"] == spec.compute_digest() and said["model_digest"] == stored.digest == spec.model_digest
    )
    assert run("check", str(path)) == 0 and "unchanged" in capsys.readouterr().out


def test_check_of_a_changed_model_writes_it_again(path, capsys):
    run("upgrade-spec", str(path)), run("check", str(path))
    before = load_spec(path).compute_digest()
    (path.parent / "crane.xml").write_text(MODEL.replace('kp="40"', 'kp="60"'))
    with pytest.raises(
        SpecError, match="crane.xml of robot 'crane' changed since crane.model.json was written"
    ):
        load_spec(path)
    assert run("check", str(path)) == 0 and "wrote" in capsys.readouterr().out
    assert load_spec(path).compute_digest() != before


def test_check_of_a_contradiction_is_a_mistake_with_both_values(path, capsys):
    run("upgrade-spec", str(path))
    path.write_text(path.read_text().replace("position: [-1.0, 1.0]", "position: [-3.0, 1.0]"))
    assert run("check", str(path)) == 2
    assert "'bend' has the range [-3.0, 1.0] in the spec, [-1, 1] in the model" in capsys.readouterr().err
    assert not path.with_name("crane.model.json").exists()


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("world: {payload_body: hook}\n", "world.payload_body is 'hook', and the model has no moving body"),
        ("randomize: {joint/bent/damping: {factor: [0.5, 2]}}\n", "randomize names 'joint/bent/damping'"),
        ("world: {timestep: 0.003}\n", "6.667 physics steps in a control period"),
    ],
)
def test_check_refuses_dynamics_that_the_model_cannot_show(path, capsys, section, words):
    run("upgrade-spec", "crane.yaml")
    path.write_text(path.read_text() + section)
    assert run("check", "crane.yaml") == 2
    assert words in capsys.readouterr().err
    assert not path.with_name("crane.model.json").exists()


@pytest.mark.parametrize("name", sorted(path.stem for path in ROBOTS_FOLDER.glob("*.yaml")))
def test_a_robot_that_ships_has_the_model_that_is_stored(name, capsys):
    if RobotSpec.load(ROBOTS_FOLDER / f"{name}.yaml").model.startswith("dm_control:"):
        pytest.importorskip("dm_control")
    assert run("check", name, "--json") == 0
    assert not json.loads(capsys.readouterr().out.splitlines()[-1])["changed"]
