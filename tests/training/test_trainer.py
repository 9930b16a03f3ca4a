"""Training is resumable with the same result, and it does learn."""

import re
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.errors import ConfigError, SnapshotError
from wm_robot.memory.registry import FAMILIES
from wm_robot.model.config import ModelConfig
from wm_robot.model.world_model import WorldModel
from wm_robot.recording.trajectory_file import save_trajectories
from wm_robot.training.curriculum import Stage
from wm_robot.training.optimizers import make_optimizers
from wm_robot.training.train_config import TrainConfig
from wm_robot.training.trainer import (
    CURVE_INTERVAL,
    Trainer,
)
from wm_robot.types import TrajectoryBatch


def gain_lives(number: int, lives: int = 24, steps: int = 80) -> TrajectoryBatch:
    """A point pushed with a gain that differs from life to life: nothing but the life tells which."""
    rng = np.random.default_rng(number)
    gain = rng.choice([-1.0, 1.0], size=(lives, 1, 1)).astype(np.float32)
    action = rng.normal(size=(lives, steps, 1)).astype(np.float32)
    obs = np.concatenate([np.zeros((lives, 1, 1), np.float32), np.cumsum(0.1 * gain * action, 1)], 1)
    return TrajectoryBatch(
        obs=obs,
        action=action,
        initial_action=np.zeros((lives, 1), np.float32),
        goal=np.zeros((lives, steps + 1, 0), np.float32),
        physics=gain,
        world=np.zeros((lives, steps), np.int64),
    )


class GainLives:
    """Where the lives of these tests come from."""

    def describe_round(self, number: int) -> dict:
        return {"kind": "gain", "round": number}

    def __call__(self, number: int, model: object) -> TrajectoryBatch:
        return gain_lives(number)


def model_of(memory: str, width: int = 16) -> WorldModel:
    torch.manual_seed(0)
    shape = ModelConfig(
        obs=1,
        action=1,
        truth=1,
        dt=0.02,
        servo=(-1,),
        memory=memory,
        width=width,
        context=4,
        outcome=8,
    )
    return WorldModel(shape)


def trainer(folder: Path, *, memory: str = "gru", start: WorldModel | None = None, **config) -> Trainer:
    values = {
        "updates": 12,
        "batch_size": 6,
        "segment_steps": 24,
        "horizon": 4,
        "checkpoint_interval": 4,
        "collect_at": (0.5,),
    } | config
    return Trainer(
        model_of(memory),
        TrainConfig(**values),
        folder=folder / "run",
        data=folder / "data",
        trajectory_source=GainLives(),
        initial_model=start,
    )


@pytest.mark.parametrize(
    ("memory", "killed_at", "more"),
    [
        ("gru", 1, {}),
        ("gru", 7, {}),
        ("delta", 5, {}),
        ("oracle", 11, {}),
        ("ekf", 7, {}),
        (
            "gru",
            CURVE_INTERVAL + 6,
            {
                "updates": CURVE_INTERVAL + 10,
                "stages": (Stage(segment_fraction=0.5, world_fraction=0.5, max_progress=0.1),),
            },
        ),
    ],
)
def test_killed_and_resumed_equals_never_killed(tmp_path, memory, killed_at, more):
    whole = trainer(tmp_path / "whole", memory=memory, **more)
    for _ in whole.run():
        pass
    first = trainer(tmp_path / "parts", memory=memory, **more)
    for _ in first.run():
        if first.update == killed_at:
            break
    second = trainer(tmp_path / "parts", memory=memory, **more)
    for _ in second.run():
        pass
    for name, value in whole.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], value), name
    # All but the clock.
    curve = [{k: v for k, v in point.items() if k != "seconds_left"} for point in whole.history]
    assert curve == [{k: v for k, v in point.items() if k != "seconds_left"} for point in second.history]


def test_a_memory_learns_what_weights_alone_cannot(tmp_path):
    error = {}
    for memory in ("gru", "null"):
        run = trainer(
            tmp_path / memory,
            memory=memory,
            updates=100,
            batch_size=16,
            learning_rate=5e-3,
            matrix_learning_rate=2e-2,
        )
        metrics = list(run.run())
        error[memory] = np.mean([m["error_at_12"] for m in metrics[-20:]])
    assert error["gru"] < 0.3 * error["null"]


def test_a_model_trained_by_being_told_finds_out_by_itself(tmp_path):
    run = trainer(
        tmp_path,
        memory="ekf",
        updates=150,
        batch_size=16,
        learning_rate=5e-3,
        matrix_learning_rate=2e-2,
        carry_fraction=0.0,
    )
    for _ in run.run():
        pass
    new, model = gain_lives(77, lives=40), run.model.eval().requires_grad_(False)
    # The prior is that of the training's lives: a coin, and so one number with two sides.
    assert model.memories[0].prior_mean.abs() < 0.5 and model.memories[0].reflection_sum.abs() < 1e-6
    obs, action = torch.from_numpy(new.obs), torch.from_numpy(new.action)
    born = model.initial_state(initial_action=torch.from_numpy(new.initial_action))
    _, lived = model.scan(born, obs[:, :31], action[:, :30], torch.ones(40, 30))
    gain = torch.from_numpy(new.physics[:, 0])
    assert ((model.estimate_physics(lived) > 0) == (gain > 0)).float().mean() > 0.95
    assert ((model.estimate_physics(born) > 0) == (gain > 0)).float().mean() < 0.8


def test_competence_promotes_and_lives_begin_anew(tmp_path, monkeypatch):
    stages = (
        Stage(segment_fraction=0.5, world_fraction=0.5, min_competence=-np.inf),
        Stage(carry_fraction=0.0, max_progress=1.0),
    )
    run = trainer(tmp_path, updates=2 * CURVE_INTERVAL + 1, stages=stages, collect_at=())
    shapes, draw = [], run._draw_segments
    monkeypatch.setattr(run, "_draw_segments", lambda: shapes.append(draw()) or shapes[-1])
    for _ in run.run():
        pass
    first, second = shapes[:CURVE_INTERVAL], shapes[CURVE_INTERVAL : 2 * CURVE_INTERVAL]
    assert {s.action.shape[:2] for s in first} == {(12, 12)} and first[0].num_fresh == 6
    assert {s.action.shape[:2] for s in second} == {(6, 24)} and second[0].num_fresh == 6
    assert [point["stage"] for point in run.history] == [0, 1, 1]
    # What is foreseen of a coin that a life soon knows is most of what moves.
    assert run.history[-1]["competence"] > run.history[0]["competence"]


def remedies(error: pytest.ExceptionInfo[SnapshotError]) -> tuple[dict[str, Path], list[Path]]:
    """What a message says to do: options with new folders, or files to delete."""
    elsewhere, files = (
        str(error.value).split("Train in another folder: ")[1].split(". Or delete, to start again here: ")
    )
    words = elsewhere.split()
    options = dict(zip(words[::2], map(Path, words[1::2]), strict=True))
    return options, [Path(name) for name in files.split()]


def refused(folder: Path, other_lives: bool = False, **config):
    """What is said of a refused training, and the remedies, each of which must help."""

    def attempt(options: dict[str, Path]) -> Trainer:
        run = trainer(folder, **config)
        run.folder = options.get("--work", folder) / "run"
        run.data = options.get("--data", run.data)
        if other_lives:
            run._trajectory_source.describe_round = lambda number: {"kind": "other", "round": number}
        # To the end: lives of later rounds are asked for on the way.
        for _ in run.run():
            pass
        assert run.update == run.config.updates
        return run

    with pytest.raises(SnapshotError) as error:
        attempt({})
    options, files = remedies(error)
    before = {path: path.read_bytes() for path in files}
    elsewhere = attempt(options)
    assert all(path.read_bytes() == content for path, content in before.items())
    for path in {*files, elsewhere.checkpoint_path}:
        path.unlink()
    attempt({})
    return str(error.value), set(options), [path.name for path in files]


def test_another_config_on_an_old_checkpoint_is_refused(tmp_path):
    list(trainer(tmp_path).run())
    message, options, files = refused(tmp_path, batch_size=4)
    assert "was made with another config: batch_size 6 instead of 4" in message
    assert options == {"--work"} and files == ["checkpoint.safetensors"]


def test_lives_gathered_otherwise_are_refused(tmp_path):
    list(trainer(tmp_path).run())
    message, options, files = refused(tmp_path, other_lives=True)
    assert "collected with kind gain instead of other" in message
    assert options == {"--work", "--data"}
    assert files == ["checkpoint.safetensors", "trajectories-0.safetensors", "trajectories-1.safetensors"]


def test_other_lives_without_a_checkpoint_need_another_folder_of_lives_alone(tmp_path):
    for _ in trainer(tmp_path).run():
        pass
    trainer(tmp_path).checkpoint_path.unlink()
    _, options, files = refused(tmp_path, other_lives=True)
    assert options == {"--data"} and files == ["trajectories-0.safetensors", "trajectories-1.safetensors"]


def test_a_checkpoint_does_not_go_on_with_other_lives(tmp_path):
    list(trainer(tmp_path).run())
    path = tmp_path / "data" / "trajectories-0.safetensors"
    save_trajectories(path, gain_lives(5), GainLives().describe_round(0))
    message, options, files = refused(tmp_path)
    assert "trained on other trajectories" in message
    assert options == {"--work"} and files == ["checkpoint.safetensors"]


def test_a_checkpoint_whose_planned_lives_are_gone_says_so_at_once(tmp_path):
    list(trainer(tmp_path).run())
    (tmp_path / "data" / "trajectories-1.safetensors").unlink()
    message, options, files = refused(tmp_path)
    assert re.search(r"was trained on missing files: .*trajectories-1\.safetensors", message)
    assert options == {"--work"} and files == ["checkpoint.safetensors"]


def test_random_lives_that_are_gone_are_gathered_again(tmp_path):
    list(trainer(tmp_path).run())
    (tmp_path / "data" / "trajectories-0.safetensors").unlink()
    run = trainer(tmp_path)
    list(run.run())
    assert run.update == run.config.updates


@pytest.mark.parametrize(
    "damaged", ["checkpoint.safetensors", "trajectories-0.safetensors", "trajectories-1.safetensors"]
)
def test_a_damaged_file_of_a_training_says_so(tmp_path, damaged):
    list(trainer(tmp_path).run())
    (path,) = tmp_path.rglob(damaged)
    path.write_bytes(path.read_bytes()[:1000])
    message, options, files = refused(tmp_path)
    assert f"{damaged} {'cannot be read' if 'checkpoint' in damaged else 'holds no trajectories'}" in message
    assert files == ["checkpoint.safetensors", *([damaged] if "trajectories" in damaged else [])]


def test_a_horizon_longer_than_a_segment_is_refused():
    with pytest.raises(ConfigError, match="train.horizon is 9; it must be from 0 to segment_steps, 8"):
        TrainConfig(horizon=9, segment_steps=8)


def test_a_carried_row_of_the_oracle_is_told_the_robot_it_moved_to(tmp_path, monkeypatch):
    run = trainer(tmp_path, memory="oracle", collect_at=(), carry_fraction=1.0, segment_steps=24)
    told = []
    scan = run.model.scan

    def noted(state, obs, action, valid, truth, measured):
        told.append((state.memory[0]["physics"].clone(), truth[:, 0].clone()))
        return scan(state, obs, action, valid, truth, measured)

    monkeypatch.setattr(run.model, "scan", noted)
    for _ in run.run():
        pass
    # Lives of 80 steps end every few updates, and most rows move on to the next without being born.
    for state, truth in told:
        assert torch.equal(state, truth)


def test_a_training_begins_from_all_of_another_base_but_its_memory(tmp_path):
    start = model_of("oracle")
    for value in start.state_dict().values():
        value.add_(1.0)
    new, taken = trainer(tmp_path / "new", start=start), start.state_dict()
    new._start_or_resume()
    for name, value in new.model.state_dict().items():
        if not name.startswith(("memories.", "physics_head.")):
            assert torch.equal(value, taken[name]), name
    list(trainer(tmp_path, start=start).run())
    again = trainer(tmp_path, start=start)
    again._start_or_resume()
    # It goes on from its checkpoint, not from the start.
    assert not torch.equal(again.model.input_layer.weight, taken["input_layer.weight"])


def test_a_start_of_another_shape_is_refused(tmp_path):
    run = trainer(tmp_path, start=model_of("oracle", width=8))
    with pytest.raises(ConfigError, match="start has other shapes.*input_layer.weight"):
        run._start_or_resume()


@pytest.mark.parametrize("memory", sorted(FAMILIES))
def test_every_parameter_has_one_optimizer_and_only_matrices_decay(tmp_path, memory):
    model = trainer(tmp_path, memory=memory).model
    names = {id(p): name for name, p in model.named_parameters()}
    muon, adam = make_optimizers(model)
    groups = [*muon.param_groups, *adam.param_groups]
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear | torch.nn.GRU)]
    decaying = {id(p) for m in linear for p in m.parameters() if p.ndim == 2}
    listed = [names[id(p)] for group in groups for p in group["params"]]
    assert sorted(listed) == sorted(names.values())
    for group in groups:
        for p in group["params"]:
            assert (group["weight_decay"] > 0) == (id(p) in decaying), names[id(p)]
    assert not any("head" in names[id(p)] for group in muon.param_groups for p in group["params"])
