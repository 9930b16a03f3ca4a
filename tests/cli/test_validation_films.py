"""The worst episodes of a validation are run again as they were, and filmed where the machine can render."""

import base64
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.sim
pytest.importorskip("mujoco")

from wm_robot.evaluation.validation.battery import Battery
from wm_robot.evaluation.validation.figures import compute_figures
from wm_robot.evaluation.validation.verdict import CheckOutcome, Verdict
from wm_robot.io.base_file import find_base
from wm_robot_cli.validation.battery_run import BatteryRun, ValidationReport
from wm_robot_cli.validation.films import FilmMaker
from wm_robot_cli.validation.report_file import write_report_file
from wm_robot_cli.validation.runner import ValidationTarget, run_scenario
from wm_robot_cli.validation.worlds import ScenarioSource

SECONDS, CHANGE = 2.4, 1.0


@pytest.fixture(scope="module")
def found() -> ValidationReport:
    """A validation of two checks with one short episode each, one of which fails."""
    battery = Battery.load("arm")
    folder = find_base("arm-semiparametric")
    target = ValidationTarget(base=str(folder), state="", robot="arm", task="reach", seed=3)
    source = ScenarioSource(target.load_spec(), "reach", seed=3)
    settings = {"seconds": SECONDS, "change": CHANGE, "episodes": 1, "kinds": ["exchanged_cables"]}
    agents, scenarios, results, outcomes = {}, [], [], []
    for name, limit in (("control-declared", 99.0), ("undeclared", 1e-3)):
        check = battery.find_check(name)
        check = replace(check, limits={"settled": (None, limit)})
        drawn = source.draw(check, {**check.settings, **settings, "return": 99.0})
        run = [run_scenario(agents, target, each, target.read_change_std()) for each in drawn]
        outcomes.append(CheckOutcome.judge(check, compute_figures(check, run).figures))
        scenarios += drawn
        results += run
    return ValidationReport(
        verdict=Verdict(outcomes=tuple(outcomes)),
        target=target,
        digests={"base": "1234"},
        seed=3,
        is_quick=True,
        score=1.0,
        seconds=1.0,
        scenarios=tuple(scenarios),
        results=tuple(results),
    )


def write(found: ValidationReport, folder: Path, **options) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        path = write_report_file(folder / "report.html", found, {}, **options)
    return path.read_text(encoding="utf-8")


def test_an_episode_that_is_filmed_goes_as_it_went_when_it_was_judged(found, monkeypatch):
    monkeypatch.setattr("wm_robot_sim.camera.BACKENDS", ())
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.warns(RuntimeWarning, match="no camera images"):
        maker = FilmMaker(found.target)
    for scenario, result in zip(found.scenarios, found.results, strict=True):
        episode = maker.film_episode(scenario)
        track = episode.track
        assert episode.video is None
        late = track.error[track.time > CHANGE + 1.0]
        assert np.mean(late) == pytest.approx(result.settled[1], rel=1e-4)
        assert [time for time, _ in track.changes] == [CHANGE]
        # What was predicted is where the joints then were, within a few degrees.
        steps = np.rint(track.predicted_time / 0.02).astype(int) - 1
        early = track.predicted_time < CHANGE
        apart = np.abs(track.predicted - track.positions[steps])[early]
        assert len(apart) > 3 and np.median(apart) < 0.05
    maker.close()


def test_a_quick_report_films_the_worst_episode_alone(found, tmp_path):
    page = write(found, tmp_path)
    worst = next(each.label for each in found.scenarios if each.check == "undeclared")
    assert page.index(f"1. {worst}") < page.index("2. control-declared/0")
    films = re.findall(r'data:video/mp4;base64,([^"]+)"|data:image/gif;base64,([^"]+)"', page)
    if "This machine cannot render" in page:
        assert not films and "Motion of the joints" in page
    else:
        assert len(films) == 1 and len(base64.b64decode("".join(films[0]))) > 1000


def test_without_films_no_episode_is_run_again(found, tmp_path, monkeypatch):
    monkeypatch.delattr("wm_robot_cli.validation.report_file.FilmMaker")
    page = write(found, tmp_path, with_films=False)
    assert "undeclared/exchanged_cables 0" in page and "<video" not in page and "<svg" not in page


def test_where_nothing_draws_the_report_has_curves_and_one_warning(found, tmp_path, monkeypatch):
    monkeypatch.setattr("wm_robot_sim.camera.BACKENDS", ("no_such_way",))
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.warns(RuntimeWarning, match="no camera images") as caught:
        path = write_report_file(tmp_path / "report.html", found, {})
    page = path.read_text(encoding="utf-8")
    assert len(caught) == 1 and "This machine cannot render" in page
    assert "Error of the task over time" in page and "Motion of the joints and its prediction" in page


def test_a_damaged_base_gets_a_report_with_the_reason(tmp_path):
    whole = find_base("arm-semiparametric")
    broken = tmp_path / "arm-broken"
    broken.mkdir()
    for each in whole.iterdir():
        if each.is_file():
            (broken / each.name).write_bytes(each.read_bytes())
    weights = next(broken.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    target = ValidationTarget(base=str(broken), state="", robot="arm", task="reach")
    battery = Battery(checks=tuple(c for c in Battery.load("arm").checks if c.name in ("bundle", "timing")))
    judged = BatteryRun(battery, target, tmp_path / "work", processes=1).run()
    assert not judged.verdict.is_passed and not judged.results
    page = write(judged, tmp_path)
    assert "Failed: arm-broken" in page and "Nothing was driven" in page
    assert judged.verdict.refusals[0].reasons[0][:30] in page.replace("&#x27;", "'")
