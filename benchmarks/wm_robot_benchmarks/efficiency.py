"""`wm-robot bench efficiency`: actions that an agent needs after a new rule, relative to one that is told it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from wm_robot.evaluation.gap import Comparison
from wm_robot.evaluation.recovery import OFF_TARGET_FACTOR
from wm_robot.progress import Progress
from wm_robot.robots import load_spec
from wm_robot.tasks import ErrorScale, TaskError
from wm_robot_benchmarks.control import select_measured_task
from wm_robot_benchmarks.harness.bench import MemoryBench, SeededBench
from wm_robot_benchmarks.harness.result import (
    Result,
    Setting,
    check_bases,
    describe_seed_count,
    describe_spread,
    load_bases,
    require,
)
from wm_robot_benchmarks.measures.new_rules import RULES
from wm_robot_cli.values import Count, Seed
from wm_robot_cli.worker_processes import in_processes

BEFORE_S, LEVEL_S = 4.0, 2.0
"""Time before the change, and its last part, whose mean error is the level before, in s."""
LOST_S = 1.0
"""Time after the change from which the mean error of frozen weights is score 0, in s."""
WINDOW, RECOVERED_SCORE, CAP = 25, 0.9, 1000
"""Steps of a window, mean score of a window that ends the count, and largest number of actions."""
TOLD_CAP = 250
"""Number of actions in which an agent that is told the rule must recover."""
MIN_EPISODES = 8
"""Smallest number of episodes. Of two, even frozen weights are both near their goals at some time."""
FROZEN, TOLD = "robust", "told"


@dataclass(frozen=True, kw_only=True)
class EfficiencyBench(MemoryBench, SeededBench):
    """Actions until a robot is as good as before a new rule, relative to an agent that is told the rule.

    In the manner of ARC-AGI-3: what counts is how few actions an agent needs to find out.
    """

    task: str | None = None
    """Task of the robot; its first by default."""
    rules: tuple[str, ...] = ()
    """Rules; by default all that the robot and its task can have."""
    episodes: Count = 24
    """Episodes for each rule, variant and seed."""
    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Seeds of rules, goals and noise."""
    quick: bool = False
    """A third of the episodes, one seed."""

    def run(self, progress: Progress) -> Result:
        setting = self.make_setting()
        spec = load_spec(self.robot)
        task = select_measured_task(spec, self.task)
        scale = TaskError(spec, spec.find_task(task)).scale
        for rule in self.rules:
            require(rule in RULES, f"rule is '{rule}'; it must be one of {list(RULES)}")
        lacks = {rule: RULES[rule].find_lack(spec, task) for rule in self.rules or RULES}
        rules = [rule for rule, lack in lacks.items() if not lack]
        require(bool(rules), f"robot '{spec.name}' can have no rule: {_describe_names(lacks)}")
        require(
            self.episodes >= MIN_EPISODES,
            f"episodes is {self.episodes}; it must be at least {MIN_EPISODES}",
        )
        episodes = max(MIN_EPISODES, self.episodes // 3) if self.quick else self.episodes
        check_bases(setting, (FROZEN, self.memory))
        keys = [
            (rule, variant, seed)
            for seed in setting.seeds
            for rule in rules
            for variant in (TOLD, self.memory, FROZEN)
        ]
        jobs = [
            (
                setting,
                task,
                self.memory if variant == TOLD else variant,
                rule,
                variant == TOLD,
                episodes,
                seed,
            )
            for rule, variant, seed in keys
        ]
        found = dict(zip(keys, in_processes(_measure_errors, jobs, progress), strict=True))

        def judge(seeds: Sequence[int]) -> dict[str, RuleOutcome]:
            return {
                rule: judge_rule(
                    *(
                        np.concatenate([found[rule, variant, seed] for seed in seeds])
                        for variant in (TOLD, self.memory, FROZEN)
                    ),
                    rate=spec.rate,
                )
                for rule in rules
            }

        outcomes = judge(setting.seeds)
        left_out = {rule: each.left_out for rule, each in outcomes.items() if each.left_out}
        by_seed = [_compute_figures(judge([seed])) for seed in setting.seeds]
        return Result(
            setting=setting,
            figures=_compute_figures(outcomes),
            table=[
                row for rule, each in outcomes.items() for row in _make_rows(rule, each, self.memory, scale)
            ],
            bases={name: base.digest for name, base in load_bases(setting, (FROZEN, self.memory)).items()},
            notes=(
                f"{episodes} episodes a rule, variant and seed, {describe_seed_count(setting.seeds)}; {scale.label}",
                f"actions: those until the mean score of {WINDOW} steps is {RECOVERED_SCORE}, at least {WINDOW} and "
                f"at most {CAP}, of the mean over the episodes: in a single one a goal may come to a lost gripper; "
                f"score: 1 is the error before, 0 that of '{FROZEN}' after",
                f"{TOLD}: '{self.memory}' that is told the rule; its efficiency is 1",
                *(f"{rule}: {RULES[rule].summary}" for rule in rules),
                *_explain_goal_rules(rules),
                *([f"left out: {_describe_names(left_out)}"] if left_out else []),
                *([f"not of this robot: {_describe_names(lacks)}"] if any(lacks.values()) else []),
                describe_spread(
                    {
                        name: [each.value if isinstance(each, Comparison) else each for each in values]
                        for name in by_seed[0]
                        if (values := [figures[name] for figures in by_seed])
                    }
                ),
            ),
        )


class RuleRecovery(NamedTuple):
    """Recovery of a variant from a rule."""

    error: float
    """Mean error in the last `LEVEL_S` of the episodes."""
    early_score: float
    """Mean score in the first second."""
    late_score: float
    """Mean score in the last `LEVEL_S`."""
    actions: int
    """`CAP` if it did not recover."""
    has_recovered: bool


class RuleOutcome(NamedTuple):
    """Outcome of a rule."""

    before: float
    """Error before the change: score 1."""
    lost: float
    """Error of frozen weights after the change: score 0."""
    told: RuleRecovery
    memory: RuleRecovery
    frozen: RuleRecovery

    @property
    def left_out(self) -> str:
        """Why the rule counts in no figure; empty if it does."""
        if self.lost <= OFF_TARGET_FACTOR * self.before:
            return f"'{FROZEN}' stays on target after it"
        if not self.told.has_recovered:
            return "the agent that is told it does not recover"
        return "the agent that is told it needs no action" if self.told.actions == WINDOW else ""

    def compute_efficiency(self, recovery: RuleRecovery) -> float:
        """Compute the number of actions of the told agent over that of another, at most 1."""
        return min(1.0, self.told.actions / recovery.actions)

    def compute_net_efficiency(self, recovery: RuleRecovery) -> float:
        """Compute the same without the actions of the window itself, which both need."""
        return min(1.0, (self.told.actions - WINDOW) / max(recovery.actions - WINDOW, 1))


def judge_rule(
    told: Float[np.ndarray, "B S"],
    memory: Float[np.ndarray, "B T"],
    frozen: Float[np.ndarray, "B T"],
    *,
    rate: float,
) -> RuleOutcome:
    """Judge a rule by the errors after each step."""
    change, late = round(BEFORE_S * rate), round(LEVEL_S * rate)
    before = float(memory[:, change - round(LEVEL_S * rate) : change].mean())
    lost = float(frozen[:, change + round(LOST_S * rate) :].mean())

    def judge(error: np.ndarray) -> RuleRecovery:
        mean = error.mean(0)
        score = (lost - mean[change:]) / (lost - before) if lost > before else 0 * mean[change:]
        actions = count_actions(score)
        return RuleRecovery(
            error=float(mean[-late:].mean()),
            early_score=float(score[: round(rate)].mean()),
            late_score=float(score[-late:].mean()),
            actions=CAP if actions is None else actions,
            has_recovered=actions is not None,
        )

    return RuleOutcome(before, lost, judge(told), judge(memory), judge(frozen))


def count_actions(score: Float[np.ndarray, "T"]) -> int | None:
    """Count the actions until the mean score of `WINDOW` steps after the change is high; None if it never is."""
    means = np.convolve(score, np.full(WINDOW, 1 / WINDOW), "valid")
    high = np.flatnonzero(means >= RECOVERED_SCORE)
    return int(high[0]) + WINDOW if len(high) else None


def _measure_errors(
    setting: Setting,
    task: str,
    variant: str,
    rule: str,
    is_told: bool,
    count: int,
    seed: int,
    *,
    progress: Progress,
) -> Float[np.ndarray, "B T"]:
    from wm_robot_benchmarks.measures.rule_episodes import measure_rule_episodes

    before = round(BEFORE_S * load_spec(setting.robot).rate)
    return measure_rule_episodes(
        setting,
        task,
        variant,
        rule,
        is_told=is_told,
        count=count,
        seed=seed,
        steps=before + (TOLD_CAP if is_told else CAP),
        change_step=before,
        progress=progress,
    )


def _compute_figures(outcomes: Mapping[str, RuleOutcome]) -> dict[str, float | Comparison]:
    counted = {rule: each for rule, each in outcomes.items() if not each.left_out}
    on_commands = [each for rule, each in counted.items() if RULES[rule].acts_on == "commands"]
    on_goals = [each for rule, each in counted.items() if RULES[rule].acts_on != "commands"]
    every = list(counted.values())
    return {
        "efficiency": _average([each.compute_efficiency(each.memory) for each in every]),
        "recovered": _average([each.memory.has_recovered for each in every]),
        "efficiency_net": _average([each.compute_net_efficiency(each.memory) for each in every]),
        "efficiency_commands": _average([each.compute_efficiency(each.memory) for each in on_commands]),
        "recovered_commands": _average([each.memory.has_recovered for each in on_commands]),
        "efficiency_goals": _average([each.compute_efficiency(each.memory) for each in on_goals]),
        "control_robust_efficiency": _average([each.compute_efficiency(each.frozen) for each in every]),
        "control_robust_recovered": _average([each.frozen.has_recovered for each in every]),
    }


def _average(values: Sequence[float]) -> float | Comparison:
    return float(np.mean(values)) if len(values) else Comparison(None, "no such rule is counted")


def _explain_goal_rules(rules: Sequence[str]) -> list[str]:
    """Explain why no agent can learn rules that do not change the robot."""
    of_goals = [rule for rule in rules if RULES[rule].acts_on != "commands"]
    if not of_goals:
        return []
    return [
        f"{', '.join(of_goals)}: agents compute the reward themselves, from the observation and the goal that they "
        "get; no observation depends on the rule, so they cannot learn it"
    ]


def _describe_names(reasons: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({reason})" for name, reason in reasons.items() if reason)


def _make_rows(rule: str, outcome: RuleOutcome, memory: str, scale: ErrorScale) -> list[dict[str, Any]]:
    def convert(error: float) -> float:
        return float(scale.format_number(error, more_decimals=1))

    recoveries = {TOLD: outcome.told, memory: outcome.memory, FROZEN: outcome.frozen}
    return [
        {
            "rule": rule,
            "variant": name,
            "actions": each.actions,
            "recovered": each.has_recovered,
            "efficiency": "" if outcome.left_out else round(outcome.compute_efficiency(each), 3),
            "score, first second": round(each.early_score, 3),
            "score, last 2 s": round(each.late_score, 3),
            "error before": convert(outcome.before),
            "error, last 2 s": convert(each.error),
        }
        for name, each in recoveries.items()
    ]
