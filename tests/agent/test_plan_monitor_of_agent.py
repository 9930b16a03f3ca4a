"""An agent whose plans are watched: it plans as before, until they are not to be believed."""

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.agent.agent import Agent
from wm_robot.agent.plan_monitor import PlanMonitor
from wm_robot.model.base import Base, load_base, save_base
from wm_robot.model.config import ModelConfig
from wm_robot.model.world_model import WorldModel
from wm_robot.planning.mppi import MppiConfig

PLANNER = {"num_samples": 16, "horizon": 4, "num_iterations": 2, "num_elites": 4}
STEPS = 10
GOAL = np.array([0.5, 0.5, 0.0], np.float32)


@pytest.fixture(scope="module")
def base_of(tmp_path_factory):
    def made(spec) -> Base:
        torch.manual_seed(0)
        shape = ModelConfig.from_spec(spec, truth=1, memory="ekf", width=16, context=4, outcome=8)
        folder = tmp_path_factory.mktemp("base")
        save_base(folder, WorldModel(shape), spec, {})
        return load_base(folder)

    return made


def acted(base, spec, *, watch=None, alarmed=False, late=False) -> np.ndarray:
    """Actions of a robot that does not move.

    Args:
        late: It acts first and lives the step before while its command is on the way.
    """
    agent = Agent(base, spec, task="reach", planner=MppiConfig(**PLANNER), plan_monitor=watch)
    agent.begin(np.zeros(1, np.float32))
    if alarmed:
        watch.is_alarmed[:] = True
    obs, actions = np.zeros(2, np.float32), []
    for step in range(STEPS):
        applied = actions[-1] if late and step else None
        actions.append(agent.act(obs, GOAL, applied=applied))
        if not late:
            agent.observe(obs, actions[-1], obs)
        elif step:
            agent.observe(obs, applied, obs)
    assert (watch is not None) == ("plans" in agent.counters)
    return np.stack(actions)


@pytest.mark.parametrize("late", [False, True])
def test_to_be_watched_changes_nothing_and_every_plan_is_judged(spec, base_of, late):
    base, watch = base_of(spec), PlanMonitor(spec, task="reach")
    watched, alone = acted(base, spec, watch=watch, late=late), acted(base, spec, late=late)
    np.testing.assert_array_equal(watched, alone)
    # Who lives late has lived nothing yet when it plans a second time, and begins anew.
    assert watch.counts["plans"] == (STEPS - 1 - late) // PLANNER["horizon"]
    assert watch.counts["plans_excluded"] == 0


def test_in_alarm_it_plans_as_before(spec, base_of):
    base, watch = base_of(spec), PlanMonitor(spec, task="reach")
    np.testing.assert_array_equal(acted(base, spec, watch=watch, alarmed=True), acted(base, spec))
    assert watch.counts["alarm_steps"] == STEPS


def test_a_step_that_is_not_valid_is_no_broken_promise(spec, base_of):
    base, watch = base_of(spec), PlanMonitor(spec, task="reach")
    agent = Agent(base, spec, task="reach", planner=MppiConfig(**PLANNER), plan_monitor=watch)
    agent.begin(np.zeros(1, np.float32))
    obs = np.zeros(2, np.float32)
    for step in range(STEPS):
        agent.observe(obs, agent.act(obs, GOAL), obs, valid=step != 1)
    assert (watch.counts["plans"], watch.counts["plans_excluded"]) == (1, 1)
