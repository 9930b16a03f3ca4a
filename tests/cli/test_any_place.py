"""Every verb where nothing is as at home: it works, or says in one sentence why not.

Another working folder, which may not be written to; no home; an ascii locale; a user who is not root; and paths with
spaces and umlauts, which are no text in that locale.
"""

import os
import shutil
from pathlib import Path

import pytest
import yaml

pytest.importorskip("cryptography")

from tests.cli.grades import as_anybody, grade, started, wm_robot
from tests.recording.sessions import record, step_of
from tests.sharing.shipments import POINT, base_files, lived
from wm_robot.agent.onnx_files import load_functions
from wm_robot.io.base_file import BASE_FOLDERS, resolve_base_folder
from wm_robot.model.base import load_base

NOBODY = 65534
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}


class Elsewhere:
    """Somebody else's folder to be in, and one of one's own to write to."""

    def __init__(self, folder: Path, own: str):
        self.cwd, self.own = folder / "theirs", folder / own
        self.cwd.mkdir(mode=0o555)
        self.own.mkdir()
        kept = {name: value for name, value in os.environ.items() if name not in ("HOME", "WM_ROBOT_KEYS")}
        self._environment = {**kept, **ASCII}

    def run(self, *words: object):
        """A verb; a path of one's own is written as `@NAME`."""
        self._own_all()
        paths = [str(word).replace("@/", f"{self.own}/") for word in words]
        command = as_anybody(wm_robot(*paths))
        return started(command, cwd=self.cwd, env=self._environment, timeout=300)

    def _own_all(self):
        if not os.geteuid():
            for path in (self.own, *self.own.rglob("*")):
                os.chown(path, NOBODY, NOBODY)


@pytest.fixture
def elsewhere(request, tmp_path):
    """The place, with lives, a base, a spec and a key in it."""
    there = Elsewhere(tmp_path, getattr(request, "param", "ein prüf stand"))
    (there.own / "point-gru").mkdir()
    for name, content in base_files().items():
        (there.own / "point-gru" / name).write_bytes(content)
    (there.own / "point.yaml").write_text(yaml.safe_dump(POINT))
    (there.own / "tmp").mkdir()
    for number in (1, 2):
        lived(there.own / "lives", number)
    return there


KEYS = ("--keys", "@/keys")
OF_POINT = ("--base", "@/point-gru", "--spec", "@/point.yaml")
STATE_AND_KEYS = (
    ("--version",),
    ("--help",),
    ("completion", "zsh"),
    ("completion", "--line", "wm-robot state log @/lives@"),
    ("state", "ls", "@/lives"),
    ("state", "log", "@/lives"),
    ("state", "show", "@/lives@main~1"),
    ("state", "branch", "@/lives@main~1", "left"),
    ("state", "clone", "@/lives@left", "@/zweite"),
    ("state", "reset", "@/lives@left", "main"),
    ("state", "pin", "@/lives", "gut"),
    ("state", "diff", "@/lives", "@/lives@main~1"),
    ("state", "unpin", "@/lives", "gut"),
    ("state", "delete", "@/lives@left"),
    ("state", "verify", "@/lives"),
    ("state", "gc", "@/lives", "--dry-run"),
    ("state", "gc", "@/lives"),
    ("keys", "new", "me", *KEYS),
    ("keys", "ls", *KEYS),
    ("keys", "show", "me", *KEYS),
    ("keys", "sign", "me", "@/point.yaml", *KEYS),
    ("state", "ship", "@/lives", "@/bündel", *OF_POINT, "--key", "me", *KEYS),
    ("state", "inspect", "@/bündel", *KEYS),
    ("state", "import", "@/bündel", "@/da", "--bases", "@/grundlagen", *KEYS),
    ("state", "export", "@/lives", "@/ordner", *OF_POINT),
    ("keys", "distrust", "me", *KEYS),
    ("guard", "@/page", "--release"),
    ("bench", "store", "--folder", "@/tmp", "--rounds", "3", "--snapshots", "20"),
)


def test_what_needs_no_extra_works_for_anybody_anywhere(elsewhere):
    for words in STATE_AND_KEYS[:5]:
        end = elsewhere.run(*words)
        assert end.code == 0, (words, end)


def test_what_lies_beside_a_base_that_ships_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("arm-semiparametric", "bases/arm-semiparametric"):
        base = load_base(name)
        graphs = load_functions(name, base)
        assert graphs is not None and graphs.backend is not None
        assert resolve_base_folder(name) == Path(base.folder)
    assert resolve_base_folder("nowhere") == Path("nowhere")


@pytest.mark.soak
def test_all_that_needs_no_extra_works_for_anybody_anywhere(elsewhere):
    for words in STATE_AND_KEYS:
        end = elsewhere.run(*words)
        assert end.code == 0, (words, end)
    assert list(elsewhere.cwd.iterdir()) == []


@pytest.mark.soak
def test_a_user_without_a_home_is_told_where_keys_may_be(elsewhere):
    words = ["keys", "new", "me"]
    end = elsewhere.run(*words)
    assert grade(end, words, ("keys",)) >= 2, end


TINY = (
    "--updates",
    "4",
    "--batch-size",
    "2",
    "--steps",
    "16",
    "--random-trajectories",
    "4",
    "--planned-trajectories",
    "2",
)
TINY += ("--trajectory-steps", "32", "--calibration-trajectories", "2", "--no-pretrain-state")
TINY += ("--effect-trajectories", "4", "--correction-updates", "2")


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.ros
@pytest.mark.sim
@pytest.mark.learn
@pytest.mark.episodes
@pytest.mark.parametrize("elsewhere", ["ein stand"], indirect=True)
def test_all_that_needs_extras_works_for_anybody_anywhere_or_says_why_not(elsewhere):
    shutil.copytree(BASE_FOLDERS[0] / "arm-semiparametric", elsewhere.own / "arm-semiparametric")
    record(elsewhere.own / "sitzung.mcap", [said for step in range(40) for said in step_of(step)])
    elbow = {
        **POINT,
        "name": "elbow",
        "joints": [{"name": "elbow", "position": [-9.0, 9.0], "velocity": 9.0, "effort": 1.0}],
        "actuators": [
            {"name": "elbow", "joint": "elbow", "kind": "position", "range": [-9.0, 9.0], "rate": 9.0}
        ],
    }
    (elsewhere.own / "elbow.yaml").write_text(yaml.safe_dump(elbow))
    where = ("--out", "@/neu", "--work", "@/arbeit", "--data", "@/leben")
    for words in (
        ("episodes", "@/sitzung.mcap", "@/folgen", "--robot", "@/elbow.yaml"),
        ("recover", "@/sitzung.mcap"),
        ("recover", "@/folgen"),
        ("train", "cartpole", *TINY, *where),
        ("export", "arm-semiparametric", "--check"),
        ("calibrate", "@/arm-semiparametric", "--trajectories", "2"),
        (
            "state",
            "diff",
            "@/arm-semiparametric/pretrained",
            "@/arm-semiparametric/pretrained",
            "--base",
            "arm-semiparametric",
        ),
        ("pretrain-state", "@/neu", "--worlds", "0", "--min-steps", "1", "--max-steps", "40"),
        ("bench", "sim", "--seconds", "0.2"),
        ("bench", "control", "--episodes", "2", "--seeds", "0"),
        ("up", "sim", "--show-args"),
    ):
        end = elsewhere.run(*words)
        assert end.code == 0, (words, end)
    # The libraries of others take no path that is no text.
    end = elsewhere.run("train", "cartpole", *TINY, *(part.replace("@/", "@/ü") for part in where))
    assert grade(end, ("",), ("not valid text in this locale", "PYTHONUTF8=1")) >= 2, end
    # Where there is nothing to write to, that is said at once, and nothing is computed in vain.
    for words in (
        ("train", "cartpole", *TINY),
        ("calibrate", "arm-semiparametric"),
        ("pretrain-state", "arm-semiparametric"),
        ("export", "arm-semiparametric"),
        ("bench", "memory"),
        ("episodes", "@/sitzung.mcap", "hier", "--robot", "@/elbow.yaml"),
        ("demo", "--quick"),
    ):
        end = elsewhere.run(*words)
        ours = [line for line in end.said.splitlines() if "onnxruntime" not in line]
        assert grade(end, words, ("",)) >= 2 and len(ours) == 1, (words, end)
    assert list(elsewhere.cwd.iterdir()) == []
