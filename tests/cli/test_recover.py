"""`wm-robot recover` and `wm-robot episodes`, as a person meets them."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.episodes]

from mcap.reader import make_reader

from tests.recording.sessions import SPEC, act, at, obs, record, say, sensed, step_of
from wm_robot.io import open_files
from wm_robot.recording import session_recovery
from wm_robot.recording.episode_file import read_episode, read_origin
from wm_robot.recording.episode_folder import EpisodeFolder, list_episodes
from wm_robot.recording.episode_origin import EpisodeOrigin
from wm_robot.recording.session_file import read_session
from wm_robot_cli.main import main

YAML = """\
version: 2
name: elbow
rate: 50
model: ""
joints: [{name: elbow, position: [-9, 9], velocity: 9, effort: 1}]
actuators: [{name: elbow, joint: elbow, kind: position, range: [-9, 9], rate: 9}]
tasks: {reach: {reward: reach, goal: 3}}
"""


@pytest.fixture
def folder(tmp_path):
    """What a killed recorder left: a cut session, an open episode, and whole ones of both."""
    record(tmp_path / "whole.mcap", [sensed(1)])
    record(tmp_path / "cut.mcap", (sensed(step) for step in range(1000)))
    content = (tmp_path / "cut.mcap").read_bytes()
    (tmp_path / "cut.mcap").write_bytes(content[: len(content) // 2])
    child = os.fork()
    if child == 0:
        place = EpisodeFolder(tmp_path / "episodes" / "one")
        for number in range(2):
            episode = place.start_episode(EpisodeOrigin.from_robot(SPEC))
            for step in range(11 + number):
                episode.append(at(step), obs(step), action=act(step))
            if number:
                episode.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            place.end_episode(episode)
    os.waitpid(child, 0)
    for path in tmp_path.rglob("*"):
        # So that nobody has to see first whether they still grow.
        os.utime(path, (0, 0))
    return tmp_path


def told(capsys, *words: object):
    main([*map(str, words), "--json"])
    return json.loads(capsys.readouterr().out)


def refused(capsys, *words: object) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, words)])
    assert ended.value.code == 2
    return capsys.readouterr().err


def names_and_finds(rows):
    return {row["file"].rpartition("/")[2]: row["found"] for row in rows}


def test_recover_makes_whole_what_was_cut_and_leaves_what_is_whole(folder, capsys):
    looked = told(capsys, "recover", folder, "--dry-run")
    expected = {
        "episode_000001.open": "its process died",
        "cut.mcap": "its recorder was killed",
        "whole.mcap": "whole",
        "episode_000000.parquet": "whole",
    }
    assert names_and_finds(looked) == expected
    assert not read_session(folder / "cut.mcap").is_whole
    rows = told(capsys, "recover", folder)
    assert names_and_finds(rows) == expected
    for one, other in zip(looked, rows, strict=True):
        assert one | {"as it was": None} == other | {"as it was": None}
    by_name = {row["file"].rpartition("/")[2]: row for row in rows}
    session, episode = by_name["cut.mcap"], by_name["episode_000001.open"]
    assert session["saved"] == len(read_session(folder / "cut.mcap").topics["/one/joint_states"]) > 100
    assert (session["s lost at most"], episode["s lost at most"], episode["saved"]) == (1.0, 1.0, 11)
    assert session["as it was"] == str(folder / "cut.mcap.cut")
    assert episode["as it was"] == str(folder / "episodes" / "one" / "episode_000001.cut")
    assert episode["last stamp"] == "2001-09-09T01:46:40.220+00:00"
    assert read_session(folder / "cut.mcap").is_whole
    assert [len(read_episode(path)) for path in list_episodes(folder / "episodes" / "one")] == [10, 11]


def test_recover_again_finds_all_whole(folder, capsys):
    told(capsys, "recover", folder)
    assert set(names_and_finds(told(capsys, "recover", folder)).values()) == {"whole"}
    main(["recover", str(folder)])
    assert "0 of 4 files were recovered" in capsys.readouterr().out


def test_recover_takes_files_as_well(folder, capsys):
    rows = told(capsys, "recover", folder / "cut.mcap", folder / "episodes" / "one" / "episode_000001.open")
    assert [row["found"] for row in rows] == ["its recorder was killed", "its process died"]
    rows = told(capsys, "recover", folder / "episodes" / "one" / "episode_000001.parquet")
    assert [row["found"] for row in rows] == ["whole"]


def test_what_is_being_written_is_left_alone(folder, capsys):
    with EpisodeFolder(folder / "busy") as place:
        episode = place.start_episode(EpisodeOrigin.from_robot(SPEC))
        episode.append(at(0), obs(0), action=act(0))
        assert names_and_finds(told(capsys, "recover", folder / "busy")) == {
            "episode_000000.open": "is being recorded"
        }
        assert episode.path.exists()


RECORDER = """
import sys, time
from mcap.writer import Writer

path, how = sys.argv[1:]
file = open(path, "wb")
writer = Writer(file, chunk_size=2000)
writer.start(profile="ros2", library="another recorder")
schema = writer.register_schema("std_msgs/msg/String", "ros2msg", b"string data")
channel = writer.register_channel("/chatter", "cdr", schema)
for n in range(1000):
    writer.add_message(channel, n, b"\\0\\1\\0\\0\\5\\0\\0\\0word\\0", n, n)
    if n == 500:
        file.flush()
        print("half-way", flush=True)
        if how == "dies":
            time.sleep(60)
        sys.stdin.readline()
writer.finish()
file.close()
"""


@pytest.fixture
def another_recorder(tmp_path):
    """Starts a recorder that is not ours, which takes no lock and waits half-way."""
    begun = []

    def start(how: str) -> tuple[subprocess.Popen, Path]:
        path = tmp_path / "bag_0.mcap"
        words = [sys.executable, "-c", RECORDER, str(path), how]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        begun.append(process)
        assert process.stdout.readline() == "half-way\n"
        return process, path

    yield start
    for process in begun:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_what_another_program_writes_is_left_alone(another_recorder, capsys, options):
    process, path = another_recorder("goes on")
    os.utime(path, (0, 0))
    content = path.read_bytes()
    (row,) = told(capsys, "recover", path.parent, *options)
    assert row["found"].startswith(f"is being written by process {process.pid} (") and row["saved"] is None
    assert path.read_bytes() == content and list(path.parent.iterdir()) == [path]
    process.communicate("\n", timeout=20)
    with path.open("rb") as file:
        assert make_reader(file).get_summary().statistics.message_count == 1000
    assert names_and_finds(told(capsys, "recover", path.parent)) == {path.name: "whole"}


def test_what_a_killed_recorder_of_others_left_is_recovered_at_once(another_recorder, capsys):
    process, path = another_recorder("dies")
    process.kill()
    process.wait()
    began = time.monotonic()
    (row,) = told(capsys, "recover", path)
    assert time.monotonic() - began < 10 and row["found"] == "its recorder was killed"
    assert 400 < row["saved"] <= 501 and row["as it was"] == f"{path}.cut"


def test_what_grows_while_nobody_is_seen_to_have_it_open_is_left_alone(folder, capsys, monkeypatch):
    """As over a network, or where the writer is another user's."""
    monkeypatch.setattr(open_files, "PROC_FOLDER", folder)
    path, ended = folder / "cut.mcap", threading.Event()

    def grow():
        while not ended.wait(0.2):
            with path.open("ab") as file:
                file.write(b"\0")

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        while time.time() - path.stat().st_mtime > 1:
            time.sleep(0.05)
        assert names_and_finds(told(capsys, "recover", path)) == {"cut.mcap": "is being written"}
    finally:
        ended.set()
        writer.join()
    assert not path.with_name("cut.mcap.cut").exists()
    assert names_and_finds(told(capsys, "recover", path)) == {"cut.mcap": "its recorder was killed"}


def test_what_cannot_be_written_is_left_as_it_was_and_the_others_are_recovered(folder, capsys, monkeypatch):
    replacing = session_recovery._replace_file

    def refuse(path):
        if path.name == "cut.mcap":
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return replacing(path)

    monkeypatch.setattr(session_recovery, "_replace_file", refuse)
    shutil.copy(folder / "cut.mcap", folder / "other.mcap")
    said = refused(capsys, "recover", folder)
    assert f"{folder}/cut.mcap is unchanged: Read-only file system. Correct that" in said
    assert read_session(folder / "other.mcap").is_whole and not read_session(folder / "cut.mcap").is_whole


def test_what_is_no_session_is_said_and_the_others_are_recovered(folder, capsys):
    (folder / "a.mcap").write_text("a note of somebody's")
    (folder / "episodes" / "one" / "episode_000000.parquet").write_text("a note")
    said = refused(capsys, "recover", folder)
    assert f"{folder}/a.mcap is no session: it is not an MCAP file" in said
    assert "episode_000000.parquet is no whole episode file" in said
    assert read_session(folder / "cut.mcap").is_whole
    assert (folder / "a.mcap").read_text() == "a note of somebody's"


def test_a_path_without_anything_to_recover_is_refused_by_name(tmp_path, capsys):
    assert "contains no session and no episode" in refused(capsys, "recover", tmp_path)
    assert "nowhere does not exist" in refused(capsys, "recover", tmp_path / "nowhere")
    assert "no path given" in refused(capsys, "recover")


def test_episodes_are_cut_from_sessions_once(tmp_path, capsys):
    (tmp_path / "elbow.yaml").write_text(YAML)
    writer = record(tmp_path / "session.mcap", steps(range(1, 101), range(200, 301)), close=False)
    say(writer, steps(range(1, 51)), robot="two")
    writer.close()
    words = ("episodes", tmp_path / "session.mcap", tmp_path / "out", "--robot", tmp_path / "elbow.yaml")
    rows = told(capsys, *words)
    assert [(row["robot"], row["steps"], row["invalid"], row["written"]) for row in rows] == [
        ("one", 99, 0, "now"),
        ("one", 100, 0, "now"),
        ("two", 49, 0, "now"),
    ]
    assert [row["file"] for row in rows][-1] == str(tmp_path / "out" / "two" / "episode_000000.parquet")
    (first, second) = list_episodes(tmp_path / "out" / "one")
    np.testing.assert_array_equal(read_episode(second).obs, [obs(step) for step in range(200, 301)])
    assert read_origin(first)[0].source == "session.mcap"
    assert {row["written"] for row in told(capsys, *words)} == {"before"}
    assert len(list_episodes(tmp_path / "out" / "one")) == 2
    main([*map(str, words), "--namespace", "two"])
    assert "0 of 1 episodes were written" in capsys.readouterr().out


def test_episodes_without_a_folder_or_of_another_robot_are_refused(tmp_path, capsys):
    record(tmp_path / "session.mcap", steps(range(1, 101)))
    assert "they must be recordings, and a folder last" in refused(
        capsys, "episodes", tmp_path / "session.mcap"
    )
    said = refused(capsys, "episodes", tmp_path / "session.mcap", tmp_path / "out", "--robot", "arm")
    assert "robot 'arm' cannot be used" in said and "base_yaw" in said


def steps(*spans: range) -> list:
    return [one for span in spans for step in span for one in step_of(step)]
