import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.learn]

from wm_robot.errors import DeviceError
from wm_robot.model.base import save_base
from wm_robot.model.config import ModelConfig
from wm_robot.model.world_model import WorldModel
from wm_robot.robots import load_spec
from wm_robot.store.store import Store
from wm_robot_benchmarks.ros_probes.loop_timing import measure_ros_loop, write_at_rate
from wm_robot_sim.worlds import DomainRandomization

SPEC = load_spec("arm")
SMALL = {"planner.num_samples": 16, "planner.horizon": 3, "planner.num_iterations": 1}


@pytest.fixture
def base(tmp_path):
    """A base that was never trained, small enough to be quick."""
    truth = len(DomainRandomization(SPEC).parameter_names)
    model = WorldModel(ModelConfig.from_spec(SPEC, truth=truth, width=16, blocks=1))
    save_base(tmp_path / "base", model, SPEC, {})
    return tmp_path / "base"


def test_the_real_agent_lives_over_ros_and_its_next_life_goes_on_from_its_state(environment, base, tmp_path):
    state = tmp_path / "state"
    first = measure_ros_loop(robot="arm", base=base, seconds=1.0, agent={**SMALL, "save_to": str(state)})
    assert first["plant"]["num_steps"] == 50
    assert 0 < first["p50_ms"] <= first["p99_ms"] <= first["worst_ms"]
    assert first["missed_periods"] >= 0
    lived = first["agent"]["lifetime"]["num_steps"]
    assert lived > 0
    saved = Store(state).read_manifest().steps
    assert saved == lived
    second = measure_ros_loop(
        robot="arm",
        base=base,
        seconds=1.0,
        agent={**SMALL, "save_to": str(state), "initial_state": str(state)},
    )
    # A life's counters never run back.
    saved = Store(state).read_manifest().steps
    assert saved == second["agent"]["lifetime"]["num_steps"] > lived


def test_an_agent_without_a_base_is_an_error_that_says_so(environment, tmp_path):
    with pytest.raises(DeviceError, match=r"SnapshotError: no base in .*nowhere"):
        measure_ros_loop(robot="arm", base=tmp_path / "nowhere", seconds=1.0)


@pytest.mark.alone
def test_beside_a_learner_hogs_and_a_flood_it_uses_what_it_should_and_nothing_else(environment, base):
    found = measure_ros_loop(
        robot="arm",
        base=base,
        # The flood needs some seconds to begin where other work shares the machine.
        seconds=10.0,
        num_busy_processes=1,
        flood_rate=2000.0,
        agent={**SMALL, "learner": True},
    )
    plant, agent = found["plant"], found["agent"]
    assert found["flooded"] > 100
    # Of the false ones both heard some, and used none: not more than the plant had periods.
    assert agent["rejected"]["source"] > 10
    assert plant["commands"]["rejected"]["source"] > 10
    assert 0 < plant["commands"]["accepted"] <= plant["num_steps"] + 2
    assert 0 < agent["lifetime"]["num_valid"] <= agent["num_actions"] <= plant["num_steps"] + 2
    assert agent["learner_alive"] is True and agent["lifetime"]["segments_offered"] >= 1
    assert found["log"] == plant["periods"]
    assert found["realtime"] == (plant["realtime"]["priority"] == agent["realtime"]["priority"] == "")
    assert 0 < found["p99_ms"] <= found["p999_ms"] <= found["worst_ms"]
    assert found["missed_periods"] >= found["longest_miss"] >= 0


def test_a_base_can_be_timed_at_another_rate_and_without_priority_and_is_the_same(
    environment, base, tmp_path
):
    (tmp_path / "at").mkdir()
    spec, retimed = write_at_rate("arm", base, 100.0, tmp_path / "at")
    assert load_spec(spec).dt == 0.01
    weights = [(folder / "weights.safetensors").read_bytes() for folder in (base, retimed)]
    assert weights[0] == weights[1]
    found = measure_ros_loop(robot=spec, base=retimed, seconds=1.0, priority=0, agent=SMALL)
    assert found["plant"]["num_steps"] == 100 and found["plant"]["rate"] == 100.0
    assert found["realtime"] is False and found["plant"]["realtime"] == {}
    with pytest.raises(DeviceError, match="was trained for robot"):
        measure_ros_loop(robot=spec, base=base, seconds=1.0, agent=SMALL)
