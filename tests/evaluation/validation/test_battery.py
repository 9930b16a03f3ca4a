"""Batteries, verdicts and JUnit files."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from wm_robot.errors import SpecError
from wm_robot.evaluation.validation.battery import Battery, Check
from wm_robot.evaluation.validation.junit import write_junit
from wm_robot.evaluation.validation.verdict import CheckOutcome, Verdict

CHECK = Check(
    name="prediction",
    group="nominal dynamics",
    measure="prediction",
    severity="critical",
    mandatory=True,
    limits={"error": (None, 0.5), "coverage": (0.4, 0.9)},
    remedy="Train it again.",
)
GOOD = {"error": 0.5, "coverage": 0.68}


def write_battery(folder, text):
    (folder / "crane.battery.yaml").write_text(text)
    return Battery.load("crane", folder)


def test_the_default_battery_has_the_groups_that_a_gate_needs():
    groups = {check.group for check in Battery.load("crane").checks}
    assert {
        "spec and model",
        "bundle",
        "nominal dynamics",
        "sampled dynamics",
        "declared ranges",
        "undeclared effects",
        "faults in mid-episode",
        "sensors",
        "message loss",
        "start and resume",
        "lifetime",
        "knowledge or learning",
        "onboard timing",
    } == groups
    assert all(check.remedy and check.limits for check in Battery.load("crane").checks)


def test_a_robot_changes_a_limit_and_adds_a_check(tmp_path):
    battery = write_battery(
        tmp_path,
        "version: 1\nchecks:\n"
        "  - {name: control-nominal, limits: {settled: [null, 0.2]}}\n"
        "  - {name: swing, group: own, measure: control, severity: minor,"
        " settings: {worlds: nominal, seconds: 2.0}}\n",
    )
    default = Battery.load("crane").find_check("control-nominal")
    found = battery.find_check("control-nominal")
    assert found.limits == {**default.limits, "settled": (None, 0.2)}
    assert found.settings == default.settings and battery.checks[-1].name == "swing"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 2\nchecks: []\n", "version: 1"),
        ("version: 1\nchecks: {a: 1}\n", "a list of checks"),
        ("version: 1\nchecks:\n  - {name: control-nominal, mandatory: false}\n", "is mandatory"),
        ("version: 1\nchecks:\n  - {name: control-nominal, severety: minor}\n", "severety"),
        ("version: 1\nchecks:\n  - {name: control-nominal, severity: bad}\n", "critical"),
        ("version: 1\nchecks:\n  - {name: control-nominal, limits: {settled: 3}}\n", "[low, high]"),
        ("version: 1\nchecks:\n  - {name: swing}\n", "not complete"),
        ("a: [\n", "cannot be read"),
    ],
)
def test_a_wrong_battery_is_refused_with_a_sentence(tmp_path, text, said):
    with pytest.raises(SpecError, match=r".") as raised:
        write_battery(tmp_path, text)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("figures", "status", "said"),
    [
        (GOOD, "passed", ""),
        (GOOD | {"error": 0.51}, "failed", "error is 0.51; it must be at most 0.5"),
        (GOOD | {"coverage": 0.39}, "failed", "coverage is 0.39; it must be 0.4 to 0.9"),
        (GOOD | {"error": float("nan")}, "failed", "error was not measured"),
        ({"coverage": 0.68}, "failed", "error was not measured"),
    ],
)
def test_figures_are_judged_by_the_pass_line(figures, status, said):
    outcome = CheckOutcome.judge(CHECK, figures)
    assert outcome.status == status
    assert said in "; ".join(outcome.reasons)


def test_a_verdict_needs_every_mandatory_check_and_no_severe_failure():
    passed = CheckOutcome.judge(CHECK, GOOD)
    skipped = CheckOutcome(check=CHECK, status="not run", reasons=("it was skipped",))
    optional = replace(CHECK, name="other", mandatory=False)
    minor = CheckOutcome.judge(replace(optional, severity="minor"), {})
    major = CheckOutcome.judge(replace(optional, severity="major"), {})
    assert Verdict(outcomes=(passed, minor)).is_passed
    assert Verdict(outcomes=(passed, replace(skipped, check=optional))).is_passed
    assert not Verdict(outcomes=(skipped,)).is_passed
    assert not Verdict(outcomes=(passed, major)).is_passed
    critical = CheckOutcome.judge(replace(optional, severity="critical"), {})
    verdict = Verdict(outcomes=(major, critical))
    assert verdict.refusals == (critical, major)
    assert verdict.to_sentence().startswith("failed: 2 failed. First of 2: other: error was not measured")
    assert verdict.to_sentence().endswith("Train it again.")


def test_a_junit_file_has_a_case_for_each_check(tmp_path):
    outcomes = (
        CheckOutcome.judge(CHECK, GOOD, seconds=1.5),
        CheckOutcome.judge(replace(CHECK, name="bad"), {}),
        CheckOutcome(check=replace(CHECK, name="later"), status="not run", reasons=("it is slow",)),
    )
    write_junit(tmp_path / "found.xml", Verdict(outcomes=outcomes))
    suite = ElementTree.parse(tmp_path / "found.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    good, bad, later = suite
    assert (good.get("name"), good.get("time"), len(good)) == ("prediction", "1.5", 0)
    assert "error was not measured" in bad[0].get("message", "") and "Train it again." in (bad[0].text or "")
    assert later[0].tag == "skipped" and later[0].get("message") == "it is slow"
