"""Store: no acknowledged snapshot is lost, every ancestor can be loaded, branches never change each other."""

import os
import sqlite3
import tempfile
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from wm_robot.errors import SnapshotError
from wm_robot.io import durable
from wm_robot.store.garbage_collection import collect_garbage
from wm_robot.store.index import StoreIndex
from wm_robot.store.store import Store, parse_reference
from wm_robot.store.store_folder import FOLDERS
from wm_robot.store.transfer import clone_branch
from wm_robot.store.verification import find_damage, quarantine_damaged

BASE, SPEC = "b" * 64, "c" * 64


def state(number: float, steps: int = 0) -> dict[str, np.ndarray]:
    return {
        "0.s": np.full((1, 3), number, np.float32),
        "step": np.array([steps], np.int64),
        "nothing": np.zeros((0, 2), np.float32),
    }


def kept(store: Store, number: float, **options):
    return store.save(state(number), base_digest=BASE, spec_digest=SPEC, **options)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def number(store: Store, reference: str = "main") -> float:
    return float(store.load(reference)["0.s"][0, 0])


def test_what_was_saved_comes_back_bit_for_bit(store):
    values = {
        "x": np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32),
        "step": np.array([2**40, 7], np.int64),
        "flag": np.array([True, False]),
        "empty": np.zeros((2, 0), np.float32),
    }
    snapshot = store.save(values, base_digest=BASE, spec_digest=SPEC, metrics={"nll": -1.5}, note="first")
    back = Store(store.folder).load(snapshot.digest)
    assert back.keys() == values.keys()
    for name, value in values.items():
        assert back[name].dtype == value.dtype and back[name].tobytes() == value.tobytes()
    shown = store.read_manifest()
    assert shown == snapshot and shown.steps == 2**40 and shown.metrics == {"nll": -1.5}


def test_a_life_that_cannot_go_on_is_not_saved(store):
    with pytest.raises(SnapshotError, match="'0.s'.*not finite"):
        kept(store, float("nan"))
    assert not store.read_branches()


def test_another_base_or_robot_is_refused(store):
    kept(store, 1)
    assert store.load(base_digest=BASE, spec_digest=SPEC)
    with pytest.raises(SnapshotError, match="learned with base_digest bbbb.*here it is aaaa"):
        store.load(base_digest="a" * 64)
    with pytest.raises(SnapshotError, match="learned with spec_digest"):
        store.load(spec_digest="a" * 64)


def test_every_ancestor_can_be_had_back(store):
    snapshots = [kept(store, i) for i in range(5)]
    assert [number(store, f"main~{back}") for back in range(5)] == [4, 3, 2, 1, 0]
    assert [each.digest for each in store.iterate_lineage()] == [each.digest for each in reversed(snapshots)]
    assert [each.sequence for each in store.iterate_lineage(limit=2)] == [5, 4]
    assert number(store, snapshots[1].digest[:10]) == 1
    with pytest.raises(SnapshotError, match="'main~5' is before the initial state"):
        store.load("main~5")


def test_lives_that_branch_do_not_touch_each_other(store):
    kept(store, 1)
    store.create_branch("other")
    kept(store, 2)
    kept(store, 3, branch="other")
    assert (number(store), number(store, "other")) == (2, 3)
    assert number(store, "main~1") == number(store, "other~1") == 1
    with pytest.raises(SnapshotError, match="branch 'other' is there already"):
        store.create_branch("other")
    store.reset_branch("main", "other")
    assert number(store) == 3 and number(store, "other") == 3


def test_a_life_pooled_from_two_has_both_as_parents(store):
    one, two = kept(store, 1), kept(store, 2, branch="two")
    both = kept(store, 3, branch="both", parents=[one.digest, two.digest])
    assert both.parents == (one.digest, two.digest)
    assert {each.digest for each in store.iterate_lineage("both")} == {one.digest, two.digest, both.digest}


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a/b", "x" * 101, "a b"])
def test_a_name_that_is_no_name_is_refused(store, name):
    kept(store, 1)
    with pytest.raises(SnapshotError):
        store.create_branch(name)
    assert store.read_branches().keys() == {"main"}


def test_unknown_references_say_what_there_is(store):
    kept(store, 1)
    with pytest.raises(
        SnapshotError, match="no lifetime state 'mian'.*branches are: main. Did you mean 'main'?"
    ):
        store.load("mian")
    with pytest.raises(SnapshotError, match="no branch 'mian'.*there are: main. Did you mean 'main'?"):
        store.delete_branch("mian")
    with pytest.raises(SnapshotError, match="must be '~' and a number"):
        store.load("main~x")
    store.delete_branch("main")
    with pytest.raises(SnapshotError, match="no lifetime state 'main'.*branches are: none"):
        store.load()


@pytest.mark.parametrize("damage", ["flip", "cut", "longer", "gone"])
@pytest.mark.parametrize("kind", ["objects", "manifests"])
def test_damage_is_found_isolated_and_leaves_the_rest(store, kind, damage):
    kept(store, 1)
    newest = kept(store, 2)
    file = store.folder / kind
    file /= f"{newest.object}.safetensors" if kind == "objects" else f"{newest.digest}.json"
    content = file.read_bytes()
    middle = len(content) // 2
    if damage == "gone":
        file.unlink()
    else:
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        file.write_bytes({"flip": flipped, "cut": content[:middle], "longer": content + b" "}[damage])
    with pytest.raises(SnapshotError):
        store.load()
    before = everything(store)
    found = find_damage(store)
    assert len(found) >= 1 and everything(store) == before
    assert quarantine_damaged(store) == found
    assert not file.exists()
    with pytest.raises(SnapshotError):
        store.load()
    first = next(each for each in Store(store.folder).list_snapshots() if each.sequence == 1)
    assert number(store, first.digest) == 1
    store.reset_branch("main", first.digest)
    assert find_damage(store) == []
    kept(store, 3)
    assert number(store) == 3


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\x00" + b"\xff" * 4096])
def test_the_index_may_be_lost_at_any_moment(store, content):
    first = kept(store, 1)
    (store.folder / "index.sqlite3").write_bytes(content)
    second = kept(store, 2)
    (store.folder / "index.sqlite3").write_bytes(content)
    assert [each.digest for each in store.list_snapshots()] == [first.digest, second.digest]
    (store.folder / "index.sqlite3").unlink()
    assert number(store, first.digest[:8]) == 1


READS: dict[str, Callable[[Store], object]] = {
    "find": lambda store: store.resolve("main"),
    "digest": lambda store: store.resolve(store.read_branches()["main"][:8]),
    "show": lambda store: store.read_manifest().steps,
    "load": lambda store: sorted(store.load()),
    "log": lambda store: [each.digest for each in store.iterate_lineage()],
    "branches": lambda store: store.read_branches(),
    "pins": lambda store: store.read_pins(),
    "snapshots": lambda store: [each.digest for each in store.list_snapshots()],
    "verify": lambda store: find_damage(store),
    "gc": lambda store: [each.digest for each in collect_garbage(store, keep_last=1, dry_run=True)],
}


def everything(store: Store) -> dict[str, object]:
    """Return every path below a store's folder, with content and time of the last change."""
    found = sorted(store.folder.rglob("*")) if store.folder.exists() else []
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None) for path in found
    }


@pytest.mark.parametrize("index", ["there", "lost", "stale"])
@pytest.mark.parametrize("read", READS)
def test_what_only_reads_writes_nothing(store, read, index):
    """Not even its index or a lock: a copy may be on a read-only mount."""
    for i in range(4):
        kept(store, i)
    expected = READS[read](store)
    content = (store.folder / "index.sqlite3").read_bytes()
    if index == "stale":
        last = kept(store, 9)
        store.reset_branch("main", f"{last.digest}~1")
        collect_garbage(store)
        (store.folder / "index.sqlite3").write_bytes(content)
    if index == "lost":
        (store.folder / "index.sqlite3").unlink()
    (store.folder / ".lock").unlink()
    before = everything(store)
    assert READS[read](store) == expected
    assert everything(store) == before


CHANGES: dict[str, Callable[[Store], object]] = {
    "branch": lambda store: store.create_branch("new"),
    "reset": lambda store: store.reset_branch("main", "main"),
    "forget": lambda store: store.delete_branch("main"),
    "pin": lambda store: store.create_pin("good"),
    "unpin": lambda store: store.delete_pin("good"),
    "gc": lambda store: collect_garbage(store),
    "repair": lambda store: quarantine_damaged(store),
    "fetch": lambda store: Store(store.folder.parent / "new").copy_from(store, "main"),
    "clone": lambda store: clone_branch(Store(store.folder.parent / "new"), store, "main"),
}


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("call", ["find", "show", "load", "log", "snapshots", "verify", "gc", *CHANGES])
def test_a_folder_that_is_no_store_is_refused_and_does_not_become_one(tmp_path, call, there):
    wrong = Store(tmp_path / "livs")
    if there:
        wrong.folder.mkdir()
    kept(Store(tmp_path / "lives"), 1)
    before = everything(Store(tmp_path))
    with pytest.raises(SnapshotError, match=f"no lifetime states in {wrong.folder}.*Did you mean .*/lives?"):
        list((READS | CHANGES)[call](wrong))
    assert everything(Store(tmp_path)) == before


@pytest.mark.parametrize("path", ["x/lives/objects", "x", ".", "x/other", "x/lives@main"])
def test_the_store_that_was_meant_is_named(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    kept(Store("x/lives"), 1)
    with pytest.raises(SnapshotError, match="Run: wm-robot state ls .*x/lives$"):
        Store(path).read_manifest()


def test_where_no_store_is_near_the_agents_parameter_is_named(tmp_path):
    with pytest.raises(
        SnapshotError, match="there is no such folder. Name the folder that an agent saves in"
    ):
        find_damage(Store(tmp_path / "a" / "b"))


def test_where_nothing_can_be_saved_that_is_said_before(store, tmp_path, monkeypatch):
    store.check_writable()
    kept(store, 1)
    store.check_writable()
    (tmp_path / "file").write_text("a file where a folder should be")
    with pytest.raises(
        SnapshotError, match=f"nothing can be saved in .*lives: {tmp_path / 'file'} is no folder"
    ):
        Store(tmp_path / "file" / "lives").check_writable()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(SnapshotError, match=f"{store.folder} is no folder that this user may write in"):
        store.check_writable()


def test_a_lost_index_is_made_again_by_gc(store):
    for i in range(3):
        kept(store, i)
    (store.folder / "index.sqlite3").unlink()
    collect_garbage(store)
    assert {each.digest for each in store.index.read_all()} == {
        each.digest for each in store.list_snapshots()
    }


def test_a_damaged_branch_is_found_and_can_be_reset(store):
    first = kept(store, 1)
    kept(store, 2)
    kept(store, 3, branch="other")
    (store.folder / "branches" / "main").write_text("\0\0")
    assert [each for each in find_damage(store) if "branches/main is damaged" in each]
    with pytest.raises(SnapshotError, match="state reset .*@main DIGEST"):
        store.load()
    assert number(store, "other") == 3
    store.reset_branch("main", first.digest[:12])
    assert find_damage(store) == [] and number(store) == 1


def test_a_clone_moves_a_branch_forward_and_never_aside(store, tmp_path):
    kept(store, 1)
    copy = Store(tmp_path / "copy")
    clone_branch(copy, store, "main")
    ahead = kept(copy, 2)
    assert clone_branch(store, copy, "main") == ahead.digest == store.resolve("main")
    assert clone_branch(store, copy, "main~1", branch="back") == store.resolve("main~1")
    kept(store, 3)
    kept(copy, 4)
    with pytest.raises(SnapshotError, match="is there already.*at an unrelated snapshot.*@main-2$"):
        clone_branch(store, copy, "main")
    assert number(store) == 3
    clone_branch(store, copy, "main", branch="main-2")
    assert number(store, "main-2") == 4 and find_damage(store) == []


def test_a_line_fetched_without_tensors_leads_back_to_where_they_are(store, tmp_path):
    for i in range(3):
        kept(store, i)
    thin = Store(tmp_path / "thin")
    parent = thin.copy_from(store, "main", tensors=False)
    kept(thin, 9, parents=[parent])
    assert [thin.is_pruned(each) for each in thin.iterate_lineage()] == [
        False,
        True,
        True,
        True,
    ] and find_damage(thin) == []
    clone_branch(store, thin, "main")
    assert [number(store, f"main~{back}") for back in range(4)] == [9, 2, 1, 0]
    assert not any(map(store.is_pruned, store.iterate_lineage())) and find_damage(store) == []


def test_gc_removes_what_nobody_leads_to_and_nothing_else(store):
    kept(store, 1)
    store.create_branch("aside")
    lost = kept(store, 2, branch="aside")
    pinned = kept(store, 3, branch="aside")
    store.create_pin("good", "aside~1")
    store.delete_branch("aside")
    (store.folder / "objects" / ".x.1.part").write_bytes(b"left by a kill")
    assert [each.digest for each in collect_garbage(store, dry_run=True)] == [pinned.digest]
    assert number(store, pinned.digest) == 3
    assert [each.digest for each in collect_garbage(store)] == [pinned.digest]
    assert number(store, "good") == 2 and number(store) == 1
    assert len(list((store.folder / "objects").iterdir())) == 2
    with pytest.raises(SnapshotError):
        store.load(pinned.digest)
    store.delete_pin("good")
    assert [each.digest for each in collect_garbage(store)] == [lost.digest]


def test_thinned_out_lines_keep_their_lineage_and_what_is_pinned(store):
    for i in range(20):
        kept(store, i)
    store.create_pin("good", "main~12")
    collect_garbage(store, keep_last=3)
    whole = [i for i, each in enumerate(store.iterate_lineage()) if not store.is_pruned(each)]
    assert whole == [0, 1, 2, 3, 4, 6, 12]
    assert len(list(store.iterate_lineage())) == 20 and number(store, "main~12") == 7
    with pytest.raises(SnapshotError, match="was pruned"):
        store.load("main~10")
    assert find_damage(store) == [] and collect_garbage(store, keep_last=3) == []


def test_a_state_saved_twice_is_held_once(store):
    kept(store, 1)
    kept(store, 1)
    assert (
        len(list((store.folder / "objects").glob("*.safetensors"))) == 1
        and len(list(store.iterate_lineage())) == 2
    )


def test_gc_takes_nothing_while_a_line_is_broken(store):
    snapshots = [kept(store, i) for i in range(4)]
    (store.folder / "manifests" / f"{snapshots[2].digest}.json").write_bytes(b"{}")
    with pytest.raises(SnapshotError, match="damaged"):
        collect_garbage(store)
    quarantine_damaged(store)
    with pytest.raises(SnapshotError, match="nothing is removed"):
        collect_garbage(store)
    assert number(store, snapshots[1].digest) == 1
    store.reset_branch("main", snapshots[1].digest)
    assert [each.digest for each in collect_garbage(store)] == [snapshots[3].digest]
    assert number(store, "main~1") == 0


def test_gc_does_not_trust_the_index(store, monkeypatch):
    for i in range(3):
        kept(store, i)
    monkeypatch.setattr(StoreIndex, "read_all", lambda index: [])
    assert collect_garbage(store) == [] and number(store, "main~2") == 0


def test_a_state_saved_over_a_damaged_copy_of_itself_is_whole(store):
    first = kept(store, 1)
    file = store.folder / "objects" / f"{first.object}.safetensors"
    file.write_bytes(b"x" * first.size)
    kept(store, 1)
    assert number(store) == 1


@pytest.mark.parametrize("made", range(len(FOLDERS)))
def test_a_store_whose_making_was_cut_short_is_made_whole(store, made):
    for kind in FOLDERS[:made]:
        (store.folder / kind).mkdir(parents=True)
    kept(store, 1)
    assert collect_garbage(store) == [] and find_damage(store) == [] and number(store) == 1


def test_gc_of_a_store_that_holds_no_life_yet(store):
    for kind in FOLDERS[:2]:
        (store.folder / kind).mkdir(parents=True)
    assert collect_garbage(store) == []


def test_an_index_that_fails_does_not_keep_a_life_from_being_saved(store, monkeypatch):
    def fails(index):
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(StoreIndex, "_open_or_recreate", fails)
    first = kept(store, 1)
    monkeypatch.undo()
    assert [each.digest for each in store.list_snapshots()] == [first.digest]


def test_nothing_is_named_before_it_is_there(store, monkeypatch):
    kept(store, 1)
    fsync, left = os.fsync, []

    for most in range(12):
        left[:] = [most]

        def fails(handle):
            left[0] -= 1
            if left[0] < 0:
                raise OSError("the plug was pulled")
            fsync(handle)

        monkeypatch.setattr(durable.os, "fsync", fails)
        try:
            kept(store, 10 + most)
            break
        except OSError:
            monkeypatch.setattr(durable.os, "fsync", fsync)
            again = Store(store.folder)
            assert find_damage(again) == []
            assert number(again) in (1, 10 + most)
    assert most > 4


@pytest.mark.parametrize(
    ("written", "folder", "reference"),
    [
        ("a/b", "a/b", "main"),
        ("a/b@x~2", "a/b", "x~2"),
        ("me@home/b", "me@home/b", "main"),
        ("a@b@c", "a@b", "c"),
    ],
)
def test_a_life_is_written_as_folder_and_reference(written, folder, reference):
    store, inside = parse_reference(written)
    assert (str(store.folder), inside) == (folder, reference)


class Algebra(RuleBasedStateMachine):
    """State machine that compares the store with a dictionary in memory."""

    names = Bundle("names")

    @initialize(target=names)
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(self.folder.name)
        self.heads, self.held = {}, {}
        self.count = 0
        self._save("main")
        return "main"

    def _save(self, name):
        self.count += 1
        snapshot = kept(self.store, self.count, branch=name)
        assert snapshot.parents == ((self.heads[name],) if name in self.heads else ())
        self.heads[name], self.held[snapshot.digest] = snapshot.digest, self.count

    @rule(name=names)
    def live_and_save(self, name):
        self._save(name)

    @rule(target=names, name=names, new=st.sampled_from(["a", "b", "c", "d"]))
    def branch(self, name, new):
        if new in self.heads:
            with pytest.raises(SnapshotError):
                self.store.create_branch(new, name)
        else:
            self.store.create_branch(new, name)
            self.heads[new] = self.heads[name]
        return new

    @rule(name=names, number=st.integers(0, 1 << 16))
    def reset(self, name, number):
        # By its position: digests contain the time, and differ when Hypothesis repeats the sequence.
        to = list(self.held)[number % len(self.held)]
        self.store.reset_branch(name, to)
        self.heads[name] = to

    @rule(name=names)
    def clone_and_live_on_there(self, name):
        with tempfile.TemporaryDirectory() as folder:
            there = Store(folder)
            there.create_branch("main", there.copy_from(self.store, name))
            line = [each.digest for each in there.iterate_lineage()]
            assert line == [each.digest for each in self.store.iterate_lineage(name)]
            kept(there, -1)
            assert number(there) == -1 and number(there, "main~1") == self.held[self.heads[name]]

    @rule()
    def begin_again_from_disk(self):
        self.store = Store(self.folder.name)

    @rule()
    def lose_the_index(self):
        self.store.index.clear()

    @rule()
    def collect(self):
        gone = {each.digest for each in collect_garbage(self.store)}
        assert not gone & set(self.heads.values())
        there = {each.digest for each in self.store.list_snapshots()}
        self.held = {name: value for name, value in self.held.items() if name in there}

    @invariant()
    def every_life_is_where_it_was_left(self):
        assert self.store.read_branches() == self.heads
        for name, head in self.heads.items():
            assert number(self.store, name) == self.held[head]

    @invariant()
    def every_ancestor_is_there(self):
        for name in self.heads:
            for each in self.store.iterate_lineage(name):
                assert number(self.store, each.digest) == self.held[each.digest]

    def teardown(self):
        if hasattr(self, "folder"):
            assert find_damage(self.store) == []
            self.folder.cleanup()


TestAlgebra = Algebra.TestCase
# SEQUENCES=500x50 for a long run, without a timeout.
sequences, operations = map(int, os.environ.get("SEQUENCES", "20x25").split("x"))
if "SEQUENCES" in os.environ:
    TestAlgebra.pytestmark = [pytest.mark.timeout(0)]
TestAlgebra.settings = settings(
    max_examples=sequences,
    stateful_step_count=operations,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_the_pretrained_state_of_a_base_that_ships_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store, reference = parse_reference("bases/arm-semiparametric/pretrained")
    assert reference == "main" and store.read_manifest(reference).steps > 1000
    assert list(tmp_path.iterdir()) == []
