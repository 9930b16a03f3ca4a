"""A life leaves, arrives somewhere else, and goes on there; what is not sound does not arrive."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("cryptography")

from tests.sharing.shipments import POINT, RECORD, base_files, lived
from wm_robot.io.durable import compute_digest
from wm_robot.spec import RobotSpec
from wm_robot.store.garbage_collection import collect_garbage
from wm_robot.store.store import Store
from wm_robot_cli.main import main
from wm_robot_cli.model_card import _make_front_matter


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Where a life is: its store, its base, the robot's spec, and a key."""
    monkeypatch.setenv("WM_ROBOT_KEYS", str(tmp_path / "keys"))
    base = tmp_path / "point-gru"
    base.mkdir()
    for name, content in base_files().items():
        (base / name).write_bytes(content)
    (tmp_path / "point.yaml").write_text(yaml.safe_dump(POINT))
    for number in (1, 2):
        lived(tmp_path / "lives", number)
    main(["keys", "new", "me"])
    return tmp_path


def said(capsys, *words: object) -> str:
    capsys.readouterr()
    main([*map(str, words)])
    return capsys.readouterr().out


def refused(capsys, *words: object) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, words)])
    assert ended.value.code == 2
    return capsys.readouterr().err


def ship(place: Path, *more: object) -> list[object]:
    spec = ("--spec", place / "point.yaml")
    return [
        "state",
        "ship",
        place / "lives",
        place / "b",
        "--base",
        place / "point-gru",
        "--key",
        "me",
        *spec,
        *more,
    ]


def export(place: Path, *more: object) -> list[object]:
    base = ("--base", place / "point-gru", "--spec", place / "point.yaml")
    return ["state", "export", place / "lives", place / "plain", *base, *more]


def take_in(place: Path, *more: object) -> list[object]:
    return ["state", "import", place / "b", place / "store@new", "--bases", place / "bases", *more]


def test_a_life_arrives_with_its_base_and_goes_on(here, capsys):
    assert "'point-gru' number 1" in said(capsys, *ship(here))
    told = said(capsys, *take_in(here))
    assert "branch 'new' starts at" in told and f"is now in {here / 'bases' / 'point-gru'}" in told
    store = Store(here / "store")
    arrived, sent = store.read_manifest("new"), Store(here / "lives").read_manifest()
    assert arrived.origin["snapshot"] == sent.digest and arrived.object == sent.object
    for name in ("base.json", "weights.safetensors", "calibration.json"):
        assert (here / "bases" / "point-gru" / name).read_bytes() == (here / "point-gru" / name).read_bytes()
    lived(here / "store", 3, branch="new")
    assert len(json.loads(said(capsys, "state", "log", here / "store@new", "--json"))) == 2
    assert "0 snapshots" in said(capsys, "state", "gc", here / "store")
    assert "all 2 snapshots" in said(capsys, "state", "verify", here / "store")


def test_taken_in_twice_nothing_changes(here, capsys):
    said(capsys, *ship(here))
    said(capsys, *take_in(here))
    before = sorted((path, path.read_bytes()) for path in here.glob("store/*s/*"))
    told = said(capsys, *take_in(here))
    assert "branch 'new' starts at" in told and "was already in" in told
    assert sorted((path, path.read_bytes()) for path in here.glob("store/*s/*")) == before
    lived(here / "store", 3, branch="new")
    assert "branch 'new' already descends from it, by" in said(capsys, *take_in(here))
    assert Store(here / "store").read_manifest("new").steps == 3


def test_a_branch_that_holds_another_life_is_left_alone(here, capsys):
    said(capsys, *ship(here))
    other = lived(here / "store", 7, branch="new")
    assert "at an unrelated snapshot" in refused(capsys, *take_in(here))
    assert Store(here / "store").read_branches() == {"new": other.digest} and not (here / "bases").exists()


def test_another_base_of_that_name_is_left_alone(here, capsys):
    said(capsys, *ship(here))
    taken = here / "bases" / "point-gru"
    taken.mkdir(parents=True)
    for name, content in base_files(5.0).items():
        (taken / name).write_bytes(content)
    said(capsys, *take_in(here))
    assert (taken / "weights.safetensors").read_bytes() == base_files(5.0)["weights.safetensors"]
    assert len(list((here / "bases").glob("point-gru-*/base.json"))) == 1


def test_an_older_bundle_needs_a_word(here, capsys):
    said(capsys, *ship(here))
    (here / "b").rename(here / "old")
    lived(here / "lives", 3)
    assert "number 2" in said(capsys, *ship(here))
    said(capsys, *take_in(here))
    again = ["state", "import", here / "old", here / "store@back", "--bases", here / "bases"]
    assert "is older than number 2" in refused(capsys, *again)
    assert "back" not in Store(here / "store").read_branches()
    said(capsys, *again, "--allow-rollback")
    assert Store(here / "store").read_manifest("back").steps == 2


def test_a_stranger_is_refused_until_the_key_is_trusted(here, capsys, monkeypatch):
    said(capsys, *ship(here))
    (here / "me.pem").write_text(said(capsys, "keys", "show", "me"))
    monkeypatch.setenv("WM_ROBOT_KEYS", str(here / "elsewhere"))
    assert "is not trusted" in refused(capsys, *take_in(here))
    assert not (here / "store").exists()
    assert "trusted until" in said(capsys, "keys", "trust", "them", here / "me.pem", "--days", 3)
    said(capsys, *take_in(here))
    rows = json.loads(said(capsys, "keys", "ls", "--json"))
    assert [(row["name"], row["trusted"], row["can sign"]) for row in rows] == [("them", "yes", "no")]
    said(capsys, "keys", "distrust", "them")
    assert "is not trusted" in refused(capsys, *take_in(here))


def test_a_damaged_bundle_arrives_nowhere(here, capsys):
    said(capsys, *ship(here))
    content = bytearray((here / "b").read_bytes())
    content[-1] ^= 1
    (here / "b").write_bytes(content)
    assert "is damaged" in refused(capsys, *take_in(here))
    assert not (here / "store").exists() and not (here / "bases").exists()
    assert not (here / "keys" / "received").exists()


def test_what_it_was_measured_on_and_when_comes_with_it(here, capsys):
    known = json.loads(base_files()["base.json"])["digest"]
    record = RECORD | {"bases": {"gru": known}, "table": [{"a": 1}]}
    (here / "control.json").write_text(f"a table for people\n{json.dumps(record)}\n")
    said(capsys, *ship(here, "--evaluation", here / "control.json"))
    shown = json.loads(said(capsys, "state", "inspect", here / "b", "--json"))
    assert shown["evaluation"] == [record] and shown["sequence"] == 1 and shown["received"] == 0
    assert "| control | 2026-01-02T03:04:05Z | abc | ratio 0.5 |" in shown["card"]
    said(capsys, *take_in(here))
    kept = Store(here / "store").read_manifest("new").origin["evaluation"]
    assert kept == [{name: value for name, value in record.items() if name != "table"}]
    told = said(capsys, "state", "inspect", here / "b", "--card")
    assert "bench control" in told and "# point-gru" in told


def test_the_card_says_in_words_what_the_base_was_trained_on(here, capsys):
    path = here / "point-gru" / "base.json"
    base = json.loads(path.read_text())
    base["card"]["trained_on"] = [
        "mass of forearm: 0.8 to 1.2 times",
        "delay of the sensors: 2 physics steps",
    ]
    said(capsys, *ship(here))
    assert "## Trained on" not in said(capsys, "state", "inspect", here / "b", "--card")
    path.write_text(json.dumps(base))
    said(capsys, *ship(here, "--product", "described"))
    told = said(capsys, "state", "inspect", here / "b", "--card")
    assert "## Trained on\n\n- mass of forearm: 0.8 to 1.2 times\n- delay of the sensors: 2 physics" in told


def test_a_measurement_of_another_base_is_refused(here, capsys):
    (here / "x.json").write_text(json.dumps(RECORD | {"bases": {"gru": "f" * 64}}))
    assert "none of which is the base of this state" in refused(
        capsys, *ship(here, "--evaluation", here / "x.json")
    )
    (here / "x.json").write_text("no JSON")
    assert "not valid JSON" in refused(capsys, *ship(here, "--evaluation", here / "x.json"))
    (here / "x.json").write_text('{"bench":"x"}')
    assert "has no commit, figures" in refused(capsys, *ship(here, "--evaluation", here / "x.json"))


def test_a_card_of_ones_own_is_taken_as_it_is(here, capsys):
    (here / "card.md").write_text("# Mine\n\nIt can ä.\n")
    said(capsys, *ship(here, "--card", here / "card.md", "--product", "mine"))
    shown = json.loads(said(capsys, "state", "inspect", here / "b", "--json"))
    assert (shown["card"], shown["product"]) == ("# Mine\n\nIt can ä.\n", "mine")


def test_a_base_that_is_not_the_lifes_is_not_shipped(here, capsys):
    right = here / "point-right"
    (here / "point-gru").rename(right)
    (here / "point-gru").mkdir()
    for name, content in base_files(5.0).items():
        (here / "point-gru" / name).write_bytes(content)
    for words, made in ((ship(here), here / "b"), (export(here), here / "plain")):
        said_so = refused(capsys, *words)
        assert "lives and base" in said_so and "do not belong together" in said_so
        # What it says helps.
        assert f"Use: --base {right}" in said_so
        assert not made.exists()
        said(capsys, *(right if word == here / "point-gru" else word for word in words))


@pytest.mark.parametrize("kind", ["missing", "empty", "no key"])
def test_a_public_key_that_cannot_be_read_is_got_from_its_owner(here, capsys, monkeypatch, kind):
    file = here / "them.pem"
    if kind != "missing":
        file.write_text("" if kind == "empty" else "a note")
    said_so = refused(capsys, "keys", "trust", "them", file)
    assert str(file) in said_so
    commands = re.findall(r"wm-robot (keys \w+ \w+)", said_so)
    assert commands == ["keys new them", "keys show them"]
    with monkeypatch.context() as theirs:
        theirs.setenv("WM_ROBOT_KEYS", str(here / "theirs"))
        file.write_text([said(capsys, *command.split()) for command in commands][-1])
    assert "is trusted" in said(capsys, "keys", "trust", "them", file)


def test_a_private_key_that_is_empty_is_not_signed_with_and_another_is_made(here, capsys):
    (here / "keys" / "private" / "me.pem").write_bytes(b"")
    said_so = refused(capsys, *ship(here))
    assert "me.pem holds no readable key: it is empty" in said_so
    command = re.search(r"wm-robot (keys new [\w-]+)", said_so)[1].split()
    said(capsys, *command)
    assert f"signed by '{command[-1]}'" in said(capsys, *ship(here), "--key", command[-1])


def test_without_a_home_a_folder_for_keys_is_asked_for(here, capsys, monkeypatch):
    def homeless(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("WM_ROBOT_KEYS")
    monkeypatch.setattr(Path, "expanduser", homeless)
    said_so = refused(capsys, "keys", "ls")
    assert "Name one with --keys FOLDER, or set WM_ROBOT_KEYS" in said_so


def test_a_folder_that_is_exported_can_be_read_by_others(here, capsys):
    (here / "x.json").write_text(json.dumps(RECORD))
    assert "not signed" in said(capsys, *export(here, "--evaluation", here / "x.json"))
    front = next(yaml.safe_load_all((here / "plain" / "README.md").read_text().split("\n---\n")[0]))
    assert front["library_name"] == "wm_robot" and front["pipeline_tag"] == "robotics"
    assert front["model-index"][0]["results"][0]["metrics"] == [{"type": "ratio", "value": 0.5}]
    assert "exists already" in refused(capsys, *export(here))
    again = ["state", "import", here / "plain", here / "store", "--bases", here / "bases"]
    assert "give --openssf PUBLIC.pem" in refused(capsys, *again)
    said(capsys, *again, "--unsigned")
    assert Store(here / "store").read_manifest().origin["snapshot"] == Store(here / "lives").resolve("main")


@pytest.mark.parametrize("damage", ["cut", "missing", "link"])
def test_an_unsigned_folder_is_still_read_with_care(here, capsys, damage):
    said(capsys, *export(here))
    state = here / "plain" / "state.safetensors"
    content = state.read_bytes()
    state.unlink()
    if damage == "cut":
        state.write_bytes(content[:-1])
    elif damage == "link":
        state.symlink_to(here / "me")
    again = ["state", "import", here / "plain", here / "store", "--unsigned"]
    words = {"cut": "tensors", "missing": "has no state.safetensors", "link": "is no file"}
    assert words[damage] in refused(capsys, *again)
    assert not (here / "store").exists()


def why_no_openssf() -> str:
    """Why the OpenSSF format cannot be tried; empty if it can."""
    if importlib.util.find_spec("model_signing") is None:
        return 'model-signing is not installed: pip install "wm_robot[openssf]"'
    if importlib.util.find_spec("OpenSSL") is None:
        return "pyopenssl is not installed, which model-signing needs and does not name"
    return ""


@pytest.fixture
def pair(here):
    """Files of an elliptic-curve key."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private, public = here / "ec.pem", here / "ec.pub.pem"
    private.touch(0o600)
    private.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def stock(*words: object) -> bool:
    """Whether the reference tool is content."""
    command = [sys.executable, "-m", "model_signing", *map(str, words)]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.skipif(bool(why_no_openssf()), reason=why_no_openssf())
def test_the_reference_tool_verifies_what_we_signed(here, capsys, pair):
    private, public = pair
    assert "signed in model.sig" in said(capsys, *export(here, "--openssf", private))
    check = (
        "verify",
        "key",
        here / "plain",
        "--signature",
        here / "plain" / "model.sig",
        "--public_key",
        public,
    )
    assert stock(*check)
    readme = here / "plain" / "README.md"
    readme.write_text(readme.read_text() + " ")
    assert not stock(*check)


@pytest.mark.skipif(bool(why_no_openssf()), reason=why_no_openssf())
def test_we_verify_what_the_reference_tool_signed(here, capsys, pair):
    private, public = pair
    said(capsys, *export(here))
    plain = here / "plain"
    assert stock("sign", "key", plain, "--signature", plain / "model.sig", "--private_key", private)
    again = ["state", "import", plain, here / "store", "--bases", here / "bases", "--openssf", public]
    (plain / "more.txt").write_text("x")
    assert "Extra files" in refused(capsys, *again)
    (plain / "more.txt").unlink()
    weights = (plain / "weights.safetensors").read_bytes()
    (plain / "weights.safetensors").write_bytes(weights[:-1] + b"\1")
    assert "Hash mismatch" in refused(capsys, *again)
    (plain / "weights.safetensors").write_bytes(weights)
    signature = (plain / "model.sig").read_bytes()
    for broken in (b"", b"{}", signature[: len(signature) // 2], signature.replace(b'"sig":', b'"gis":')):
        (plain / "model.sig").write_bytes(broken)
        assert "is not what the owner of" in refused(capsys, *again)
    assert not (here / "store").exists()
    (plain / "model.sig").write_bytes(signature)
    said(capsys, *again)
    assert Store(here / "store").read_manifest().origin["signer"] == compute_digest(public.read_bytes())


@pytest.mark.skipif(bool(why_no_openssf()), reason=why_no_openssf())
def test_a_key_of_another_kind_is_said_to_be_one(here, capsys, pair):
    private, public = pair
    assert "no key on a NIST curve" in refused(
        capsys, *export(here, "--openssf", here / "keys" / "private" / "me.pem")
    )
    private.chmod(0o644)
    assert "can be read by other users" in refused(capsys, *export(here, "--openssf", private))


@pytest.mark.learn
def test_a_life_that_was_shipped_goes_on_as_if_it_had_stayed(here, capsys):
    import torch

    from wm_robot.agent.agent import Agent
    from wm_robot.model.base import load_base, save_base
    from wm_robot.model.config import ModelConfig
    from wm_robot.model.world_model import WorldModel
    from wm_robot.planning.mppi import MppiConfig
    from wm_robot.spec import RobotSpec

    chain = {"chain": [{"joint": "x", "origin": [0, 0, 0], "axis": [0, 0, 1.0]}], "tip": [1.0, 0.0, 0.0]}
    (here / "point.yaml").write_text(yaml.safe_dump(POINT | chain))
    spec = RobotSpec.load(here / "point.yaml")
    torch.manual_seed(0)
    shape = ModelConfig.from_spec(spec, truth=1, memory="ekf", width=16, context=4, outcome=8)
    for path in (here / "point-gru").iterdir():
        path.unlink()
    save_base(here / "point-gru", WorldModel(shape), spec, {})
    rng = np.random.default_rng(0)
    obs, action = (rng.normal(size=(61, n)).astype(np.float32) for n in (2, 1))

    def lives(base: Path, spec: RobotSpec, restore: object, steps: range) -> Agent:
        planner = MppiConfig(num_samples=16, horizon=4, num_iterations=1, num_elites=4)
        agent = Agent(load_base(base), spec, task="reach", planner=planner)
        agent.begin(
            action[max(0, steps.start - shape.recent) : steps.start] if steps.start else action[0], restore
        )
        for t in steps:
            agent.observe(obs[t], action[t], obs[t + 1])
        return agent

    born = lives(here / "point-gru", spec, None, range(30))
    born.save(here / "agents")
    life = [here / "agents" if word == here / "lives" else word for word in ship(here)]
    said(capsys, *life)
    said(capsys, *take_in(here))
    place = here / "bases" / "point-gru"
    theirs = RobotSpec.from_dict(json.loads((place / "spec.json").read_bytes()))
    stayed = lives(here / "point-gru", spec, here / "agents", range(30, 60))
    went = lives(place, theirs, f"{here / 'store'}@new", range(30, 60))
    for name, value in stayed.state.flatten().items():
        np.testing.assert_array_equal(went.state.flatten()[name], value, err_msg=name)
    went.save(f"{here / 'store'}@new")
    assert [each.steps for each in Store(here / "store").iterate_lineage("new")] == [60, 30]
    assert collect_garbage(Store(here / "store")) == []


def test_a_figure_that_a_bench_refused_is_no_metric_of_a_card():
    refused = RECORD | {"figures": {"gap": None, "ratio": 0.5}}
    (result,) = _make_front_matter("life", RobotSpec.from_dict(POINT), [refused])["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "ratio", "value": 0.5}]
