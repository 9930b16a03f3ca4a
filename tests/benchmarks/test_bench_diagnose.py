"""`wm-robot bench diagnose` judges each answer by the fault that was injected."""

import math

import numpy as np
import pytest

from wm_robot.evaluation.diagnosis.fault_kinds import FAULT_KINDS
from wm_robot.types import Fault
from wm_robot_benchmarks.diagnose import (
    BLIND,
    DECLARED,
    DRIFT,
    HEALTHY,
    STOPS,
    Trial,
    TrialOutcome,
    compute_figures,
    compute_size_error,
    draw_trials,
    find_simulation,
    is_right,
    is_told_or_admitted,
    list_realities,
    make_table,
)

WEAK = Fault(kind="weak", joint="elbow", size=0.3)


def trial(fault, label=None, motion=STOPS, **changes):
    values = {"robot": "arm", "seed": 0, "reality": DECLARED, "motion": motion, "fault": fault}
    return Trial(**{**values, "label": label or (fault.kind if fault else HEALTHY), **changes})


def outcome(*findings, untold=(), true_size=math.nan, control=()):
    return TrialOutcome(
        findings=findings, untold=untold, has_rivals=False, true_size=true_size, seconds=1.0, control=control
    )


def test_an_answer_is_right_if_it_names_family_and_joints_and_nothing_else():
    reversed_motor = Fault(kind="reversed_command", joint="elbow")
    assert is_right(trial(WEAK), outcome(WEAK))
    assert is_right(trial(reversed_motor), outcome(Fault(kind="reversed_reading", joint="elbow")))
    assert not is_right(trial(WEAK), outcome(Fault(kind="weak", joint="wrist", size=0.3)))
    assert not is_right(trial(WEAK), outcome(WEAK, Fault(kind="payload", size=0.1)))
    assert not is_right(trial(WEAK), outcome())
    assert is_right(trial(None), outcome()) and not is_right(trial(None), outcome(WEAK))
    pair = Fault(kind="exchanged_motors", joint="elbow", other="wrist")
    assert is_right(trial(pair), outcome(Fault(kind="exchanged_encoders", joint="wrist", other="elbow")))


def test_a_zero_that_nothing_shows_must_be_admitted():
    fault = Fault(kind="servo_zero", joint="elbow", size=0.3)
    hidden = trial(fault, motion=BLIND)
    assert is_told_or_admitted(hidden, outcome(untold=("elbow",)))
    assert not is_told_or_admitted(hidden, outcome(untold=("wrist",)))
    assert not is_told_or_admitted(hidden, outcome(WEAK, untold=("elbow",)))


def test_a_size_error_is_relative_to_the_true_size():
    assert compute_size_error(trial(WEAK), outcome(WEAK, true_size=0.25)) == pytest.approx(0.2)
    assert compute_size_error(trial(WEAK), outcome(true_size=0.25)) is None
    assert compute_size_error(trial(None), outcome()) is None


def test_figures_of_known_answers():
    control = trial(WEAK, is_control=True)
    zero = Fault(kind="servo_zero", joint="elbow", size=0.3)
    drift = Fault(kind="encoder_zero", joint="elbow", size=0.3)
    pairs = [
        (control, outcome(WEAK, true_size=0.3, control=(Fault(kind="weak", joint="wrist", size=0.1),))),
        (trial(WEAK), outcome(true_size=0.3)),
        (trial(drift, label=DRIFT), outcome(drift, true_size=0.25)),
        (trial(zero), outcome(zero, true_size=0.3)),
        (trial(zero, motion=BLIND), outcome(untold=("elbow",), true_size=0.3)),
        (trial(None), outcome()),
        (trial(None), outcome(WEAK)),
    ]
    figures = {name: getattr(each, "value", each) for name, each in compute_figures(pairs).items()}
    assert figures["right"] == pytest.approx(2 / 3) and figures["drift_found"] == 1
    assert figures["servo_zero_shown"] == 1 and figures["servo_zero_not_shown"] == 1
    assert figures["false_alarms"] == 0.5 and figures["control_right"] == 0
    assert figures["size_error"] == pytest.approx(0, abs=1e-9)
    rows = make_table(pairs)
    assert rows[0]["trial"] == "weak" and rows[0]["right"] == "1 of 2" and "nothing" in rows[0]["wrong"]


def test_trials_have_all_kinds_on_both_robots_and_healthy_ones():
    trials = draw_trials(("arm", "so101"), 136, (DECLARED, "coarse"), 0)
    assert trials == draw_trials(("arm", "so101"), 136, (DECLARED, "coarse"), 0)
    for robot in ("arm", "so101"):
        own = [each for each in trials if each.robot == robot]
        assert {each.fault.kind for each in own if each.fault} == set(FAULT_KINDS)
        assert {each.reality for each in own} == {DECLARED, "coarse"}
    assert sum(each.fault is None for each in trials) >= 12
    assert {each.motion for each in trials if each.label == "servo_zero"} == {STOPS, BLIND, "known payload"}
    assert len({each.seed for each in trials}) == len(trials)


@pytest.mark.sim
def test_a_declared_reality_is_the_robot_of_the_spec():
    from wm_robot.robots import load_spec
    from wm_robot_sim.worlds import DomainRandomization

    spec = load_spec("arm")
    make = find_simulation(DECLARED, spec, 0)
    sim = make(spec, [DomainRandomization(spec).make_nominal_world()], seed=0)
    assert np.isfinite(sim.obs).all() and DECLARED in list_realities()
