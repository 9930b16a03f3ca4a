"""A bench names all the bases that it wants and lacks before it simulates anything, and finds those that ship."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.learn, pytest.mark.sim]

from wm_robot.errors import ConfigError, SnapshotError
from wm_robot.progress import ignore_progress
from wm_robot.robots import ROBOTS_FOLDER, find_spec_path, load_spec
from wm_robot_benchmarks import (
    adaptation,
    assimilation,
    control,
    efficiency,
    memory,
    onboard,
    recall,
    reward_independence,
)
from wm_robot_benchmarks.harness import result
from wm_robot_benchmarks.harness.result import Setting, check_bases, list_variants_with_base, load_bases
from wm_robot_benchmarks.measures import memory_arm

SHIPPED = Path(__file__).parents[2] / "bases"


def setting(bases: Path, robot: str = "arm", bench: str = "control") -> Setting:
    return Setting(bench, robot, (0,), True, bases)


def card(folder: Path, digest: str) -> None:
    folder.mkdir(parents=True)
    (folder / "base.json").write_text(json.dumps({"spec_digest": digest}))


def test_all_missing_bases_are_named_in_one_sentence(tmp_path):
    card(tmp_path / "arm-gru", load_spec("arm").compute_digest())
    with pytest.raises(SnapshotError) as caught:
        check_bases(setting(tmp_path), ["robust", "semiparametric", "oracle", "gru"])
    assert str(caught.value) == (
        "bench control needs the bases arm-robust, arm-semiparametric, arm-oracle, arm-gru; "
        f"missing in {tmp_path}: arm-robust, arm-semiparametric, arm-oracle. "
        f"Make them: wm-robot train arm --all --out {tmp_path}"
    )


@pytest.mark.parametrize(
    ("arms", "commands"),
    [
        (["robust", "semiparametric", "oracle"], "wm-robot train pole --all"),
        (["oracle", "gru"], "wm-robot train pole --all --memory gru"),
        (
            ["oracle", "robust"],
            "wm-robot train pole --variant oracle && wm-robot train pole --variant robust",
        ),
        (["gru"], "wm-robot train pole --memory gru"),
        (["oracle"], "wm-robot train pole --variant oracle"),
        (["gru", "kv"], "wm-robot train pole --memory gru && wm-robot train pole --memory kv"),
        (
            ["gru", "kv", "robust"],
            "wm-robot train pole --all --memory gru && wm-robot train pole --memory kv",
        ),
    ],
)
def test_the_command_makes_what_is_missing_and_no_more(arms, commands):
    assert result._compose_train_command("pole", "pole", arms, Path("bases")) == commands


def test_a_base_that_is_there_is_not_made_again(tmp_path):
    card(tmp_path / "arm-oracle", load_spec("arm").compute_digest())
    with pytest.raises(SnapshotError) as caught:
        check_bases(setting(tmp_path), ["robust", "kv", "oracle"])
    assert str(caught.value).endswith(
        f"Make them: wm-robot train arm --memory kv --out {tmp_path}/arm-kv && "
        f"wm-robot train arm --variant robust --out {tmp_path}/arm-robust"
    )


def test_a_base_of_another_spec_is_named_beside_those_that_are_missing_and_is_not_overwritten(tmp_path):
    card(tmp_path / "arm-semiparametric", "0" * 64)
    with pytest.raises(SnapshotError) as caught:
        check_bases(setting(tmp_path), ["oracle", "semiparametric"])
    assert str(caught.value) == (
        f"bench control needs the bases arm-oracle, arm-semiparametric; missing in {tmp_path}: arm-oracle; "
        "trained for another spec than that of 'arm': arm-semiparametric. Make own ones, and name their folder by "
        "--bases runs/bases: "
        "wm-robot train arm --all --out runs/bases"
    )


def test_a_misspelt_family_is_not_to_be_trained(tmp_path):
    with pytest.raises(SnapshotError) as caught:
        check_bases(setting(tmp_path), ["robust", "kalmann"])
    assert "'kalmann' is no family of memory; did you mean 'kalman'?" in str(caught.value)
    assert "train" not in str(caught.value)


@pytest.mark.parametrize(
    ("bench", "options"),
    [
        (adaptation.AdaptationBench, {"worlds": 100}),
        (control.ControlBench, {"episodes": 100}),
        (efficiency.EfficiencyBench, {"episodes": 24}),
        (recall.RecallBench, {"lives": 48}),
        (memory.MemoryFamiliesBench, {"task": "arm", "families": ("gru", "semiparametric"), "worlds": 8}),
    ],
)
def test_a_bench_without_its_bases_simulates_nothing(tmp_path, monkeypatch, bench, options):
    def never(*args: object, **how: object) -> None:
        raise AssertionError("it began")

    for module in (adaptation, control, efficiency, recall, memory_arm):
        monkeypatch.setattr(module, "in_processes", never)
    with pytest.raises(
        SnapshotError, match="missing in .*arm-semiparametric.* Make (it|them): wm-robot train arm "
    ):
        bench(bases=tmp_path, quick=True, **options).run(ignore_progress)


@pytest.mark.parametrize("bench", [reward_independence.RewardIndependenceBench, onboard.OnboardBench])
def test_a_robot_without_a_gripper_is_refused_before_bases_are_asked_for(tmp_path, bench):
    with pytest.raises(ConfigError, match="robot is 'cartpole', whose spec has no chain, .*--robot arm"):
        bench(bases=tmp_path, robot="cartpole", quick=True).run(ignore_progress)


def test_a_robot_with_another_first_task_is_refused_with_that_task(tmp_path):
    values = yaml.safe_load((ROBOTS_FOLDER / "reacher.yaml").read_text())
    values["tasks"] = {"stay": {"reward": "hold"}, **values["tasks"]}
    for name in ("reacher.model.json",):
        (tmp_path / name).write_bytes((ROBOTS_FOLDER / name).read_bytes())
    (tmp_path / "reacher.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    with pytest.raises(ConfigError, match="whose first task 'stay' has the reward 'hold'; bench onboard"):
        onboard.OnboardBench(bases=tmp_path, robot=str(tmp_path / "reacher.yaml")).run(ignore_progress)


def test_a_robot_without_payloads_is_refused_where_two_are_compared(tmp_path):
    with pytest.raises(
        ConfigError, match="robot is 'cartpole', .* no range of world: payload; bench assimil"
    ):
        assimilation.AssimilationBench(bases=tmp_path, robot="cartpole").run(ignore_progress)


def test_control_is_measured_of_any_robot(tmp_path):
    with pytest.raises(SnapshotError, match="Make them: wm-robot train cartpole --all"):
        control.ControlBench(bases=tmp_path, robot="cartpole", quick=True).run(ignore_progress)


def test_bases_that_ship_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        check_bases(setting(Path("bases")), ["semiparametric"])["semiparametric"].resolve()
        == SHIPPED / "arm-semiparametric"
    )
    assert {"semiparametric", "robust", "oracle"} <= set(list_variants_with_base(setting(Path("bases"))))
    assert load_bases(setting(Path("bases")), ["semiparametric"])["semiparametric"].manifest["robot"] == "arm"


def test_a_folder_that_was_named_is_the_only_one_that_is_looked_in(tmp_path):
    card(tmp_path / "arm-gru", load_spec("arm").compute_digest())
    card(tmp_path / "arm-kv", "0" * 64)
    assert list_variants_with_base(setting(tmp_path)) == ["gru"]


def test_a_robot_by_the_path_of_its_spec_has_the_bases_of_its_name(tmp_path):
    for name, copy in (
        ("arm.yaml", "arm-copy.yaml"),
        ("arm.model.json", "arm-copy.model.json"),
        ("arm.xml", "arm.xml"),
    ):
        shutil.copy(find_spec_path("arm").with_name(name), tmp_path / copy)
    path = tmp_path / "arm-copy.yaml"
    assert set(check_bases(setting(SHIPPED, str(path)), ["semiparametric"])) == {"semiparametric"}
    path.write_text(path.read_text().replace("rate: 50", "rate: 25"))
    with pytest.raises(
        SnapshotError,
        match=r"another spec than that of '.*arm-copy\.yaml': arm-semiparametric. Make own ones",
    ):
        check_bases(setting(SHIPPED, str(path)), ["semiparametric"])
