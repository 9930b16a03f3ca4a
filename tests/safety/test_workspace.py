import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.safety.specs import every, spec_of
from wm_robot.math.kinematics import compute_tip_position
from wm_robot.safety.gate import Gate
from wm_robot.safety.limit_violations import LimitRule
from wm_robot.safety.workspace import Workspace
from wm_robot.types import Observation

BOX = [[-0.3, 0.3], [-0.3, 0.3], [0.1, 0.6]]
JOINTS = 5
SPEC = spec_of(JOINTS, workspace=BOX)


@given(st.lists(st.floats(-4, 4), min_size=JOINTS, max_size=JOINTS))
def test_the_tip_is_where_the_kinematics_of_arrays_put_it(targets):
    expected = compute_tip_position(np.array(targets), SPEC.chain, SPEC.tip)
    np.testing.assert_allclose(Workspace(SPEC).compute_tip(targets), expected, atol=1e-12)


def test_outside_is_measured_along_the_worst_axis():
    space = Workspace(spec_of(1, workspace=[[0.2, 1], [-1, 1], [-1, 1]]))
    assert abs(space.compute_excess([0.0]) - 0.15) < 1e-12
    assert Workspace(spec_of(1, workspace=[[-1, 1]] * 3)).compute_excess([0.0]) == 0


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), acceleration=st.sampled_from([None, 40.0, 5.0]))
def test_told_to_go_anywhere_the_gripper_stays_in_its_box(seed, acceleration):
    given_ = {} if acceleration is None else {"acceleration": every("actuator", acceleration, JOINTS)}
    spec = spec_of(JOINTS, workspace=BOX, **given_)
    rng, space, gate = np.random.default_rng(seed), Workspace(spec), Gate(spec, np.zeros(JOINTS))
    assert space.compute_excess([0.0] * JOINTS) == 0
    obs = Observation(stamp=0.0, values=np.zeros(spec.obs_dim, np.float32))
    for _ in range(60):
        if rng.random() < 0.2:
            aim = rng.uniform(-1.5, 1.5, JOINTS)
        else:
            aim = gate.last_action + rng.uniform(-0.2, 0.2, JOINTS)
        applied = gate(aim, obs, now=0.0).applied
        # Where it would stop is inside; on the way there a joint's path bends by millimetres.
        assert space.compute_excess(applied.tolist()) < 0.02


def test_at_the_wall_it_stops_and_comes_back_when_told():
    gate = Gate(spec_of(2, workspace=[[-1, 1], [-0.05, 1], [-1, 1]]), np.zeros(2))
    obs = Observation(stamp=0.0, values=np.zeros(4, np.float32))
    for _ in range(60):
        stopped = gate(np.array([0.0, 1.5]), obs, now=0.0)
    assert stopped.violations[-1].rule is LimitRule.WORKSPACE and 0 < stopped.applied[1] < 1.5
    np.testing.assert_allclose(
        gate(stopped.applied - np.float32(0.02), obs, now=0.0).applied, stopped.applied - 0.02, atol=1e-6
    )


def test_from_outside_every_way_that_leads_back_is_open():
    spec = spec_of(2, workspace=[[-1, 1], [-0.01, 1], [-1, 1]])
    gate, space = Gate(spec, np.array([0.0, 0.8])), Workspace(spec)
    obs = Observation(stamp=0.0, values=np.zeros(4, np.float32))
    ways = [
        space.compute_excess(gate(np.array([0.0, 0.0]), obs, now=0.0).applied.tolist()) for _ in range(20)
    ]
    assert ways[0] > 0 and ways[-1] == 0 and (np.diff(ways) <= 0).all()
