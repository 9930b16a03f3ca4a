"""The safety of the shipped robots, in physics: payloads, weak and reversed motors, late commands."""

import numpy as np
import pytest

from tests.sim.robots import ARM
from wm_robot.control.control_loop import make_local_loop
from wm_robot.safety.modes import Mode
from wm_robot_sim.robot import SimRobot
from wm_robot_sim.worlds import DomainRandomization

pytestmark = pytest.mark.sim


class Jitter:
    """A controller that asks for anything within the range."""

    def __init__(self, spec, seed):
        self._spec, self._rng = spec, np.random.default_rng(seed)

    def act(self, obs):
        return self._rng.uniform(self._spec.action_low, self._spec.action_high).astype(np.float32)

    def observe(self, obs, applied, next_obs, *, valid, intervention):
        return 0.0


@pytest.mark.parametrize("seed", range(6))
def test_in_worlds_never_seen_the_baseline_brings_it_home_and_takes_over_from_anything(seed):
    rng = np.random.default_rng(seed)
    robot = SimRobot(ARM, DomainRandomization(ARM).sample(rng), seed=seed)
    loop = make_local_loop(robot, Jitter(ARM, seed))
    loop.supervisor.request_arming()
    modes = [loop.run_period() for _ in range(250)]
    assert list(dict.fromkeys(modes))[:3] == [Mode.HOMING, Mode.READY, Mode.LEARNED]
    # A controller that is cut at every step does not keep its turn.
    assert modes[-1] is Mode.HOLD and "actions in a row" in loop.supervisor.reason
    loop.supervisor.request_disarming()
    loop.run_period()
    loop.supervisor.request_arming()
    while loop.run_period() is not Mode.READY:
        continue
    np.testing.assert_allclose(robot.last_action, np.zeros(ARM.action_dim), atol=1e-6)
