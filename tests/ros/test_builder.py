"""The life that an agent node drives, as the library makes it."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.learn]

from tests.ros.small_life import BASE
from wm_robot.agent.builder import AgentConfig, load_agent
from wm_robot.robots import load_spec

SPEC = load_spec("arm")
CONFIG = AgentConfig(base=str(BASE), task="reach", learning=False)
FAR = np.array([0.4, 0.2, 0.3], np.float32)
STEPS = 700
"""A window of plans, each over its horizon, and the judgements that must agree."""


def test_a_robot_that_does_not_do_what_plans_promise_is_told_of():
    life = load_agent(CONFIG, SPEC)
    life.agent.begin(np.zeros(SPEC.action_dim, np.float32))
    assert life.report() == {"event": "", "plans_valid": True}
    # Sensors with noise: of those that stand still altogether nothing is concluded.
    rng = np.random.default_rng(0)
    obs = rng.normal(0, 1e-3, (STEPS + 1, SPEC.obs_dim)).astype(np.float32)
    for before, after in pairwise(obs):
        life.agent.observe(before, life.agent.act(before, FAR), after)
    assert life.report()["plans_valid"] is False
    assert str(life.report()["event"]).startswith("plans predicted")
    assert life.counters["alarms"] == 1
    life.close()


def test_a_life_whose_plans_nobody_watches_says_nothing_of_them():
    life = load_agent(replace(CONFIG, monitor_plans=False), SPEC)
    life.agent.begin(np.zeros(SPEC.action_dim, np.float32))
    assert life.report() == {"event": ""} and "plans" not in life.counters
    life.close()
