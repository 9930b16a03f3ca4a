import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.learn]

from wm_robot.errors import DeviceError
from wm_robot.lifetime.store import Store
from wm_robot.models.base import save_base
from wm_robot.models.world_model import ModelConfig, WorldModel
from wm_robot_ros.loop import measure
from wm_robot_sim import load_spec
from wm_robot_sim.worlds import WorldDistribution

SPEC = load_spec("arm")
SMALL = {"planner.samples": 16, "planner.horizon": 3, "planner.iterations": 1}


@pytest.fixture
def base(tmp_path):
    """A base that was never trained, small enough to be quick."""
    truth = len(WorldDistribution(SPEC).names)
    model = WorldModel(ModelConfig.of(SPEC, goal=3, truth=truth, width=16, blocks=1))
    save_base(tmp_path / "base", model, SPEC, {})
    return tmp_path / "base"


def test_the_real_agent_lives_over_ros_and_its_next_life_goes_on_from_its_state(environment, base, tmp_path):
    state = tmp_path / "state"
    first = measure(robot="arm", base=base, seconds=1.0, agent={**SMALL, "state": str(state)})
    assert first["plant"]["lived"] == 50
    assert 0 < first["p50_ms"] <= first["p99_ms"] <= first["worst_ms"]
    assert first["missed_periods"] >= 0
    lived = first["agent"]["life"]["lived"]
    assert lived > 0
    saved = Store(state).show().steps
    assert saved == lived
    second = measure(
        robot="arm", base=base, seconds=1.0, agent={**SMALL, "state": str(state), "restore": str(state)}
    )
    # A life's counters never run back.
    saved = Store(state).show().steps
    assert saved == second["agent"]["life"]["lived"] > lived


def test_an_agent_without_a_base_is_an_error_that_says_so(environment, tmp_path):
    with pytest.raises(DeviceError, match=r"SnapshotError: no base in .*nowhere"):
        measure(robot="arm", base=tmp_path / "nowhere", seconds=1.0)
