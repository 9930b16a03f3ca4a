"""The report of a validation says what the verdict is, why, where it is weak, and what to do, in one file."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason='matplotlib is not installed: pip install "wm_robot[report]"')

from tests.evaluation.browser import measure_in_browser
from wm_robot.evaluation.report.contents import Video
from wm_robot.evaluation.validation.battery import Battery, Check
from wm_robot.evaluation.validation.episode import Danger, EpisodeResult
from wm_robot.evaluation.validation.figures import compute_figures
from wm_robot.evaluation.validation.report.contents import EpisodeTrack, ValidationContents, WorstCase
from wm_robot.evaluation.validation.report.heat_maps import HeatMap, build_heat_maps
from wm_robot.evaluation.validation.report.next_steps import find_weak_conditions, list_next_steps
from wm_robot.evaluation.validation.report.page import (
    describe_learning,
    make_headline,
    write_validation_report,
)
from wm_robot.evaluation.validation.report.worst_cases import select_worst_cases
from wm_robot.evaluation.validation.scenario import Scenario, WorldChange
from wm_robot.evaluation.validation.verdict import CheckOutcome, Verdict

BATTERY = Battery.load("arm")
CHANNELS = ("base/position", "elbow/position", "base/velocity", "elbow/velocity")
DIGESTS = {"base": "b" * 64, "snapshot": "", "battery": "a" * 64, "version": "0.1.0"}


def episode(label: str, *settled: float, dangers: tuple[Danger, ...] = ()) -> EpisodeResult:
    is_prediction = label.startswith("prediction")
    return EpisodeResult(
        label=label,
        settled=settled,
        prediction=settled if is_prediction else (),
        channel_errors=(0.1, 0.2, 0.3, 0.9) if is_prediction else (),
        exchanged=(),
        coverage=(0.7,),
        surprise=-2.0,
        dangers=dangers,
        num_rejections=0,
    )


EPISODES = (
    episode("prediction-nominal/0", 0.21),
    episode("prediction-nominal/1", 0.25),
    episode("prediction-declared/0", 0.4),
    episode("control-nominal/0", 0.31),
    episode("control-declared/0", 0.3, 1.37),
    episode("control-declared/1", 0.3, 0.42),
    episode("corners/friction low", 0.3, 0.51),
    episode("corners/friction high", 0.3, 2.62),
    episode("corners/tilt x", 0.3, 0.73),
    episode("outside/friction high", 0.3, 4.84, dangers=(Danger(step=7, kind="limit", what="elbow"),)),
    episode("undeclared/exchanged_cables 0", 0.3, 7.8, 0.34),
    episode("undeclared/tool 0", 0.3, 6.16, 0.27),
    episode("faults/weak elbow 0", 0.3, 1.25, 0.2),
    episode("faults/weak elbow 1", 0.3, 1.75, 0.2),
    episode("faults/sticky base 0", 0.3, 0.64, 0.2),
    episode("sensors/noise 0.005 all 0", 0.3, 0.88),
    episode("messages/loss 0.1 all 0", 0.3, 0.99),
    episode("recall/0", 0.3, 1.1, 0.45),
    episode("lifetime/0", 0.3, 0.9, 0.8, 0.7, 0.6, 0.5),
    *(
        episode(f"learning/{variant} {number}", nominal, changed)
        for variant, nominal, changed in (
            ("learning", 0.36, 0.8),
            ("frozen as given", 0.30, 4.0),
            ("frozen initial", 0.60, 5.0),
        )
        for number in range(2)
    ),
)


def judge(check: Check, results: tuple[EpisodeResult, ...], **figures: float) -> CheckOutcome:
    own = [each for each in results if each.label.split("/")[0] == check.name]
    if own:
        found = compute_figures(check, own)
        return CheckOutcome.judge(check, found.figures, reasons=found.reasons, cases=found.cases)
    if check.name not in figures and check.measure not in ("model", "bundle", "resume"):
        return CheckOutcome(check=check, status="not run", reasons=("it is not part of --quick",))
    value = figures.get(check.name, 0.0)
    return CheckOutcome.judge(check, dict.fromkeys(check.limits, value))


def contents(results: tuple[EpisodeResult, ...] = EPISODES, **changes: Any) -> ValidationContents:
    outcomes = tuple(judge(check, results, timing=0.5) for check in BATTERY.checks)
    values: dict[str, Any] = {
        "verdict": Verdict(outcomes=outcomes),
        "base": "arm-semiparametric",
        "robot": "arm",
        "task": "reach",
        "seed": 41,
        "score": 0.42,
        "seconds": 83.0,
        "written": "2026-12-01 04:00 UTC",
        "results": results,
        "channels": CHANNELS,
        "tolerance": "15 mm",
        "digests": DIGESTS,
        "machine": {"processor": "a fast one", "cores": "2"},
        "command": "wm-robot validate arm-semiparametric",
        "full_command": "wm-robot validate arm-semiparametric",
        "train_command": "wm-robot train arm",
    }
    return ValidationContents(**{**values, **changes})


def damaged(reason: str = "tensor mean.weight of the base holds only zeros") -> ValidationContents:
    """Contents of a bundle that nothing could be driven with."""
    outcomes = tuple(
        CheckOutcome.judge(check, {"failures": 1.0}, reasons=[reason])
        if check.name == "bundle"
        else CheckOutcome.judge(check, {"failures": 0.0})
        if check.name == "model"
        else CheckOutcome(
            check=check, status="not run", reasons=("bundle failed, so that nothing is measured",)
        )
        for check in BATTERY.checks
    )
    return contents((), verdict=Verdict(outcomes=outcomes), score=float("nan"), tolerance="", channels=())


def track() -> EpisodeTrack:
    time = np.arange(0, 6, 0.02)
    return EpisodeTrack(
        time=time,
        error=1 + np.sin(time),
        changes=((2.0, "friction high"),),
        joints=("base", "elbow"),
        positions=np.stack([np.sin(time), np.cos(time)], 1),
        predicted_time=time[::4],
        predicted=np.stack([np.sin(time), np.cos(time)], 1)[::4],
        horizon_seconds=0.2,
    )


class Page(HTMLParser):
    """The words of a page, its cells with shade, and its tags, each of which must be closed in order."""

    VOID = ("meta", "img", "br", "path", "use")

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.said: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.said.append(data.strip())

    @property
    def words(self) -> str:
        return " ".join(filter(None, self.said))


def write(tmp_path: Path, wanted: ValidationContents) -> str:
    write_validation_report(tmp_path / "report.html", wanted)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_verdict_comes_first_and_says_what_was_judged(tmp_path):
    wanted = contents()
    page = Page(write(tmp_path, wanted))
    assert not wanted.verdict.is_passed
    assert wanted.verdict.to_sentence() in page.words
    head = page.words.split("All checks")[0]
    for told in (
        "Failed",
        "arm-semiparametric",
        "initial state",
        "arm, reach",
        "full, seed 41",
        "1 min 23 s",
        "fast",
    ):
        assert told in head
    assert (
        page.words.index("Failed:") < page.words.index("What to do:") < page.words.index("Where it is weak")
    )


def test_a_bundle_that_passes_says_so_and_by_which_battery(tmp_path):
    fine = tuple(each for each in EPISODES if not each.label.startswith(("undeclared", "outside")))
    wanted = contents(fine, is_quick=True)
    assert wanted.verdict.is_passed
    assert make_headline(wanted).startswith("Passed:") and "quick battery" in make_headline(wanted)
    page = Page(write(tmp_path, wanted))
    assert "No check failed" in page.words and "wm-robot validate arm-semiparametric" in page.words


def test_reasons_come_by_severity_with_their_remedies(tmp_path):
    wanted = contents()
    page = Page(write(tmp_path, wanted)).words
    why = page[page.index("Why") : page.index("All checks")]
    undeclared, outside = BATTERY.find_check("undeclared"), BATTERY.find_check("outside")
    assert undeclared.remedy in why and outside.remedy in why
    assert why.index("undeclared") < why.index(outside.remedy), "a minor failure comes last"
    assert "settled is 6.98; it must be at most 6" in why
    assert "failed episodes: outside/friction high" in why


def test_every_check_is_listed_with_figures_and_pass_line(tmp_path):
    page = Page(write(tmp_path, contents())).words
    for check in BATTERY.checks:
        assert check.name in page and check.describe_limits() in page
    assert "settled 0.895" in page, "the mean of 1.37 and 0.42"


def find_map(maps: list[HeatMap], title: str) -> HeatMap:
    return next(each for each in maps if each.title == title)


def test_heat_maps_hold_the_settled_error_of_each_condition():
    maps = build_heat_maps(contents())
    corners = find_map(maps, "Ends of the declared ranges")
    assert corners.columns == ("low", "high", "high +20 %") and corners.limits == (3.0, 3.0, 4.0)
    assert corners.rows == ("friction", "tilt x"), "the worst first"
    np.testing.assert_equal(corners.values, [[0.51, 2.62, 4.84], [np.nan, 0.73, np.nan]])
    faults = find_map(maps, "Motor faults")
    assert faults.rows == ("elbow", "base") and faults.columns == ("weak", "sticky")
    np.testing.assert_equal(faults.values, [[1.5, np.nan], [np.nan, 0.64]])
    effects = find_map(maps, "Undeclared effects")
    np.testing.assert_equal(effects.values, [[7.8, 0.34], [6.16, 0.27]])
    assert effects.limits == (6.0, 3.0)
    np.testing.assert_equal(find_map(maps, "control-declared").values, [[0.42, 1.37]])
    np.testing.assert_equal(find_map(maps, "lifetime").values, [[0.3, 0.9, 0.8, 0.7, 0.6, 0.5]])


def test_the_page_shows_the_numbers_of_its_heat_maps_and_frames_those_above_the_pass_line(tmp_path):
    page = write(tmp_path, contents())
    assert re.findall(r'<td class="over" title="([^"]*)"[^>]*>([\d.]+)<', page) == [
        ("friction high +20 %", "4.84"),
        ("exchanged_cables while it lasts", "7.80"),
        ("tool while it lasts", "6.16"),
    ]
    for value in ("0.51", "2.62", "0.73", "1.50", "0.64", "1.37"):
        assert f">{value}</" in page


def test_the_table_of_knowledge_or_learning_says_what_adaptation_gives_and_costs(tmp_path):
    wanted = contents()
    gives, costs, knows = describe_learning(wanted.find_outcomes("learning")[0])
    assert gives == (
        "In changed worlds, adaptation lowers the error from 4 to 0.8 tolerances (5.0 times less)."
    )
    assert costs == (
        "On the nominal robot, adaptation raises the error from 0.3 to 0.36 tolerances (1.2 times more)."
    )
    assert "lowers the error from 0.6 to 0.3" in knows
    page = Page(write(tmp_path, wanted)).words
    assert gives in page and "frozen initial 0.6 5" in page


def test_next_steps_name_failures_weak_conditions_and_commands():
    wanted = contents()
    steps = list_next_steps(wanted)
    assert steps[0].words.startswith("undeclared: ") and steps[0].command == "wm-robot train arm"
    weakest = find_weak_conditions(wanted)
    assert [each.name for each in weakest[:2]] == ["exchanged_cables while it lasts", "friction high +20 %"]
    told = next(each.words for each in steps if "weakest conditions" in each.words)
    assert "exchanged_cables while it lasts (7.8)" in told


def test_a_failure_of_sensors_asks_for_training_with_more_of_them_and_one_of_messages_for_none():
    steps = {
        name: list_next_steps(contents((*EPISODES[:5], episode(f"{name}/0 1 all 0", 0.3, 9.0))))[0]
        for name in ("sensors", "messages")
    }
    assert steps["sensors"].command == "wm-robot train arm --sensor-fault-share 0.8"
    assert not steps["messages"].command
    assert all(BATTERY.find_check(name).remedy in step.words for name, step in steps.items())


def test_with_nothing_to_mend_the_next_step_is_the_next_validation():
    fine = tuple(each for each in EPISODES if each.label.startswith(("prediction", "control")))
    assert [each.words[:18] for each in list_next_steps(contents(fine))] == ["Every check passed"]


def test_the_worst_episodes_are_of_different_checks_and_none_is_too_long():
    scenarios = [
        Scenario(
            check=each.label.split("/")[0],
            name=each.label.split("/")[1],
            robot="arm",
            task="reach",
            seed=1,
            num_steps=30000 if each.label.startswith("lifetime") else 300,
            changes=(WorldChange(step=0, world={}, label="nominal"),),
        )
        for each in EPISODES
    ]
    chosen = select_worst_cases(contents().verdict, scenarios, EPISODES, count=3, max_steps=1000)
    labels = [scenario.label for scenario, _ in chosen]
    assert labels[:2] == ["outside/friction high", "undeclared/exchanged_cables 0"], "a danger counts most"
    assert len({label.split("/")[0] for label in labels}) == 3
    assert all(scenario.label == result.label for scenario, result in chosen)
    everything = select_worst_cases(contents().verdict, scenarios, EPISODES, count=99, max_steps=1000)
    assert not any(scenario.check in ("lifetime", "learning") for scenario, _ in everything)


def test_digests_seeds_and_the_world_model_are_on_the_page(tmp_path):
    page = Page(write(tmp_path, contents())).words
    for value in (DIGESTS["base"], "a" * 64, "0.1.0", "snapshot none", "seed 41"):
        assert value in page
    assert "prediction-nominal 0.23 70 % elbow/velocity (0.9)" in page


def test_a_damaged_bundle_gets_a_report_with_the_reason(tmp_path):
    wanted = damaged()
    page = Page(write(tmp_path, wanted)).words
    assert "Failed:" in page and "tensor mean.weight of the base holds only zeros" in page
    assert BATTERY.find_check("bundle").remedy in page and "Nothing was driven" in page
    assert "nan" not in page.lower()


def test_a_film_stands_first_and_curves_stand_in_where_there_is_none(tmp_path):
    film = Video(content=b"moving", kind="video/mp4")
    cases = (
        WorstCase(
            label="faults/weak elbow 0", reasons=("it missed",), command="again", video=film, track=track()
        ),
        WorstCase(label="corners/friction high", reasons=("it hit",), track=track()),
        WorstCase(label="undeclared/tool 0", reasons=("it shook",)),
    )
    text = write(tmp_path, contents(worst_cases=cases, notes=("No film of one.",)))
    page = Page(text).words
    assert text.count("<video") == 1 and "data:video/mp4;base64," in text
    assert (
        page.index("1. faults/weak elbow 0")
        < page.index("2. corners/friction high")
        < page.index("3. undeclared/tool 0")
    )
    assert "expected them 200 ms earlier" in page and "No film of one." in page
    assert text.count('aria-label="Error of the task over time"') == 4, "two cases in two widths"
    assert text.count('aria-label="Motion of the joints and its prediction"') == 2


def test_films_that_make_the_page_too_large_are_left_out(tmp_path):
    film = Video(content=b"x" * 2_000_000, kind="video/mp4")
    cases = tuple(WorstCase(label=f"faults/{n}", reasons=(), video=film) for n in range(3))
    text = write(tmp_path, contents(worst_cases=cases))
    assert text.count("<video") == 1 and len(text.encode()) < 5_000_000


@pytest.fixture(scope="module", params=["driven", "damaged"])
def page(request, tmp_path_factory) -> str:
    wanted = damaged()
    if request.param == "driven":
        film = Video(content=b"moving", kind="video/mp4")
        case = WorstCase(label="faults/weak elbow 0", reasons=("it missed",), command="again", track=track())
        wanted = contents(worst_cases=(replace(case, video=film), case))
    return write(tmp_path_factory.mktemp("page"), wanted)


def test_the_page_is_one_small_file_that_needs_nothing_else(page):
    assert len(page.encode()) < 1_000_000
    assert not re.findall(r"(?:https?:)?//[a-z]", page), "no address"
    assert not re.findall(r"url\((?!#)", page) and "@import" not in page
    assert not {"script", "link", "iframe"} & Page(page).tags


def test_words_from_outside_stay_words(tmp_path):
    told = "<script>alert(1)</script>"
    text = write(
        tmp_path, replace(damaged(told), base=told, state=told, robot=told, machine={"processor": told})
    )
    assert "<script" not in text and Page(text)


@pytest.mark.parametrize("width", [400, 1280])
def test_in_a_browser_it_fits_and_reports_no_error(page, tmp_path, width):
    measured = measure_in_browser(page, tmp_path, width)
    assert measured["window"] == width
    assert measured["page"] <= width, "the page itself does not scroll sideways"
    assert not measured["console"]
    for figure in measured["figures"]:
        assert figure["width"] > 0 and figure["height"] > 0 and figure["right"] <= width + 0.5
    for chart in measured["charts"]:
        assert chart["right"] <= chart["room"] + 0.5 <= width + 0.5
        assert chart["letters"] >= 8, "px: letters stay readable"
