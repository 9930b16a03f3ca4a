"""`wm-robot validate` on the bases that ship, and on damaged copies of them."""

import json
from dataclasses import replace

import numpy as np
import pytest

pytestmark = [pytest.mark.learn, pytest.mark.sim]
torch = pytest.importorskip("torch")
pytest.importorskip("mujoco")

from wm_robot.evaluation.validation.battery import Battery
from wm_robot.evaluation.validation.scenario import Case
from wm_robot.io.base_file import find_base
from wm_robot.robots import load_spec
from wm_robot.store.store import Store
from wm_robot_benchmarks.measures.damaged_bundles import Damage, damage_base
from wm_robot_cli.main import main
from wm_robot_cli.validation.battery_run import BatteryRun
from wm_robot_cli.validation.runner import ValidationTarget
from wm_robot_cli.validation.worlds import ScenarioSource

ARM, SO101 = find_base("arm-semiparametric"), find_base("so101-semiparametric")
SHORT = {
    "prediction-nominal": {"episodes": 1, "seconds": 3.0},
    "control-nominal": {"episodes": 1, "seconds": 2.0},
    "control-declared": {"episodes": 1, "seconds": 3.0, "change": 1.0},
    "resume": {"seconds": 0.5},
    "timing": {"steps": 20},
}


def make_target(base=ARM, robot="arm", **values):
    return ValidationTarget(
        base=str(base), state=values.pop("state", ""), robot=robot, task="reach", **values
    )


def make_battery(*names):
    """The default battery with a few short checks; timing passes on any machine."""
    checks = [
        replace(check, settings={**check.settings, **SHORT.get(check.name, {})}, quick=None)
        for check in Battery.load("arm").checks
        if check.name in names or (not names and check.mandatory)
    ]
    return Battery(
        checks=tuple(replace(each, limits={}) if each.name == "timing" else each for each in checks)
    )


def judge(tmp_path, target, *names, **options):
    return BatteryRun(make_battery(*names), target, tmp_path, processes=1, **options).run()


def test_a_base_that_ships_passes_and_the_result_is_equal_by_seed(tmp_path):
    first = judge(tmp_path / "a", make_target())
    assert first.verdict.is_passed, first.verdict.to_sentence()
    again = judge(tmp_path / "b", make_target())
    assert again.results == first.results and again.score == first.score
    assert again.digests == first.digests and all(
        first.digests[name] for name in ("base", "spec", "battery", "model")
    )
    other = judge(tmp_path / "c", make_target(seed=1))
    assert other.results != first.results


def test_a_killed_validation_continues_from_its_episodes(tmp_path, monkeypatch):
    names = ("prediction-nominal", "control-nominal")
    target = make_target()
    whole = judge(tmp_path / "whole", target, *names)
    from wm_robot_cli.validation import runner

    run, ran = runner.run_scenario, []

    def run_one(agents, target, scenario, change_std, **options):
        if len(ran) == 1:
            raise KeyboardInterrupt
        ran.append(scenario.label)
        return run(agents, target, scenario, change_std, **options)

    monkeypatch.setattr(runner, "run_scenario", run_one)
    with pytest.raises(KeyboardInterrupt):
        judge(tmp_path / "cut", target, *names)
    monkeypatch.setattr(
        runner, "run_scenario", lambda *args, **options: ran.append("more") or run(*args, **options)
    )
    continued = judge(tmp_path / "cut", target, *names)
    assert len(ran) == 2 and continued.results == whole.results


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            Damage(kind="zeroed layer", what="input_layer.weight"),
            "input_layer.weight of the base holds only zeros",
        ),
        (
            Damage(kind="stale scale", what="elbow_pitch/velocity"),
            "scale of the one-step change of elbow_pitch/velocity",
        ),
        (
            Damage(kind="exchanged joints", what="base_yaw, shoulder_pitch"),
            "what the base predicts of base_yaw and shoulder_pitch is exchanged",
        ),
    ],
)
def test_a_damaged_base_is_refused_with_its_reason(tmp_path, damage, said):
    damage_base(ARM, tmp_path / "base", load_spec("arm"), damage)
    found = judge(tmp_path / "work", make_target(tmp_path / "base"), "bundle", "prediction-nominal")
    assert not found.verdict.is_passed
    assert said in " ".join(reason for each in found.verdict.refusals for reason in each.reasons)


def save_state(folder, base, robot, **changes):
    from wm_robot.agent.saved_lifetime import load_model_backend
    from wm_robot.model.base import load_base

    loaded = load_base(base)
    spec = load_spec(robot)
    hold = spec.home_action.astype(np.float32)[None]
    arrays = load_model_backend(base, loaded).initial_state(initial_action=hold).flatten()
    arrays = {name: np.ascontiguousarray(value) for name, value in arrays.items()} | changes
    store = Store(folder)
    store.save(arrays, base_digest=loaded.digest, spec_digest=spec.compute_digest(), branch="main")
    return str(folder), arrays


def test_the_state_of_another_robot_is_refused_with_its_reason(tmp_path):
    state, _ = save_state(tmp_path / "store", SO101, "so101")
    found = judge(tmp_path / "work", make_target(state=state), "bundle", "prediction-nominal")
    assert not found.verdict.is_passed
    bundle, prediction = found.verdict.outcomes
    assert "base" in bundle.reasons[0] and bundle.status == "failed"
    assert prediction.status == "not run" and "bundle failed" in prediction.reasons[0]


def test_a_state_whose_file_was_changed_to_hold_no_number_is_refused_with_its_reason(tmp_path):
    state, _ = save_state(tmp_path / "store", ARM, "arm")
    file = next((tmp_path / "store" / "objects").glob("*.safetensors"))
    file.chmod(0o644)
    content = bytearray(file.read_bytes())
    content[-64:] = np.full(16, np.nan, np.float32).tobytes()
    file.write_bytes(bytes(content))
    found = judge(tmp_path / "work", make_target(state=state), "bundle", "prediction-nominal")
    assert not found.verdict.is_passed and "damaged" in found.verdict.refusals[0].reasons[0]


def test_a_base_of_another_robot_is_refused(tmp_path):
    found = judge(tmp_path, make_target(SO101, "arm"), "bundle")
    assert "was trained for robot 'so101'" in found.verdict.refusals[0].reasons[0]


def test_the_check_of_a_mandatory_check_cannot_be_skipped(tmp_path):
    found = BatteryRun(
        make_battery("prediction-nominal", "recall"),
        make_target(),
        tmp_path,
        processes=1,
        skipped=("prediction-nominal", "recall"),
    ).run()
    by_name = {each.check.name: each for each in found.verdict.outcomes}
    assert by_name["prediction-nominal"].status == "passed"
    assert by_name["recall"].status == "not run" and "--skip" in by_name["recall"].reasons[0]


def test_a_failed_scenario_is_kept_and_runs_again_with_the_same_result(tmp_path, capsys):
    check = make_battery("control-nominal").checks[0]
    strict = Battery(checks=(replace(check, limits={"settled": (None, 1e-3)}),))
    found = BatteryRun(strict, make_target(), tmp_path, processes=1).run()
    assert not found.verdict.is_passed and found.verdict.outcomes[0].cases == ("control-nominal/0",)
    path = found.cases[0].save(tmp_path)
    assert "settled is" in Case.load(path).reasons[0]
    main(["validate", "arm-semiparametric", "--only", str(path), "--json"])
    again = json.loads(capsys.readouterr().out)
    assert again["scenarios"][0]["settled 0"] == again["before"]["settled 0"]


def test_every_world_of_the_battery_can_be_simulated():
    from wm_robot_cli.validation.plant import ScenarioPlant

    for robot in ("arm", "so101", "cartpole"):
        spec = load_spec(robot)
        source = ScenarioSource(spec, next(iter(spec.tasks)), seed=0)
        for check in Battery.load(robot).checks:
            if "worlds" not in check.settings:
                continue
            drawn = source.draw(check, check.settings)
            assert len({each.label for each in drawn}) == len(drawn)
            for scenario in drawn[:: max(1, len(drawn) // 6)]:
                plant = ScenarioPlant(spec, scenario)
                for each in scenario.changes:
                    plant.set_world(each.world)
                    plant.write(plant.last_action)
                assert np.isfinite(plant.read().values).all()


def test_a_wrong_name_is_one_sentence(capsys):
    for args, said in (
        (["validate", "arm-nothing"], "no base"),
        (["validate", "arm-semiparametric", "--only", "swing"], "no check 'swing'"),
        (["validate", "arm-semiparametric", "--only", "timing"], "has no episodes"),
        (["validate", "arm-semiparametric", "--skip", "swing"], "no check 'swing'"),
        (["validate", "arm-semiparametric", "--only", "missing.case.json"], "cannot be read"),
    ):
        with pytest.raises(SystemExit) as left:
            main(args)
        assert left.value.code == 2
        assert said in capsys.readouterr().err


SHORT_BATTERY = """version: 1
checks:
  - {name: prediction-nominal, settings: {episodes: 1, seconds: 3.0}, quick: {episodes: 1, seconds: 2.0}}
  - {name: control-nominal, settings: {episodes: 1, seconds: 2.0}, quick: {episodes: 1, seconds: 2.0}}
  - name: control-declared
    settings: {episodes: 1, seconds: 3.0, change: 1.0}
    quick: {episodes: 1, seconds: 3.0}
  - {name: resume, settings: {seconds: 0.5}, quick: {seconds: 0.5}}
  - {name: timing, settings: {steps: 20}, quick: {steps: 20}, limits: {p99: [null, 1000.0]}}
"""


def test_a_verdict_is_signed_and_renewed_and_stale_when_the_battery_changes(tmp_path, monkeypatch, capsys):
    import shutil

    from wm_robot.robots import find_spec_path

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    robot, base = tmp_path / "robot", tmp_path / "base"
    shutil.copytree(ARM, base, ignore=shutil.ignore_patterns("pretrained"))
    robot.mkdir()
    for name in ("arm.yaml", "arm.xml", "arm.model.json"):
        shutil.copy(find_spec_path("arm").parent / name, robot / name)
    battery = robot / "arm.battery.yaml"
    battery.write_text(SHORT_BATTERY)
    main(["keys", "new", "me"])
    optional = [each.name for each in Battery.load("arm").checks if not each.mandatory]
    common = ["validate", str(base), "--robot", str(robot / "arm.yaml"), "--work", str(tmp_path / "work")]
    common += ["--processes", "1", "--sign", "me", "--json", "--skip", *optional]
    with pytest.raises(SystemExit) as left:
        main([*common, "--quick"])
    assert left.value.code == 2 and "Run it without --quick" in capsys.readouterr().err
    main(common)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["passed"] and found["record"]

    def judge_now():
        from wm_robot_cli.validation_record import find_record, read_record_target

        return find_record(read_record_target(base, str(robot / "arm.yaml"))).judgement

    assert judge_now().is_valid, judge_now().sentence
    main([*common, "--quick"])
    renewed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert renewed["record"] != found["record"] and judge_now().is_valid
    battery.write_text(SHORT_BATTERY.replace("1000.0", "999.0"))
    assert not judge_now().is_valid and "battery" in judge_now().sentence
