"""`wm-robot state assimilate` and `pool` on recordings of simulated arms, with a base that ships."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.learn, pytest.mark.sim]
torch = pytest.importorskip("torch")
pytest.importorskip("mujoco")
pytest.importorskip("pyarrow")

from tests.cli.arm_recordings import episode_of, save_lived, write_recording
from wm_robot.model.base import load_base
from wm_robot.model.torch_backend import TorchBackend
from wm_robot.recording.episode_file import read_episode
from wm_robot.robots import load_spec
from wm_robot.store.store import Store
from wm_robot.types import Episode
from wm_robot_cli.main import main
from wm_robot_cli.recording_inputs import compute_recording_digest
from wm_robot_sim.rollouts import collect_trajectories
from wm_robot_sim.worlds import DomainRandomization

BASE = Path(__file__).parents[2] / "bases" / "arm-semiparametric"
STEPS = 320


@pytest.fixture(scope="module")
def arms(tmp_path_factory):
    """A recording each of a light and of a heavy arm with another body, and a store with the first one's life."""
    folder, spec = tmp_path_factory.mktemp("arms"), load_spec("arm")
    rng, draw = np.random.default_rng(3), DomainRandomization(spec).sample
    worlds = [[replace(draw(rng), payload=payload)] for payload in (0.0, 0.25)]
    lives = collect_trajectories(
        spec, num_trajectories=2, num_steps=STEPS, seed=5, held_out=True, worlds=worlds
    )
    episodes = [episode_of(lives, row) for row in range(2)]
    for name, episode in zip(("light", "heavy"), episodes, strict=True):
        write_recording(folder / f"{name}.parquet", episode)
    base = load_base(BASE)
    save_lived(folder / "lives", base, TorchBackend(base.model), [episode_of(lives, 0, stop=300)])
    return folder


def asked(arms, *args, capsys, code=None):
    """The last line of what a verb says; with `code` it must end so."""
    command = ["state", *map(str, args), "--base", str(BASE)]
    if code is None:
        main(command)
        return capsys.readouterr().out.splitlines()[-1]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == code
    return capsys.readouterr().err


def test_a_life_takes_over_what_another_arm_met(arms, capsys):
    store, life = Store(arms / "lives"), f"{arms}/lives"
    head, given = store.resolve("main"), (arms / "heavy.parquet", "--own", arms / "light.parquet")
    tried = json.loads(asked(arms, "assimilate", life, *given, "--dry-run", "--json", capsys=capsys))
    assert tried["accepted"] and tried["snapshot"] is None and store.resolve("main") == head
    done = json.loads(asked(arms, "assimilate", life, *given, "--json", capsys=capsys))
    assert done["own_after"] <= 1.02 * done["own_before"] and done["other_after"] < 0.9 * done["other_before"]
    snapshot = store.read_manifest("main")
    assert snapshot.digest == done["snapshot"] and snapshot.parents == (head,)
    assert snapshot.steps == 300 + round(0.75 * STEPS)
    assert snapshot.note.startswith("assimilated heavy.parquet ")
    store.reset_branch("main", head)


@pytest.mark.soak
@pytest.mark.ros
def test_what_ros2_bag_recorded_is_taken_over_as_episode_files_are(arms, capsys, tmp_path):
    from tests.recording.bags import write_split_bag
    from tests.recording.sessions import JOINTS, joints

    spec = load_spec("arm")
    names = list(spec.joint_names)
    for name in ("light", "heavy"):
        episode, said = read_episode(arms / f"{name}.parquet", spec), []
        led = np.concatenate([episode.initial_action[None], episode.action])
        for stamp, obs, applied in zip(1 + episode.stamp, episode.obs, led, strict=True):
            position, velocity = np.split(obs.astype(np.float64), 2)
            sensed = joints(int(stamp), name=names, position=position, velocity=velocity)
            done = joints(int(stamp), name=names, position=applied.astype(np.float64))
            said += [("applied_command", JOINTS, done), ("joint_states", JOINTS, sensed)]
        write_split_bag(tmp_path / name, said, 2, storage="sqlite3", compression="file")
    told = []
    for theirs, mine in (
        (arms / "heavy.parquet", arms / "light.parquet"),
        (tmp_path / "heavy", tmp_path / "light"),
    ):
        given = ("assimilate", f"{arms}/lives", theirs, "--own", mine, "--dry-run", "--json")
        told.append(asked(arms, *given, capsys=capsys))
    assert told[0] == told[1] and json.loads(told[0])["accepted"]
    digests = {compute_recording_digest(tmp_path / name) for name in ("light", "heavy")}
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("argument", "line"), [("recordings", "{wrong} --own {right}"), ("own", "{right} --own {wrong}")]
)
def test_a_recording_that_is_not_there_is_refused_by_its_argument(arms, capsys, argument, line):
    wrong, right = arms / "hevy.parquet", arms / "heavy.parquet"
    words = line.format(wrong=wrong, right=right).split()
    why = asked(arms, "assimilate", f"{arms}/lives", *words, capsys=capsys, code=2)
    assert f"{argument} '{wrong}' does not exist. Did you mean '{right}'?" in why


def test_experience_that_is_of_no_use_is_not_saved(arms, capsys):
    store = Store(arms / "lives")
    head, own = store.resolve("main"), arms / "light.parquet"
    why = asked(arms, "assimilate", store.folder, own, "--own", own, capsys=capsys, code=2)
    assert "does not improve with this experience" in why and "Nothing is saved" in why
    assert store.resolve("main") == head


def test_a_recording_of_another_robot_is_refused(arms, capsys, tmp_path):
    spec = replace(load_spec("arm"), rate=100.0)
    episode = Episode(
        stamp=np.arange(3),
        obs=np.zeros((3, spec.obs_dim)),
        action=np.zeros((2, spec.action_dim)),
        initial_action=np.zeros(spec.action_dim),
        reward=np.zeros(2),
        goal=np.zeros((3, 0)),
        valid=np.ones(2, bool),
    )
    write_recording(tmp_path / "other.parquet", episode, spec)
    own = arms / "light.parquet"
    why = asked(
        arms, "assimilate", f"{arms}/lives", tmp_path / "other.parquet", "--own", own, capsys=capsys, code=2
    )
    assert why.startswith("SpecError")


def test_lives_that_are_no_sums_are_not_pooled(arms, capsys):
    store = Store(arms / "lives")
    head = store.resolve("main")
    values = store.load(head)
    other = store.save(
        values,
        base_digest=store.read_manifest().base_digest,
        spec_digest=store.read_manifest().spec_digest,
        note="x",
    )
    lives = (f"{arms}/lives@{head}", f"{arms}/lives@{other.digest}")
    why = asked(arms, "pool", *lives, "--into", f"{arms}/pool", capsys=capsys, code=2)
    assert "cannot merge 2 states" in why and "recorded experience" in why
    why = asked(arms, "pool", lives[0], lives[0], "--into", f"{arms}/pool", capsys=capsys, code=2)
    assert "not 2 different lifetime states" in why
