import numpy as np
import pytest

pytestmark = pytest.mark.learn

from wm_robot.adaptation.transition_filter import TransitionFilter


def watched(caution, steps, *, target=None, reading=None, intervention=None) -> list[bool]:
    """Doubts of steps at which a point follows a target, or does not."""
    rng, found = np.random.default_rng(0), []
    before = np.zeros(2, np.float32)
    for t in range(steps):
        applied = np.array([0.5 * np.sin(0.1 * t) if target is None else target], np.float32)
        after = rng.normal(size=2).astype(np.float32) if reading is None else np.float32(reading)
        intervened = intervention is not None and t == intervention
        found.append(caution.rejects(t, before, applied, after, intervention=intervened))
        before = after
    return found


def test_a_robot_that_moves_is_not_doubted(spec):
    caution = TransitionFilter(spec)
    assert not any(watched(caution, 100))
    assert caution.counts == {"saturated": 0, "stuck": 0, "intervention": 0} and not caution.events


def test_a_motor_at_the_end_of_its_range_is_not_learned_from(spec):
    caution = TransitionFilter(spec)
    assert watched(caution, 30, target=1.0) == [t >= 9 for t in range(30)]
    assert caution.counts["saturated"] == 21
    assert [(e.step, e.description) for e in caution.events] == [
        (9, "not learned from: motors ['x'] at the end of their range")
    ]


def test_a_sensor_that_is_stuck_while_its_joint_is_told_to_move_is_not_learned_from(spec):
    caution = TransitionFilter(spec)
    found = watched(caution, 40, reading=(0.3, 0.1))
    assert not any(found[:10]) and all(found[11:])
    assert "sensors of ['x'] stuck" in caution.events[0].description


def test_a_robot_at_rest_is_not_stuck(spec):
    assert not any(watched(TransitionFilter(spec), 40, target=0.2, reading=(0.2, 0.0)))


def test_an_intervention_is_not_learned_from_nor_the_steps_after_it(spec):
    caution = TransitionFilter(spec)
    found = watched(caution, 40, intervention=5)
    assert [t for t, doubted in enumerate(found) if doubted] == list(range(5, 15))
    assert [e.description for e in caution.events] == [
        "not learned from: safety intervention",
        "learned from again",
    ]
