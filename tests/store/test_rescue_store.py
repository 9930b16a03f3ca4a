"""Rescue store: a state whose own store cannot be written is copied elsewhere; one command copies it back."""

import shlex
from pathlib import Path

import numpy as np
import pytest

from wm_robot.store.rescue_store import save_rescue_copy
from wm_robot.store.store import Store, parse_reference
from wm_robot.store.verification import find_damage
from wm_robot_cli.main import main


class Life:
    """Agent that counts its steps and saves them in a store."""

    def __init__(self, place):
        self.steps, self.store, self.origin = 0, Store(place), []

    def live_and_save(self):
        self.steps += 1
        self.origin = [self.write(self.store, "main", self.origin)]

    def copy(self, place):
        store, branch = parse_reference(place)
        return self.write(
            store, branch, [store.copy_from(self.store, each, tensors=False) for each in self.origin]
        )

    def write(self, store, branch, parents):
        values = {"step": np.array([self.steps], np.int64)}
        return store.save(
            values, base_digest="b" * 64, spec_digest="c" * 64, branch=branch, parents=parents
        ).digest


@pytest.fixture
def life(tmp_path, monkeypatch):
    """Agent with two unsaved steps; its rescue folders are `user` and `temporary`."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    life = Life(tmp_path / "the lives")
    life.live_and_save()
    life.steps += 2
    return life


def test_the_command_brings_the_life_back_to_its_branch(life, tmp_path, capsys):
    found = save_rescue_copy(life.copy, str(life.store.folder), agent_name="left-agent")
    copy = Path(found.copy_reference.rpartition("@")[0])
    assert copy.parent == tmp_path / "user" / "wm_robot" and copy.name.startswith("rescued-left-agent-")
    assert copy.stat().st_mode & 0o077 == 0
    assert life.store.read_manifest().steps == 1
    main(shlex.split(found.restore_command)[1:])
    assert life.store.resolve("main") == found.digest
    assert [each.steps for each in life.store.iterate_lineage()] == [3, 1] and find_damage(life.store) == []
    assert "it was at" in capsys.readouterr().out


def test_a_life_that_was_never_saved_is_brought_back_too(life, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    life.origin = []
    found = save_rescue_copy(life.copy, "new@left", agent_name="agent")
    main(shlex.split(found.restore_command)[1:])
    assert Store(tmp_path / "new").read_manifest("left").steps == 3


def test_the_next_place_is_taken_where_the_first_one_fails(life, tmp_path):
    (tmp_path / "user").write_text("a file where a folder should be")
    found = save_rescue_copy(life.copy, str(life.store.folder), agent_name="agent")
    copy = Path(found.copy_reference.rpartition("@")[0])
    assert copy.parent == tmp_path / "temporary" and copy.name.startswith("wm_robot-rescued-agent-")
    assert Store(copy).read_manifest().steps == 3


def test_where_nothing_can_be_written_each_place_is_named_with_its_reason(life, tmp_path):
    for name in ("user", "temporary"):
        (tmp_path / name).write_text("a file where a folder should be")
    with pytest.raises(
        OSError, match="no rescue folder can be written either .*user/wm_robot: .*temporary: "
    ):
        save_rescue_copy(life.copy, str(life.store.folder), agent_name="agent")


def test_a_place_that_is_full_is_left_as_it_was(life, tmp_path):
    def full(place):
        life.copy(place)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left on device"):
        save_rescue_copy(full, str(life.store.folder), agent_name="agent")
    assert not list((tmp_path / "user" / "wm_robot").iterdir()) and not list(
        (tmp_path / "temporary").iterdir()
    )
