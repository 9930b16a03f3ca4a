"""Faults that are injected into a simulated robot, and the simulator that explains a recording by them."""

import math
from dataclasses import replace

import numpy as np
import pytest

pytestmark = pytest.mark.sim
pytest.importorskip("mujoco")

from wm_robot.errors import SpecError
from wm_robot.evaluation.diagnosis.fault_kinds import FAULT_KINDS
from wm_robot.evaluation.diagnosis.readings import Recording
from wm_robot.robots import load_spec
from wm_robot.types import Fault
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.diagnosis_motion import draw_healthy_world, make_motion, simulate_recording
from wm_robot_sim.fault_simulator import FaultSimulator, follow_with_play
from wm_robot_sim.injected_faults import SIGNAL_FAULTS, WORLD_FAULTS, add_faults
from wm_robot_sim.learned_faults import propose_faults
from wm_robot_sim.worlds import DomainRandomization, World

ARM = load_spec("arm")
NOMINAL = DomainRandomization(ARM).make_nominal_world()
QUIET = replace(NOMINAL, position_noise=0.0, velocity_noise=0.0)
ELBOW = ARM.joint_names.index("elbow_pitch")
WRIST = ARM.joint_names.index("wrist_pitch")
FAULTS = {
    "encoder_zero": Fault(kind="encoder_zero", joint="elbow_pitch", size=0.3),
    "servo_zero": Fault(kind="servo_zero", joint="elbow_pitch", size=-0.3),
    "encoder_scale": Fault(kind="encoder_scale", joint="elbow_pitch", size=1.2),
    "reversed_command": Fault(kind="reversed_command", joint="elbow_pitch"),
    "reversed_reading": Fault(kind="reversed_reading", joint="elbow_pitch"),
    "exchanged_motors": Fault(kind="exchanged_motors", joint="elbow_pitch", other="wrist_pitch"),
    "exchanged_encoders": Fault(kind="exchanged_encoders", joint="elbow_pitch", other="wrist_pitch"),
    "delay": Fault(kind="delay", size=0.072),
    "weak": Fault(kind="weak", joint="elbow_pitch", size=0.3),
    "limited": Fault(kind="limited", joint="elbow_pitch", size=0.3),
    "sticky": Fault(kind="sticky", joint="elbow_pitch", size=12.0),
    "backlash": Fault(kind="backlash", joint="elbow_pitch", size=0.12),
    "payload": Fault(kind="payload", size=0.3),
    "mounting": Fault(kind="mounting", size=0.2, heading=1.0),
    "stuck": Fault(kind="stuck", joint="elbow_pitch"),
    "noisy": Fault(kind="noisy", joint="elbow_pitch", size=0.02),
}


def move(world, *, steps=100, seed=0):
    """Readings of a robot under the same random motion."""
    sim = BatchSim(ARM, [world], seed=seed)
    actions = make_motion(ARM, np.random.default_rng(4), sim.last_action[0], steps, stops=False)
    obs, _ = sim.rollout(actions[None])
    return obs[0], sim


def make_values(simulator, fault):
    """The parameters that express a fault."""
    names = [each.name for each in simulator.parameters]
    values = np.zeros(len(names))
    about = FAULT_KINDS[fault.kind]
    if fault.kind == "mounting":
        values[names.index("tilt_x")] = math.tan(fault.size) * math.cos(fault.heading)
        values[names.index("tilt_y")] = math.tan(fault.size) * math.sin(fault.heading)
    elif about.parameter:
        name = f"{about.parameter}/{fault.joint}" if fault.joint else about.parameter
        values[names.index(name)] = math.log(fault.size) if about.is_factor else fault.size
    return values


def test_the_kinds_of_the_simulator_are_those_of_the_diagnosis():
    assert {*WORLD_FAULTS, *SIGNAL_FAULTS} == set(FAULT_KINDS) == set(FAULTS)


def test_an_encoder_zero_shifts_its_reading_alone():
    healthy, _ = move(QUIET)
    faulty, _ = move(add_faults(QUIET, ARM, [FAULTS["encoder_zero"]]))
    assert faulty[:, ELBOW] - healthy[:, ELBOW] == pytest.approx(0.3, abs=1e-6)
    np.testing.assert_array_equal(np.delete(faulty, ELBOW, 1), np.delete(healthy, ELBOW, 1))


def test_a_shifted_servo_moves_elsewhere_and_reads_what_it_was_told():
    healthy, one = move(QUIET)
    faulty, other = move(add_faults(QUIET, ARM, [FAULTS["servo_zero"]]))
    assert abs(faulty[-1, ELBOW] - healthy[-1, ELBOW]) < 0.05
    apart = other.true_joint_positions() - one.true_joint_positions()
    assert apart[0, ELBOW] == pytest.approx(0.3, abs=0.05)


def test_a_scaled_and_a_reversed_encoder_keep_the_middle_of_the_range():
    healthy, _ = move(QUIET)
    middle = np.mean(ARM.joints[ELBOW].position)
    for kind, factor in (("encoder_scale", 1.2), ("reversed_reading", -1.0)):
        faulty, _ = move(add_faults(QUIET, ARM, [FAULTS[kind]]))
        np.testing.assert_allclose(
            faulty[:, ELBOW] - middle, factor * (healthy[:, ELBOW] - middle), atol=1e-5
        )
        np.testing.assert_allclose(faulty[:, ELBOW + 6], factor * healthy[:, ELBOW + 6], atol=1e-4)


def test_exchanged_encoders_read_each_others_joint():
    healthy, _ = move(QUIET)
    faulty, _ = move(add_faults(QUIET, ARM, [FAULTS["exchanged_encoders"]]))
    np.testing.assert_allclose(faulty[:, [ELBOW, WRIST]], healthy[:, [WRIST, ELBOW]], atol=1e-6)


def test_a_stuck_encoder_repeats_its_first_reading_to_the_bit_and_the_joint_moves():
    faulty, sim = move(add_faults(NOMINAL, ARM, [FAULTS["stuck"]]))
    assert len(np.unique(faulty[:, ELBOW])) == 1 and len(np.unique(faulty[:, ELBOW + 6])) == 1
    assert abs(sim.true_joint_positions()[0, ELBOW] - faulty[-1, ELBOW]) > 0.05


def test_noise_is_added_to_position_and_velocity_in_the_same_ratio():
    clean, _ = move(QUIET, steps=400)
    faulty, _ = move(add_faults(NOMINAL, ARM, [FAULTS["noisy"]]), steps=400)
    assert np.std(faulty[:, ELBOW] - clean[:, ELBOW]) == pytest.approx(0.02, rel=0.1)
    ratio = 0.01 / 0.0005
    assert np.std(faulty[:, ELBOW + 6] - clean[:, ELBOW + 6]) == pytest.approx(0.02 * ratio, rel=0.1)


def test_backlash_lets_a_set_point_follow_with_play_across_calls():
    world = add_faults(QUIET, ARM, [FAULTS["backlash"]])
    whole, _ = move(world)
    sim = BatchSim(ARM, [world], seed=0)
    actions = make_motion(ARM, np.random.default_rng(4), sim.last_action[0], 100, stops=False)
    first, _ = sim.rollout(actions[None, :40])
    saved = sim.save()
    rest, _ = sim.rollout(actions[None, 40:])
    np.testing.assert_array_equal(np.concatenate([first[0], rest[0]]), whole)
    resumed = BatchSim(ARM, [world], seed=0)
    resumed.restore(saved)
    np.testing.assert_array_equal(resumed.rollout(actions[None, 40:])[0], rest)
    assert np.abs(whole[:, ELBOW] - move(QUIET)[0][:, ELBOW]).max() == pytest.approx(0.06, abs=0.03)


def test_play_composed_in_rounds_equals_one_step_after_the_other():
    rng = np.random.default_rng(0)
    trace, play = np.cumsum(rng.standard_normal((77, 3)), 0), np.array([0.0, 0.5, 3.0])
    now, expected = trace[0], []
    for command in trace:
        now = np.clip(now, command - play, command + play)
        expected.append(now)
    np.testing.assert_allclose(follow_with_play(trace, play), expected)


def test_a_world_with_faults_is_saved_and_read():
    world = add_faults(NOMINAL, ARM, [FAULTS["stuck"], FAULTS["exchanged_motors"], FAULTS["weak"]])
    again = World.from_dict(world.to_dict())
    assert again.injected == world.injected and again.gain.tolist() == world.gain.tolist()
    assert "injected" not in NOMINAL.to_dict()


def test_an_unknown_fault_is_refused_by_name():
    with pytest.raises(SpecError, match="fault.kind is 'tired'; a simulation has"):
        add_faults(NOMINAL, ARM, [Fault(kind="tired")])
    with pytest.raises(SpecError, match="names joint 'knee'; robot 'arm' has"):
        add_faults(NOMINAL, ARM, [Fault(kind="weak", joint="knee", size=0.3)])


@pytest.mark.parametrize("kind", [kind for kind in FAULTS if kind not in ("noisy", "stuck")])
@pytest.mark.parametrize("robot", ["arm", "so101"])
def test_the_simulator_explains_each_fault_by_its_true_size(kind, robot):
    spec = load_spec(robot)
    names = dict(zip(("elbow_pitch", "wrist_pitch"), spec.joint_names[2:4], strict=True))
    fault = replace(
        FAULTS[kind],
        joint=names.get(FAULTS[kind].joint, ""),
        other=names.get(FAULTS[kind].other, ""),
    )
    world = DomainRandomization(spec).make_nominal_world()
    episode = simulate_recording(spec, [fault], seed=1, seconds=16, stops=False, world=world)
    recording, simulator = Recording(spec, [episode]), FaultSimulator(spec, [episode])
    segments = recording.cut_segments()
    seen = recording.read_segments(segments)
    values = make_values(simulator, fault)
    wired = () if values.any() else (fault,)

    def measure(values, faults):
        error = seen - simulator.simulate(segments, values, faults)
        return np.sqrt(np.mean(np.median(np.abs(error[:, -1]), axis=0)[: len(spec.joints)] ** 2))

    true, healthy = measure(values, wired), measure(np.zeros_like(values), ())
    assert true < 0.0025
    assert true < 0.8 * healthy or kind == "limited"


def test_a_stuck_encoder_is_replaced_by_what_the_joint_would_read():
    fault = FAULTS["stuck"]
    episode = simulate_recording(ARM, [fault], seed=1, seconds=12, stops=False, world=NOMINAL)
    recording, simulator = Recording(ARM, [episode]), FaultSimulator(ARM, [episode])
    segments = recording.cut_segments()
    others = [joint for joint in range(6) if joint != ELBOW]
    values, seen = np.zeros(len(simulator.parameters)), recording.read_segments(segments)
    error = [
        np.median(np.abs(seen - simulator.simulate(segments, values, faults))[:, -1][:, others])
        for faults in ((), (fault,))
    ]
    assert error[1] < 0.0006 and error[0] > error[1]


def test_the_motion_visits_both_stops_of_each_joint():
    episode = simulate_recording(ARM, seed=0, seconds=60)
    for motor, actuator in enumerate(ARM.actuators):
        assert episode.action[:, motor].min() == pytest.approx(actuator.range[0], abs=1e-3)
        assert episode.action[:, motor].max() == pytest.approx(actuator.range[1], abs=1e-3)
    assert len(episode) == 3000 and episode.valid.all()


def test_a_healthy_robot_is_within_the_ranges_of_its_spec():
    worlds = [draw_healthy_world(ARM, np.random.default_rng(seed)) for seed in range(50)]
    for name in ("gain", "friction", "mass"):
        low, high = ARM.world[name]
        drawn = np.concatenate([getattr(world, name) for world in worlds])
        assert drawn.min() > math.sqrt(low) - 1e-9 and drawn.max() < math.sqrt(high) + 1e-9
    assert all(world.payload == 0 and not world.injected for world in worlds)


def test_a_learned_state_suggests_faults():
    names = DomainRandomization(ARM).parameter_names
    world = add_faults(
        NOMINAL, ARM, [FAULTS["weak"], FAULTS["payload"], Fault(kind="reversed_command", joint="wrist_roll")]
    )
    found = {(each.kind, each.joint): each.size for each in propose_faults(ARM, world.to_vector())}
    assert found["weak", "elbow_pitch"] == pytest.approx(0.3, abs=0.01)
    assert found["payload", ""] == pytest.approx(0.3, abs=0.01)
    assert ("reversed_command", "wrist_roll") in found and ("reversed_reading", "wrist_roll") in found
    assert propose_faults(ARM, np.zeros(len(names))) == []
    with pytest.raises(SpecError, match="Use the state of this robot"):
        propose_faults(ARM, np.zeros(3))


def test_a_command_map_suggests_exchanged_and_shifted_motors():
    physics, mixing = np.zeros(len(DomainRandomization(ARM).parameter_names)), np.eye(6)
    mixing[[0, 2]] = mixing[[2, 0]]
    offset = np.array([0, 0, 0, 0, 0, -0.2])
    found = propose_faults(ARM, physics, mixing, offset)
    assert Fault(kind="exchanged_motors", joint="base_yaw", other="elbow_pitch") in found
    assert Fault(kind="encoder_zero", joint="wrist_roll", size=-0.2) in found
