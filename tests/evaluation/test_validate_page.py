"""The page on validation lists the battery as it is."""

import re
from pathlib import Path

import pytest
import yaml

from wm_robot.evaluation.validation.battery import BATTERY_SUFFIX, Battery

PAGE = (Path(__file__).parents[2] / "docs/validate.md").read_text(encoding="utf-8")
DEFAULT = Battery.load("arm")


def describe(check) -> str:
    severity = check.severity + (", mandatory" if check.mandatory else "")
    is_quick = "no" if check.quick is None else "yes"
    return f"| `{check.name}` | {check.group} | {severity} | {check.describe_limits()} | {is_quick} |"


def test_the_table_of_checks_is_that_of_the_battery():
    listed = [row for row in PAGE.splitlines() if re.match(r"\| `[\w-]+` \|.*\| (yes|no) \|$", row)]
    assert listed == [describe(check) for check in DEFAULT.checks]


@pytest.mark.parametrize("figure", sorted({name for check in DEFAULT.checks for name in check.limits}))
def test_every_figure_of_a_pass_line_is_explained_or_counts_differences(figure):
    counts = ("failures", "exchanged_channels", "resume_difference", "reset_difference")
    explained = PAGE.partition("| figure | what it is |")[2].partition("\n## ")[0]
    assert f"`{figure}`" in explained or figure in counts


def test_the_example_changes_one_check_and_adds_one(tmp_path):
    example = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1]
    (tmp_path / f"crane{BATTERY_SUFFIX}").write_text(example, encoding="utf-8")
    changed = Battery.load("crane", tmp_path)
    assert [check.name for check in changed.checks] == [*(c.name for c in DEFAULT.checks), "payloads"]
    before = DEFAULT.find_check("control-declared")
    told = yaml.safe_load(example)["checks"][0]["limits"]
    after = changed.find_check("control-declared")
    assert dict(after.limits) == {**before.limits, **{name: tuple(each) for name, each in told.items()}}
    assert after.remedy == before.remedy
