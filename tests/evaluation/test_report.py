import dataclasses
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason='matplotlib is not installed: pip install "wm_robot[report]"')

from tests.evaluation.browser import measure_in_browser
from wm_robot.errors import ConfigError
from wm_robot.evaluation.report import (
    JointPredictions,
    LatencyStatistics,
    PhysicsEstimate,
    Report,
    ReportedSession,
    RobotRun,
    Video,
    figures,
    write_report,
)
from wm_robot.evaluation.report import page as page_module

CHANGE = 8.0
JOINTS = ("base_yaw", "shoulder_pitch", "elbow_pitch", "forearm_roll", "wrist_pitch", "wrist_roll")


def run(
    name: str, *, recovers: bool, seed: int, change: float | None = CHANGE, seconds: float = 22.0
) -> RobotRun:
    """A run like a real one: an approach, a tracking error, and after the change a hump or a plateau."""
    rng = np.random.default_rng(seed)
    time, coarse = np.arange(0, seconds, 0.02), np.arange(0, seconds, 0.1)
    error = 0.008 + 0.25 * np.exp(-time / 0.3) + 0.003 * np.abs(rng.standard_normal(len(time)))
    surprise = -2.6 + 0.3 * rng.standard_normal(len(coarse))
    if change is not None:
        since, late = np.maximum(time - change, 0), np.maximum(coarse - change, 0)
        hump = 0.09 * (np.exp(-since / 0.5) if recovers else 0.7 + 0.3 * np.sin(since))
        error = error + np.where(time >= change, hump, 0)
        surprise = surprise + np.where(coarse >= change, 6 * (np.exp(-late / 0.4) if recovers else 0.6), 0)
    edges = np.append(np.arange(0.0, 21.0, 1.0), np.inf)
    counts = np.histogram(3 + rng.gamma(4, 0.5, 1100), edges)[0]
    latency = LatencyStatistics(edges_ms=edges, counts=counts, p50_ms=4.8, p99_ms=8.1, max_ms=11.4)
    return RobotRun(
        name=name,
        time=time,
        error=error,
        surprise_time=coarse,
        surprise=surprise,
        latency=latency,
        lifetime_steps=len(time),
    )


def foresight() -> JointPredictions:
    time = np.arange(CHANGE - 1.5, CHANGE + 3, 0.02)
    phase = np.arange(6) * 0.9
    measured = 0.4 * np.sin(1.3 * time[:, None] + phase)
    wrong = np.where(time >= CHANGE, 1.0, 0.0)[:, None] * np.array([0.02, 0.12, 0.04, 0, 0.02, 0])
    settles = np.exp(-np.maximum(time - CHANGE, 0) / 0.3)[:, None]
    expected = {"adaptive": measured + wrong * settles, "frozen": measured + wrong}
    return JointPredictions(
        horizon_seconds=0.16,
        joints=JOINTS,
        changed_joints=("shoulder_pitch",),
        time=time,
        measured=measured,
        predicted=expected,
    )


def belief() -> PhysicsEstimate:
    time = np.arange(CHANGE - 1.5, CHANGE + 3, 0.02)
    truth = np.where(time >= CHANGE, 1.0, 0.0)[:, None] * np.array([2.0, -1.5])
    settles = 1 - np.exp(-np.maximum(time - CHANGE, 0) / 0.3)[:, None]
    return PhysicsEstimate(
        names=("payload, kg", "shoulder_pitch\nstrength, %"),
        time=time,
        truth=truth,
        estimated=truth * settles,
    )


def report(**changes: object) -> Report:
    values: dict[str, object] = {
        "robot": "arm",
        "changed": "0.34 kg in the gripper, shoulder_pitch at 31 % strength",
        "first": ReportedSession(
            runs=(run("adaptive", recovers=True, seed=1), run("frozen", recovers=False, seed=2)),
            change_time=CHANGE,
        ),
        "second": ReportedSession(
            runs=(
                run("restored", recovers=True, seed=3, change=None, seconds=10),
                run("newborn", recovers=True, seed=4, change=0.2, seconds=10),
            )
        ),
        "foresight": foresight(),
        "belief": belief(),
        "facts": {"seed": "0", "base of the learning arm": "3f" * 32, "wm_robot": "0.1.0"},
        "command": "wm-robot demo --seed 0",
        "go_on": (("Go on with this life.", "wm-robot demo"), ("Be born again.", "wm-robot demo --fresh")),
        "video": Video(content=b"\x00" * 1000, kind="video/mp4"),
    }
    return Report(**(values | changes))


class Page(HTMLParser):
    """Everything that a browser would fetch or follow, and the words a reader sees."""

    def __init__(self, text: str):
        super().__init__()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "poster", "data", "action"):
                self.addresses.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture
def one_width(monkeypatch):
    """Each figure once, where only the words count."""
    monkeypatch.setattr(
        page_module, page_module.write_figure.__name__, lambda draw: draw(figures.WIDE_INCHES)
    )


@pytest.fixture
def no_figures(monkeypatch):
    """No figure at all, where only what is beside them counts."""
    monkeypatch.setattr(page_module, page_module.write_figure.__name__, lambda draw: "")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, report())
    return path.read_text(encoding="utf-8")


def test_the_page_needs_no_other_file_and_no_network(page):
    assert "://" not in page
    assert all(a.startswith(("#", "data:")) for a in Page(page).addresses)
    assert not re.findall(r"url\((?!#)", page) and "@import" not in page


def test_the_page_is_small(page):
    assert len(page.encode()) < 2_000_000


def test_ids_of_the_figures_do_not_clash(page):
    ids = Page(page).ids
    references = set(re.findall(r"(?:href=\"|url\()#([^\")]+)", page))
    assert len(set(ids)) == len(ids)
    assert references <= set(ids)


def test_every_colour_of_the_figures_is_one_of_the_page(page):
    figures = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.S))
    styles = re.findall(r'style="([^"]*)"', figures)
    assert styles and not [s for s in styles if re.search(r"#[0-9a-f]{6}\b", s.replace("#ffffff", ""))]


def test_the_story_is_told_in_words(page):
    words = Page(page).words
    assert "8.0 s after the start the world changed: 0.34 kg in the gripper" in words
    assert "The arm that learns came back to its target to stay; the frozen arm did not." in words
    assert "The adaptive arm was off its target for" in words and "it was back to stay after" in words
    assert "The frozen arm was off its target for" in words and "up to the end of the visit." in words
    assert "3f" * 32 in words and "wm-robot demo --fresh" in words


def test_the_story_does_not_flatter(no_figures, tmp_path):
    swapped = ReportedSession(
        runs=(run("adaptive", recovers=False, seed=1), run("frozen", recovers=True, seed=2)),
        change_time=CHANGE,
    )
    write_report(tmp_path / "report.html", report(first=swapped))
    words = Page((tmp_path / "report.html").read_text(encoding="utf-8")).words
    assert "The frozen arm came back to its target to stay; the arm that learns did not." in words


def test_what_the_page_says_is_what_its_chart_shows(monkeypatch):
    """The chart is read where its lines are still numbers."""
    drawn: list[Any] = []
    monkeypatch.setattr(
        figures, figures.encode_svg.__name__, lambda figure, name, title: drawn.append(figure) or ""
    )
    for seed in range(3):
        runs = tuple(
            run(name, recovers=seed != i, seed=seed + i) for i, name in enumerate(("adaptive", "frozen"))
        )
        told = report(first=ReportedSession(runs=runs, change_time=CHANGE))
        figures.draw_target_error(told.first, "first-visit", difference=told.outcome.largest_difference)
        axes = drawn[-1].axes[0]
        bold = [line for line in axes.lines if line.get_linewidth() == 2.2]
        assert len(bold) == 2
        for name, line, recovery in zip(told.outcome.names, bold, told.outcome.recoveries, strict=True):
            time, curve = (np.asarray(values) for values in line.get_data())
            assert time[-1] > CHANGE + 13, "to the end of the visit"
            worst = curve[time >= CHANGE].max()
            assert recovery.worst_error == pytest.approx(worst / 1e3)
            assert f"The {name} arm was off its target" in " ".join(told.outcome.sentences)
            assert f"by {worst:.0f} mm at worst" in " ".join(told.outcome.sentences)
            assert worst < axes.get_ylim()[1], "the axis holds it"
        marked = [text.get_text() for text in axes.texts]
        low, high = sorted(1e3 * error for error in told.outcome.largest_difference.errors)
        assert f"{low:.0f} and {high:.0f} mm" in marked


def test_surprise_is_told_in_times_and_never_in_negative_nats(page):
    words = Page(page).words
    assert "nats" not in words and "usual deviations" not in words
    told = re.findall(r"[\d.e+]+ ×", words)
    assert told and all(float(times.split()[0]) > 0 for times in told)


def test_an_arm_that_never_left_its_target_has_no_time_to_come_back(one_width, tmp_path):
    stays = dataclasses.replace(run("adaptive", recovers=True, seed=1, change=None), color=0)
    first = ReportedSession(runs=(stays, run("frozen", recovers=False, seed=2)), change_time=CHANGE)
    write_report(tmp_path / "report.html", report(first=first))
    words = Page((tmp_path / "report.html").read_text(encoding="utf-8")).words
    assert "never" in words and "never left" in words
    assert not re.search(r"(?<![\d.])0(\.0)? s\b", words)


def test_every_figure_is_there_for_a_wide_and_for_a_narrow_page(page):
    assert page.count('<div class="wide"><svg') == page.count('<div class="narrow"><svg') == 6
    assert "min-width: 38rem" not in page


def test_who_never_followed_has_not_recovered(no_figures, tmp_path):
    lost = run("adaptive", recovers=True, seed=1)
    lost = dataclasses.replace(lost, error=lost.error + 0.3)
    write_report(tmp_path / "report.html", report(first=ReportedSession(runs=(lost,), change_time=CHANGE)))
    assert "did not follow its target" in (tmp_path / "report.html").read_text(encoding="utf-8")


def nothing(name: str) -> RobotRun:
    return dataclasses.replace(
        run(name, recovers=True, seed=1), time=np.zeros(0), error=np.zeros(0), surprise_time=np.zeros(0)
    )


def brief(name: str) -> RobotRun:
    """Recorded from its fourth second on."""
    whole = run(name, recovers=True, seed=1)
    return dataclasses.replace(whole, time=whole.time[200:], error=whole.error[200:])


def cut(seconds: float) -> ReportedSession:
    """A visit that somebody ended."""
    return ReportedSession(
        runs=tuple(run(name, recovers=True, seed=1, seconds=seconds) for name in ("adaptive", "frozen")),
        change_time=CHANGE,
    )


@pytest.mark.parametrize(
    ("missing", "told", "absent"),
    [
        ({"second": None}, "it was back to stay", "The second visit"),
        (
            {"foresight": None, "belief": None, "video": None},
            "it was back to stay",
            "What it looked like",
        ),
        (
            {
                "first": ReportedSession(runs=(run("adaptive", recovers=True, seed=1, change=None),)),
                "second": None,
            },
            "The visit ended before the world changed.",
            "at worst, adaptive",
        ),
        ({"first": cut(3.0)}, "The visit ended before the world changed.", "at worst, adaptive"),
        ({"first": cut(CHANGE + 1.0)}, "ended too soon after it to show", "at worst, adaptive"),
        (
            {"second": ReportedSession(runs=(nothing("restored"), nothing("newborn")))},
            "it was back to stay",
            "a start from the saved state",
        ),
        (
            {"second": ReportedSession(runs=(brief("restored"), brief("newborn")))},
            "The start of the visit was not",
            "÷",
        ),
        ({"notes": ("The recording was cut short.",)}, "The recording was cut short.", "too soon"),
    ],
    ids=[
        "one visit",
        "no model",
        "no change",
        "cut before",
        "cut soon after",
        "no second",
        "brief second",
        "notes",
    ],
)
def test_what_is_missing_is_left_out_and_said(one_width, tmp_path, missing, told, absent):
    write_report(tmp_path / "report.html", report(**missing))
    words = Page((tmp_path / "report.html").read_text(encoding="utf-8")).words
    assert told in words and absent not in words
    assert "nan" not in words.lower().replace("nanosecond", "")


def test_words_from_outside_stay_words(one_width, tmp_path):
    write_report(tmp_path / "report.html", report(robot="<script>alert(1)</script>"))
    assert "<script" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_page_too_large_is_refused(no_figures, tmp_path):
    with pytest.raises(ConfigError, match="at most 5000000"):
        write_report(
            tmp_path / "report.html", report(video=Video(content=b"x" * 5_000_000, kind="video/mp4"))
        )
    assert not (tmp_path / "report.html").exists()


@pytest.mark.soak
@pytest.mark.parametrize("width", [400, 1280])
def test_in_a_browser_no_chart_hides_its_right_end(page, tmp_path, width):
    measured = measure_in_browser(page, tmp_path, width)
    assert measured["window"] == width
    assert measured["page"] <= width, "the page itself does not scroll sideways"
    assert len(measured["charts"]) == 6
    for chart in measured["charts"]:
        assert chart["right"] <= chart["room"] + 0.5 <= width + 0.5
        cut = [(words, right) for words, right in chart["words"] if right > chart["room"] + 1]
        assert not cut, f"beyond {chart['room']}"
        assert chart["letters"] >= 8, "px: letters stay readable"
