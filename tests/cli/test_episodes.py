"""`wm-robot episodes` on what others recorded, as a person meets it."""

import json
import re
import shlex

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.episodes]

from tests.cli.test_recover import YAML, refused, steps
from tests.recording.bags import write_bag, write_split_bag
from tests.recording.sessions import record, say
from wm_robot.recording.episode_file import read_episode
from wm_robot.recording.episode_folder import list_episodes
from wm_robot_cli.main import main

SAID = steps(range(1, 61))


@pytest.fixture
def words(tmp_path):
    """Command line up to the recordings, and its end."""
    (tmp_path / "elbow.yaml").write_text(YAML)
    return lambda *recordings: ("episodes", *recordings, tmp_path / "out", "--robot", tmp_path / "elbow.yaml")


def cut(capsys, *line: object) -> tuple[list[dict], str]:
    main([*map(str, line), "--json"])
    said = capsys.readouterr()
    return json.loads(said.out), said.err


def test_bags_of_all_forms_give_the_same_episode_which_is_written_once(tmp_path, words, capsys):
    record(tmp_path / "session.mcap", SAID)
    forms = [tmp_path / "session.mcap"]
    for number, options in enumerate(
        ({}, {"storage": "sqlite3"}, {"compression": "file"}, {"compression": "message"})
    ):
        forms.append(write_split_bag(tmp_path / f"bag{number}", SAID, 2, **options))
    rows, complaints = cut(capsys, *words(*forms))
    assert not complaints
    assert [(row["session"], row["robot"], row["steps"], row["written"]) for row in rows] == [
        (form.name, "one", 59, "now") for form in forms
    ]
    first, *others = (read_episode(path) for path in list_episodes(tmp_path / "out" / "one"))
    assert len(others) == 4
    for other in others:
        assert other.obs.tobytes() == first.obs.tobytes() and other.action.tobytes() == first.action.tobytes()
    rows, _ = cut(capsys, *words(*forms))
    assert {row["written"] for row in rows} == {"before"}


def test_a_bag_without_applied_commands_is_refused_with_what_to_record(tmp_path, words, capsys):
    bag = write_bag(tmp_path / "bag", [one for one in SAID if one[0] == "joint_states"])
    said = refused(capsys, *words(bag))
    assert said.startswith(
        f"SpecError: {bag} holds 0 robots to learn from: it has no topic /one/applied_command"
    )
    assert "ros2 bag record /one/joint_states /one/applied_command" in said
    assert not (tmp_path / "out").exists()


def test_a_recording_that_is_not_there_is_refused_before_the_others_are_read(tmp_path, words, capsys):
    write_bag(tmp_path / "monday", SAID)
    said = refused(capsys, *words(tmp_path / "monday", tmp_path / "mondy"))
    assert said.startswith(f"SnapshotError: RECORDING '{tmp_path / 'mondy'}' does not exist.")
    assert not (tmp_path / "out").exists()
    (right,) = re.findall("Did you mean '(.*)'", said)
    rows, _ = cut(capsys, *words(right))
    assert len(rows) == 1


def test_a_wrong_namespace_gets_those_that_are_there(tmp_path, words, capsys):
    bag = write_bag(tmp_path / "bag", SAID)
    said = refused(capsys, *words(bag), "--namespace", "ones")
    assert "holds no robot 'ones'; it has ['one']. Did you mean 'one'?" in said
    rows, _ = cut(capsys, *words(bag), "--namespace", "one")
    assert len(rows) == 1


@pytest.mark.parametrize("what", ["a file", "a bag"])
def test_episodes_are_not_written_into_a_recording(tmp_path, words, capsys, what):
    bag = write_bag(tmp_path / "bag", SAID)
    last = bag if what == "a bag" else next(bag.glob("*.mcap"))
    before = {path.name for path in bag.iterdir()}
    said = refused(capsys, "episodes", bag, last)
    assert f"FOLDER is '{last}', which is {what}; the last path must be a folder for the episodes" in said
    assert {path.name for path in bag.iterdir()} == before


def test_what_the_episodes_lack_is_said_beside_them(tmp_path, words, capsys):
    path = tmp_path / "session.mcap"
    writer = record(path, steps(range(1, 2001)), close=False)
    say(writer, [one for one in SAID if one[0] == "joint_states"], robot="two")
    writer.close()
    path.write_bytes(path.read_bytes()[:-1])
    rows, complaints = cut(capsys, *words(path))
    assert [row["robot"] for row in rows] == ["one"]
    assert f"{path} is incomplete, because its recorder was killed; the episodes end there" in complaints
    assert f"{path}: robot 'two' is left out: it has no topic /two/applied_command" in complaints


def test_a_bag_of_another_robot_names_the_joints_that_differ(tmp_path, capsys):
    bag = write_bag(tmp_path / "bag", SAID)
    said = refused(capsys, *shlex.split(f"episodes {bag} {tmp_path / 'out'} --robot arm"))
    assert "actuators ['elbow'] are unknown; known are ('base_yaw', 'shoulder_pitch'" in said
    assert "Use the spec of the robot that was recorded" in said
