"""Lives on disk, as a person meets them: tables, JSON, and sentences that say what to do."""

import json
import shlex

import numpy as np
import pytest

from wm_robot.store.store import Store
from wm_robot_cli.main import main


@pytest.fixture
def store(tmp_path):
    """Two lives with a common beginning."""
    place = Store(tmp_path / "lives")
    for number in range(3):
        save(place, number)
    place.create_branch("left", "main~1")
    save(place, 7, branch="left")
    return place


def save(place: Store, number: int, **options):
    values = {"0.s": np.full((1, 3), number, np.float32), "step": np.array([number], np.int64)}
    return place.save(values, base_digest="b" * 64, spec_digest="c" * 64, **options)


def said(capsys, *words: object) -> str:
    main(["state", *map(str, words)])
    return capsys.readouterr().out


def told(capsys, *words: object):
    return json.loads(said(capsys, *words, "--json"))


def refused(capsys, *words: object) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["state", *map(str, words)])
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_ls_and_log_show_lives_and_their_lines(store, capsys):
    rows = told(capsys, "ls", store.folder)
    assert [(row["name"], row["kind"], row["steps"]) for row in rows] == [
        ("left", "branch", 7),
        ("main", "branch", 2),
    ]
    line = told(capsys, "log", f"{store.folder}@left")
    assert [row["steps"] for row in line] == [7, 1, 0] and line[0]["names"] == "left"
    assert len(told(capsys, "log", store.folder, "--limit", 2)) == 2
    assert "left" in said(capsys, "ls", store.folder)


def test_a_life_pooled_from_two_is_drawn_as_two_lines(store, capsys):
    heads = list(store.read_branches().values())
    save(store, 9, branch="both", parents=heads)
    drawn = [row[""] for row in told(capsys, "log", f"{store.folder}@both")]
    assert drawn[0] == "*" and {"* |", "| *"} & set(drawn) and drawn[-1] == "*"


def test_show_says_all_that_the_manifest_says(store, capsys):
    shown = told(capsys, "show", store.folder)
    assert shown["digest"] == store.resolve("main") and shown["tensors"]["0.s"]["shape"] == [1, 3]
    assert shown["digest"] in said(capsys, "show", store.folder)


def test_branch_reset_pin_and_delete(store, capsys):
    said(capsys, "branch", f"{store.folder}@main~2", "right")
    assert store.read_manifest("right").steps == 0
    said(capsys, "pin", f"{store.folder}@left", "good")
    assert "it was at" in said(capsys, "reset", f"{store.folder}@left", "main")
    assert store.resolve("left") == store.resolve("main")
    said(capsys, "delete", f"{store.folder}@left")
    assert store.read_branches().keys() == {"main", "right"}
    assert told(capsys, "gc", store.folder)["removed"] == []
    said(capsys, "unpin", store.folder, "good")
    assert len(told(capsys, "gc", store.folder, "--dry-run")["removed"]) == 1
    assert "1 snapshots" in said(capsys, "gc", store.folder)


def test_a_clone_brings_its_line_and_is_a_life_of_its_own(store, tmp_path, capsys):
    said(capsys, "clone", f"{store.folder}@left", tmp_path / "other")
    other = Store(tmp_path / "other")
    assert [each.steps for each in other.iterate_lineage()] == [7, 1, 0]
    save(other, 8)
    assert store.read_manifest("left").steps == 7 and Store(tmp_path / "other").read_manifest().steps == 8
    assert "is there already" in refused(capsys, "clone", store.folder, tmp_path / "other")


def test_diff_names_what_differs(store, capsys):
    rows = told(capsys, "diff", store.folder, f"{store.folder}@left")
    assert {row["tensor"]: row["largest"] for row in rows} == {"0.s": 5.0, "step": 5.0}
    assert told(capsys, "diff", store.folder, store.folder) == []


def test_a_clone_of_what_goes_on_from_a_branch_moves_it_forward(store, tmp_path, capsys):
    said(capsys, "clone", store.folder, tmp_path / "other")
    ahead = save(Store(tmp_path / "other"), 8)
    before = store.resolve("main")
    moved = said(capsys, "clone", tmp_path / "other", store.folder)
    assert f"is at {ahead.digest[:12]}" in moved and f"it was at {before[:12]}" in moved
    assert store.resolve("main") == ahead.digest


def test_the_command_of_a_clone_that_was_refused_succeeds(store, tmp_path, capsys):
    save(Store(tmp_path / "the other"), 8)
    line = refused(capsys, "clone", store.folder, tmp_path / "the other").rpartition("Run: wm-robot state ")[
        2
    ]
    assert "branch 'main-2' starts" in said(capsys, *shlex.split(line))


def test_diff_compares_only_what_means_the_same(store, tmp_path, capsys):
    other = Store(tmp_path / "other")
    values = {"0.s": np.zeros((1, 3), np.float32), "step": np.array([1], np.int64)}
    other.save(values, base_digest="d" * 64, spec_digest="c" * 64)
    other.save(values, base_digest="b" * 64, spec_digest="e" * 64, branch="arm")
    words = refused(capsys, "diff", store.folder, other.folder)
    assert f"{store.folder} was learned with base bbbb" in words and f"{other.folder} with base dddd" in words
    assert "with robot eeee" in refused(capsys, "diff", store.folder, f"{other.folder}@arm")


def test_diff_with_a_base_that_is_not_theirs_is_refused_and_names_theirs(store, tmp_path, capsys):
    for name, digest in (("right", "b" * 64), ("wrong", "d" * 64)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "base.json").write_text(json.dumps({"digest": digest}))
    wrong = refused(capsys, "diff", store.folder, f"{store.folder}@left", "--base", tmp_path / "wrong")
    assert (
        f"base {tmp_path / 'wrong'} do not belong together" in wrong and "bbbb" in wrong and "dddd" in wrong
    )
    assert f"Use: --base {tmp_path / 'right'}" in wrong
    nowhere = refused(capsys, "diff", store.folder, f"{store.folder}@left", "--base", tmp_path / "rigth")
    assert "no base in" in nowhere and "Did you mean 'right'?" in nowhere


def test_verify_ends_with_1_where_something_is_damaged_and_only_repair_changes_something(store, capsys):
    assert "all 4 snapshots" in said(capsys, "verify", store.folder)
    file = store.folder / "objects" / f"{store.read_manifest('left').object}.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    for words in (["--json"], []):
        with pytest.raises(SystemExit) as ended:
            main(["state", "verify", str(store.folder), *words])
        assert ended.value.code == 1 and file.exists()
        out = capsys.readouterr().out
        assert "damaged" in (json.loads(out)["damaged"][0] if words else out)
    command = shlex.split(out.rpartition("wm-robot ")[2])
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 1 and not file.exists()
    assert (store.folder / "quarantine" / file.name).exists()


def test_a_branch_written_after_its_store_is_told_how_it_is_written(store, capsys):
    for verb in ("show", "log", "delete"):
        words = refused(capsys, verb, store.folder, "left")
        assert f"got '{store.folder} left'; a branch is written STORE@BRANCH" in words
        said(capsys, *shlex.split(words.rpartition("Run: wm-robot state ")[2]))
    assert store.read_branches().keys() == {"main"}


def test_reset_without_a_snapshot_says_how_to_go_back(store, capsys):
    words = refused(capsys, "reset", f"{store.folder}@left")
    before = store.resolve("left~1")
    said(capsys, *shlex.split(words.partition("wm-robot state ")[2].partition(". All of them")[0]))
    assert store.resolve("left") == before
    said(capsys, *shlex.split(words.rpartition("wm-robot state ")[2]))
    said(capsys, "reset", f"{store.folder}@left", "main~2")
    # Before the first there is nothing.
    assert f"wm-robot state reset {store.folder}@left left." in refused(
        capsys, "reset", f"{store.folder}@left"
    )


def test_a_wrong_branch_is_told_with_the_right_one(store, capsys):
    for words in (("show", "@lfet"), ("log", "@lfet"), ("delete", "@lfet"), ("branch", "@lfet", "new")):
        verb, at, *more = words
        told_so = refused(capsys, verb, f"{store.folder}{at}", *more)
        assert "'lfet'" in told_so and "Did you mean 'left'?" in told_so
        said(capsys, *told_so.rpartition("wm-robot state ")[2].split())
    assert "Did you mean 'good'" in (said(capsys, "pin", store.folder, "good") or "") + refused(
        capsys, "unpin", store.folder, "god"
    )


WRONG_STORE = {
    "ls": (), "log": (), "show": (), "branch": ("new",), "clone": ("STORE@new",), "reset": ("main",),
    "pin": ("good",), "unpin": ("good",), "delete": (), "diff": ("STORE",), "verify": (), "gc": (),
}  # fmt: skip


@pytest.mark.parametrize("verb", WRONG_STORE)
def test_what_is_no_store_is_refused_by_every_verb_and_the_right_one_is_named(store, tmp_path, capsys, verb):
    wrong = tmp_path / "live"
    more = [word.replace("STORE", str(store.folder)) for word in WRONG_STORE[verb]]
    for options in ((), *([("--dry-run",)] if verb == "gc" else [])):
        told_so = refused(capsys, verb, wrong, *more, *options)
        assert f"no lifetime states in {wrong}" in told_so and f"Did you mean {store.folder}?" in told_so
        assert not wrong.exists() and len(told_so.splitlines()) == 1
        said(capsys, *told_so.rpartition("wm-robot state ")[2].split())


def test_what_is_not_there_is_said_with_what_is(store, tmp_path, capsys):
    assert "its branches are: left, main" in refused(capsys, "show", f"{store.folder}@rigth")
    assert "no lifetime states in" in refused(capsys, "ls", tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
