"""Bench of the thesis: equal parameters, paired ratios, worlds that return, trainings that are found again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.learn, pytest.mark.sim]
pytest.importorskip("torch")
pytest.importorskip("mujoco")

from wm_robot.errors import ConfigError, SnapshotError
from wm_robot.progress import ignore_progress
from wm_robot.robots import load_spec
from wm_robot_benchmarks import thesis
from wm_robot_benchmarks.measures import thesis_errors, thesis_training
from wm_robot_benchmarks.measures.online_tuning import OnlineConfig, choose_online_config
from wm_robot_benchmarks.measures.relative_error import compute_relative_error
from wm_robot_benchmarks.measures.thesis_errors import (
    AGAIN,
    FIRST,
    HISTORIES,
    POINTS,
    RETURN_POINTS,
    RETURNED,
    ErrorJob,
    measure_errors,
    simulate_returned_lives,
)
from wm_robot_benchmarks.measures.thesis_figure import Panel, draw_thesis_figure
from wm_robot_benchmarks.measures.thesis_training import ThesisTraining, count_parameters_of
from wm_robot_benchmarks.measures.thesis_variants import (
    DEFAULT,
    FROZEN,
    GRADIENT,
    ONLINE,
    SHIPPED,
    TrainingRun,
    find_memory,
    find_training_runs,
    list_trained_variants,
    list_trainings,
)
from wm_robot_benchmarks.thesis import ThesisBench

FAMILIES = ("gru", "delta")


def make_training(work: Path, **settings) -> ThesisTraining:
    given = {"updates": 2, "correction_updates": 1, "seeds": (0,), "families": (), "num_trajectories": 8}
    return ThesisTraining(spec=load_spec("arm"), work=work, **(given | settings))


def test_all_variants_have_as_many_parameters(tmp_path):
    training = make_training(tmp_path)
    counts = {
        name: count_parameters_of(training._make_shape(find_memory(name)))
        for name in list_trained_variants(FAMILIES)
    }
    assert max(counts.values()) / min(counts.values()) < 1.05, counts


def test_the_variants_that_matter_are_trained_with_every_seed():
    trained = {name: list_trainings(name, (3, 4, 5)) for name in list_trained_variants(FAMILIES)}
    assert {name for name, seeds in trained.items() if seeds == (3, 4, 5)} == {FROZEN, "ekf", "gru", DEFAULT}
    assert all(seeds in ((3,), (3, 4, 5)) for seeds in trained.values())


def test_a_training_is_made_once_and_its_settings_are_checked(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(thesis_training, "list_trained_variants", lambda _: (FROZEN, "nominal"))
    make_training(tmp_path).train_missing()
    said = capsys.readouterr().out
    assert "training robust, seed 0; 1 more" in said and "robust: 2/2" in said
    make_training(tmp_path).train_missing()
    assert "training" not in capsys.readouterr().out
    with pytest.raises(SnapshotError, match="trained with updates 2 instead of 3"):
        make_training(tmp_path, updates=3).train_missing()
    setting = replace(ThesisBench().make_setting(), bases=tmp_path / "none")
    (run,) = find_training_runs(setting, tmp_path, (0, 1), FAMILIES)
    assert (run.label, run.variants) == ("0", ("nominal", FROZEN, *ONLINE))


def test_variants_without_a_training_are_those_that_ship(tmp_path):
    setting = ThesisBench().make_setting()
    (run,) = find_training_runs(setting, tmp_path, (0,), FAMILIES)
    assert run.label == SHIPPED and {FROZEN, *ONLINE, DEFAULT, "oracle"} <= set(run.variants)
    with pytest.raises(SnapshotError, match="no base of variant 'robust'.*--train"):
        find_training_runs(replace(setting, bases=tmp_path), tmp_path, (0,), FAMILIES)


def test_settings_of_learners_are_chosen_on_training_kinds_alone(tmp_path, monkeypatch):
    from wm_robot_benchmarks.measures import online_tuning
    from wm_robot_sim.effects.effect import EFFECT_KINDS

    seen = []

    def make_lives(setting, row, strength, lives, seed, *, points):
        seen.append(row)
        return thesis_errors.make_lives(setting, row, strength, lives, seed, points=points)

    monkeypatch.setattr(online_tuning, "make_lives", make_lives)
    monkeypatch.setattr(online_tuning, "POINTS", (1, 2))
    monkeypatch.setattr(online_tuning, "SCALES", (0.1, 1e4))
    monkeypatch.setattr(online_tuning, "RATES", {"all": (1e-3, 10.0)})
    monkeypatch.setattr(online_tuning, "SGD_RATES", (10.0,))
    setting, path = ThesisBench().make_setting(), tmp_path / "online.json"
    (run,) = find_training_runs(setting, tmp_path, (0,), FAMILIES)
    frozen = online_tuning_frozen(run)
    chosen = choose_online_config(setting, frozen, path, 1, ignore_progress)
    assert {EFFECT_KINDS[row].use for row in seen if row in EFFECT_KINDS} == {"training"}
    assert chosen.gradient.learning_rate == 1e-3 and chosen.last_layer.scale == 0.1
    assert OnlineConfig.load(path) == chosen
    assert choose_online_config(setting, frozen, path, 1, ignore_progress) == chosen


def online_tuning_frozen(run: TrainingRun):
    from wm_robot_benchmarks.harness.result import load_bases

    return load_bases(run.setting, [FROZEN])[FROZEN].model


def test_a_ratio_is_paired():
    rng = np.random.default_rng(0)
    other = rng.uniform(0.1, 10.0, (3, 20, 2))
    same = compute_relative_error([0.5 * other, other], [other, 2 * other])
    np.testing.assert_allclose([same.ratio, same.low, same.high], 0.5)
    unlike = compute_relative_error([rng.permutation(other, axis=1)], [other])
    np.testing.assert_allclose(unlike.ratio, 1.0)
    assert (unlike.low < 0.8).all() and (unlike.high > 1.25).all()
    # One bad training of three counts in the interval, and not for robots alone.
    uneven = compute_relative_error([other * np.array([1.0, 1.0, 4.0])[:, None, None]], [other])
    assert uneven.low[0] == pytest.approx(1.0) and uneven.high[0] == pytest.approx(4.0)


@pytest.mark.parametrize("row", RETURNED.values())
def test_a_world_returns(row):
    lives = simulate_returned_lives(
        ThesisBench().make_setting(), row, {"backlash": 1.0, "exchanged_cables": 1.0}, 4, 0
    )
    assert lives.num_steps == 2 * thesis_errors.STAY + RETURN_POINTS[-1] + 14
    for step, world in ((0, 0), (127, 0), (128, 1), (255, 1), (256, 0), (lives.num_steps - 1, 0)):
        assert (lives.world[:, step] == world).all()
    declared = row == RETURNED["declared"]
    assert (lives.physics[:, 0] != lives.physics[:, 1]).any() == declared


def make_errors(job: ErrorJob) -> thesis_errors.Errors:
    """Errors whose ratios are known: 0.5 for the default memory, 2 for gradient steps, 0.1 for the floor."""
    of = {DEFAULT: 0.5, GRADIENT: 2.0}
    frozen = np.random.default_rng(job.seed).uniform(1.0, 2.0, (job.lives, len(POINTS)))
    if job.row in RETURNED.values():
        frozen = frozen[:, : len(RETURN_POINTS)]
        return {
            (name, part): frozen * of.get(name, 1.0) * (0.5 if part == AGAIN else 1.0)
            for name in job.run.variants
            for part in (FIRST, AGAIN)
        }
    found = {(name, ""): frozen * of.get(name, 1.0) for name in job.run.variants} | {
        ("floor", ""): 0.1 * frozen
    }
    at = POINTS.index(thesis_errors.CONTROL_STEPS)
    if job.has_controls:
        found |= {(DEFAULT, f"control {history}"): 3.0 * frozen[:, at : at + 1] for history in HISTORIES}
    return found


def test_figures_are_relative_to_robust_of_the_same_training(monkeypatch, tmp_path):
    setting = ThesisBench().make_setting()
    runs = [
        TrainingRun("0", setting, ("nominal", FROZEN, *ONLINE, "gru", DEFAULT)),
        TrainingRun("1", setting, (FROZEN, *ONLINE, "gru", DEFAULT)),
    ]
    from wm_robot_benchmarks.measures import thesis_variants

    monkeypatch.setattr(thesis_variants, "find_training_runs", lambda *_: runs)
    monkeypatch.setattr(
        thesis, "in_processes", lambda _, jobs, progress: [make_errors(job) for (job,) in jobs]
    )
    monkeypatch.setattr(thesis, "_load_own_bases", lambda _: [])
    figure = tmp_path / "thesis.svg"
    bench = ThesisBench(work=tmp_path, lives=4, seeds=(0, 1), kinds=("backlash", "pendulum"), figure=figure)
    result = bench.run(ignore_progress)
    values = result.values
    for group in ("nominal", "declared", "undeclared"):
        assert values[f"{group}_0"] == values[f"{group}_128"] == pytest.approx(0.5)
        assert values[f"{group}_128_vs_gradient"] == pytest.approx(0.25)
    assert values["returned_declared_8_vs_first"] == pytest.approx(0.5)
    assert values["control_shuffled"] == values["control_reset"] == pytest.approx(3.0)
    steps = [
        row for row in result.table if row.get("worlds") == "undeclared" and row.get("variant") == "floor"
    ]
    assert steps[0]["64"] == pytest.approx(0.1)
    assert {"kind, 128 steps": "backlash", "nominal": 1.0, "semiparametric": 0.5}.items() <= next(
        row for row in result.table if row.get("kind, 128 steps") == "backlash"
    ).items()
    drawn = figure.read_text(encoding="utf-8")
    assert "Something changed that nobody declared" in drawn and len(drawn) < 200_000
    bench.run(ignore_progress)
    assert figure.read_text(encoding="utf-8") == drawn


def test_shipped_bases_are_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(thesis_errors, "POINTS", (0, 2))
    monkeypatch.setattr(thesis_errors, "CONTROL_STEPS", 2)
    setting = ThesisBench().make_setting()
    run = TrainingRun(SHIPPED, setting, (FROZEN, *ONLINE, DEFAULT, "oracle"))
    job = ErrorJob(setting, run, tmp_path / "none.json", "declared", {}, 2, 0, has_controls=True)
    found = measure_errors(job)
    assert {(name, "") for name in (*run.variants, "floor")} <= found.keys()
    assert all(error.shape == (2, 2) for (_, part), error in found.items() if not part)
    learners = {name for name, part in found if part == "control shuffled"}
    assert learners == {*ONLINE, DEFAULT}
    np.testing.assert_allclose(found[GRADIENT, "control none"][:, 0], found_frozen(job), rtol=1e-3)


def found_frozen(job: ErrorJob) -> np.ndarray:
    """Error of the frozen network at the step of the controls."""
    return measure_errors(replace(job, run=replace(job.run, variants=(FROZEN,))))[FROZEN, ""][:, 1]


def test_a_panel_without_errors_is_empty(tmp_path):
    draw_thesis_figure([Panel("Nothing", "steps", POINTS, {})] * 4, tmp_path / "own" / "thesis.svg")
    assert (tmp_path / "own" / "thesis.svg").exists()


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ConfigError, match="lives is 1"):
        ThesisBench(lives=1).run(ignore_progress)
    with pytest.raises(ConfigError, match="training-seeds is empty"):
        ThesisBench(training_seeds=()).run(ignore_progress)


def test_the_time_of_a_killed_training_counts(tmp_path):
    clock = thesis_training._CpuClock(tmp_path / "cpu.json")
    assert clock.seconds == 0.0
    clock.start_if_stopped()
    sum(number * number for number in range(100_000))
    clock.save()
    again = thesis_training._CpuClock(tmp_path / "cpu.json")
    before = again.seconds
    assert 0 < before <= clock.seconds
    again.start_if_stopped()
    sum(number * number for number in range(100_000))
    assert again.seconds > before
