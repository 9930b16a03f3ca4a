"""A semiparametric base is made of two networks and a correction."""

from dataclasses import replace

import pytest

pytestmark = [pytest.mark.learn, pytest.mark.sim]
torch = pytest.importorskip("torch")

from wm_robot.model.base import load_base, save_base
from wm_robot.model.world_model import WorldModel
from wm_robot.robots import load_spec
from wm_robot.training.export import base_graphs
from wm_robot_cli.main import main

TINY = (
    *("--updates", "2", "--batch-size", "2", "--steps", "10", "--trajectory-steps", "16"),
    *("--random-trajectories", "4", "--planned-trajectories", "2", "--calibration-trajectories", "2"),
    *("--effect-trajectories", "4", "--correction-updates", "3", "--no-pretrain-state"),
)
TRAIN = ("train", "cartpole", "--memory", "semiparametric", *TINY)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, short_estimate):
    monkeypatch.chdir(tmp_path)
    # An export takes most of the time, and is tested elsewhere.
    monkeypatch.setattr(base_graphs, "export_graphs", lambda *_, **__: {"plan": 0.0})
    return tmp_path


@pytest.mark.timeout(600)
def test_its_networks_are_those_of_the_bases_trained_alone(folder, capsys):
    main(["train", "cartpole", "--variant", "robust", *TINY])
    main([*TRAIN])
    joined, robust = (load_base(f"bases/cartpole-{name}") for name in ("semiparametric", "robust"))
    frozen = joined.model.frozen
    assert frozen is not None
    for name, value in robust.model.state_dict().items():
        assert torch.equal(frozen.state_dict()[name], value), name
    card = joined.manifest["card"]
    assert card["networks"].keys() == {"ekf", "robust"} and card["correction"]["curve"][-1]["update"] == 3
    scale = joined.model.memory_layers[0].linear.log_scale
    assert (scale != scale[0]).any(), "the correction was not trained"

    # The same networks again, as they are: no gradient step but those of the correction.
    (folder / "bases/cartpole-ekf").mkdir()
    save_base(
        folder / "bases/cartpole-ekf",
        _take_physics(joined),
        load_spec("cartpole"),
        {"note": "its physics network"},
    )
    capsys.readouterr()
    starts = ("--start", "bases/cartpole-ekf", "bases/cartpole-robust")
    main([*TRAIN, *starts, "--work", "again", "--out", "joined"])
    assert "surprise" not in capsys.readouterr().out.split("correction:")[0]
    again = load_base("joined")
    assert again.digest == joined.digest


def _take_physics(joined):
    """The network of physics of a semiparametric base, as a model of its own."""
    model = WorldModel(replace(joined.model.config, memory="ekf"))
    held = joined.model.state_dict()
    model.load_state_dict({name: held[name] for name in model.state_dict()})
    return model


@pytest.mark.parametrize("start", [("robust", "robust"), ("oracle",)])
def test_it_starts_from_its_two_networks_only(folder, start, capsys):
    main(["train", "cartpole", "--variant", start[0], *TINY])
    with pytest.raises(SystemExit, match="2"):
        main([*TRAIN, "--start", *(f"bases/cartpole-{name}" for name in start)])
    assert "semiparametric base starts from one of 'ekf', one of 'null'" in capsys.readouterr().err


def test_it_needs_trajectories_with_effects(capsys):
    with pytest.raises(SystemExit, match="2"):
        main([*TRAIN, "--effect-trajectories", "0"])
    assert "effect_trajectories is 0" in capsys.readouterr().err
