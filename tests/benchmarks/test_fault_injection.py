import signal
import sys

import numpy as np
import pytest

from tests.safety.specs import every, spec_of
from wm_robot.errors import DeviceError
from wm_robot_benchmarks.fault_injection import stream_faults, value_faults
from wm_robot_benchmarks.fault_injection.motor_emulator import EmulatedMotors
from wm_robot_benchmarks.fault_injection.process_faults import inject_helper_faults
from wm_robot_benchmarks.fault_injection.stop_faults import StopFaultStage

SPECS = {
    "plain": spec_of(),
    "careful": spec_of(
        acceleration=every("actuator", 40.0),
        deceleration=every("joint", 40.0),
        stiffness=every("actuator", 5.0),
        workspace=[[-0.5, 0.5], [-0.5, 0.5], [-0.5, 0.5]],
    ),
    "motors": spec_of(kind="effort"),
}


@pytest.mark.parametrize("name", SPECS)
def test_of_no_fault_anything_unsafe_reaches_a_motor_and_the_mode_tells_within_a_step(name):
    tally = value_faults.inject_all_faults(SPECS[name])
    assert tally.tried > 70 and tally.driven > 1000
    assert tally.unsafe == tally.harmed == 0
    assert tally.steps == 1


@pytest.mark.parametrize("name", SPECS)
def test_of_generated_numbers_none_that_is_unsafe_reaches_a_motor(name):
    tally = value_faults.inject_random_faults(SPECS[name], 1000, np.random.default_rng(7))
    assert (tally.driven, tally.unsafe) == (3000, 0)


def test_the_same_numbers_through_a_bare_clip_do_reach_it():
    tally = value_faults.inject_into_clip(SPECS["plain"], 1000, np.random.default_rng(7))
    assert tally.harmed > 200 and tally.not_finite > 5


def test_every_fault_has_a_name_of_its_own():
    names = [fault.name for fault in value_faults.generate_faults(SPECS["plain"])]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("action", "unsafe"),
    [
        ([0.05, 0.0, 0.0], [0, 0, 0]),
        ([np.nan, 0.0, 0.0], [1, 0, 0]),
        ([0.0, np.inf, 0.0], [0, 1, 0]),
        ([0.0, 0.0, 0.5], [0, 0, 1]),
        ([-9.0, 0.0, 0.0], [1, 0, 0]),
    ],
)
def test_the_judge_knows_what_is_unsafe(action, unsafe):
    motors = EmulatedMotors(SPECS["plain"], np.zeros(3))
    np.testing.assert_array_equal(motors.find_unsafe(np.array(action)), np.array(unsafe, bool))


def test_the_judge_sees_who_cannot_brake_any_more():
    motors = EmulatedMotors(spec_of(1, acceleration={"m0": 5.0}), np.zeros(1))
    for _ in range(200):
        last = motors.last_action + np.float32(min(float(motors._moved[0]) + 0.002, 0.1))
        if motors.find_unsafe(last).any():
            break
        motors.drive(last)
    assert 0.4 < motors.last_action[0] < 1.2


def test_no_message_of_another_time_is_learned_from_or_acted_on():
    for kind, result in stream_faults.inject_false_stamps(SPECS["plain"], 200).items():
        assert (result.num_sent, result.num_learned, result.num_acted) == (200, 0, 0), kind


def test_a_false_message_that_looks_like_a_good_one_would_be_noticed():
    now = stream_faults._Arrival(stream_faults.START + 5_000_000, stream_faults.START + 6_000_000)
    result = stream_faults._inject_between_valid(SPECS["plain"], 1, lambda *_: now)
    assert result.num_acted > 0


def test_a_flood_is_not_acted_on_and_not_kept():
    result = stream_faults.inject_flood(SPECS["plain"], 4000)
    assert (result.num_sent, result.num_learned, result.num_acted) == (4000, 0, 0)
    assert result.memory_growth < 4096


def test_a_clock_that_is_set_costs_what_was_under_way_and_no_more():
    lost, learned = stream_faults.inject_clock_jumps(SPECS["plain"], 10_000)
    assert (lost, learned) == (100, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="the guard holds on to processes as Linux lets it")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=lambda how: how.name)
def test_a_plant_does_not_go_on_without_its_control(tmp_path, how):
    # A busy machine may be late: the numbers are for `wm-robot bench safety`, that it stops is for here.
    with StopFaultStage(SPECS["plain"], tmp_path / "page").start_processes() as stage:
        stops = [stage.stop_control(how, 0.03) for _ in range(5)]
    lived = [stop for stop in stops if stop]
    assert lived and not any(stop.resumed for stop in lived)
    assert all(stop.after < 1.0 for stop in lived)


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked and stopped as on Linux")


@LINUX
def test_a_recorder_that_stops_and_dies_holds_up_nobody_but_a_loop_that_waits_for_it(tmp_path):
    log = tmp_path / "periods.ndjson"
    spec = SPECS["plain"]
    found = inject_helper_faults(spec, "recorder", log=log, num_rounds=1, seconds=1.0)
    phase = round(1.0 / spec.dt)
    # Three times well, twice stopped, once dead; less what a busy machine takes.
    assert all(
        2 * phase < part.latency.size < 4 * phase for part in (found.times_running, found.times_faulty)
    )
    assert 0.2 < found.compute_ratio(50) < 5.0
    # A hundred periods of warm-up, and what came until it died.
    assert log.read_text().count("\n") > 100
    waits = inject_helper_faults(spec, "recorder", log=log, num_rounds=1, seconds=1.0, waits=True)
    assert waits.num_missed > found.num_missed + phase / 2


@LINUX
def test_a_control_process_that_cannot_begin_is_an_error(tmp_path, capfd):
    def make(robot):
        raise ValueError("no controller")

    with pytest.raises(DeviceError, match="the control process did not start"):
        inject_helper_faults(
            SPECS["plain"], "learner", log=tmp_path / "log", num_rounds=1, seconds=0.1, make=make
        )
    assert "no controller" in capfd.readouterr().err
