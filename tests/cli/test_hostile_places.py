"""Verbs on a read-only mount, on a full disk, without a home, and as a user who may not write: they work, or end in
one sentence, and nothing is lost.

To try another verb, add it to `VERBS`. Mounts and other users need root; without it these tests are skipped with the
system's own reason.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.ros, pytest.mark.soak]

pytest.importorskip("cryptography")

from tests.recording.sessions import record, sensed
from tests.sharing.shipments import POINT, base_files, lived
from wm_robot.store.store import Store
from wm_robot.store.verification import find_damage

ROOT = Path(__file__).parents[2]
RUN = [sys.executable, "-m", "wm_robot_cli"]
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
FULL = (
    'cp -a "$0" "$0.whole" && mount -t tmpfs -o size=8m tmpfs "$0" && cp -a "$0.whole/." "$0" && '
    'cat /dev/zero > "$0/filler" 2> /dev/null; "$@"; code=$?; '
    'rm "$0/filler"; rm -r "$0.whole"; cp -a "$0" "$0.after"; exit $code'
)
"""Copies what is left, since the disk goes with its namespace."""


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A command, and what it may do: words with `{here}`, the hostile place, and `{out}`, where all may write."""

    words: str
    works: frozenset[str]
    """Places in which it must do what it does; elsewhere one sentence is enough."""

    @classmethod
    def reading(cls, words: str) -> "Verb":
        """One that reads what all may read."""
        return cls(words=words, works=frozenset(PLACES))

    @classmethod
    def reading_keys(cls, words: str) -> "Verb":
        """One that also reads keys, which their owner alone may."""
        return cls(words=words, works=frozenset({"read-only", "full", "no home"}))

    @classmethod
    def writing(cls, words: str) -> "Verb":
        """One that writes in the place."""
        return cls(words=words, works=frozenset({"no home"}))


NAMELESS = "--reuid=54321 --regid=54321 --clear-groups"
PLACES: Mapping[str, list[str]] = {
    "read-only": ["unshare", "-m", "sh", "-c", READ_ONLY],
    "full": ["unshare", "-m", "sh", "-c", FULL],
    "no home": ["sh", "-c", 'unset HOME XDG_STATE_HOME XDG_CONFIG_HOME && exec "$@"'],
    "another user": ["sh", "-c", 'exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"'],
    "a user without a home": ["sh", "-c", f'unset HOME && exec setpriv {NAMELESS} "$@"'],
}
"""What runs a command there; its first argument is the place, and those that follow are the command."""
SHIPPED = "--base {here}/point-gru --spec {here}/point.yaml"
VERBS: Mapping[str, Verb] = {
    "ls": Verb.reading("state ls {here}/lives"),
    "log": Verb.reading("state log {here}/lives"),
    "show": Verb.reading("state show {here}/lives@left"),
    "diff": Verb.reading("state diff {here}/lives {here}/lives@left"),
    "verify": Verb.reading("state verify {here}/lives"),
    "gc --dry-run": Verb.reading("state gc {here}/lives --keep-last 1 --dry-run"),
    "clone from it": Verb.reading("state clone {here}/lives {out}/lives"),
    "export from it": Verb.reading("state export {here}/lives {out}/plain " + SHIPPED),
    "import --unsigned from it": Verb.reading(
        "state import {here}/plain {out}/lives --unsigned --bases {out}/bases"
    ),
    "recover --dry-run": Verb.reading("recover {here}/cut.mcap {here}/whole.mcap --dry-run"),
    "inspect": Verb.reading_keys("state inspect {here}/b"),
    "keys ls": Verb.reading_keys("keys ls"),
    "keys show": Verb.reading_keys("keys show me"),
    "branch": Verb.writing("state branch {here}/lives new"),
    "reset": Verb.writing("state reset {here}/lives main~1"),
    "pin": Verb.writing("state pin {here}/lives best"),
    "unpin": Verb.writing("state unpin {here}/lives good"),
    "delete": Verb.writing("state delete {here}/lives@left"),
    "gc": Verb.writing("state gc {here}/lives --keep-last 1"),
    "verify --repair": Verb.writing("state verify {here}/lives --repair"),
    "clone into it": Verb.writing("state clone {here}/lives {here}/copy"),
    "ship": Verb.writing("state ship {here}/lives {here}/new --key me " + SHIPPED),
    "import": Verb.writing("state import {here}/b {here}/lives@new --bases {here}/bases"),
    "export into it": Verb.writing("state export {here}/lives {here}/new " + SHIPPED),
    "recover": Verb.writing("recover {here}/cut.mcap"),
    "keys new": Verb.writing("keys new other"),
    "keys distrust": Verb.writing("keys distrust me"),
}
CHANGING = {"reset", "unpin", "delete", "gc"}
"""What gives something up because it was asked to."""


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """Lives, a base, keys, a bundle and sessions, in a folder that all may read."""
    with tempfile.TemporaryDirectory(prefix="places-") as name:
        place = Path(name)
        place.chmod(0o755)
        here = place / "here"
        (here / "point-gru").mkdir(parents=True)
        for file, content in base_files().items():
            (here / "point-gru" / file).write_bytes(content)
        (here / "point.yaml").write_text(yaml.safe_dump(POINT))
        for number in (1, 2):
            lived(here / "lives", number)
        Store(here / "lives").create_branch("left", "main~1")
        lived(here / "lives", 3, branch="left")
        Store(here / "lives").create_pin("good", "left")
        record(here / "whole.mcap", (sensed(step) for step in range(500)))
        content = (here / "whole.mcap").read_bytes()
        (here / "cut.mcap").write_bytes(content[: len(content) // 2])
        for session in here.glob("*.mcap"):
            os.utime(session, (0, 0))
        for words in (
            "keys new me",
            "state ship {here}/lives {here}/b --key me " + SHIPPED,
            "state export {here}/lives {here}/plain " + SHIPPED,
        ):
            done = run([], words, here, place)
            assert done.returncode == 0, done.stderr
        yield here


def run(place: list[str], words: str, here: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a place."""
    command = [*RUN, *(word.format(here=here, out=out) for word in words.split())]
    path = os.pathsep.join([str(ROOT), *sys.path])
    return subprocess.run(
        [*place, str(here), *command] if place else command,
        env=os.environ
        | {"WM_ROBOT_KEYS": f"{here}/keys", "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, template: Path) -> str:
    """A place that this system can make."""
    done = run(PLACES[request.param], "keys --help", template, template)
    shutil.rmtree(f"{template}.after", ignore_errors=True)
    if done.returncode:
        pytest.skip(f"{request.param}: {done.stderr.strip()[-200:]}")
    return str(request.param)


def content_of(folder: Path) -> dict[str, bytes]:
    """Every file, but locks, which hold nothing."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_works_or_ends_in_one_sentence_and_nothing_is_lost(template, place, name):
    verb = VERBS[name]
    folder = Path(tempfile.mkdtemp(prefix="place-"))
    try:
        folder.chmod(0o755)
        here, out = folder / "here", folder / "out"
        shutil.copytree(template, here)
        out.mkdir()
        out.chmod(0o777)
        done = run(PLACES[place], verb.words, here, out)
        told = done.stdout + done.stderr
        assert "Traceback" not in told and "Error in sys" not in told, told
        after = Path(f"{here}.after") if place == "full" else here
        if place in verb.works:
            assert done.returncode == 0, told
        else:
            assert done.returncode in (0, 2), told
        if done.returncode:
            # The sentence alone, which names what is refused.
            assert not done.stdout and len(done.stderr.strip().splitlines()) == 1, told
            assert str(here) in done.stderr or "home" in done.stderr, told
            assert content_of(after) == content_of(template), told
        elif "{out}" in verb.words or verb.words in reads():
            assert content_of(after) == content_of(template)
        store = Store(after / "lives")
        assert find_damage(store) == []
        if name not in CHANGING:
            assert store.read_branches().items() >= Store(template / "lives").read_branches().items()
        for each in Store(template / "lives").iterate_lineage("main"):
            if name != "gc":
                assert store.read_object(each)
    finally:
        shutil.rmtree(folder)


def reads() -> set[str]:
    return {verb.words for verb in VERBS.values() if verb.works >= {"read-only", "full"}}
