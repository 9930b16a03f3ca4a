"""Lives on disk, as a person meets them: tables, JSON, and sentences that say what to do."""

import json

import numpy as np
import pytest

from wm_robot.cli.main import main
from wm_robot.lifetime.store import Store


@pytest.fixture
def store(tmp_path):
    """Two lives with a common beginning."""
    place = Store(tmp_path / "lives")
    for number in range(3):
        save(place, number)
    place.branch("left", "main~1")
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
    heads = list(store.branches().values())
    save(store, 9, branch="both", parents=heads)
    drawn = [row[""] for row in told(capsys, "log", f"{store.folder}@both")]
    assert drawn[0] == "*" and {"* |", "| *"} & set(drawn) and drawn[-1] == "*"


def test_show_says_all_that_the_manifest_says(store, capsys):
    shown = told(capsys, "show", store.folder)
    assert shown["digest"] == store.find("main") and shown["tensors"]["0.s"]["shape"] == [1, 3]
    assert shown["digest"] in said(capsys, "show", store.folder)


def test_branch_reset_pin_and_forget(store, capsys):
    said(capsys, "branch", f"{store.folder}@main~2", "right")
    assert store.show("right").steps == 0
    said(capsys, "pin", f"{store.folder}@left", "good")
    assert "it was at" in said(capsys, "reset", f"{store.folder}@left", "main")
    assert store.find("left") == store.find("main")
    said(capsys, "forget", f"{store.folder}@left")
    assert store.branches().keys() == {"main", "right"}
    assert told(capsys, "gc", store.folder)["removed"] == []
    said(capsys, "unpin", store.folder, "good")
    assert len(told(capsys, "gc", store.folder, "--dry-run")["removed"]) == 1
    assert "1 snapshots" in said(capsys, "gc", store.folder)


def test_a_clone_brings_its_line_and_is_a_life_of_its_own(store, tmp_path, capsys):
    said(capsys, "clone", f"{store.folder}@left", tmp_path / "other")
    other = Store(tmp_path / "other")
    assert [each.steps for each in other.log()] == [7, 1, 0]
    save(other, 8)
    assert store.show("left").steps == 7 and Store(tmp_path / "other").show().steps == 8
    assert "is there already" in refused(capsys, "clone", store.folder, tmp_path / "other")


def test_diff_names_what_differs(store, capsys):
    rows = told(capsys, "diff", store.folder, f"{store.folder}@left")
    assert {row["tensor"]: row["largest"] for row in rows} == {"0.s": 5.0, "step": 5.0}
    assert told(capsys, "diff", store.folder, store.folder) == []


def test_verify_ends_with_1_where_something_is_damaged(store, capsys):
    assert "all 4 snapshots" in said(capsys, "verify", store.folder)
    file = store.folder / "objects" / f"{store.show('left').object}.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(SystemExit) as ended:
        main(["state", "verify", str(store.folder), "--json"])
    assert ended.value.code == 1
    assert "damaged" in json.loads(capsys.readouterr().out)["damaged"][0]


def test_what_is_not_there_is_said_with_what_is(store, tmp_path, capsys):
    assert "its branches are: left, main" in refused(capsys, "show", f"{store.folder}@rigth")
    assert "no lives in" in refused(capsys, "ls", tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
