import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason='matplotlib is not installed: pip install "wm_robot[report]"')

from wm_robot.errors import ConfigError
from wm_robot.evaluation.recovery import Recovery
from wm_robot.evaluation.report import Belief, Foresight, Latency, Report, Run, Video, Visit, write_report
from wm_robot.evaluation.report.page import headline

CHANGE = 8.0
JOINTS = ("base_yaw", "shoulder_pitch", "elbow_pitch", "forearm_roll", "wrist_pitch", "wrist_roll")


def run(name: str, *, recovers: bool, seed: int, change: float | None = CHANGE, seconds: float = 22.0) -> Run:
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
    latency = Latency(edges_ms=edges, counts=counts, p50_ms=4.8, p99_ms=8.1, max_ms=11.4)
    return Run(
        name=name,
        time=time,
        error=error,
        surprise_time=coarse,
        surprise=surprise,
        latency=latency,
        lived=len(time),
    )


def foresight() -> Foresight:
    time = np.arange(CHANGE - 1.5, CHANGE + 3, 0.02)
    phase = np.arange(6) * 0.9
    measured = 0.4 * np.sin(1.3 * time[:, None] + phase)
    wrong = np.where(time >= CHANGE, 1.0, 0.0)[:, None] * np.array([0.02, 0.12, 0.04, 0, 0.02, 0])
    settles = np.exp(-np.maximum(time - CHANGE, 0) / 0.3)[:, None]
    expected = {"adaptive": measured + wrong * settles, "frozen": measured + wrong}
    return Foresight(
        ahead=0.16,
        joints=JOINTS,
        changed=("shoulder_pitch",),
        time=time,
        measured=measured,
        expected=expected,
    )


def belief() -> Belief:
    time = np.arange(CHANGE - 1.5, CHANGE + 3, 0.02)
    truth = np.where(time >= CHANGE, 1.0, 0.0)[:, None] * np.array([2.0, -1.5])
    settles = 1 - np.exp(-np.maximum(time - CHANGE, 0) / 0.3)[:, None]
    return Belief(names=("payload", "shoulder_pitch/drive"), time=time, truth=truth, believed=truth * settles)


def report(**changes: object) -> Report:
    values: dict[str, object] = {
        "robot": "arm",
        "changed": "0.34 kg in the gripper, shoulder_pitch at 31 % strength",
        "first": Visit(
            runs=(run("adaptive", recovers=True, seed=1), run("frozen", recovers=False, seed=2)),
            change=CHANGE,
        ),
        "second": Visit(
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
    assert "The adaptive arm was back after" in words
    assert "The frozen arm did not get back" in words
    assert "3f" * 32 in words and "wm-robot demo --fresh" in words


def test_the_story_does_not_flatter(tmp_path):
    swapped = Visit(
        runs=(run("adaptive", recovers=False, seed=1), run("frozen", recovers=True, seed=2)), change=CHANGE
    )
    write_report(tmp_path / "report.html", report(first=swapped))
    words = Page((tmp_path / "report.html").read_text(encoding="utf-8")).words
    assert "The adaptive arm did not get back" in words and "The frozen arm was back after" in words


@pytest.mark.parametrize(
    ("adaptive", "frozen", "words"),
    [
        ((0.01, 0.01, 1.0), (0.01, 0.05, None), "One arm learned its new world."),
        ((0.01, 0.05, 1.0), (0.01, 0.01, None), "came back to its old precision; its twin did not"),
        ((0.01, 0.01, 1.0), (0.20, 0.20, None), "came back to its old precision; its twin did not"),
        ((0.01, 0.01, 0.0), (0.01, 0.01, 0.0), "disturbed neither arm"),
        ((0.01, 0.01, 1.0), (0.01, 0.02, 2.0), "the one that learns came closer"),
        ((0.01, 0.01, 1.0), (0.01, 0.01, 2.0), "Both arms came back after the change."),
        ((0.01, 0.05, None), (0.01, 0.01, 2.0), "The frozen arm came back; the one that learns did not."),
        ((0.01, 0.05, None), (0.01, 0.05, None), "too much for the arm that learns"),
        ((0.20, 0.20, 1.0), (0.01, 0.01, 1.0), "did not follow its target, even before"),
        (None, None, "ended before it could tell"),
        ((0.01, 0.01, 1.0), None, "ended before it could tell"),
    ],
)
def test_the_headline_is_what_happened(monkeypatch, adaptive, frozen, words):
    found = [
        None if r is None else Recovery(before=r[0], after=r[1], seconds=r[2]) for r in (adaptive, frozen)
    ]
    told = report()
    by_name = dict(zip([one.name for one in told.first.runs], found, strict=True))
    monkeypatch.setattr(Visit, "recovery", lambda self, one: by_name[one.name])
    assert words in headline(told)


def test_who_never_followed_has_not_recovered(tmp_path):
    lost = run("adaptive", recovers=True, seed=1)
    lost = dataclasses.replace(lost, error=lost.error + 0.3)
    write_report(tmp_path / "report.html", report(first=Visit(runs=(lost,), change=CHANGE)))
    assert "did not follow its target" in (tmp_path / "report.html").read_text(encoding="utf-8")


def nothing(name: str) -> Run:
    return dataclasses.replace(
        run(name, recovers=True, seed=1), time=np.zeros(0), error=np.zeros(0), surprise_time=np.zeros(0)
    )


def brief(name: str) -> Run:
    """Recorded from its fourth second on."""
    whole = run(name, recovers=True, seed=1)
    return dataclasses.replace(whole, time=whole.time[200:], error=whole.error[200:])


def cut(seconds: float) -> Visit:
    """A visit that somebody ended."""
    return Visit(
        runs=tuple(run(name, recovers=True, seed=1, seconds=seconds) for name in ("adaptive", "frozen")),
        change=CHANGE,
    )


@pytest.mark.parametrize(
    ("missing", "told", "absent"),
    [
        ({"second": None}, "The adaptive arm was back", "The second visit"),
        (
            {"foresight": None, "belief": None, "video": None},
            "The adaptive arm was back",
            "What it looked like",
        ),
        (
            {"first": Visit(runs=(run("adaptive", recovers=True, seed=1, change=None),)), "second": None},
            "The visit ended before the world changed.",
            "adaptive ÷",
        ),
        ({"first": cut(3.0)}, "The visit ended before the world changed.", "adaptive ÷"),
        ({"first": cut(CHANGE + 1.0)}, "ended too soon after it to say", "adaptive ÷"),
        (
            {"second": Visit(runs=(nothing("restored"), nothing("newborn")))},
            "adaptive arm was back",
            "waking up",
        ),
        ({"second": Visit(runs=(brief("restored"), brief("newborn")))}, "apart", "less error than"),
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
def test_what_is_missing_is_left_out_and_said(tmp_path, missing, told, absent):
    write_report(tmp_path / "report.html", report(**missing))
    words = Page((tmp_path / "report.html").read_text(encoding="utf-8")).words
    assert told in words and absent not in words
    assert "nan" not in words.lower().replace("nanosecond", "")


def test_words_from_outside_stay_words(tmp_path):
    write_report(tmp_path / "report.html", report(robot="<script>alert(1)</script>"))
    assert "<script" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_page_too_large_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="at most 5000000"):
        write_report(
            tmp_path / "report.html", report(video=Video(content=b"x" * 5_000_000, kind="video/mp4"))
        )
    assert not (tmp_path / "report.html").exists()
