"""A training ends in a base that is usable, and says in a sentence what it could not make."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

pytestmark = [pytest.mark.learn, pytest.mark.sim]
pytest.importorskip("torch")

from wm_robot.agent import onnx_files
from wm_robot.errors import ConfigError, OnnxMismatchError
from wm_robot.model.base import load_base
from wm_robot.model.calibration import load_calibration
from wm_robot.robots import ROBOTS_FOLDER
from wm_robot.training.competence import CompetenceEstimator
from wm_robot.training.export import base_graphs
from wm_robot.training.trainer import EFFECTS_FILE, Trainer
from wm_robot_cli import pretrain_state
from wm_robot_cli.export import EXIT_MODELS_DIFFER
from wm_robot_cli.main import main
from wm_robot_cli.variants import COMPARED_VARIANTS

TINY = (
    *(
        "--updates",
        "2",
        "--batch-size",
        "2",
        "--steps",
        "10",
        "--trajectory-steps",
        "16",
        "--random-trajectories",
        "4",
    ),
    *("--planned-trajectories", "2", "--calibration-trajectories", "2"),
    *("--effect-trajectories", "4", "--correction-updates", "2"),
)
SMALL = (
    *(
        "--updates",
        "40",
        "--batch-size",
        "8",
        "--steps",
        "32",
        "--trajectory-steps",
        "64",
        "--random-trajectories",
        "64",
    ),
    *("--planned-trajectories", "8", "--calibration-trajectories", "16"),
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, short_estimate) -> Path:
    """Where trainings write."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def without_export(monkeypatch):
    """For tests of all the rest: an export takes seconds."""
    monkeypatch.setattr(base_graphs, "export_graphs", lambda *_, **__: {"plan": 0.0})


@pytest.fixture
def short_curriculum(monkeypatch):
    """A curriculum of a few steps."""
    monkeypatch.setattr(
        pretrain_state,
        pretrain_state.run_curriculum.__name__,
        partial(pretrain_state.run_curriculum, worlds=0, steps=(2, 4)),
    )


def train(*words: str) -> int:
    """Exit code of `wm-robot train`."""
    try:
        main(["train", *words])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.mark.parametrize(
    ("change", "named"), [(("--updates", "3"), ["--work"]), (("--seed", "1"), ["--work", "--data"])]
)
def test_a_training_on_the_files_of_another_names_the_options_that_help(
    without_export, capsys, change, named
):
    words = "cartpole", "--variant", "oracle", *TINY
    assert train(*words) == 0
    before = Path("bases/cartpole-oracle/base.json").read_bytes()
    capsys.readouterr()
    assert train(*words, *change) == 2
    message = capsys.readouterr().err
    assert f"{change[0][2:]} {'2' if change[0] == '--updates' else '0'} instead of {change[1]}" in message
    remedy = message.split("Train in another folder: ")[1].split(". Or delete")[0].split()
    assert remedy[::2] == named
    assert Path("bases/cartpole-oracle/base.json").read_bytes() == before
    assert train(*words, *change, *remedy) == 0
    assert Path("bases/cartpole-oracle/base.json").read_bytes() != before


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (("--memory", "null"), ("--memory", "null", "--variant", "robust")),
        (
            ("--variant", "oracle", "--steps", "20"),
            ("--variant", "oracle", "--steps", "20", "--trajectory-steps", "20"),
        ),
        (("--variant", "oracle", "--all"), ("--variant", "oracle")),
    ],
)
def test_the_remedy_for_options_that_do_not_fit_is_one(without_export, capsys, words, remedy):
    assert train("cartpole", *TINY, *words) == 2
    message = capsys.readouterr().err
    assert any(hint in message for hint in (" ".join(remedy[-2:]), "--steps", "Leave out one of the two"))
    assert not list(Path().rglob("*.safetensors"))
    assert train("cartpole", *TINY, *remedy) == 0


def test_a_failed_export_check_leaves_base_calibration_and_pretrained_state(
    monkeypatch, capsys, short_curriculum
):
    def differ(*_, **__):
        raise OnnxMismatchError("the exported life differs from torch by 1.2; at most 0.001 is allowed")

    monkeypatch.setattr(base_graphs, "export_graphs", differ)
    monkeypatch.setattr(CompetenceEstimator, "competence", 1.0)
    out = Path("bases/cartpole-semiparametric")
    for name in ("graphs.json", "plan.onnx", "predict.onnx", "pretrained/curriculum.json", "pretrained/old"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text('{"base": "of an earlier training"}')
    assert train("cartpole", *TINY) == EXIT_MODELS_DIFFER == 3
    (line,) = capsys.readouterr().err.splitlines()
    base = load_base(out)
    assert line == (
        f"{OnnxMismatchError.__name__}: base {base.digest[:12]} in {out} is usable in torch, and has no ONNX models: "
        "the exported life differs from torch by 1.2; at most 0.001 is allowed"
    )
    assert load_calibration(out, base).horizons
    assert json.loads((out / "pretrained" / "curriculum.json").read_text())["base"] == base.digest
    assert onnx_files.load_functions(out, base) is None
    assert not list(out.glob("*.onnx")) and not (out / "pretrained" / "old").exists()


def test_a_curriculum_that_fails_or_is_left_out_leaves_no_pretrained_state(
    without_export, capsys, short_curriculum
):
    out = Path("bases/cartpole-semiparametric")
    assert train("cartpole", *TINY) == 0
    assert "no pretrained state: all 2 stages failed" in capsys.readouterr().out
    assert not (out / "pretrained").exists() and (out / "curriculum-failed.json").exists()
    assert train("cartpole", *TINY, "--no-pretrain-state") == 0
    assert "pretrained state" not in capsys.readouterr().out and not (out / "pretrained").exists()


def test_all_bases_for_a_comparison_are_made_once_from_the_same_lives(
    without_export, capsys, short_curriculum, monkeypatch
):
    words = "cartpole", "--all", *TINY
    assert train(*words) == 0
    names = [f"cartpole-{'semiparametric' if arm == 'adaptive' else arm}" for arm in COMPARED_VARIANTS]
    assert names == ["cartpole-semiparametric", "cartpole-robust", "cartpole-oracle"]
    cards = [load_base(Path("bases") / name).manifest["card"] for name in names]
    assert capsys.readouterr().out.count("collecting") == 4
    digests = [card["data_sha256"] for card in cards]
    # Only the network that is told no physics has trajectories with effects.
    assert [digest.pop(EFFECTS_FILE, None) is not None for digest in digests] == [False, True, False]
    assert len({json.dumps(digest) for digest in digests}) == 1
    monkeypatch.setattr(onnx_files, "load_functions", lambda *_: object())
    calibration = Path("bases/cartpole-robust/calibration.json")
    content = calibration.read_bytes()
    calibration.unlink()
    trained, run = [], Trainer.run

    def noted(self):
        trained.append(self.folder.name)
        # Another training than that of the bases that are there: none of them is complete.
        if self.config.updates == 3:
            raise ConfigError("far enough")
        return run(self)

    monkeypatch.setattr(Trainer, "run", noted)
    assert train(*words) == 0
    assert trained == ["cartpole-robust"] and calibration.read_bytes() == content
    assert capsys.readouterr().out.count("is complete") == 2
    assert train(*words) == 0
    assert trained == ["cartpole-robust"]
    assert train(*words, "--updates", "3", "--work", "other") == 2
    assert trained[1:] == ["cartpole-ekf"], "the first network of the first base"


def test_all_bases_can_be_made_in_another_folder(without_export, short_curriculum):
    assert train("cartpole", "--all", "--out", "mine", "--no-pretrain-state", *TINY) == 0
    assert sorted(path.name for path in Path("mine").iterdir()) == [
        "cartpole-oracle",
        "cartpole-robust",
        "cartpole-semiparametric",
    ]


def test_all_bases_of_a_robot_that_ship_are_complete_from_any_folder(capsys):
    assert train("arm", "--all") == 0
    assert capsys.readouterr().out.count("is complete") == 3


def test_an_export_prints_one_line(capfd, monkeypatch):
    # The training's own export, of a plan of full size, takes half a minute: make soak has it.
    with monkeypatch.context() as patch:
        patch.setattr(base_graphs, "export_graphs", lambda *_, **__: {"plan": 0.0})
        assert train("reacher", "--variant", "oracle", *TINY) == 0
    out, err = capfd.readouterr()
    assert sum(line.startswith("graphs in bases/reacher-oracle: ") for line in out.splitlines()) == 1
    assert not err
    main(["export", "bases/reacher-oracle", "--samples", "16", "--horizon", "3"])
    out, err = capfd.readouterr()
    assert out.startswith(
        "graphs in bases/reacher-oracle: 16 plans of 3 steps; largest difference to torch: plan "
    )
    assert out.count("\n") == 1 and not err


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("robot", sorted(path.stem for path in ROBOTS_FOLDER.glob("*.yaml")))
def test_every_robot_that_ships_trains_to_bases_with_graphs(robot):
    # In a process of its own: where shapes are checked, the planner that gathers lives is several times slower.
    command = [sys.executable, "-m", "wm_robot_cli", "train", robot, "--all", *SMALL]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert sum(line.startswith("graphs in ") for line in lines) == len(COMPARED_VARIANTS)
    assert not [line for line in lines if "fold" in line]
    assert "pretrained state" in done.stdout
    for folder in Path("bases").iterdir():
        base = load_base(folder)
        assert onnx_files.load_functions(folder, base) and load_calibration(folder, base)
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0 and again.stdout.count("is complete") == len(COMPARED_VARIANTS)
