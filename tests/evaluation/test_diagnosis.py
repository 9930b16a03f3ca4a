"""A diagnosis names the fault of a robot, its size and what cannot be told; here with a simulator by hand."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from wm_robot.errors import ConfigError, SpecError
from wm_robot.evaluation.diagnosis.diagnosis import Diagnosis, Finding, Rival, Untold
from wm_robot.evaluation.diagnosis.fault_kinds import (
    FAULT_KINDS,
    describe_fault,
    format_example,
    parse_fault,
)
from wm_robot.evaluation.diagnosis.readings import Recording
from wm_robot.evaluation.diagnosis.scoring import compute_likelihood, select_checked_steps
from wm_robot.evaluation.diagnosis.search import diagnose_recording
from wm_robot.evaluation.diagnosis.simulator import Segments
from wm_robot.spec import RobotSpec
from wm_robot.types import Episode, Fault

JOINTS = ("lift", "bend")
DT, RATE = 0.02, 0.25
NOISE = 0.0005


def make_spec(**changes):
    return RobotSpec.from_dict(
        {
            "name": "crane",
            "rate": 50,
            "model": "crane.xml",
            "joints": [
                {"name": name, "position": [-2.0, 2.0], "velocity": 5.0, "effort": 5.0} for name in JOINTS
            ],
            "actuators": [
                {"name": name, "joint": name, "kind": "position", "range": [-2.0, 2.0], "rate": 100.0}
                for name in JOINTS
            ],
            **changes,
        }
    )


@dataclass(frozen=True, kw_only=True)
class FakeParameter:
    name: str
    joint: str
    healthy_std: float = 0.01
    wide_std: float = 0.5
    healthy: tuple[float, float] = (-0.05, 0.05)
    bounds: tuple[float, float] = (-2.0, 2.0)
    step: float = 0.02

    @property
    def quantity(self):
        return self.name.partition("/")[0]


class FirstOrderRobot:
    """Joints that approach their commands exponentially. The zero of servo and reading together is never seen."""

    def __init__(self, episode):
        self.episode = episode
        self.parameters = tuple(
            FakeParameter(name=f"{quantity}/{joint}", joint=joint)
            for quantity in ("zero", "gain", "servo_zero")
            for joint in JOINTS
        )

    def simulate(self, segments, values, faults):
        zero, gain, _ = values.reshape(3, 2)
        sign = np.array(
            [-1.0 if any(each == Fault(kind="reversed_command", joint=name) for each in faults) else 1.0
             for name in JOINTS]
        )  # fmt: skip
        position = self.episode.obs[segments.start, :2] - zero
        rate, seen = RATE * np.exp(gain), []
        for step in range(segments.length):
            moved = position + rate * (sign * self.episode.action[segments.start + step] - position)
            seen.append(np.concatenate([moved + zero, (moved - position) / DT], -1))
            position = moved
        return np.stack(seen, 1)


def record(
    *, zero=(0.0, 0.0), gain=(0.0, 0.0), sign=(1.0, 1.0), noise=(NOISE, NOISE), stuck=None, steps=1500
):
    """Record a first-order robot under commands that jump."""
    rng = np.random.default_rng(3)
    action = np.repeat(rng.uniform(-1, 1, (steps // 15 + 1, 2)), 15, 0)[:steps]
    position, rows = np.zeros(2), []
    rate = RATE * np.exp(np.array(gain))
    before = position
    for t in range(steps + 1):
        reading = position + zero + np.array(noise) * rng.standard_normal(2)
        velocity = (position - before) / DT + 20 * np.array(noise) * rng.standard_normal(2)
        rows.append(np.concatenate([reading, velocity]))
        before = position
        if t < steps:
            position = position + rate * (np.array(sign) * action[t] - position)
    obs = np.array(rows, np.float32)
    if stuck is not None:
        obs[:, [stuck, stuck + 2]] = obs[0, [stuck, stuck + 2]]
    return Episode(
        stamp=np.arange(steps + 1) * 20_000_000,
        obs=obs,
        action=action,
        initial_action=action[0],
        reward=np.full(steps, np.nan),
        goal=np.zeros((steps + 1, 0)),
        valid=np.ones(steps, bool),
    )


def diagnose(episode, **options):
    return diagnose_recording(FirstOrderRobot(episode), Recording(make_spec(), [episode]), **options)


def test_nothing_is_found_on_a_healthy_robot():
    found = diagnose(record(gain=(0.02, -0.03), zero=(0.004, -0.003)))
    assert found.findings == () and found.verdict == "nothing found"


@pytest.mark.parametrize("size", [0.297, -0.12])
def test_the_zero_of_an_encoder_is_found_with_its_size(size):
    (finding,) = diagnose(record(zero=(0.0, size))).findings
    assert (finding.fault.kind, finding.fault.joint) == ("encoder_zero", "bend")
    assert finding.fault.size == pytest.approx(size, abs=0.003)
    assert finding.interval[0] < finding.fault.size < finding.interval[1]
    assert finding.probability > 0.95


def test_a_weak_motor_is_found_by_its_factor():
    (finding,) = diagnose(record(gain=(math.log(0.5), 0.0))).findings
    assert (finding.fault.kind, finding.fault.joint) == ("weak", "lift")
    assert finding.fault.size == pytest.approx(0.5, rel=0.03)


def test_a_reversed_motor_is_found_without_a_size():
    (finding,) = diagnose(record(sign=(-1.0, 1.0))).findings
    assert (finding.fault.kind, finding.fault.joint, finding.fault.size) == ("reversed_command", "lift", 0.0)
    assert "interval" in finding.to_dict() and finding.to_dict()["interval"] is None


def test_two_faults_are_found_one_after_the_other():
    found = diagnose(record(zero=(0.3, 0.0), gain=(0.0, math.log(0.4)))).findings
    assert {(each.fault.kind, each.fault.joint) for each in found} == {
        ("encoder_zero", "lift"),
        ("weak", "bend"),
    }
    sizes = {each.fault.kind: each.fault.size for each in found}
    assert sizes["encoder_zero"] == pytest.approx(0.3, rel=0.05)
    assert sizes["weak"] == pytest.approx(0.4, rel=0.05)


def test_a_noisy_encoder_is_found_with_its_noise():
    (finding,) = diagnose(record(noise=(NOISE, 0.02))).findings
    assert (finding.fault.kind, finding.fault.joint) == ("noisy", "bend")
    assert finding.fault.size == pytest.approx(0.02, rel=0.2)


def test_a_coarse_encoder_is_not_noisy():
    episode = record()
    step = 2 * math.pi / 600
    episode.obs[:, 1] = np.round(episode.obs[:, 1] / step) * step
    recording = Recording(make_spec(), [episode])
    assert recording.find_resolution() == pytest.approx([0, step], rel=1e-3)
    assert "noisy" not in [each.fault.kind for each in diagnose(episode).findings]


def test_an_encoder_that_repeats_its_reading_is_found_although_its_joint_moves():
    episode = record(stuck=1)
    assert Recording(make_spec(), [episode]).find_stuck().tolist() == [False, True]
    (finding,) = diagnose(episode).findings
    assert (finding.fault.kind, finding.fault.joint) == ("stuck", "bend")


def test_an_encoder_that_rests_with_its_joint_is_not_stuck():
    episode = record(stuck=1)
    episode.action[:, 1] = 0.3
    assert not Recording(make_spec(), [episode]).find_stuck().any()


def test_what_no_simulation_shows_cannot_be_told():
    found = diagnose(record())
    assert [each.joint for each in found.untold] == list(JOINTS)
    text = " ".join(found.describe())
    assert "Cannot be told" in text and "lift and bend" in text and "both of its stops" in text


def test_without_simulating_the_fault_nothing_is_found():
    """The negative control: a simulator whose parameters change nothing."""
    episode = record(zero=(0.0, 0.3))

    class Blind(FirstOrderRobot):
        def simulate(self, segments, values, faults):
            return super().simulate(segments, np.zeros_like(values), ())

    found = diagnose_recording(Blind(episode), Recording(make_spec(), [episode]))
    assert found.findings == () and found.misfit > 4


def test_a_proposal_of_no_parameter_of_the_robot_is_dropped():
    found = diagnose(record(), proposals=[Fault(kind="payload", size=0.3)])
    assert found.findings == ()


def test_progress_ends_with_all():
    reports = []
    diagnose(record(), progress=lambda done, total: reports.append((done, total)))
    assert reports[-1][0] == reports[-1][1] and reports == sorted(reports)


def test_segments_leave_out_what_is_not_valid():
    episode = record(steps=600)
    episode.valid[100:110] = False
    segments = Recording(make_spec(), [episode]).cut_segments()
    covered = segments.start[:, None] + np.arange(segments.length)
    assert episode.valid[covered].all() and segments.length == 12 and len(segments) > 40


def test_too_little_motion_is_refused():
    with pytest.raises(SpecError, match=r"has 4 s of valid motion; a diagnosis needs at least 10 s"):
        Recording(make_spec(), [record(steps=200)])


def test_a_robot_without_velocity_is_refused():
    with pytest.raises(SpecError, match="position and velocity of each joint"):
        Recording(make_spec(interfaces=["position"]), [record()])


def test_a_likelihood_has_heavy_tails():
    calm, wild = np.full((1, 1, 1), 1.0), np.full((1, 1, 1), 1000.0)
    assert compute_likelihood(calm)[0] > compute_likelihood(wild)[0] > -10
    assert select_checked_steps(12) == [0, 2, 5, 11] and select_checked_steps(4) == [0, 2, 3]


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_each_kind_has_an_example_that_parses_and_a_sentence(kind):
    fault = parse_fault(format_example(kind, JOINTS), JOINTS)
    sentence = describe_fault(fault)
    assert fault.kind == kind and "{" not in sentence and (not fault.joint or fault.joint in sentence)
    assert Fault(**fault.to_dict()) == fault


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("encoder_zer:lift", "did you mean 'encoder_zero'"),
        ("weak:lft:0.3", "did you mean 'lift'"),
        ("weak:lift:much", "a size that is no number"),
        ("weak:lift:1", "not 1, which is no fault"),
        ("weak:lift:-0.5", "a number above 0"),
        ("weak:lift:nan", "it must be a number"),
        ("payload:lift:1", "no number|another form"),
        ("stuck:lift:3", "another form than stuck:lift"),
        ("exchanged_motors:lift", "another form than exchanged_motors:lift:bend"),
        ("exchanged_motors:lift:lift", "names one joint twice"),
        ("weak", "another form than weak:lift:0.3"),
    ],
)
def test_a_fault_that_cannot_be_is_refused_in_one_sentence(text, words):
    with pytest.raises(ConfigError, match=words):
        parse_fault(text, JOINTS)


def test_a_size_has_its_unit_and_an_angle_degrees():
    assert "+0.297 rad (+17.0°)" in describe_fault(Fault(kind="encoder_zero", joint="lift", size=0.297))
    assert "80 ms" in describe_fault(Fault(kind="delay", size=0.08))
    assert "0.3 kg" in describe_fault(Fault(kind="payload", size=0.3))
    assert "0.3 times" in describe_fault(Fault(kind="weak", joint="lift", size=0.3))


def test_the_words_name_rivals_and_what_to_check():
    fault = Fault(kind="reversed_command", joint="lift")
    rival = Rival(Fault(kind="reversed_reading", joint="lift"), 0.4)
    finding = Finding(fault, interval=(0.0, 0.0), probability=0.6, gain=50.0, rivals=(rival,))
    words = finding.describe()
    assert words.startswith("The motor of lift turns the wrong way (probability 60 %).")
    assert "cannot be told for sure from this: the encoder of lift counts the wrong way" in words
    assert "Check first: the direction bit" in words and not finding.is_side_told
    found = Diagnosis(
        robot="crane",
        seconds=60.0,
        findings=(finding,),
        untold=(Untold("servo_zero", "bend", 0.3),),
        misfit=1.0,
    )
    values = found.to_dict()
    assert values["verdict"] == "1 fault found" and values["findings"][0]["family"] == "reversed direction"
    assert values["cannot_be_told"][0]["joint"] == "bend" and values["words"] == found.describe()


def test_segments_are_selected_by_index():
    segments = Segments(np.zeros(4, int), np.arange(4) * 12, 12)
    assert segments.select(slice(1, None, 2)).start.tolist() == [12, 36]
