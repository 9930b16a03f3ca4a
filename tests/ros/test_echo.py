import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim]

from wm_robot.spec import RobotSpec
from wm_robot_benchmarks.ros_probes.echo_timing import RoundTripLog, make_synthetic_spec, measure_echo

PLACES = np.float32([0.1, 0.2])


def test_the_robot_that_is_nowhere_is_the_same_from_its_file():
    spec = make_synthetic_spec(joints=3, rate=100.0)
    assert (spec.obs_dim, spec.action_dim, spec.dt) == (6, 3, 0.01)
    assert RobotSpec.from_dict(spec.to_dict()) == spec


def test_what_comes_back_is_counted_once_and_what_does_not_is_lost():
    sounding = RoundTripLog()
    for stamp in (1, 2, 3, 4):
        sounding.record_sent(stamp, PLACES, time=float(stamp))
    sounding.record_answer(1, PLACES, time=1.001)
    sounding.record_answer(1, PLACES, time=1.5)
    sounding.record_answer(9, PLACES, time=1.5)
    sounding.record_answer(3, PLACES + 1, time=3.003)
    told = sounding.to_dict()
    assert (told["sent"], told["answered"], told["lost"], told["wrong"]) == (4, 2, 2, 1)
    assert (told["p50_ms"], told["worst_ms"]) == (pytest.approx(2.0), pytest.approx(3.0))


def test_where_nothing_comes_back_there_is_no_time():
    told = RoundTripLog().to_dict()
    assert told["sent"] == told["lost"] == 0 and told["p50_ms"] is None


@pytest.mark.alone
def test_the_real_agent_answers_and_one_that_stalls_loses(environment):
    # Slower than the bench: here other work shares the machine.
    shared = {"seconds": 1.0, "rate": 50.0, "joints": 3}
    well = measure_echo(**shared)
    assert well["sent"] == well["answered"] + well["lost"]
    assert 45 <= well["sent"] + well["skipped"] <= 50
    assert well["answered"] >= well["sent"] - 5 and well["wrong"] == 0
    assert 0 < well["p50_ms"] <= well["p99_ms"] <= well["worst_ms"]
    assert 0 < well["cpu"] < 1 and well["stalled"] == 0
    stalls = measure_echo(**shared, executor="single", stall_every=5, stall=0.09)
    assert stalls["stalled"] > 3 and stalls["lost"] > 10 + well["lost"]
    assert stalls["worst_ms"] >= 90
