"""Next steps of a validation: what to collect, train or check, from failed checks and the weakest conditions."""

from typing import NamedTuple

from wm_robot.evaluation.validation.battery import Check
from wm_robot.evaluation.validation.report.contents import ValidationContents
from wm_robot.evaluation.validation.report.heat_maps import build_heat_maps
from wm_robot.evaluation.validation.scenario import LOST_KINDS
from wm_robot.evaluation.validation.verdict import CheckOutcome

WEAK_SHARE = 0.6
"""A check or condition that uses more than this share of its pass line is weak."""
MOST_WEAK = 5
"""Weak conditions that are named."""
MORE_SENSOR_FAULTS = "--sensor-fault-share 0.8"
"""Option of a training with more sensor faults than by default."""


class NextStep(NamedTuple):
    """Next step: a sentence, and a command where one helps."""

    words: str
    command: str = ""


class WeakCondition(NamedTuple):
    """Condition with a large error: its place in a heat map, its error and the share of the pass line."""

    name: str
    error: float
    share: float


def list_next_steps(contents: ValidationContents) -> list[NextStep]:
    """List the next steps, the most urgent first."""
    steps = [_answer_failure(each, contents) for each in sort_failures(contents)]
    weak = find_weak_conditions(contents)
    if weak:
        named = ", ".join(f"{each.name} ({each.error:.2g})" for each in weak[:MOST_WEAK])
        steps.append(
            NextStep(
                f"The weakest conditions, with their error in tolerances: {named}. Record the robot in these "
                "conditions, or give them more weight in training; if the robot never meets them, declare "
                "narrower ranges.",
                contents.train_command,
            )
        )
    close = [each for each in contents.verdict.outcomes if each.status == "passed"]
    close = [each for each in close if compute_used_share(each) > WEAK_SHARE]
    if close:
        named = ", ".join(
            f"{each.check.name} ({100 * compute_used_share(each):.0f} % of its pass line)"
            for each in sorted(close, key=lambda each: -compute_used_share(each))
        )
        steps.append(NextStep(f"Passed, but close: {named}. Other seeds may fail.", _change_seed(contents)))
    if contents.is_quick and contents.has_episodes:
        missing = sum(each.status == "not run" for each in contents.verdict.outcomes)
        steps.append(
            NextStep(
                f"{missing} checks are not part of --quick. Run the whole battery before the first use.",
                contents.full_command,
            )
        )
    if not steps:
        steps.append(
            NextStep(
                "Every check passed, well within its pass line. Repeat the validation after each change of base, "
                "spec or version.",
                contents.full_command,
            )
        )
    # Several checks may ask for the same.
    return list({step.words: step for step in steps}.values())


def sort_failures(contents: ValidationContents) -> list[CheckOutcome]:
    """Sort what failed or is missing: what refuses the bundle first, then the other failures."""
    refusals = list(contents.verdict.refusals)
    failed = sorted(refusals, key=lambda each: each.status != "failed")
    others = [each for each in contents.verdict.outcomes if each.status == "failed" and each not in refusals]
    return [*failed, *others]


def find_weak_conditions(contents: ValidationContents) -> list[WeakCondition]:
    """Find the conditions of the heat maps that use much of their pass line, the weakest first."""
    found = [
        WeakCondition(f"{name}" if not each.is_strip else f"{each.title}, {name}", value, value / limit)
        for each in build_heat_maps(contents)
        for name, value, limit in each.list_cells()
        if limit and value / limit > WEAK_SHARE
    ]
    return sorted(found, key=lambda each: -each.share)


def compute_used_share(outcome: CheckOutcome) -> float:
    """Compute the largest share of an upper limit that a check uses."""
    shares = [
        outcome.figures[name] / high
        for name, (low, high) in outcome.check.limits.items()
        # A share of a band, such as that of a coverage, says nothing.
        if high and low is None and name in outcome.figures
    ]
    return max(shares, default=0.0)


def _answer_failure(outcome: CheckOutcome, contents: ValidationContents) -> NextStep:
    if outcome.status == "not run":
        return NextStep(
            f"{outcome.check.name} was not run, and is mandatory: correct what failed, and validate again.",
            contents.command,
        )
    return NextStep(f"{outcome.check.name}: {outcome.check.remedy}", _choose_command(outcome.check, contents))


def _choose_command(check: Check, contents: ValidationContents) -> str:
    """Choose the command that a failed check asks for; empty where none helps."""
    if check.measure == "model":
        return f"wm-robot check {contents.robot} --simulate"
    if check.measure == "timing":
        return f"wm-robot export {contents.base}"
    if kinds := {kind for kind, _ in check.settings.get("inputs", ())}:
        # Lost messages are no matter of training.
        return "" if kinds <= set(LOST_KINDS) else f"{contents.train_command} {MORE_SENSOR_FAULTS}"
    if check.measure in ("resume", "learning"):
        return ""
    return contents.train_command


def _change_seed(contents: ValidationContents) -> str:
    return f"{contents.full_command} --seed {contents.seed + 1}" if contents.full_command else ""
