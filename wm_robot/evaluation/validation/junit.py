"""JUnit XML of a verdict, for continuous integration."""

from pathlib import Path
from xml.etree import ElementTree

from wm_robot.evaluation.validation.verdict import Verdict
from wm_robot.io.durable import write_file


def write_junit(path: Path, verdict: Verdict) -> None:
    """Write a verdict as a JUnit test suite: a test case for each check."""
    outcomes = verdict.outcomes
    suite = ElementTree.Element(
        "testsuite",
        name="wm-robot validate",
        tests=str(len(outcomes)),
        failures=str(sum(each.status == "failed" for each in outcomes)),
        skipped=str(sum(each.status == "not run" for each in outcomes)),
    )
    for each in outcomes:
        case = ElementTree.SubElement(
            suite, "testcase", classname=each.check.group, name=each.check.name, time=f"{each.seconds:.1f}"
        )
        if each.status == "failed":
            failure = ElementTree.SubElement(case, "failure", message="; ".join(each.reasons))
            failure.text = f"{each.check.severity}. {each.check.remedy}"
        elif each.status == "not run":
            ElementTree.SubElement(case, "skipped", message="; ".join(each.reasons))
    write_file(path, ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True))
