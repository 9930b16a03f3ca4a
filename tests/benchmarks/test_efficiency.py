"""Bench of new rules: actions are counted to the level before, and an agent that is told a rule returns to it."""

from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.learn, pytest.mark.sim]
pytest.importorskip("torch")
pytest.importorskip("mujoco")

from wm_robot.errors import ConfigError
from wm_robot.evaluation.gap import Comparison
from wm_robot.progress import ignore_progress
from wm_robot.robots import load_spec
from wm_robot_benchmarks import efficiency
from wm_robot_benchmarks.efficiency import (
    BEFORE_S,
    CAP,
    TOLD_CAP,
    WINDOW,
    EfficiencyBench,
    count_actions,
    judge_rule,
)
from wm_robot_benchmarks.measures.new_rules import (
    POINT_DISTANCE,
    RULES,
    CommandMap,
    make_changed_world,
    move_gripper_point,
    rotate_goals,
)
from wm_robot_benchmarks.measures.rule_episodes import make_rule_scene, measure_rule_episodes
from wm_robot_sim.batch import BatchSim

ARM = load_spec("arm")
BEFORE = round(BEFORE_S * ARM.rate)


def errors(lost_steps: int, *, after: int = CAP, lost: float = 0.1, late: float = 0.002) -> np.ndarray:
    """Errors of two episodes that are lost for some steps after the change."""
    since = np.arange(-BEFORE, after)
    return np.tile(np.where((since >= 0) & (since < lost_steps), lost, late), (2, 1))


def judge(told: int, memory: int):
    return judge_rule(errors(told, after=TOLD_CAP), errors(memory), errors(CAP), rate=ARM.rate)


def test_actions_are_counted_to_the_end_of_the_first_good_window():
    lost = 40
    score = (np.arange(CAP) >= lost).astype(float)
    # A tenth of the window may still be lost.
    assert count_actions(score) == lost + WINDOW - 2
    assert count_actions(np.ones(CAP)) == WINDOW
    assert count_actions(np.full(CAP, 0.89)) is None


def test_efficiency_is_the_share_of_the_actions_of_the_agent_that_is_told():
    outcome = judge(told=22, memory=202)
    assert (outcome.told.actions, outcome.memory.actions) == (45, 225)
    assert outcome.compute_efficiency(outcome.memory) == pytest.approx(0.2)
    assert outcome.compute_net_efficiency(outcome.memory) == pytest.approx(0.1)
    assert outcome.memory.late_score == pytest.approx(1) and outcome.memory.early_score == pytest.approx(0)
    # Frozen weights are score 0 by definition.
    assert not outcome.frozen.has_recovered and outcome.frozen.actions == CAP
    assert outcome.left_out == ""


def test_rules_without_a_measure_are_left_out():
    assert "needs no action" in judge(told=0, memory=202).left_out
    assert "does not recover" in judge(told=TOLD_CAP, memory=202).left_out
    harmless = judge_rule(errors(22, after=TOLD_CAP), errors(22), errors(0, late=0.0028), rate=ARM.rate)
    assert "stays on target" in harmless.left_out


def test_figures_are_means_over_the_rules_that_count(monkeypatch):
    lost = {"reversed": (22, 202), "scaled": (0, 42), "rotated_goals": (22, CAP)}

    def measure(jobs):
        found = []
        for _, _, variant, rule, is_told, count, _ in jobs:
            steps = CAP if variant == "robust" else lost[rule][not is_told]
            found.append(np.tile(errors(steps, after=TOLD_CAP if is_told else CAP)[:1], (count, 1)))
        return found

    monkeypatch.setattr(efficiency, "in_processes", lambda _, jobs, progress: measure(jobs))
    result = EfficiencyBench(seeds=(0, 1), rules=tuple(lost)).run(ignore_progress)
    assert result.values == {
        "efficiency": pytest.approx((0.2 + 0.045) / 2),
        "recovered": 0.5,
        "efficiency_net": pytest.approx((0.1 + 20 / 975) / 2),
        "efficiency_commands": pytest.approx(0.2),
        "recovered_commands": 1.0,
        "efficiency_goals": pytest.approx(0.045),
        "control_robust_efficiency": pytest.approx(0.045),
        "control_robust_recovered": 0.0,
    }
    assert any(note.startswith("left out: scaled (") for note in result.notes)
    assert [(row["rule"], row["variant"]) for row in result.table[:3]] == [
        ("reversed", "told"),
        ("reversed", "semiparametric"),
        ("reversed", "robust"),
    ]
    only = EfficiencyBench(seeds=(0,), rules=("scaled",)).run(ignore_progress)
    assert only.figures["efficiency"] == Comparison(None, "no such rule is counted")


@pytest.mark.parametrize("rule", [name for name, rule in RULES.items() if rule.acts_on == "commands"])
def test_commands_of_an_agent_that_is_told_reach_the_motors(rule):
    scene = make_rule_scene(ARM, "reach", rule, count=3, seed=0, steps=4)
    sim = scene.sim
    plain = BatchSim(ARM, sim.worlds, seed=1)
    start = np.tile((ARM.action_low + ARM.action_high) / 2, (3, 1))
    for each in (sim, plain):
        for _ in range(60):
            each.step(start)
    sim.set_worlds(range(3), scene.changed_worlds)
    commands = CommandMap.from_sim(sim)
    # A small step from the middle is within the rate of every channel.
    command = start + np.random.default_rng(0).uniform(-0.05, 0.05, start.shape).astype(np.float32)
    _, applied = sim.step(commands.to_actions(command))
    np.testing.assert_allclose(commands.to_commands(applied), command, atol=1e-6)
    for row in range(3):
        np.testing.assert_allclose(sim._path.compute_present_command(row), command[row], atol=1e-6)
    assert np.abs(applied - command).max() > 0.01


def test_no_channel_stays_where_it_is_when_scrambled():
    scene = make_rule_scene(ARM, "reach", "scrambled", count=8, seed=0, steps=4)
    orders = {
        tuple(scene.sim.plant.compute_signal_changes(world).mixing.argmax(1))
        for world in scene.changed_worlds
    }
    assert len(orders) > 1
    assert all(channel != place for order in orders for place, channel in enumerate(order))
    rng = np.random.default_rng(0)
    (one,) = make_changed_world(scene.sim.plant, scene.sim.worlds[0], "exchanged", rng).effects
    assert (one.kind, one.strength) == ("exchanged_cables", 1.0)


def test_a_turned_frame_keeps_height_and_distance_from_the_axis():
    goals = np.random.default_rng(0).uniform(-1, 1, (4, 5, 7)).astype(np.float32)
    turned = rotate_goals(goals, [np.random.default_rng(i) for i in range(4)])
    np.testing.assert_array_equal(turned[..., 2:], goals[..., 2:])
    np.testing.assert_allclose(
        np.hypot(turned[..., 0], turned[..., 1]), np.hypot(goals[..., 0], goals[..., 1]), rtol=1e-5
    )
    angle = np.angle((turned[..., 0] + 1j * turned[..., 1]) / (goals[..., 0] + 1j * goals[..., 1]))
    np.testing.assert_allclose(angle, angle[:, :1].repeat(5, 1), atol=1e-5)
    assert np.abs(angle).min() > 0.5


def test_another_point_of_the_gripper_is_near_it():
    moved = move_gripper_point(ARM, np.random.default_rng(0))
    assert np.linalg.norm(np.subtract(moved.tip, ARM.tip)) == pytest.approx(POINT_DISTANCE)


@pytest.mark.parametrize("rule", ["half_reversed", "other_point"])
def test_an_agent_that_is_told_the_rule_returns_to_its_goal(rule):
    setting, change = EfficiencyBench().make_setting(), 100
    told, untold = (
        measure_rule_episodes(
            setting,
            "reach",
            "robust",
            rule,
            is_told=is_told,
            count=2,
            seed=0,
            steps=change + 45,
            change_step=change,
            progress=ignore_progress,
        )
        for is_told in (True, False)
    )
    np.testing.assert_array_equal(told[:, :change], untold[:, :change])
    assert told[:, -10:].mean() < 0.01 < 0.03 < untold[:, -10:].mean()


def test_the_page_lists_every_rule():
    page = Path(__file__).parents[2] / "docs/dynamics.md"
    section = page.read_text(encoding="utf-8").partition("## New rules")[2]
    listed = [line for line in section.splitlines() if line.startswith("| `")]
    assert listed == [f"| `{name}` | {rule.summary} |" for name, rule in RULES.items()]


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ConfigError, match="rule is 'upside_down'; it must be one of"):
        EfficiencyBench(rules=("upside_down",)).run(ignore_progress)
    with pytest.raises(ConfigError, match=r"can have no rule: rotated_goals \(the goal of task 'balance'"):
        EfficiencyBench(robot="cartpole", task="balance", rules=("rotated_goals",)).run(ignore_progress)
    with pytest.raises(ConfigError, match="episodes is 1"):
        EfficiencyBench(episodes=1).run(ignore_progress)
