"""`wm-robot state migrate` on recordings of a simulated arm, between two bases that ship."""

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
from wm_robot.agent.saved_lifetime import load_lifetime_state, load_model_backend
from wm_robot.model.base import load_base
from wm_robot.recording.episode_file import read_episode
from wm_robot.robots import load_spec
from wm_robot.store.store import Store
from wm_robot_cli.main import main
from wm_robot_sim.rollouts import collect_trajectories
from wm_robot_sim.worlds import DomainRandomization

BASES = Path(__file__).parents[2] / "bases"
OLD, NEW, SO101 = BASES / "arm-gru", BASES / "arm-semiparametric", BASES / "so101-semiparametric"
VISIT = 160
VISITS = (0, 1, 2, 0, 1)
"""Payload of each visit: the third is met once, in the first recording."""
SPLIT = 3 * VISIT


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    """Two recordings of one arm with three payloads, and a store with its lifetime on the old base."""
    folder, spec = tmp_path_factory.mktemp("arm"), load_spec("arm")
    body = DomainRandomization(spec).sample(np.random.default_rng(3))
    lives = collect_trajectories(
        spec,
        num_trajectories=1,
        num_steps=VISIT * len(VISITS),
        seed=5,
        held_out=True,
        worlds=[[replace(body, payload=payload) for payload in (0.0, 0.12, 0.25)]],
        world_schedule=[(VISIT * number, world) for number, world in enumerate(VISITS)],
    )
    episodes = [episode_of(lives, 0, 0, SPLIT), episode_of(lives, 0, SPLIT)]
    for name, episode in zip(("monday", "tuesday"), episodes, strict=True):
        write_recording(folder / f"{name}.parquet", episode)
    base = load_base(OLD)
    save_lived(folder / "lives", base, load_model_backend(OLD, base), episodes)
    return folder


def run(arm, *args, capsys, code=None, base=NEW, branch="main"):
    """What the verb prints; with `code` it must end so, and its error is returned."""
    command = ["state", "migrate", f"{arm}/lives@{branch}", *map(str, args), "--base", str(base)]
    if code is None:
        main(command)
        return capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == code
    return capsys.readouterr().err


def both(arm):
    return arm / "monday.parquet", arm / "tuesday.parquet"


def test_a_lifetime_goes_on_with_another_base(arm, capsys):
    store, spec = Store(arm / "lives"), load_spec("arm")
    old = store.read_manifest("main")
    tried = json.loads(run(arm, *both(arm), "--dry-run", "--json", capsys=capsys))
    assert tried["snapshot"] is None and store.read_branches().keys() == {"main"}
    # Stamps decide the order, not the command line.
    done = json.loads(run(arm, *reversed(both(arm)), "--json", capsys=capsys))
    assert {**done, "snapshot": None} == tried
    assert done["migrated_error"] < 0.9 * done["initial_error"] and done["migrated_error"] < done["old_error"]
    assert done["old_steps"] == done["replayed_steps"] == VISIT * len(VISITS) and done["lost_steps"] == 0
    assert done["contexts"]["found"] == done["contexts"]["met"] > 0
    new = store.read_manifest("arm-semiparametric")
    assert new.digest == done["snapshot"] and new.parents == () and new.steps == old.steps
    assert new.origin["migrated_from"] == old.digest and new.origin["base_digest"] == old.base_digest
    assert new.origin["recordings"].keys() == {"monday.parquet", "tuesday.parquet"}
    assert store.resolve("main") == old.digest
    saved = load_lifetime_state(store, "arm-semiparametric", load_base(NEW), spec)
    assert (saved.bank.last_used >= 0).any()
    again = run(arm, *both(arm), capsys=capsys, code=2)
    assert "branch 'arm-semiparametric' exists already" in again and "--branch arm-semiparametric-2" in again
    store.delete_branch("arm-semiparametric")


def test_what_no_recording_holds_is_told(arm, capsys):
    told = run(arm, both(arm)[1], "--dry-run", capsys=capsys)
    assert f"lost: {SPLIT} of {VISIT * len(VISITS)} steps of the old lifetime" in told
    assert "replayed 320 steps" in told and "dry run: nothing was saved" in told


def test_a_state_that_predicts_worse_than_the_old_one_is_refused_unless_it_is_wanted(arm, capsys):
    store, base = Store(arm / "lives"), load_base(NEW)
    spec = load_spec("arm")
    episodes = [read_episode(path, spec) for path in both(arm)]
    save_lived(store.folder, base, load_model_backend(NEW, base), episodes, branch="ekf")
    why = run(arm, *both(arm), capsys=capsys, code=2, branch="ekf", base=OLD)
    assert "of the old state with its base (limit: 1.1 times). Nothing is saved" in why
    run(arm, *both(arm), "--allow-worse", "--branch", "wanted", capsys=capsys, branch="ekf", base=OLD)
    assert store.read_manifest("wanted").origin["migrated_from"] == store.resolve("ekf")


def test_a_base_that_learns_nothing_from_recordings_is_refused(arm, capsys):
    why = run(arm, *both(arm), "--allow-worse", capsys=capsys, code=2, base=BASES / "arm-robust")
    assert "is not migrated: after the recordings the error" in why and "Nothing is saved" in why


def test_a_state_whose_base_is_gone_is_not_compared(arm, capsys, tmp_path):
    store = Store(arm / "lives")
    snapshot = store.read_manifest("main")
    store.save(
        store.load("main"), base_digest="0" * 64, spec_digest=snapshot.spec_digest, branch="gone", parents=[]
    )
    why = run(arm, *both(arm), capsys=capsys, code=2, branch="gone")
    assert "base 000000000000 of" in why and "--old-base" in why and "--allow-worse" in why
    wrong = run(arm, *both(arm), "--old-base", OLD, capsys=capsys, code=2, branch="gone")
    assert "do not belong together" in wrong
    done = json.loads(
        run(arm, *both(arm), "--allow-worse", "--dry-run", "--json", capsys=capsys, branch="gone")
    )
    assert done["old_error"] is None and done["contexts"] is None


@pytest.mark.parametrize(
    ("words", "base", "expected"),
    [
        (["monday.parquet"], OLD, "there is nothing to migrate"),
        (
            ["monday.parquet"],
            SO101,
            "The recordings of one robot are no experience of another",
        ),
        (["monday.parquet", "monday.parquet"], NEW, "hold a recording twice"),
        ([], NEW, "no recordings are given"),
        (["mondy.parquet"], NEW, "Did you mean"),
    ],
    ids=["own base", "another robot", "twice", "none", "missing"],
)
def test_what_cannot_be_migrated_is_refused(arm, capsys, words, base, expected):
    assert expected in run(arm, *(arm / word for word in words), capsys=capsys, code=2, base=base)
