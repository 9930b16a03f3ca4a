"""The table of mistakes: each is made, and the way in which it ends is graded by machine. See `grades`."""

import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

pytest.importorskip("cryptography")

from tests.cli.grades import as_anybody, called, grade, one_line, start_nothing, started, wm_robot
from tests.sharing.shipments import POINT, base_files, lived
from wm_robot.io.base_file import BASE_FOLDERS
from wm_robot_cli.main import main

ROS = (pytest.mark.ros, pytest.mark.sim, pytest.mark.learn)
LEARN = (pytest.mark.sim, pytest.mark.learn)
JOINT = POINT["joints"][0]
LACKING = {name: value for name, value in JOINT.items() if name != "effort"}
SPECS: dict[str, Any] = {
    "point.yaml": POINT,
    "misspelt.yaml": {**POINT, "joints": [{**LACKING, "efort": 1.0}]},
    "broken.yaml": "name: point\n\trate: 50\n",
    "reversed.yaml": {**POINT, "joints": [{**JOINT, "position": [1.0, -1.0]}]},
    "lacking.yaml": {**POINT, "joints": [LACKING]},
}


class Row(NamedTuple):
    """A mistake."""

    what: str
    command: str
    names: tuple[str, ...]
    """What the message must name."""
    marks: tuple[Any, ...] = ()
    least: int = 3
    """Grade that it must have."""


SHIP = "state ship lives out.bundle --spec point.yaml"
EPISODES = "episodes session.mcap out --robot"
ROWS = (
    Row("misspelt verb", "trian", ("'trian'", "'train'")),
    Row("misspelt bench", "bench adaption", ("'adaption'", "'adaptation'")),
    Row("misspelt state verb", "state brunch lives side", ("'brunch'", "'branch'")),
    Row("misspelt option", "train --update 5", ("--update", "--updates")),
    Row("misspelt choice", "train --variant robst", ("--variant", "'robst'", "robust")),
    Row("misspelt robot", "train amr", ("'amr'", "'arm'"), LEARN),
    Row("misspelt robot of a bench", "bench sim --robot amr", ("'amr'", "'arm'"), LEARN),
    Row(
        "misspelt base",
        "export bases/arm-robuts",
        ("bases/arm-robuts", "'arm-robust'"),
        LEARN,
    ),
    Row("text for a number", "train --updates many", ("--updates", "'many'")),
    Row("updates below 1", "train --updates -4", ("--updates", "-4", "at least 1")),
    Row(
        "no random trajectories",
        "train --random-trajectories 0",
        ("--random-trajectories", "0", "at least 1"),
    ),
    Row("no threads", "bench sim --threads 0", ("--threads", "0", "at least 1")),
    Row("negative seed", "bench adaptation --seeds 3 -1", ("--seeds", "3 -1", "at least 0")),
    Row("negative seed of a training", "train --seed -1", ("--seed", "-1", "at least 0")),
    Row("seed of no number", "demo --seed one", ("--seed", "'one'")),
    Row(
        "no file to cut",
        "episodes nothing.mcap out --robot point.yaml",
        ("nothing.mcap",),
        (pytest.mark.episodes,),
    ),
    Row("misspelt key of a spec", f"{EPISODES} misspelt.yaml", ("'efort'", "misspelt.yaml", "'effort'")),
    Row("broken YAML", f"{EPISODES} broken.yaml", ("broken.yaml", "line 2")),
    Row("reversed range", f"{EPISODES} reversed.yaml", ("reversed.yaml", "'x'", "(1.0, -1.0)")),
    Row("missing key of a spec", f"{EPISODES} lacking.yaml", ("lacking.yaml", "'x'", "'effort'")),
    Row("missing spec", f"{EPISODES} nothing.yaml", ("nothing.yaml",)),
    # --- states
    Row("wrong store", "state ls live", ("live",)),
    Row("wrong branch", "state log lives@mian", ("'mian'", "main")),
    Row("branch beside its store", "state delete lives left", ("lives", "left")),
    Row("reset to nothing", "state reset lives", ("lives",)),
    Row("verify of no store", "state verify point-gru", ("point-gru",)),
    Row("gc of no store", "state gc live", ("live",)),
    Row(
        "diff with the wrong base",
        "state diff lives lives@left --base point-other",
        ("lives", "point-other"),
        LEARN,
    ),
    Row("save over another life", "state import it.bundle others --bases bases", ("'main'", "others")),
    Row("wrong base in ship", f"{SHIP} --base point-other --key me", ("lives", "point-other")),
    Row("misspelt base in ship", f"{SHIP} --base point-gur --key me", ("point-gur", "'point-gru'")),
    Row("unknown key", f"{SHIP} --base point-gru --key you", ("'you'",)),
    Row("untrusted key", "state inspect theirs.bundle", ("theirs.bundle", "not trusted")),
    Row("missing key file", "keys trust you nothing.pem", ("nothing.pem",)),
    Row("empty key file", "keys trust you empty.pem", ("empty.pem",)),
    Row("damaged bundle", "state inspect damaged.bundle", ("damaged.bundle",)),
    Row("cut bundle", "state inspect cut.bundle", ("cut.bundle",)),
    Row("damaged base", f"{SHIP} --base damaged --key me", ("damaged", "SHA-256")),
    # --- graphs of nodes
    Row("unknown graph", "up simm", ("'simm'", "'sim'"), ROS),
    Row("unknown graph argument", "up sim sead:=1", ("sead", "'seed'"), ROS),
    Row("argument without :=", "up sim seed=1", ("seed=1",), ROS),
    Row("text for a graph's number", "up sim seed:=one", ("seed", "one"), ROS),
    Row("text for a truth", "up sim learning:=maybe", ("learning", "maybe"), ROS),
    Row("unknown stand-in", "up sim plant:=standin/moon", ("plant", "moon"), ROS),
    Row("unknown world", "up sim world:=moon", ("world", "moon"), ROS),
    Row("unknown field of a world", 'up sim world:={"payloat":0.2}', ("world", "payloat"), ROS),
    Row("unknown robot in up", "up sim robot:=amr", ("'amr'", "'arm'"), ROS),
    Row("base of another robot", "up sim robot:=cartpole", ("base", "arm", "cartpole"), ROS),
    Row("plant that is none", "up robot plant:=real", ("plant", "real"), ROS),
    Row("namespace with a space", "up sim 'namespace:=my robot'", ("namespace", "my robot"), ROS),
    Row("domain without ports", "up sim --domain 5000", ("--domain", "5000"), ROS),
    Row("domain that is a word", "ROS_DOMAIN_ID=lab up sim", ("ROS_DOMAIN_ID", "'lab'"), ROS),
    Row("nothing to replay", "up replay recording:=nothing.mcap", ("recording", "nothing.mcap"), ROS),
)


@pytest.fixture
def place(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the working folder with all that a mistake can be made with."""
    folder = tmp_path / "work"
    shutil.copytree(template, folder)
    go_to(folder, monkeypatch)
    return folder


def go_to(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Work in a folder, with neither the user's keys nor their ROS domain."""
    patch.chdir(folder)
    patch.setenv("WM_ROBOT_KEYS", str(folder / "keys"))
    patch.setenv("ROS_DOMAIN_ID", "0")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working folder, made once."""
    folder = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        go_to(folder, patch)
        fill(folder)
    return folder


def fill(folder: Path) -> None:
    """Bases, specs, states, keys and bundles, sound and damaged."""
    for name, number in (("point-gru", 0.0), ("point-other", 1.0), ("damaged", 0.0)):
        (folder / name).mkdir()
        for file, content in base_files(number).items():
            (folder / name / file).write_bytes(content)
    weights = folder / "damaged" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    for name, spec in SPECS.items():
        (folder / name).write_text(spec if isinstance(spec, str) else yaml.safe_dump(spec))
    for number in (1, 2):
        lived(folder / "lives", number)
    main(["state", "branch", "lives@main~1", "left"])
    lived(folder / "others", 7)
    (folder / "empty.pem").touch()
    ship = ["state", "ship", "lives", "--base", "point-gru", "--spec", "point.yaml", "--key", "me"]
    for keys, file in (("keys", "it.bundle"), ("their-keys", "theirs.bundle")):
        main(["keys", "new", "me", "--keys", keys])
        main([*ship[:3], file, *ship[3:], "--keys", keys])
    bundle = (folder / "it.bundle").read_bytes()
    (folder / "cut.bundle").write_bytes(bundle[: len(bundle) // 2])
    (folder / "damaged.bundle").write_bytes(bundle[:-9] + b"x" + bundle[-8:])


@pytest.mark.parametrize("row", [pytest.param(row, id=row.what, marks=row.marks) for row in ROWS])
def test_a_mistake_ends_in_a_sentence_that_names_it_and_in_a_remedy_that_helps(place, monkeypatch, row):
    words = shlex.split(row.command)
    while "=" in words[0]:
        monkeypatch.setenv(*words.pop(0).split("="))
    monkeypatch.setattr(os, "execve", start_nothing)
    end = called(*words)
    monkeypatch.setenv("ROS_DOMAIN_ID", "0")
    found = grade(end, words, row.names)
    assert found >= row.least, f"grade {found}, code {end.code}: {one_line(end.said)}"


# --- mistakes that need more than a command ---------------------------------------------------------------------


def test_a_folder_that_may_not_be_written_to_is_named(place):
    Path("theirs").mkdir(mode=0o555)
    words = ["state", "export", "lives", "theirs/plain", "--base", "point-gru", "--spec", "point.yaml"]
    end = started(as_anybody(wm_robot(*words)))
    assert grade(end, words, ("theirs", "Permission denied")) == 3, end


def test_a_full_disk_is_named(place):
    (place / "full").mkdir()
    words = ["state", "ship", "lives", "full/out.bundle", "--base", "point-gru", "--spec", "point.yaml"]
    words += ["--key", "me"]
    fill = 'mount -t tmpfs -o size=64k none full && head -c 1M /dev/zero > full/rest; exec "$@"'
    end = started(["unshare", "-m", "sh", "-c", fill, "sh", *wm_robot(*words)], cwd=place)
    if "unshare" in end.said or "mount:" in end.said:
        pytest.skip(f"this user may mount nothing: {end.said}")
    assert grade(end, words, ("full/", "No space left on device")) == 3, end
    assert not list(Path("full").iterdir())


@pytest.mark.sim
def test_a_bench_that_is_stopped_says_so_and_nothing_of_a_training(place):
    bench = subprocess.Popen(
        wm_robot("bench", "sim", "--seconds", "600"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    time.sleep(4)
    bench.send_signal(signal.SIGINT)
    said = bench.communicate(timeout=30)[0].decode()
    assert bench.returncode == 130
    assert said.splitlines()[-1] == "Stopped. A stopped bench has no figures; run it again."
    assert "Traceback" not in said and "training" not in said


@pytest.mark.sim
@pytest.mark.learn
@pytest.mark.parametrize("option", ["--out", "--work"])
def test_a_training_in_the_folder_of_another_is_refused(place, option):
    beside = ".there.lock" if option == "--out" else ".cartpole-semiparametric.lock"
    folder = place if option == "--out" else place / "there"
    folder.mkdir(exist_ok=True)
    with (folder / beside).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        words = ["train", "cartpole", option, "there"]
        end = called(*words)
    assert grade(end, words, (option, "there", "another run")) == 3, end
    assert not Path("runs/data").exists()


@pytest.mark.sim
@pytest.mark.learn
def test_a_file_in_place_of_a_folder_is_refused_before_the_training(place):
    words = ["train", "cartpole", "--out", "point.yaml"]
    end = called(*words)
    assert grade(end, words, ("--out", "point.yaml", "not a folder")) == 3, end
    assert not Path("runs").exists()


@pytest.mark.ros
@pytest.mark.sim
@pytest.mark.learn
def test_a_demo_in_the_folder_of_another_is_refused(place):
    Path("there").mkdir()
    with Path("there/.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        words = ["demo", "--out", "there"]
        end = called(*words)
    assert grade(end, words, ("there",)) == 3, end


@pytest.mark.sim
@pytest.mark.learn
def test_a_damaged_graph_is_named(place):
    shutil.copytree(BASE_FOLDERS[0] / "arm-semiparametric", "copy")
    graph = Path("copy/plan.onnx")
    graph.write_bytes(graph.read_bytes()[:-1])
    words = ["export", "copy", "--check"]
    end = called(*words)
    assert grade(end, words, ("copy", "damaged")) == 3, end


@pytest.mark.ros
def test_an_empty_domain_is_the_first_one(place, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "")
    monkeypatch.setattr(os, "execve", start_nothing)
    assert called("up", "sim").code == 0


def test_spaces_and_umlauts_in_paths_are_no_mistake(place):
    folder = place / "Prüf stand" / "ä b"
    folder.mkdir(parents=True)
    for name in ("lives", "point-gru", "keys"):
        shutil.copytree(name, folder / name)
    shutil.copy("point.yaml", folder / "größe 1.yaml")
    os.chdir(folder)
    keys, spec = ("--keys", "keys"), ("--spec", "größe 1.yaml")
    for words in (
        ["state", "ls", folder / "lives"],
        ["state", "log", f"{folder / 'lives'}@left"],
        ["state", "clone", "lives@left", "zweites lager"],
        ["state", "ship", "lives", "ein bündel", "--base", folder / "point-gru", "--key", "me", *spec, *keys],
        ["state", "inspect", "ein bündel", *keys],
        ["state", "import", "ein bündel", "da@drüben", "--bases", "grund lagen", *keys],
        ["state", "export", "lives", "für alle", "--base", "point-gru", *spec],
        ["keys", "sign", "me", "größe 1.yaml", *keys],
        ["state", "verify", "zweites lager"],
    ):
        end = called(*words)
        if words[1] == "import":
            # A name is a file name everywhere: it has plain letters.
            assert grade(end, words, ("drüben",)) >= 2
        else:
            assert end.code == 0, end


def test_the_table_is_nearly_all_threes():
    grades = [row.least for row in ROWS]
    assert sum(grades) / len(grades) >= 2.8 and 0 not in grades
